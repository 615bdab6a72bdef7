/* XOAUTH2 as a client, for Cyrus SASL: what is held for a password is the access token. Debian 12 has no plugin that
 * works without a desktop; what sasl-xoauth2 does beyond this, fetching tokens, happens once an hour. */
#include <sasl/sasl.h>
#include <sasl/saslplug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int begin(void *global, sasl_client_params_t *params, void **context) {
    *context = NULL;
    return SASL_OK;
}

static int name_of(sasl_client_params_t *params, const char **name) {
    sasl_callback_ft callback;
    void *context;
    unsigned length;
    int result = params->utils->getcallback(params->utils->conn, SASL_CB_AUTHNAME, &callback, &context);
    if (result != SASL_OK) return result;
    return ((sasl_getsimple_t *)callback)(context, SASL_CB_AUTHNAME, name, &length);
}

static int token_of(sasl_client_params_t *params, sasl_secret_t **token) {
    sasl_callback_ft callback;
    void *context;
    int result = params->utils->getcallback(params->utils->conn, SASL_CB_PASS, &callback, &context);
    if (result != SASL_OK) return result;
    return ((sasl_getsecret_t *)callback)(params->utils->conn, context, SASL_CB_PASS, token);
}

static int step(void *context, sasl_client_params_t *params, const char *challenge, unsigned challenge_length,
                sasl_interact_t **prompts, const char **response, unsigned *length, sasl_out_params_t *outcome) {
    static char text[16384];
    const char *name;
    sasl_secret_t *token;
    *response = text;
    *length = 0;
    if (challenge_length) return SASL_OK; /* a refusal as JSON; an empty line asks for the reply */
    int result = name_of(params, &name);
    if (result == SASL_OK) result = token_of(params, &token);
    if (result == SASL_OK)
        result = params->canon_user(params->utils->conn, name, 0, SASL_CU_AUTHID | SASL_CU_AUTHZID, outcome);
    if (result != SASL_OK) return result;
    *length = snprintf(text, sizeof text, "user=%s\1auth=Bearer %.*s\1\1", name, (int)token->len, (char *)token->data);
    outcome->doneflag = 1;
    outcome->mech_ssf = outcome->maxoutbuf = 0;
    return SASL_OK;
}

static sasl_client_plug_t plugin = {
    .mech_name = "XOAUTH2",
    .features = SASL_FEAT_WANT_CLIENT_FIRST,
    .mech_new = begin,
    .mech_step = step,
};

int sasl_client_plug_init(const sasl_utils_t *utils, int most, int *version, sasl_client_plug_t **plugins, int *count) {
    *version = SASL_CLIENT_PLUG_VERSION;
    *plugins = &plugin;
    *count = 1;
    return SASL_OK;
}
