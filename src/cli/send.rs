//! `send`: a test message through the running relay.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor, address::Envelope,
    transport::smtp::extension::ClientId,
};

use super::{exit::Failure, output};
use crate::{
    clock::Clock,
    config::{self, Sources},
};

/// In direct mode the answer comes after `queue.direct_wait` and upstream's own.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Who gets the message
    #[arg(long, required = true, value_name = "ADDRESS")]
    to: Vec<Address>,
    /// Who it is from [default: office365.mailbox]
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
    /// Its subject
    #[arg(long, default_value = "Test message from o365-relay")]
    subject: String,
    /// The relay's SMTP address [default: the first of listener.addresses]
    #[arg(long, value_name = "ADDRESS")]
    relay: Option<SocketAddr>,
}

pub(super) async fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    let (relay, from) = match (options.relay, &options.from) {
        (Some(relay), Some(from)) => (relay, from.clone()),
        _ => defaults(options, sources)?,
    };
    let reply = send(relay, &from, &options.to, &options.subject).await?;
    output::line(format!("{relay} answered: {reply}"))?;
    Ok(output::line("the message was taken; `o365-relay status` and its log tell what follows")?)
}

fn defaults(options: &Options, sources: &Sources) -> Result<(SocketAddr, Address), Failure> {
    let config = config::load(sources)?;
    let relay = options.relay.or_else(|| config.listener.addresses.first().copied());
    let relay = relay.ok_or_else(|| Failure::usage("listener.addresses is empty; give --relay"))?;
    let from = match &options.from {
        Some(from) => from.clone(),
        None => config.listener.fallback_from.parse().map_err(|error| {
            Failure::usage(format!("office365.mailbox cannot be the sender: {error}; give --from"))
        })?,
    };
    Ok((relay, from))
}

/// Sends one message over SMTP and returns the reply to its final dot.
pub(super) async fn send(
    relay: SocketAddr,
    from: &Address,
    to: &[Address],
    subject: &str,
) -> Result<String, Failure> {
    let envelope = Envelope::new(Some(from.clone()), to.to_vec())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(relay.ip().to_string())
        .port(relay.port())
        .hello_name(ClientId::Domain("localhost".into()))
        .timeout(Some(PATIENCE))
        .build();
    let message = message(from, to, subject);
    let send = transport.send_raw(&envelope, message.as_bytes());
    let response = match tokio::time::timeout(PATIENCE, send).await {
        Ok(result) => result.map_err(|error| not_taken(relay, &error))?,
        Err(_) => {
            return Err(Failure::unavailable(format!(
                "no answer from {relay} within 180 s; is it a relay? (--relay sends to another)"
            )));
        }
    };
    Ok(format!("{} {}", response.code(), response.message().collect::<Vec<_>>().join(" ")))
}

fn not_taken(relay: SocketAddr, error: &lettre::transport::smtp::Error) -> Failure {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), <_>::to_string);
    match error.status() {
        Some(code) if error.is_transient() => {
            Failure::try_later(format!("{relay} does not take the message now: {code} {cause}"))
        }
        Some(code) => Failure::unavailable(format!("{relay} refused the message: {code} {cause}")),
        None => Failure::unavailable(format!(
            "no relay took the message at {relay}: {cause}; is it running (`o365-relay run`), and \
             is this one of its listener.addresses? (--relay sends to another)"
        )),
    }
}

fn message(from: &Address, to: &[Address], subject: &str) -> String {
    let to = to.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",\r\n ");
    let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let date = Clock::system().now().rfc5322();
    format!(
        "From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {date}\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         This is a test message from o365-relay.\r\nIf you read it, mail goes through.\r\n"
    )
}
