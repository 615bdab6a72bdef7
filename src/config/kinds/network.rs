//! The kinds of values about sockets: addresses, networks, the mode of a socket's file.

use std::net::{IpAddr, SocketAddr};

use config::ValueKind;
use ipnet::{IpNet, Ipv6Net};

use super::{Parsed, filled_list, list, text_as};
use crate::listener;

/// Addresses to listen on.
pub(in crate::config) fn listener_addresses(value: &ValueKind) -> Parsed<Vec<listener::Address>> {
    let expected = "an IP address with a port, such as \"127.0.0.1:25\", `unix:` and the \
                    absolute path of a socket, or \"systemd\"";
    filled_list(value, expected, |text| text.parse().ok())
}

const NETWORK: &str = "a network such as \"10.1.2.0/24\", or an IP address";

/// Networks; an address alone is a network of one.
pub(in crate::config) fn networks(value: &ValueKind) -> Parsed<Vec<IpNet>> {
    filled_list(value, NETWORK, network)
}

/// As [`networks`]; may be empty.
pub(in crate::config) fn networks_if_any(value: &ValueKind) -> Parsed<Vec<IpNet>> {
    list(value, NETWORK, network)
}

fn network(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let found = text.parse::<IpNet>().ok().or_else(one)?.trunc();
    // Clients are known by their IPv4 address, so what is mapped into IPv6 has to be that too.
    let mapped = |net: &Ipv6Net| net.addr().to_ipv4_mapped().filter(|_| net.prefix_len() >= 96);
    match &found {
        IpNet::V6(net) => match mapped(net) {
            Some(address) => IpNet::new(address.into(), net.prefix_len() - 96).ok(),
            None => Some(found),
        },
        IpNet::V4(_) => Some(found),
    }
}

/// The mode of a file, as `chmod` has it. A number would be read as decimal.
pub(in crate::config) fn file_mode(value: &ValueKind) -> Parsed<u32> {
    text_as(value, "a file mode in quotes, such as \"0660\"", |text| {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777)
    })
}

/// An address, or `off`.
pub(in crate::config) fn address_or_off(value: &ValueKind) -> Parsed<Option<SocketAddr>> {
    text_as(value, "an IP address with a port, such as \"127.0.0.1:9587\", or \"off\"", |text| {
        if text == "off" { Some(None) } else { text.parse().ok().map(Some) }
    })
}
