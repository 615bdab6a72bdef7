//! What the token task tells the log. Neither token nor secret is ever a field.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::{Config, Expiry, FailedRefresh, TokenError};
use crate::{
    clock::UnixMillis,
    office365::entra::Ids,
    telemetry::metrics::{self, catalogue, causes::NoToken},
};

/// Names the credential in each line.
#[derive(Debug)]
pub(super) struct Events {
    /// Empty where there is one only.
    account: String,
    tenant_id: String,
    client_id: String,
    credential: &'static str,
}

impl Events {
    pub(super) fn new(config: &Config) -> Self {
        let or = |id: &str, else_: &str| if id.is_empty() { else_ } else { id }.to_owned();
        metrics::know_account(&config.account);
        Self {
            account: config.account.clone(),
            tenant_id: or(&config.tenant_id, "of the managed identity"),
            client_id: or(&config.client_id, "the managed identity"),
            credential: config.credential.name(),
        }
    }

    #[cfg(test)]
    pub(super) fn nameless() -> Self {
        Self {
            account: String::new(),
            tenant_id: "contoso.example".into(),
            client_id: "58d8".into(),
            credential: "client secret",
        }
    }

    /// For the log, which says it where there are several.
    fn account(&self) -> Option<&str> {
        Some(self.account.as_str()).filter(|name| !name.is_empty())
    }

    pub(super) fn advice(&self, error: &TokenError) -> String {
        error.advice(&Ids { tenant: &self.tenant_id, client_id: &self.client_id, app: None })
    }

    pub(super) fn obtained(&self, life: Duration, next_refresh: Duration, failures: u32) {
        catalogue::TOKEN_REFRESHES.inc(&[&self.account]);
        info!(
            client_id = %self.client_id,
            account = self.account(),
            credential = self.credential,
            expires_in_seconds = life.as_secs(),
            next_refresh_seconds = next_refresh.as_secs(),
            failures_before = failures,
            "access token obtained"
        );
    }

    /// The credential itself ends soon, or has ended.
    pub(super) fn ends_soon(&self, expiry: &Expiry, now: UnixMillis) {
        let (days_left, expires) = (expiry.days_left(now), expiry.at.rfc3339());
        if days_left < 0 {
            error!(
                client_id = %self.client_id,
                account = self.account(),
                credential = %expiry.what,
                expires,
                advice = RENEW,
                "credential has expired"
            );
        } else {
            warn!(
                client_id = %self.client_id,
                account = self.account(),
                credential = %expiry.what,
                expires,
                days_left,
                advice = RENEW,
                "credential expires soon"
            );
        }
    }

    /// Loud when the cause is new or the last token has run out since, quiet when it is what
    /// `earlier` said already. Without a token no mail goes out, so that is an error whatever
    /// the cause.
    pub(super) fn failed(
        &self,
        failed: &FailedRefresh,
        earlier: Option<&FailedRefresh>,
        next_try: Duration,
        token_left: Duration,
    ) {
        catalogue::TOKEN_FAILURES.inc(&[&self.account, cause(&failed.error).as_str()]);
        let next_try_seconds = next_try.as_secs();
        let token_left_seconds = token_left.as_secs();
        let told = earlier.filter(|earlier| failed.error.has_cause_of(&earlier.error));
        if told.is_some_and(|earlier| failed.has_token || !earlier.has_token) {
            debug!(
                client_id = %self.client_id,
                account = self.account(),
                error = %failed.error,
                attempts = failed.attempts,
                next_try_seconds,
                token_left_seconds,
                "access token request failed again"
            );
        } else if let TokenError::Refused(refusal) = &failed.error
            && !failed.error.is_transient()
        {
            error!(
                tenant_id = %self.tenant_id,
                client_id = %self.client_id,
                account = self.account(),
                error = %failed.error,
                codes = ?refusal.codes,
                trace_id = refusal.trace_id.as_deref(),
                correlation_id = refusal.correlation_id.as_deref(),
                advice = %failed.advice,
                next_try_seconds,
                token_left_seconds,
                "access token refused"
            );
        } else if failed.error.is_transient() && failed.has_token {
            warn!(
                client_id = %self.client_id,
                account = self.account(),
                error = %failed.error,
                advice = %failed.advice,
                next_try_seconds,
                token_left_seconds,
                "access token request failed"
            );
        } else if failed.error.is_transient() {
            error!(
                client_id = %self.client_id,
                account = self.account(),
                error = %failed.error,
                advice = %failed.advice,
                next_try_seconds,
                token_left_seconds,
                "access token request failed"
            );
        } else {
            error!(
                client_id = %self.client_id,
                account = self.account(),
                error = %failed.error,
                advice = %failed.advice,
                next_try_seconds,
                token_left_seconds,
                "access token request not possible"
            );
        }
    }
}

fn cause(error: &TokenError) -> NoToken {
    match error {
        TokenError::Transport { .. }
        | TokenError::Timeout { .. }
        | TokenError::NoIdentityEndpoint { .. } => NoToken::Network,
        TokenError::Secret { .. } | TokenError::File { .. } | TokenError::Challenge { .. } => {
            NoToken::File
        }
        TokenError::Address { .. } => NoToken::Settings,
        error if error.is_transient() => NoToken::Endpoint,
        TokenError::Refused(_) | TokenError::Identity(_) => NoToken::Refused,
        TokenError::Throttled { .. }
        | TokenError::NotJson { .. }
        | TokenError::Malformed { .. } => NoToken::Endpoint,
    }
}

/// What to do before a credential ends. It works for secrets and certificates alike: the files are
/// read again for each request.
pub const RENEW: &str = "add a new one under App registrations > Certificates & secrets, put it into \
                     the file that the relay reads (no restart); where a client secret has \
                     office365.client_secret_expires beside it, set that too. If setup made it, \
                     `o365-relay setup --renew` does all of it";

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::{clock::UnixMillis, token::Refusal};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn failed(error: TokenError) -> FailedRefresh {
        let at = UnixMillis(0);
        FailedRefresh {
            error,
            advice: "mend it".into(),
            since: at,
            at,
            attempts: 1,
            next_try: at,
            has_token: true,
        }
    }

    fn refused(code: u32) -> FailedRefresh {
        failed(TokenError::Refused(Box::new(Refusal {
            error: "invalid_client".into(),
            codes: vec![code],
            trace_id: Some("t-1".into()),
            ..Refusal::default()
        })))
    }

    fn lines(tell: impl FnOnce(&Events)) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .without_time()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || tell(&Events::nameless()));
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn a_cause_is_told_aloud_once() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let (expired, wrong) = (refused(7_000_222), refused(7_000_215));
        let down = failed(TokenError::Timeout { host: "login.example".into(), after: minute });
        let empty = TokenError::Address { url: String::new(), reason: "it is empty".into() };
        let ran_out = || {
            let error = TokenError::Timeout { host: "login.example".into(), after: minute };
            FailedRefresh { has_token: false, ..failed(error) }
        };
        let lines = lines(|events| {
            events.failed(&expired, None, second, minute);
            events.failed(&expired, Some(&expired), second, minute);
            events.failed(&wrong, Some(&expired), second, minute);
            events.failed(&down, Some(&wrong), second, minute);
            events.failed(&ran_out(), Some(&down), second, Duration::ZERO);
            events.failed(&ran_out(), Some(&ran_out()), second, Duration::ZERO);
            events.failed(&failed(empty), Some(&down), second, minute);
            events.obtained(minute, second, 5);
        });
        let starts = [
            "ERROR o365_relay::token::events: access token refused tenant_id=contoso.example",
            "DEBUG o365_relay::token::events: access token request failed again",
            "ERROR o365_relay::token::events: access token refused",
            "WARN o365_relay::token::events: access token request failed client_id=58d8",
            "ERROR o365_relay::token::events: access token request failed client_id=58d8",
            "DEBUG o365_relay::token::events: access token request failed again",
            "ERROR o365_relay::token::events: access token request not possible",
            "INFO o365_relay::token::events: access token obtained",
        ];
        assert_eq!(lines.len(), starts.len(), "{lines:#?}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert!(lines[0].contains("trace_id=\"t-1\"") && lines[0].contains("codes=[7000222]"));
        assert!(lines[0].contains("advice=mend it next_try_seconds=1 token_left_seconds=60"));
        assert!(lines[7].contains("expires_in_seconds=60 next_refresh_seconds=1"), "{}", lines[7]);
    }
}
