//! The access token: asked for once, as the relay does.

use super::{
    Case, claims,
    login_host::sentence,
    report::{Check, Report},
    settings::{EndKnown, expiring},
};
use crate::{
    office365::entra::{self, Ids},
    token::{self, AccessToken, Claims, Credential, TokenError},
};

/// A token that Exchange may take, with what is in it.
pub(super) struct Token {
    pub access: AccessToken,
    pub claims: Claims,
    /// Whether its claims rule out that it opens a mailbox.
    pub hopeless: bool,
}

/// Asks for one and reads it.
pub(super) async fn check(case: &Case<'_>, report: &mut Report) -> Option<Token> {
    let (id, subject) = ("token", "access token");
    let config = case.identity.token.clone();
    let (token, secret_ends) = match token::examine(config, case.clock).await {
        Ok(found) => found,
        Err(error) => {
            report.add(refused(case, &error));
            return None;
        }
    };
    if let Some(expiry) = secret_ends {
        report.add(expiring(&expiry, EndKnown::Graph, case.now()));
    }
    let left = token.expires_at().since(case.now()).as_secs();
    let left = humantime::format_duration(std::time::Duration::from_secs(left / 60 * 60));
    report.add(Check::green(id, subject, format!("obtained, good for {left}")));
    let Some(claims) = token.claims() else {
        report.add(Check::amber(
            "audience",
            "token",
            "it is no readable JWT, so nothing can be said about what it is for",
        ));
        return Some(Token { access: token, claims: Claims::default(), hopeless: false });
    };
    let checks = claims::judge(case, &claims);
    let hopeless = checks.iter().any(|check| check.colour == super::report::Colour::Red);
    report.extend(checks);
    Some(Token { access: token, claims, hopeless })
}

fn refused(case: &Case<'_>, error: &TokenError) -> Check {
    let config = case.identity.token;
    let ids = Ids { tenant: &config.tenant_id, client_id: &config.client_id, app: None };
    let codes = error.refusal().map(|refusal| refusal.codes.clone()).unwrap_or_default();
    let entry = codes.iter().find_map(|code| entra::lookup(*code));
    let meaning = entry.map(|entry| format!("{}: ", entry.meaning)).unwrap_or_default();
    let mut check = Check::red("token", "access token", format!("{meaning}{error}"))
        .cure(sentence(&error.advice(&ids)));
    if !codes.is_empty() {
        check = check.fact("aadsts", codes.clone());
    }
    check = check.cures(compare(&config.credential, &codes));
    if entry.is_some_and(|entry| entry.lags) {
        check = check.cure(format!(
            "A new secret, certificate or federated credential can be refused for some minutes \
             ({}); `o365-relay doctor --wait 10m` looks again until it is taken.",
            case.since()
        ));
    }
    check
}

/// What to hold against the page of the app registration, where two things have to be the same.
fn compare(credential: &Credential, codes: &[u32]) -> Vec<String> {
    let is_one_of = |of: &[u32]| codes.iter().any(|code| of.contains(code));
    if is_one_of(&[700_027, 700_030])
        && let Some(thumbprint) = credential.thumbprint()
    {
        return vec![format!("The certificate in use has the SHA-1 thumbprint {thumbprint}.")];
    }
    if is_one_of(&[70_021, 700_211, 700_212, 700_213, 7_002_138])
        && let Some(claims) = credential.federated_claims()
    {
        let shown = |claim: Option<String>| claim.unwrap_or_else(|| "(none)".into());
        return vec![
            "Certificates & secrets > Federated credentials must hold exactly this, letter by \
             letter:"
                .into(),
            format!("  Issuer               {}", shown(claims.issuer)),
            format!("  Subject identifier   {}", shown(claims.subject)),
            format!("  Audience             {}", shown(claims.audience)),
        ];
    }
    Vec::new()
}
