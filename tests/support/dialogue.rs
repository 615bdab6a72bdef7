//! The usual parts of a scripted smarthost's dialogues, and a client's settings that fit them.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use o365_relay::{
    clock::UnixMillis,
    delivery::{Config, NullSender},
    token::AccessToken,
};
use rustls::ClientConfig;

pub const START: UnixMillis = UnixMillis(1_795_415_050_000);
pub const MAILBOX: &str = "relay@contoso.com";

/// Up to the end of the handshake.
pub const SECURE: &str = "\
S: 220 fake ESMTP
C: EHLO relay.contoso.com
S: 250-fake
S: 250 STARTTLS
C: STARTTLS
S: 220 2.0.0 ready
TLS
C: EHLO relay.contoso.com
";

/// All but PIPELINING, so that each line of a script waits for the reply to the one before.
pub const ALL_OFFERS: &str = "S: 250-fake
S: 250-SIZE 157286400
S: 250-DSN
S: 250-AUTH LOGIN XOAUTH2
S: 250-8BITMIME
S: 250 SMTPUTF8
";

pub const FEW_OFFERS: &str = "S: 250-fake\nS: 250 AUTH XOAUTH2\n";

/// One transaction for the message of [`Mail::default`], up to its mail data.
pub const TRANSACTION: &str = "\
C: MAIL FROM:<app@contoso.com> SIZE=24
S: 250 2.1.0 Sender OK
C: RCPT TO:<a@example.net>
S: 250 2.1.5 Recipient OK
C: DATA
S: 354 go ahead
";

pub const TAKEN: &str = "DATA\nS: 250 2.0.0 OK <1@x> [Hostname=fake]\n";

pub fn auth() -> String {
    let response = STANDARD.encode("user=relay@contoso.com\x01auth=Bearer token-1\x01\x01");
    format!("C: AUTH XOAUTH2\nS: 334 \nC: {response}\n")
}

/// Everything up to a login that succeeds.
pub fn login() -> String {
    login_with(ALL_OFFERS)
}

pub fn login_with(offers: &str) -> String {
    format!("{SECURE}{offers}{}S: 235 2.7.0 Authentication successful\n", auth())
}

pub fn config(port: u16, tls: Arc<ClientConfig>) -> Config {
    Config {
        host: "localhost".into(),
        port,
        ehlo_name: "relay.contoso.com".into(),
        null_sender: NullSender::Mailbox,
        max_messages_per_connection: 50,
        idle_close: Duration::from_secs(30),
        tls,
    }
}

pub fn token() -> AccessToken {
    AccessToken::new("token-1".into(), START, START + Duration::from_secs(3600))
}
