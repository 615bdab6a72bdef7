//! Answers of the token endpoint and of the hosts of managed identities: a token that XOAUTH2 can
//! carry, or an error that can be shown and told in a log, without the secret that we sent.
//!
//! The first octet picks who answers, status, Content-Type and Retry-After; the rest is the body.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use o365_relay::{
    office365::entra::Ids,
    token::{self, fuzzing::Received},
};
use o365_relay_fuzz::is_one_printable_line;

const SECRET: &str = "s3cr+t&s3cr+t";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fuzz_target!(|input: &[u8]| {
    let Some((first, body)) = input.split_first() else { return };
    let first = usize::from(*first);
    let status = [200, 400, 401, 429, 500, 503, 204, 302][first % 8];
    let content_type = [Some("application/json"), Some("text/html"), None][first / 8 % 3];
    let retry_after =
        [None, Some("5"), Some("Mon, 23 Nov 2026 06:24:10 GMT"), Some("soon")][first / 24 % 4];
    let received = Received { status, content_type, retry_after, body: body.to_vec() };
    let outcome = match first / 96 % 2 {
        0 => token::fuzzing::read_answer(received, SECRET),
        _ => token::fuzzing::read_identity_answer(received),
    };
    match outcome {
        Ok(usable) => {
            assert_eq!(status, 200);
            let token = usable.token;
            assert!(!token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic()));
            assert!(usable.lifetime > token::LEAST_TIME_LEFT && usable.lifetime <= WEEK);
        }
        Err(error) => {
            let ids = Ids {
                tenant: "contoso.onmicrosoft.com",
                client_id: "58d827e0-c69c-401f-8deb-b1224d129dc8",
                app: None,
            };
            let (shown, debug) = (error.to_string(), format!("{error:?}"));
            let advice = error.advice(&ids);
            // The host of a managed identity never hears of this secret.
            let secret_sent = first / 96 % 2 == 0;
            for text in [&shown, &debug, &advice] {
                assert!(!secret_sent || !text.contains(SECRET), "the secret is shown: {text}");
                assert!(is_one_printable_line(text), "{text:?}");
                assert!(text.len() < 16_384, "{} octets", text.len());
            }
            let _ = (error.kind(), error.is_transient(), error.retry_after());
        }
    }
});
