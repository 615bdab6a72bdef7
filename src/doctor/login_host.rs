//! The login host: its name, the connection, the clock by its Date field, TLS and who signed its
//! certificate. No secret is sent, so all of it can be told before there is a token.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{Request, Uri, body::Bytes, header};
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    Case,
    report::{Check, Report},
};
use crate::{
    clock::UnixMillis,
    office365::entra::Ids,
    tls::{self, Shown},
    token::{Credential, Stage, TokenError},
};

/// Whether the token endpoint can be asked.
pub(super) async fn check(case: &Case<'_>, report: &mut Report) -> bool {
    if let Credential::ManagedIdentity(_) = case.identity.token.credential {
        report.add(Check::grey("clock", "clock", "a managed identity does not use the login host"));
        return true;
    }
    let Some((host, port)) = target(&case.identity.token.token_url) else {
        let url = &case.identity.token.token_url;
        report.add(Check::red("login-dns", "login host", format!("{url} names no host")).cure(
            format!("Leave {} out, or set it to the cloud's login host.", case.key("login_url")),
        ));
        return false;
    };
    let addresses = match name("login-dns", &host, port).await {
        Ok((check, addresses)) => {
            report.add(check);
            addresses
        }
        Err(cause) => {
            let error = transport(&host, port, Stage::Dns, cause);
            report.add(broken(case, "login-dns", format!("name {host}"), &error));
            return false;
        }
    };
    let stream = match connect(&addresses).await {
        Ok((stream, address)) => {
            let finding = format!("connected to {address}{}", proxies(case));
            report.add(Check::green("login-connection", format!("connection to {host}"), finding));
            stream
        }
        Err(cause) => {
            let error = transport(&host, port, Stage::Connect, cause);
            report.add(broken(case, "login-connection", format!("connection to {host}"), &error));
            return false;
        }
    };
    secured(case, &host, port, stream, report).await
}

/// The clock stands before TLS: certificates are judged by it.
async fn secured(
    case: &Case<'_>,
    host: &str,
    port: u16,
    stream: TcpStream,
    report: &mut Report,
) -> bool {
    let (tls, witness) = match tls::client_config_with_witness(case.identity.ca_file, true) {
        Ok(made) => made,
        Err(error) => {
            report.add(Check::red("login-tls", tls_to(host), error.to_string()));
            return false;
        }
    };
    let spoken = timeout(PATIENCE, handshake(host, stream, tls)).await;
    let spoken = spoken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let (date, cause) = match spoken {
        Ok(stream) => (timeout(PATIENCE, date(host, stream)).await.ok().flatten(), None),
        Err(error) => (None, Some(error.to_string())),
    };
    report.add(clock(case, host, date));
    let check = match (witness.shown(), cause) {
        (_, Some(cause)) => {
            broken(case, "login-tls", tls_to(host), &transport(host, port, Stage::Tls, cause))
        }
        (Some(shown), None) => certificate(case, "login-tls", host, &shown, "login_url"),
        (None, None) => Check::red("login-tls", tls_to(host), "the server showed no certificate"),
    };
    let good = check.colour != super::report::Colour::Red;
    report.add(check);
    good
}

/// Host and port of the token endpoint, where the account uses one.
pub(super) fn target_of(case: &Case<'_>) -> Option<(String, u16)> {
    match case.identity.token.credential {
        Credential::ManagedIdentity(_) => None,
        _ => target(&case.identity.token.token_url),
    }
}

/// Host and port of an https URL.
fn target(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, uri.port_u16().unwrap_or(443)))
}

/// Looks a name up.
pub(super) async fn name(
    id: &'static str,
    host: &str,
    port: u16,
) -> Result<(Check, Vec<SocketAddr>), String> {
    let found = match timeout(PATIENCE, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no name server answered within {} s", PATIENCE.as_secs())),
    };
    if found.is_empty() {
        return Err("the name has no address".into());
    }
    let shown: Vec<_> = found.iter().take(4).map(|address| address.ip().to_string()).collect();
    Ok((Check::green(id, format!("name {host}"), format!("is {}", shown.join(", "))), found))
}

async fn connect(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), String> {
    let mut last = String::new();
    for address in addresses {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer within {} s", PATIENCE.as_secs()),
        }
    }
    Err(last)
}

async fn handshake(
    host: &str,
    stream: TcpStream,
    tls: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// What the other side's clock shows. Nothing is asked for that matters.
async fn date(host: &str, stream: TlsStream<TcpStream>) -> Option<UnixMillis> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::head("/").header(header::HOST, host).body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    let date = response.headers().get(header::DATE)?.to_str().ok()?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(UnixMillis(date.as_millisecond()))
}

fn clock(case: &Case<'_>, host: &str, date: Option<UnixMillis>) -> Check {
    let (id, subject) = ("clock", "clock of this host");
    let Some(date) = date else {
        return Check::grey(id, subject, &format!("{host} did not tell the time"));
    };
    let now = case.now();
    let (off, word) = match now.0 >= date.0 {
        true => (now.since(date), "ahead of"),
        false => (date.since(now), "behind"),
    };
    let shown = humantime::format_duration(Duration::from_secs(off.as_secs())).to_string();
    let finding = format!("{shown} {word} that of {host}");
    let check = match off {
        // The Date field has whole seconds, and the answer was on its way.
        _ if off < SMALL => return Check::green(id, subject, format!("as that of {host}")),
        _ if off < LARGE => Check::amber(id, subject, finding),
        _ => Check::red(
            id,
            subject,
            format!("{finding}: assertions are refused (AADSTS700024) and lifetimes misjudged"),
        ),
    };
    let seconds = i64::try_from(off.as_secs()).unwrap_or(i64::MAX);
    check
        .cure("Let the clock be kept by NTP:")
        .cure("timedatectl set-ntp true   # or chrony, ntpd; a virtual machine may follow its host")
        .fact("seconds_ahead", if now.0 >= date.0 { seconds } else { -seconds })
}

/// The subject of a line about TLS.
pub(super) fn tls_to(host: &str) -> String {
    format!("TLS to {host}")
}

/// The verdict on a certificate, with its issuer: who intercepts shows there.
pub(super) fn certificate(
    case: &Case<'_>,
    id: &'static str,
    host: &str,
    shown: &Shown,
    key: &str,
) -> Check {
    use rustls::{CertificateError as Fault, Error};
    let key = case.key(key);
    let issuer = &shown.issuer;
    let Some(fault) = &shown.fault else {
        return Check::green(id, tls_to(host), format!("certificate issued by {issuer}"))
            .fact("issuer", issuer.clone());
    };
    let date = |time: Option<UnixMillis>| time.map_or("?".into(), UnixMillis::rfc3339);
    let (what, cure) = match fault {
        Error::InvalidCertificate(Fault::UnknownIssuer | Fault::BadSignature) => (
            "the certificate is signed by somebody who is not trusted here: a proxy of the network \
             intercepts TLS, or the ca-certificates package is old or missing"
                .to_owned(),
            "If the issuer is an authority of your own network, put its certificate (PEM) into a \
             file and set office365.ca_file to it, or exempt this host from inspection; if not, \
             install or update ca-certificates."
                .replace("office365.ca_file", &case.key("ca_file")),
        ),
        Error::InvalidCertificate(Fault::NotValidForName | Fault::NotValidForNameContext { .. }) => (
            "the certificate is for another name: something else answers".to_owned(),
            format!("Check {key}, and what stands between this host and {host}."),
        ),
        Error::InvalidCertificate(
            Fault::Expired
            | Fault::ExpiredContext { .. }
            | Fault::NotValidYet
            | Fault::NotValidYetContext { .. },
        ) => (
            format!(
                "the certificate is good from {} to {} only",
                date(shown.not_before),
                date(shown.not_after)
            ),
            format!("Check the clock of this host (`date -u`); if it is right, {host} is to blame."),
        ),
        other => (format!("the certificate does not count: {other}"), format!("Check {key}.")),
    };
    Check::red(id, tls_to(host), format!("{what}; issued by {issuer}"))
        .cure(cure)
        .fact("issuer", issuer.clone())
}

fn transport(host: &str, port: u16, stage: Stage, cause: String) -> TokenError {
    let host = if port == 443 { host.to_owned() } else { format!("{host}:{port}") };
    TokenError::Transport { host, stage, cause }
}

fn broken(case: &Case<'_>, id: &'static str, subject: String, error: &TokenError) -> Check {
    let token = case.identity.token;
    let ids = Ids { tenant: &token.tenant_id, client_id: &token.client_id, app: None };
    let advice = error.advice(&ids);
    let check = Check::red(id, subject, error.to_string()).cure(sentence(&advice));
    match case.proxy_variables().as_slice() {
        [] => check,
        set => check.cure(format!(
            "{} is set, but o365-relay uses no proxy: it has to reach both hosts directly.",
            set.join(", ")
        )),
    }
}

/// A note on proxy variables, where they are set.
pub(super) fn proxies(case: &Case<'_>) -> String {
    match case.proxy_variables().as_slice() {
        [] => String::new(),
        set => format!(" directly ({} is set, but o365-relay uses no proxy)", set.join(", ")),
    }
}

/// An advice that stands in the middle of a line elsewhere. Commands begin with a capital anyway.
pub(super) fn sentence(advice: &str) -> String {
    let mut letters = advice.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}

/// For each single step.
const PATIENCE: Duration = Duration::from_secs(8);
const SMALL: Duration = Duration::from_secs(60);
const LARGE: Duration = Duration::from_secs(300);
