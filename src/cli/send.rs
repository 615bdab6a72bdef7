//! `send`: a test message through the running relay.

use std::time::Duration;

use clap::Args;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    address::Envelope,
    transport::smtp::{
        Error, client::AsyncSmtpConnection, extension::ClientId, response::Response,
    },
};

use super::{exit::Failure, local_socket::LocalSocket, output};
use crate::{
    clock::Clock,
    config::{self, Sources},
    listener,
    mail::test_message::{self, Heading},
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
    /// The relay's SMTP address, such as 127.0.0.1:25, or unix: and the path of its socket
    /// [default: the first listener that asks for neither TLS nor a login]
    #[arg(long, value_name = "ADDRESS")]
    relay: Option<listener::Address>,
}

pub(super) async fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    let (relay, from) = match (&options.relay, &options.from) {
        (Some(relay), Some(from)) => (relay.clone(), from.clone()),
        _ => defaults(options, sources)?,
    };
    let reply = send(&relay, &from, &options.to, &options.subject).await?;
    output::line(format!("{relay} answered: {reply}"))?;
    Ok(output::line("the message was taken; `o365-relay status` and its log tell what follows")?)
}

fn defaults(options: &Options, sources: &Sources) -> Result<(listener::Address, Address), Failure> {
    let config = config::load(sources)?;
    let plain = config.listeners.iter().find(|listener| listener.takes_mail_as_it_comes());
    let listener = plain.or(config.listeners.first().filter(|_| options.relay.is_some()));
    let listener = listener.ok_or_else(|| Failure::usage(NO_PLAIN_LISTENER))?;
    let relay = options.relay.clone().or_else(|| listener.addresses.first().cloned());
    let relay = relay.ok_or_else(|| Failure::usage("listener.addresses is empty; give --relay"))?;
    let from = match &options.from {
        Some(from) => from.clone(),
        None => listener.fallback_from.parse().map_err(|error| {
            Failure::usage(format!("office365.mailbox cannot be the sender: {error}; give --from"))
        })?,
    };
    Ok((relay, from))
}

/// Sends one message over SMTP and returns the reply to its final dot.
pub(super) async fn send(
    relay: &listener::Address,
    from: &Address,
    to: &[Address],
    subject: &str,
) -> Result<String, Failure> {
    let envelope = Envelope::new(Some(from.clone()), to.to_vec())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let message = message(from, to, subject);
    let send = hand_over(relay, &envelope, message.as_bytes());
    let Ok(response) = tokio::time::timeout(PATIENCE, send).await else {
        return Err(Failure::unavailable(format!(
            "no answer from {relay} within 180 s; is it a relay? (--relay sends to another)"
        )));
    };
    let response = response?;
    Ok(format!("{} {}", response.code(), response.message().collect::<Vec<_>>().join(" ")))
}

async fn hand_over(
    relay: &listener::Address,
    envelope: &Envelope,
    message: &[u8],
) -> Result<Response, Failure> {
    let hello = ClientId::Domain("localhost".into());
    let response = match relay {
        listener::Address::Systemd(_) => return Err(Failure::usage(UP_TO_SYSTEMD)),
        listener::Address::Unix(path) => {
            let socket = LocalSocket::connect(path);
            let socket = socket.await.map_err(|error| no_socket(relay, &error))?;
            over_socket(socket, &hello, envelope, message).await
        }
        listener::Address::Tcp(address) => {
            let host = address.ip().to_string();
            let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
                .port(address.port())
                .hello_name(hello)
                .timeout(Some(PATIENCE))
                .build();
            transport.send_raw(envelope, message).await
        }
    };
    response.map_err(|error| not_taken(relay, &error))
}

async fn over_socket(
    socket: LocalSocket,
    hello: &ClientId,
    envelope: &Envelope,
    message: &[u8],
) -> Result<Response, Error> {
    let mut smtp = AsyncSmtpConnection::connect_with_transport(Box::new(socket), hello).await?;
    let response = smtp.send(envelope, message).await?;
    let _ = smtp.quit().await; // the message is taken, whatever becomes of this
    Ok(response)
}

const UP_TO_SYSTEMD: &str = "systemd knows where the relay listens (`systemctl list-sockets`, or \
                             `o365-relay status`): give that with --relay";

const NO_PLAIN_LISTENER: &str = "every listener asks for a login or for TLS, and this command has \
                                neither; give --relay, or add a listener on loopback without them";

fn no_socket(relay: &listener::Address, error: &std::io::Error) -> Failure {
    let message = format!("no relay took the message at {relay}: {error}");
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        let cure =
            "this user may not write to the socket; run it as another, or see listener.unix_mode";
        return Failure::of(error, format!("{message}; {cure}"));
    }
    Failure::unavailable(format!("{message}; {NOT_RUNNING}"))
}

const NOT_RUNNING: &str = "is it running (`o365-relay run`), and is this one of its \
                           listener.addresses? (--relay sends to another)";

fn not_taken(relay: &listener::Address, error: &Error) -> Failure {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), <_>::to_string);
    match error.status() {
        Some(code) if error.is_transient() => {
            Failure::try_later(format!("{relay} does not take the message now: {code} {cause}"))
        }
        Some(code) => Failure::unavailable(format!("{relay} refused the message: {code} {cause}")),
        None => Failure::unavailable(format!(
            "no relay took the message at {relay}: {cause}; {NOT_RUNNING}"
        )),
    }
}

fn message(from: &Address, to: &[Address], subject: &str) -> String {
    let date = Clock::system().now().rfc5322();
    let to: Vec<&str> = to.iter().map(AsRef::as_ref).collect();
    test_message::text(&Heading {
        from: from.as_ref(),
        to: &to,
        subject,
        date: &date,
        message_id: None,
    })
}
