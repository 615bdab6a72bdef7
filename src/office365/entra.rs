//! What Entra ID's token endpoint says when it refuses, what that means for a daemon that asks
//! with the client credentials grant, and the next step for the person in charge.
//!
//! Microsoft asks clients to branch on `error` and never on the AADSTS numbers, which may change
//! ("Microsoft identity platform and the OAuth 2.0 client credentials flow", error response).
//! So nothing here steers a retry: the numbers pick the sentence that a person reads.

/// One refusal that Microsoft documents, with its cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The AADSTS numbers that mean this.
    pub codes: &'static [u32],
    /// What is wrong, in a few words.
    pub meaning: &'static str,
    /// The next step in one line, with placeholders: see [`Ids::fill`].
    pub cure: &'static str,
    /// Whether it can heal without a person.
    pub recheck: Recheck,
    /// Whether a change made in the portal minutes ago can still be refused like this, because
    /// it has not reached every server.
    pub lags: bool,
}

/// Whether asking again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// Not before a person changed something.
    WhenChanged,
    /// Every few minutes: an administrator's change elsewhere mends it.
    Slowly,
    /// Once, with a request made anew.
    Once,
    /// Yes, after a pause.
    AfterPause,
}

/// The names that stand for the placeholders of a cure.
#[derive(Debug, Clone, Copy)]
pub struct Ids<'a> {
    /// For `{tenant}`: directory id or domain, as configured.
    pub tenant: &'a str,
    /// For `{client_id}`: the application id.
    pub client_id: &'a str,
    /// For `{app}`: the application's display name; the application id where it is not known.
    pub app: Option<&'a str>,
}

impl<'a> Ids<'a> {
    /// Replaces `{tenant}`, `{client_id}` and `{app}` in `cure`.
    #[must_use]
    pub fn fill(&self, cure: &'a str) -> String {
        super::placeholders::fill(cure, |name| match name {
            "tenant" => Some(self.tenant),
            "client_id" => Some(self.client_id),
            "app" => Some(self.app.unwrap_or(self.client_id)),
            _ => None,
        })
    }
}

impl Entry {
    /// The cure with its placeholders filled in, and a word on patience where it applies.
    #[must_use]
    pub fn advice(&self, ids: &Ids<'_>) -> String {
        let mut advice = ids.fill(self.cure);
        if self.lags {
            advice.push_str(" (a change of the last minutes may not have reached every server)");
        }
        advice
    }
}

/// The entry for an AADSTS number.
#[must_use]
pub fn lookup(code: u32) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.codes.contains(&code))
}

/// All entries, in the order of the documentation.
#[must_use]
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The next step for an `error` member (RFC 6749 section 5.2) whose number is not known; with
/// placeholders, as in [`Entry::cure`].
#[must_use]
pub fn cure_for_error(error: &str) -> Option<&'static str> {
    let cure = match error {
        "invalid_request" | "unsupported_grant_type" => {
            "check office365.tenant_id ({tenant}) and office365.client_id ({client_id}) for typing \
             errors; if they are right, a proxy may have changed the request"
        }
        "invalid_client" => {
            "the credential of application {client_id} is wrong or has expired: create a new one \
             under App registrations > {app} > Certificates & secrets and configure that"
        }
        "unauthorized_client" => {
            "application {client_id} is unknown in tenant {tenant} or disabled there: check both \
             ids and Enterprise applications > {app} > Properties"
        }
        "invalid_scope" | "invalid_resource" => {
            "check office365.scope, and that tenant {tenant} has Exchange Online"
        }
        "invalid_grant" | "interaction_required" => {
            "a policy of tenant {tenant} blocks application {client_id}: look it up in the \
             Service principal sign-ins log and exempt it from that policy"
        }
        "temporarily_unavailable" | "server_error" => {
            "trouble at Microsoft: nothing to do, the request is repeated"
        }
        _ => return None,
    };
    Some(cure)
}

const fn entry(
    codes: &'static [u32],
    recheck: Recheck,
    meaning: &'static str,
    cure: &'static str,
) -> Entry {
    Entry { codes, meaning, cure, recheck, lags: false }
}

/// As [`entry`], for what is also said until a change has spread.
const fn lagging(
    codes: &'static [u32],
    recheck: Recheck,
    meaning: &'static str,
    cure: &'static str,
) -> Entry {
    Entry { codes, meaning, cure, recheck, lags: true }
}

/// From Microsoft's page "Microsoft Entra authentication and authorization error codes".
#[rustfmt::skip] // one blank line between groups says more than one field a line
const ENTRIES: &[Entry] = &[
    // The secret.
    lagging(&[7_000_215], Recheck::WhenChanged,
        "the client secret is wrong; often the secret's id was pasted instead of its value",
        "put the Value column of App registrations > {app} > Certificates & secrets into the \
         client secret, not the Secret ID; if the value is lost, create a new secret"),
    entry(&[7_000_222], Recheck::WhenChanged,
        "the client secret has expired",
        "create a new secret under App registrations > {app} > Certificates & secrets (24 months \
         at most) and configure its value, or change to a certificate"),
    entry(&[7_000_218], Recheck::WhenChanged,
        "the request carried neither a secret nor an assertion",
        "set a credential for application {client_id}, and check that the secret file is not empty"),

    // The application.
    entry(&[700_016], Recheck::WhenChanged,
        "the tenant does not know this application",
        "check that client_id {client_id} and tenant_id {tenant} belong together, and that \
         office365.cloud is the tenant's cloud"),
    entry(&[7_000_229], Recheck::WhenChanged,
        "the application has no service principal in the tenant",
        "let an administrator of {tenant} grant admin consent to {app}, or run \
         `New-MgServicePrincipal -AppId {client_id}`"),
    entry(&[7_000_112, 70_001], Recheck::Slowly,
        "the application is disabled",
        "set Enterprise applications > {app} > Properties > Enabled for users to sign in to Yes, \
         and check admin consent"),
    entry(&[1_000_031], Recheck::Slowly,
        "the application cannot be reached in the tenant",
        "grant admin consent to {app} in {tenant}, and check that Enterprise applications > {app} \
         > Properties > Enabled for users to sign in is Yes"),
    entry(&[700_025], Recheck::WhenChanged,
        "the application is registered as a public client, which may have no credential",
        "use a confidential registration: {app} is set as a public client"),

    // The tenant.
    entry(&[90_002], Recheck::WhenChanged,
        "there is no such tenant",
        "set tenant_id ({tenant} now) to the Directory (tenant) ID of the Overview page; a \
         tenant of a national cloud also needs office365.cloud"),
    entry(&[900_023], Recheck::WhenChanged,
        "the tenant is neither a known directory id nor a domain",
        "set tenant_id ({tenant} now) to the Directory (tenant) ID of the Overview page: look for \
         a forgotten placeholder or a piece of a path"),
    entry(&[9_001_023], Recheck::WhenChanged,
        "this grant is not offered for common, organizations or consumers",
        "set tenant_id ({tenant} now) to the Directory (tenant) ID of the Overview page"),
    entry(&[90_038, 900_382, 900_432], Recheck::WhenChanged,
        "tenant and login host belong to different national clouds",
        "set office365.cloud to the cloud of tenant {tenant}, so that its login host is used"),

    // Scope and resource.
    entry(&[70_011], Recheck::WhenChanged,
        "the scope is malformed or unknown",
        "set office365.scope to https://outlook.office365.com/.default and nothing else"),
    entry(&[1_002_012], Recheck::WhenChanged,
        "with client credentials the scope has to end in /.default",
        "set office365.scope to https://outlook.office365.com/.default"),
    entry(&[28_002], Recheck::WhenChanged,
        "the scope is not valid",
        "set office365.scope to https://outlook.office365.com/.default and nothing else"),
    entry(&[700_022], Recheck::WhenChanged,
        "the scope names several resources",
        "set office365.scope to one scope only: https://outlook.office365.com/.default"),
    entry(&[500_011], Recheck::WhenChanged,
        "the tenant has no service principal of the resource in the scope",
        "tenant {tenant} lacks Exchange Online, or office365.scope is that of another cloud"),
    entry(&[50_001], Recheck::WhenChanged,
        "the resource in the scope is not valid",
        "check office365.scope: tenant {tenant} lacks Exchange Online, or the scope is that of \
         another cloud"),
    entry(&[650_052], Recheck::WhenChanged,
        "the tenant has no subscription for the resource",
        "enable an Exchange Online licence in {tenant}"),
    entry(&[650_057], Recheck::WhenChanged,
        "the resource is not among the permissions of the application",
        "add a permission of Office 365 Exchange Online to {app} and grant admin consent"),
    entry(&[501_051], Recheck::WhenChanged,
        "the application is not assigned to a role of the resource",
        "assign the app role of Office 365 Exchange Online to {app} in {tenant}"),

    // The request itself.
    entry(&[901_002], Recheck::WhenChanged,
        "the v2.0 endpoint does not take `resource`",
        "a fault of this software, or a proxy changed the request: please report it"),
    entry(&[900_144], Recheck::WhenChanged,
        "a parameter is missing in the request",
        "look for an empty value in [office365]; else a proxy changed the request"),
    entry(&[9_002_313], Recheck::WhenChanged,
        "the request is malformed",
        "look for odd characters in the client secret and in [office365]; else a proxy changed \
         the request"),
    entry(&[900_561], Recheck::WhenChanged,
        "the request arrived as something other than a POST",
        "a proxy between this host and the login host changed the request"),

    // Certificates and federated credentials.
    lagging(&[700_027], Recheck::Slowly,
        "the signature of the assertion is wrong, or the certificate is not registered",
        "upload the public certificate to {app} and compare the thumbprints; key and certificate \
         have to be a pair"),
    entry(&[700_030], Recheck::Slowly,
        "the subject of the certificate does not fit",
        "upload the public certificate to {app} and compare the thumbprints; key and certificate \
         have to be a pair"),
    entry(&[50_012, 50_013, 50_027], Recheck::Slowly,
        "the assertion or its token is not acceptable",
        "check `aud`, `iss` and `sub` of the assertion, and that the certificate of {app} is the \
         one in use"),
    entry(&[700_024], Recheck::Once,
        "the assertion is used outside the time it is valid for",
        "set the clock of this host right (NTP)"),
    lagging(&[70_021, 700_211, 700_212, 700_213], Recheck::Slowly,
        "no federated credential matches the issuer, audience and subject of the token file",
        "compare `iss`, `sub` and `aud` of the token file with the federated credential of {app}, \
         letter by letter"),
    entry(&[7_002_138], Recheck::Slowly,
        "the subject of the federated credential differs in upper and lower case only",
        "write the subject in the federated credential of {app} with exactly the letter case of \
         `sub` in the token file"),
    entry(&[700_229], Recheck::Slowly,
        "the token file holds no app-only token",
        "federate {app} with an app-only token: compare `iss`, `sub` and `aud` of the token file \
         with the federated credential"),

    // Policies.
    entry(&[53_003], Recheck::Slowly,
        "conditional access for workload identities blocks the application",
        "exclude the service principal of {app} from the policy, or allow this host's public IP \
         address; the Service principal sign-ins log names the policy"),
    entry(&[53_011], Recheck::Slowly,
        "a risk policy blocks the application",
        "confirm the workload identity {app} as safe, after a look at the Service principal \
         sign-ins log"),
    entry(&[530_032, 530_034, 530_035], Recheck::Slowly,
        "a policy of the tenant or the security defaults block the application",
        "review security defaults and tenant policies of {tenant}; the Service principal \
         sign-ins log names the cause"),

    // A user's flow, which this grant is not.
    entry(&[50_034], Recheck::WhenChanged,
        "no such user: the request came from a user flow",
        "use the client credentials grant: no user name or password belongs into the set-up of \
         {app}"),
    entry(&[65_001, 90_094], Recheck::WhenChanged,
        "consent is lacking",
        "let an administrator of {tenant} grant admin consent to {app}; with application \
         permissions, not delegated ones"),
    entry(&[700_020], Recheck::WhenChanged,
        "the request wants a person to sign in",
        "use the client credentials grant, and let an administrator of {tenant} grant admin \
         consent to {app}"),

    // Too fast, or trouble at Microsoft.
    entry(&[50_196], Recheck::Slowly,
        "the same client asked too often in a short time",
        "look for other programs that ask for tokens as {client_id} in a loop; this one waits"),
    entry(&[90_055], Recheck::AfterPause,
        "the tenant sends too many requests",
        "nothing to do here: the request is repeated after a pause"),
    entry(&[50_033, 90_006, 90_012, 90_024, 90_033, 90_090, 90_091, 50_087], Recheck::AfterPause,
        "a passing fault of Entra ID",
        "nothing to do: the request is repeated after a pause"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &[u32] = &[
        7000215, 7000222, 7000218, 700016, 7000229, 7000112, 70001, 1000031, 90002, 900023,
        9001023, 70011, 1002012, 28002, 700022, 500011, 50001, 650052, 650057, 501051, 901002,
        900144, 9002313, 900561, 700025, 700027, 700030, 50012, 50013, 50027, 700024, 70021,
        700211, 700212, 700213, 7002138, 700229, 53003, 53011, 530032, 530034, 530035, 50034,
        65001, 90094, 700020, 50196, 90055, 50033, 90006, 90012, 90024, 90033, 90090, 90091, 50087,
        90038, 900382, 900432,
    ];

    const IDS: Ids<'_> = Ids { tenant: "contoso.example", client_id: "58d8", app: None };

    #[test]
    fn every_documented_code_has_a_cure_in_one_line() {
        for code in DOCUMENTED {
            let entry = lookup(*code).unwrap_or_else(|| panic!("AADSTS{code} is not there"));
            let advice = entry.advice(&IDS);
            assert!(!entry.meaning.is_empty() && !advice.contains(['{', '}', '\n']), "{advice}");
            assert!(!advice.contains("  ") && !advice.ends_with('.'), "{advice}");
        }
        assert_eq!(lookup(1), None);
    }

    #[test]
    fn no_code_stands_twice_and_none_is_made_up() {
        let mut listed: Vec<u32> =
            entries().iter().flat_map(|entry| entry.codes).copied().collect();
        let mut documented = DOCUMENTED.to_vec();
        listed.sort_unstable();
        documented.sort_unstable();
        assert_eq!(listed, documented);
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        let cure = "{app} of {tenant}: -AppId {client_id}, {other} {";
        assert_eq!(IDS.fill(cure), "58d8 of contoso.example: -AppId 58d8, {other} {");
        let named = Ids { app: Some("Mail relay {tenant}"), ..IDS };
        assert_eq!(named.fill("{app}!"), "Mail relay {tenant}!");
    }

    #[test]
    fn what_spreads_slowly_says_so() {
        let lagging: Vec<u32> = DOCUMENTED
            .iter()
            .filter(|code| lookup(**code).is_some_and(|entry| entry.lags))
            .copied()
            .collect();
        assert_eq!(lagging, [7000215, 700027, 70021, 700211, 700212, 700213]);
        assert!(lookup(7000215).unwrap().advice(&IDS).contains("last minutes"));
    }

    #[test]
    fn each_error_of_the_protocol_has_a_cure() {
        for error in [
            "invalid_request",
            "unsupported_grant_type",
            "invalid_client",
            "unauthorized_client",
            "invalid_scope",
            "invalid_resource",
            "invalid_grant",
            "interaction_required",
            "temporarily_unavailable",
            "server_error",
        ] {
            let advice = IDS.fill(cure_for_error(error).unwrap());
            assert!(!advice.contains(['{', '\n']) && !advice.contains("  "), "{advice}");
        }
        assert_eq!(cure_for_error("slow_down"), None);
    }
}
