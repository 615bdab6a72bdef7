//! The listeners: whether each answers where clients look for it, and who else could reach it.

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{
    Case,
    report::{Check, Report},
};
use crate::{
    delivery::{
        greet,
        trouble::{Stage, Trouble},
    },
    listener::{Address, Config, Tls},
};

const ID: &str = "listener";

pub(super) async fn check(case: &Case<'_>, report: &mut Report) {
    let interfaces = interfaces(&case.patient.root);
    for listener in &case.config.listeners {
        for address in addresses(case, listener) {
            report.add(one(case, listener, &address, &interfaces).await);
        }
    }
}

/// Where a listener listens: as the relay says itself, if the configuration leaves that open.
fn addresses(case: &Case<'_>, listener: &Config) -> Vec<Address> {
    let open = |address: &Address| match address {
        Address::Systemd(_) => true,
        _ => port_of(address) == Some(0),
    };
    let open = listener.addresses.iter().any(open);
    let told = case.patient.daemon.status().filter(|_| open);
    let told = told.and_then(|status| status.listeners.iter().find(|it| it.name == listener.name));
    match told {
        Some(told) => told.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        None => listener.addresses.clone(),
    }
}

fn port_of(address: &Address) -> Option<u16> {
    match address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) | Address::Systemd(_) => None,
    }
}

async fn one(
    case: &Case<'_>,
    listener: &Config,
    address: &Address,
    interfaces: &[IpAddr],
) -> Check {
    let subject = format!("listener {address}");
    match address {
        Address::Tcp(address) if address.port() == 0 => {
            Check::grey(ID, subject, "the port is chosen at start, and no running relay tells it")
        }
        Address::Tcp(address) => tcp(case, listener, subject, *address, interfaces).await,
        Address::Unix(path) => unix(case, listener, subject, path).await,
        Address::Systemd(_) => Check::grey(
            ID,
            subject,
            "systemd hands over the socket at start, and no running relay tells where it is \
             (`systemctl list-sockets` does)",
        ),
    }
}

/// How one of the places where a listener can be reached took us.
enum Met {
    /// It is ours, and talks to us.
    Ours,
    /// It is ours, and its `allow` keeps us out.
    KeptOut,
    /// It wants TLS before a word is said.
    Locked,
    /// Nothing listens.
    Nobody(String),
    /// Something that is not us.
    Stranger(String),
}

async fn tcp(
    case: &Case<'_>,
    listener: &Config,
    subject: String,
    address: SocketAddr,
    interfaces: &[IpAddr],
) -> Check {
    let places = places(address, interfaces);
    let keys = &listener.keys;
    let locked = matches!(listener.tls, Tls::Implicit(_));
    for place in &places {
        if listener.proxy_protocol.iter().any(|net| net.contains(place)) {
            let why =
                format!("only a balancer may talk to it from {place} ({keys}.proxy_protocol)");
            return Check::grey(ID, subject, &why);
        }
        let allowed = listener.allow.iter().any(|net| net.contains(place));
        let target = SocketAddr::new(*place, address.port());
        match (meet(listener, locked, TcpStream::connect(target)).await, allowed) {
            (Met::Ours, true) | (Met::KeptOut, false) => {}
            (Met::Locked, _) => {
                let finding = "takes connections; its TLS was not tried";
                return Check::green(ID, subject, finding);
            }
            (Met::Nobody(cause), _) => return nobody(case, subject, &target, &cause),
            (Met::Stranger(what), _) => {
                let finding = format!("something else than this relay answers at {target}: {what}");
                return Check::red(ID, subject, finding).cure(format!(
                    "ss -ltnp 'sport = :{}'   # shows who; stop it or change {keys}.addresses",
                    address.port()
                ));
            }
            (Met::KeptOut, true) => {
                let finding = format!("refuses {place}, which {keys}.allow has");
                return Check::red(ID, subject, finding).cure(OLDER);
            }
            (Met::Ours, false) => {
                let finding = format!("talks to {place}, which {keys}.allow does not have");
                return Check::red(ID, subject, finding).cure(OLDER);
            }
        }
    }
    reach(listener, subject, address, &places)
}

async fn unix(case: &Case<'_>, listener: &Config, subject: String, path: &Path) -> Check {
    match meet(listener, false, UnixStream::connect(path)).await {
        Met::Ours => {
            let finding = "answers; the permissions of its file and directory say who reaches it";
            Check::green(ID, subject, finding)
        }
        Met::Nobody(cause) => nobody(case, subject, &path.display(), &cause),
        Met::Stranger(what) => {
            let finding = format!("something else than this relay answers there: {what}");
            let keys = &listener.keys;
            let cure = format!("ss -lxp   # shows who; stop it or change {keys}.addresses");
            Check::red(ID, subject, finding).cure(cure)
        }
        // A Unix socket has neither networks nor TLS.
        Met::KeptOut | Met::Locked => Check::red(ID, subject, "refuses this host").cure(OLDER),
    }
}

/// Who can reach a listener that is as it should be.
fn reach(listener: &Config, subject: String, address: SocketAddr, places: &[IpAddr]) -> Check {
    if address.ip().is_loopback() {
        return Check::green(ID, subject, "answers; no other host can reach it");
    }
    let outside: Vec<_> = listener.allow.iter().filter(|net| !net.addr().is_loopback()).collect();
    let at: Vec<_> =
        places.iter().filter(|place| !place.is_loopback()).map(ToString::to_string).collect();
    let at = if at.is_empty() { address.ip().to_string() } else { at.join(", ") };
    if outside.is_empty() {
        let finding = format!("answers; other hosts reach it at {at}, but none of them may send");
        return Check::green(ID, subject, finding);
    }
    let nets: Vec<_> = outside.iter().map(ToString::to_string).collect();
    let nets = nets.join(", ");
    if outside.iter().any(|net| net.prefix_len() == 0) {
        let finding = format!("answers at {at}, and every host that reaches it may send ({nets})");
        return Check::amber(ID, subject, finding).cure(format!(
            "Name the networks of your applications in {}.allow, and nothing else.",
            listener.keys
        ));
    }
    Check::green(
        ID,
        subject,
        format!("answers at {at}; hosts of {nets} may send, others are refused"),
    )
}

fn nobody(case: &Case<'_>, subject: String, target: &dyn fmt::Display, cause: &str) -> Check {
    if case.patient.daemon.status().is_none() {
        let why = format!("needs a running relay (nothing listens at {target}: {cause})");
        return Check::grey(ID, subject, &why);
    }
    let finding = format!("the relay runs, but nothing answers at {target}: {cause}");
    Check::red(ID, subject, finding)
        .cure("o365-relay status   # shows where it listens: the configuration may be a newer one")
        .cure("systemctl restart o365-relay")
}

async fn meet<S: AsyncRead + AsyncWrite + Unpin>(
    listener: &Config,
    locked: bool,
    connect: impl Future<Output = io::Result<S>>,
) -> Met {
    let late = |_| Err(io::ErrorKind::TimedOut.into());
    let mut stream = match timeout(PATIENCE, connect).await.unwrap_or_else(late) {
        Ok(stream) => stream,
        Err(error) => return Met::Nobody(error.to_string()),
    };
    if locked {
        return Met::Locked;
    }
    match timeout(PATIENCE, greet(&mut stream, "localhost.localdomain")).await {
        Err(_) => Met::Stranger(format!("it says nothing within {PATIENCE:?}")),
        Ok(Ok(reply)) => {
            let first = reply.lines().next().unwrap_or_default().to_owned();
            let ours = first.split(' ').next() == Some(listener.hostname.as_str());
            if ours { Met::Ours } else { Met::Stranger(format!("it calls itself {first:?}")) }
        }
        Ok(Err(Trouble::Refused { stage: Stage::Greeting, reply }))
            if reply.code().value() == 550
                && reply.text().contains(&format!("{}.allow", listener.keys)) =>
        {
            Met::KeptOut
        }
        Ok(Err(trouble)) => Met::Stranger(trouble.to_string()),
    }
}

/// The addresses at which this host can try a listener.
fn places(address: SocketAddr, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    if !address.ip().is_unspecified() {
        return vec![address.ip()];
    }
    let loopback: IpAddr = match address.is_ipv4() {
        true => Ipv4Addr::LOCALHOST.into(),
        false => Ipv6Addr::LOCALHOST.into(),
    };
    let others = interfaces
        .iter()
        .copied()
        .filter(|place| place.is_ipv4() == address.is_ipv4() && !place.is_loopback());
    std::iter::once(loopback).chain(others.take(MOST_INTERFACES)).collect()
}

/// This host's own addresses, as the kernel lists them.
fn interfaces(root: &Path) -> Vec<IpAddr> {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let mut found = local_ipv4(&read("proc/net/fib_trie"));
    found.extend(global_ipv6(&read("proc/net/if_inet6")));
    found.sort_unstable();
    found.dedup();
    found
}

/// A leaf of the routing trie that is an address of this host is followed by `/32 host LOCAL`.
fn local_ipv4(trie: &str) -> Vec<IpAddr> {
    let mut leaf: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            found.extend(leaf.map(IpAddr::from));
        }
    }
    found
}

/// Address, interface, prefix length, scope (00 is global), flags, name; all but the last in
/// hexadecimal digits.
fn global_ipv6(list: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let bits = u128::from_str_radix(words.next()?, 16).ok()?;
        (words.nth(2)? == "00").then(|| IpAddr::from(Ipv6Addr::from_bits(bits)))
    };
    list.lines().filter_map(address).collect()
}

const OLDER: &str = "systemctl restart o365-relay   # it runs with an older configuration";
const MOST_INTERFACES: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_this_host_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.0\n        /24 link UNICAST\n\
                    Local:\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 127.0.0.1\n\
                    \x20       /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        let expected: Vec<IpAddr> = ["10.1.2.3", "127.0.0.1"].map(|a| a.parse().unwrap()).into();
        assert_eq!(local_ipv4(trie), expected);
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    20010db8000000000000000000000007 02 40 00 80     eth0\n\
                    fe800000000000000000000000000001 02 40 20 80     eth0\n";
        assert_eq!(global_ipv6(list), ["2001:db8::7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn an_open_listener_is_tried_at_each_address_and_another_at_its_own() {
        let own: Vec<IpAddr> =
            ["10.1.2.3", "127.0.0.1", "2001:db8::7"].map(|a| a.parse().unwrap()).into();
        let tried = |address: &str| {
            let places = places(address.parse().unwrap(), &own);
            places.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(tried("0.0.0.0:25"), "127.0.0.1 10.1.2.3");
        assert_eq!(tried("[::]:25"), "::1 2001:db8::7");
        assert_eq!(tried("10.1.2.3:25"), "10.1.2.3");
    }
}
