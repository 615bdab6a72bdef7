//! From a host name to a TLS stream, by hand: TCP, greeting, EHLO, STARTTLS, handshake.
//!
//! The plain part is read octet by octet, so that nothing is buffered past the 220: whatever
//! arrives between that reply and the handshake was put there by somebody in the middle
//! (RFC 3207 section 6), and is refused.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{CertificateError as Certificate, Error};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::{
    Config,
    trouble::{Stage, Trouble},
    wire::{Control, Wire, endless_reply},
};
use crate::smtp::reply::Reply;

/// RFC 5321 section 4.5.3.2.1 and 4.5.3.2.2 ask for 5 minutes on greeting and commands.
const REPLY_PATIENCE: Duration = Duration::from_secs(300);
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// One address must not use up the time of all: a host may have IPv6 and no way out by it.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(8);
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(60);

/// Longest reply before TLS, in octets.
const MAX_PLAIN_REPLY: usize = 16 * 1024;

/// Connects and secures.
pub(super) async fn connect(config: &Config, control: Control) -> Result<Wire, Trouble> {
    let mut stream = tcp(config).await?;
    let peer =
        stream.peer_addr().map_err(|error| Trouble::broken(Stage::Connect, error.to_string()))?;
    let greeting = plain_reply(&mut stream, Stage::Greeting).await?;
    expect(Stage::Greeting, 220, greeting)?;

    let hello = format!("EHLO {}\r\n", config.ehlo_name);
    let offers = plain_exchange(&mut stream, Stage::Ehlo, &hello).await?;
    let offers = expect(Stage::Ehlo, 250, offers)?;
    if !offers.lines().any(|line| line.trim().eq_ignore_ascii_case("STARTTLS")) {
        let cause = format!("{} does not offer STARTTLS; nothing was sent", config.host);
        return Err(Trouble::broken(Stage::StartTls, cause));
    }
    let ready = plain_exchange(&mut stream, Stage::StartTls, "STARTTLS\r\n").await?;
    expect(Stage::StartTls, 220, ready)?;
    refuse_early_octets(&stream)?;
    let tls = handshake(config, stream).await?;
    Ok(Wire::new(tls, peer, control))
}

/// Asks an SMTP server who it is, without TLS: the reply to EHLO. For a look at our own listener.
///
/// # Errors
/// [`Trouble`] of a stage up to EHLO.
pub async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ehlo_name: &str,
) -> Result<Reply, Trouble> {
    expect(Stage::Greeting, 220, plain_reply(stream, Stage::Greeting).await?)?;
    let hello = format!("EHLO {ehlo_name}\r\n");
    let reply = plain_exchange(stream, Stage::Ehlo, &hello).await?;
    // Whether goodbye is heard does not matter any more.
    let _ = stream.write_all(b"QUIT\r\n").await;
    expect(Stage::Ehlo, 250, reply)
}

async fn tcp(config: &Config) -> Result<TcpStream, Trouble> {
    let begun = Instant::now();
    let target = format!("{}:{}", config.host, config.port);
    let connect = async {
        let found = lookup_host((config.host.as_str(), config.port)).await;
        let addresses =
            found.map_err(|error| format!("could not look up {}: {error}", config.host))?;
        let mut last = format!("{} has no address", config.host);
        for address in by_turns(addresses) {
            let cause = match timeout(ADDRESS_PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", ADDRESS_PATIENCE.as_secs()),
            };
            last = format!("could not connect to {target} ({address}): {cause}");
        }
        Err(last)
    };
    let stream = timeout(CONNECT_PATIENCE, connect)
        .await
        .unwrap_or_else(|_| {
            Err(format!("no connection to {target} within 30 s; a firewall may drop it"))
        })
        .map_err(|cause| Trouble::broken(Stage::Connect, cause))?;
    stream.set_nodelay(true).map_err(|error| Trouble::broken(Stage::Connect, error.to_string()))?;
    Stage::Connect.answered(begun);
    Ok(stream)
}

/// The families by turns, each in the resolver's order, beginning with the resolver's choice.
fn by_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_ipv4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let turns = std::iter::from_fn(|| {
        let turn: Vec<_> = first.next().into_iter().chain(second.next()).collect();
        (!turn.is_empty()).then_some(turn)
    });
    turns.flatten().collect()
}

/// The reply, if it has the code that the stage wants.
pub(super) fn expect(stage: Stage, code: u16, reply: Reply) -> Result<Reply, Trouble> {
    if reply.code().value() == code { Ok(reply) } else { Err(Trouble::Refused { stage, reply }) }
}

async fn plain_exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    stage: Stage,
    line: &str,
) -> Result<Reply, Trouble> {
    within(stage, stream.write_all(line.as_bytes())).await?;
    plain_reply(stream, stage).await
}

async fn plain_reply(
    stream: &mut (impl AsyncRead + Unpin),
    stage: Stage,
) -> Result<Reply, Trouble> {
    let begun = Instant::now();
    let octets = within(stage, read_reply(stream)).await?;
    stage.answered(begun);
    Reply::parse(&octets).ok_or_else(|| Trouble::no_reply(stage, &octets))
}

async fn within<T>(stage: Stage, work: impl Future<Output = io::Result<T>>) -> Result<T, Trouble> {
    match timeout(REPLY_PATIENCE, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Trouble::broken(stage, error.to_string())),
        Err(_) => Err(Trouble::broken(stage, "no answer within 300 s")),
    }
}

/// One reply, not an octet more.
async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut reply = Vec::new();
    let mut line_start = 0;
    loop {
        let octet = match stream.read_u8().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::new(error.kind(), "the server closed the connection"));
            }
            other => other?,
        };
        reply.push(octet);
        if reply.len() > MAX_PLAIN_REPLY {
            return Err(endless_reply());
        }
        if octet == b'\n' {
            // What has no code is no reply, and need not be waited for: "SSH-2.0-..." ends here.
            let line = &reply[line_start..];
            let continued = line.get(3) == Some(&b'-') && line[..3].iter().all(u8::is_ascii_digit);
            if !continued {
                return Ok(reply);
            }
            line_start = reply.len();
        }
    }
}

fn refuse_early_octets(stream: &TcpStream) -> Result<(), Trouble> {
    let mut octet = [0];
    match stream.try_read(&mut octet) {
        Ok(0) => Err(Trouble::broken(Stage::StartTls, "the server closed the connection")),
        Ok(_) => Err(Trouble::broken(
            Stage::StartTls,
            "plain text came after the reply to STARTTLS: somebody in the middle may have put it there",
        )),
        Err(_) => Ok(()), // nothing there, as it should be; late octets fail the handshake
    }
}

async fn handshake(
    config: &Config,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Trouble> {
    let fault = |cause: String| Trouble::broken(Stage::Tls, cause);
    let name = ServerName::try_from(config.host.clone())
        .map_err(|error| fault(format!("{} is no server name: {error}", config.host)))?;
    let connect = TlsConnector::from(Arc::clone(&config.tls)).connect(name, stream);
    let begun = Instant::now();
    match timeout(HANDSHAKE_PATIENCE, connect).await {
        Ok(Ok(tls)) => {
            Stage::Tls.answered(begun);
            Ok(tls)
        }
        Ok(Err(error)) => Err(fault(format!("{}: {error}{}", config.host, tls_hint(&error)))),
        Err(_) => Err(fault(format!("{}: no answer within 60 s", config.host))),
    }
}

/// What a failed handshake most often means.
fn tls_hint(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return "";
    };
    match error {
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "; if a proxy of your network intercepts TLS, name its authority in office365.ca_file"
        }
        Error::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        ) => "; check the clock of this host",
        Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "; check office365.smtp_host",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_have_a_turn_before_the_second_address_of_either() {
        let addresses = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|text| text.parse().unwrap()).collect()
        };
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]);
        assert_eq!(by_turns(found.into_iter()), expected);
        let one_family = addresses(&["1.1.1.1:1", "1.1.1.2:1"]);
        assert_eq!(by_turns(one_family.clone().into_iter()), one_family);
        assert!(by_turns(std::iter::empty()).is_empty());
    }
}
