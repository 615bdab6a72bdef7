use super::*;

const IDS: Ids<'_> = Ids { tenant: "contoso.example", client_id: "58d8", app: None };

fn refused(error: &str, status: u16, codes: &[u32]) -> TokenError {
    let codes = codes.to_vec();
    TokenError::Refused(Box::new(Refusal {
        error: error.into(),
        status,
        codes,
        ..Refusal::default()
    }))
}

fn not_json(status: u16) -> TokenError {
    TokenError::NotJson { status, body: "<html>".into() }
}

#[test]
fn the_error_member_decides_what_heals_by_itself_and_never_a_number() {
    for (error, transient) in [
        (refused("invalid_client", 401, &[7_000_215]), false),
        (refused("invalid_client", 503, &[]), false),
        (refused("unauthorized_client", 400, &[90_055]), false),
        (refused("temporarily_unavailable", 400, &[7_000_215]), true),
        (refused("server_error", 500, &[]), true),
        (refused("of_a_later_day", 400, &[]), false),
        (refused("of_a_later_day", 500, &[]), true),
        (not_json(200), true),
        (not_json(302), true),
        (not_json(404), false),
        (not_json(502), true),
        (TokenError::Malformed { status: 200, detail: String::new() }, false),
        (TokenError::Throttled { status: 429, retry_after: None, refusal: None }, true),
        (TokenError::Secret { path: None, reason: SecretFault::Empty }, false),
    ] {
        assert_eq!(error.is_transient(), transient, "{error:?}");
    }
}

#[test]
fn numbers_pick_the_advice_and_the_error_member_stands_in() {
    let known = refused("invalid_client", 401, &[1, 7_000_222]).advice(&IDS);
    assert!(known.contains("create a new secret") && known.contains("> 58d8 >"), "{known}");
    let unknown = refused("invalid_scope", 400, &[1]).advice(&IDS);
    assert!(unknown.contains("tenant contoso.example has Exchange Online"), "{unknown}");
    let neither = refused("of_a_later_day", 400, &[]).advice(&IDS);
    assert!(neither.contains("look the error up"), "{neither}");
}

#[test]
fn a_refusal_shows_microsofts_words_and_the_ids_that_support_asks_for() {
    let refusal = Refusal {
        error: "invalid_grant".into(),
        status: 400,
        codes: vec![53_003],
        suberror: Some("message_only".into()),
        description: "AADSTS53003: Access has been blocked.".into(),
        trace_id: Some("t-1".into()),
        correlation_id: Some("c-1".into()),
        timestamp: Some("2026-01-05 10:11:12Z".into()),
        retry_after: None,
        ..Refusal::default()
    };
    let text = "invalid_grant (message_only): AADSTS53003: Access has been blocked. \
                [HTTP 400, trace id t-1, correlation id c-1, time 2026-01-05 10:11:12Z]";
    assert_eq!(refusal.to_string(), text);
    let throttled =
        TokenError::Throttled { status: 429, retry_after: None, refusal: Some(Box::new(refusal)) };
    assert!(throttled.to_string().ends_with(text) && throttled.refusal().is_some());
}

#[test]
fn each_kind_says_what_failed_and_what_to_do() {
    let host = || "login.example".to_owned();
    for (error, text, advice) in [
        (
            TokenError::Transport { host: host(), stage: Stage::Dns, cause: "no such host".into() },
            "could not reach login.example (dns): no such host",
            "can resolve login.example",
        ),
        (
            TokenError::Transport {
                host: host(),
                stage: Stage::Tls,
                cause: "UnknownIssuer".into(),
            },
            "could not reach login.example (tls): UnknownIssuer",
            "office365.ca_file",
        ),
        (
            TokenError::Timeout { host: host(), after: Duration::from_millis(1500) },
            "login.example did not answer within 1.5 s",
            "TCP port 443",
        ),
        (
            TokenError::NotJson { status: 200, body: String::new() },
            "the answer is no token and no error of Entra ID: HTTP 200, an empty body",
            "captive portal",
        ),
        (
            TokenError::Secret { path: Some("/etc/s".into()), reason: SecretFault::Empty },
            "the client secret file /etc/s is empty",
            "value into /etc/s",
        ),
        (
            TokenError::Address { url: "login".into(), reason: "it names no host".into() },
            "the token endpoint \"login\" is not a usable address: it names no host",
            "office365.login_url",
        ),
    ] {
        assert_eq!(error.to_string(), text);
        assert!(error.advice(&IDS).contains(advice), "{}", error.advice(&IDS));
    }
}

#[test]
fn ids_and_page_texts_make_no_new_cause() {
    let traced = |id: &str| {
        TokenError::Refused(Box::new(Refusal {
            error: "invalid_client".into(),
            codes: vec![7_000_215],
            trace_id: Some(id.into()),
            ..Refusal::default()
        }))
    };
    assert!(traced("1").has_cause_of(&traced("2")));
    assert!(!traced("1").has_cause_of(&refused("invalid_client", 401, &[7_000_222])));
    assert!(
        not_json(502).has_cause_of(&not_json(502)) && !not_json(502).has_cause_of(&not_json(503))
    );
    let secret = |reason| TokenError::Secret { path: None, reason };
    assert!(!secret(SecretFault::Empty).has_cause_of(&secret(SecretFault::NotText)));
}
