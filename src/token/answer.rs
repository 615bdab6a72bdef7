//! The two JSON bodies of the token endpoint (RFC 6749 sections 5.1 and 5.2), read liberally:
//! unknown members are ignored, numbers may be strings, what is only said to people may lack. And
//! what holds for every answer, whoever gave it: which tokens are of use, how long to wait.

use std::{fmt, time::Duration};

use jiff::fmt::rfc2822;
use oauth2::{AccessToken, RefreshToken, Scope, TokenResponse, basic::BasicTokenType};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Fetched, LEAST_TIME_LEFT, TokenError};
use crate::clock::UnixMillis;

/// The body of a success.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct EntraToken {
    access_token: AccessToken,
    #[serde(deserialize_with = "oauth2::helpers::deserialize_untagged_enum_case_insensitive")]
    token_type: BasicTokenType,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    /// Microsoft's: from when on it would like to be asked for a new token.
    #[serde(default, deserialize_with = "seconds")]
    refresh_in: Option<u64>,
}

/// The body of a refusal.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct EntraError {
    pub error: String,
    #[serde(default, deserialize_with = "text")]
    pub error_description: String,
    #[serde(default, deserialize_with = "codes")]
    pub error_codes: Vec<u32>,
    #[serde(default)]
    pub suberror: Option<String>,
    #[serde(default)]
    pub timestamp: Option<String>,
    #[serde(default)]
    pub trace_id: Option<String>,
    #[serde(default)]
    pub correlation_id: Option<String>,
}

impl EntraToken {
    pub(super) fn refresh_in(&self) -> Option<Duration> {
        self.refresh_in.map(Duration::from_secs)
    }
}

impl TokenResponse for EntraToken {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        None // never issued for this grant (RFC 6749 section 4.4.3)
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl fmt::Display for EntraError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

/// `3599`, `"3599"` or nothing. Managed identities and the v1.0 endpoint send strings.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Seconds {
        Number(u64),
        Text(String),
    }
    match Option::<Seconds>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Seconds::Number(number)) => Ok(Some(number)),
        Some(Seconds::Text(text)) => {
            text.trim().parse().map(Some).map_err(|_| D::Error::custom("not a number of seconds"))
        }
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// The numbers among what stands there: they only serve the advice, so none is worth a failure.
fn codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let numbers = value.as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(numbers.iter().filter_map(|number| number.as_u64()?.try_into().ok()).collect())
}

/// A token that XOAUTH2 can carry and that lives long enough to be used.
pub(super) fn usable(
    secret: &str,
    lifetime: Option<Duration>,
    refresh_in: Option<Duration>,
    status: u16,
) -> Result<Fetched, TokenError> {
    // RFC 6750 section 2.1; XOAUTH2 separates its parts by an octet below these.
    if secret.is_empty() || !secret.bytes().all(|octet| octet.is_ascii_graphic()) {
        let detail = "the access token is empty or holds odd characters".into();
        return Err(TokenError::Malformed { status, detail });
    }
    let lifetime = lifetime.unwrap_or(USUAL_LIFETIME).min(LONGEST_LIFETIME);
    if lifetime <= LEAST_TIME_LEFT {
        let detail = format!("the access token expires after {} s", lifetime.as_secs());
        return Err(TokenError::Malformed { status, detail });
    }
    Ok(Fetched { token: SecretString::from(secret), lifetime, refresh_in })
}

/// Retry-After in either form (RFC 9110 section 10.2.3), at most an hour.
pub(super) fn parse_retry_after(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = HTTP_DATE.parse_timestamp(value).ok()?;
            UnixMillis(date.as_millisecond()).since(now)
        }
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

const HTTP_DATE: rfc2822::DateTimeParser = rfc2822::DateTimeParser::new().relaxed_weekday(true);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// The shortest of the lifetimes that Entra ID gives by default.
pub(super) const USUAL_LIFETIME: Duration = Duration::from_secs(3600);
/// Beyond the 28 hours that continuous access evaluation reaches; keeps sums in range.
const LONGEST_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn token(json: &str) -> Result<EntraToken, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn lifetimes_may_be_numbers_strings_or_absent() {
        let whole = token(
            r#"{"token_type":"Bearer","expires_in":"3599","refresh_in":1800,"ext_expires_in":9,
                "access_token":"eyJ0","new":{"a":[]}}"#,
        )
        .unwrap();
        assert_eq!(whole.expires_in(), Some(Duration::from_secs(3599)));
        assert_eq!(whole.refresh_in(), Some(Duration::from_secs(1800)));
        let bare = token(r#"{"token_type":"bearer","access_token":"eyJ0"}"#).unwrap();
        assert_eq!((bare.expires_in(), bare.refresh_in()), (None, None));
        assert!(!format!("{bare:?}").contains("eyJ0"));
        assert!(
            token(r#"{"token_type":"Bearer","access_token":"x","expires_in":"soon"}"#).is_err()
        );
    }

    #[test]
    fn a_refusal_needs_no_more_than_its_error() {
        let bare: EntraError = serde_json::from_str(r#"{"error":"server_error"}"#).unwrap();
        assert_eq!(bare.error, "server_error");
        let odd: EntraError = serde_json::from_str(
            r#"{"error":"e","error_description":null,"error_codes":[1,"2",-3,99999999999],
                "trace_id":null}"#,
        )
        .unwrap();
        assert_eq!((odd.error_codes, odd.error_description), (vec![1], String::new()));
    }
}
