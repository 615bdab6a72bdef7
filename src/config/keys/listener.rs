//! `[listener]`: the SMTP server. It may stand several times, as `[[listener]]`.

use std::time::Duration;

use ipnet::IpNet;

use super::{
    AnyKey,
    Default::{Computed, Count, List, Nothing, Text},
    Key,
};
use crate::{
    config::kinds,
    listener::Address,
    smtp::{mail_data::BareLineFeed, path},
};

const LISTENER: &str = "listener";

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[
    &ADDRESSES,
    &ALLOW,
    &NAME,
    &SENDER,
    &PROXY_PROTOCOL,
    &UNIX_MODE,
    &HOSTNAME,
    &DEFAULT_DOMAIN,
    &MAX_MESSAGE_SIZE,
    &MAX_RECIPIENTS,
    &MAX_CONNECTIONS,
    &MAX_CONNECTIONS_PER_CLIENT,
    &COMMAND_TIMEOUT,
    &DATA_TIMEOUT,
    &SESSION_TIMEOUT,
    &MIN_DATA_RATE,
    &MAX_FAULTS,
    &BARE_LINE_FEED,
];

pub(in crate::config) static ADDRESSES: Key<Vec<Address>> = Key::new(
    LISTENER,
    "addresses",
    List(&["127.0.0.1:25", "[::1]:25"]),
    "Addresses to listen on: an IP address with a port, or \"unix:/run/o365-relay/smtp.sock\". \
     Beyond loopback, `allow` must be set.",
    kinds::listener_addresses,
);

pub(in crate::config) static ALLOW: Key<Vec<IpNet>> = Key::new(
    LISTENER,
    "allow",
    List(&["127.0.0.0/8", "::1/128"]),
    "Networks that may send; everybody else is refused. Who may use a Unix socket is up to the \
     permissions of its file alone.",
    kinds::networks,
);

pub(in crate::config) static NAME: Key<String> = Key::new(
    LISTENER,
    "name",
    Computed { sample: "printers", from: "its first address" },
    "What this listener is called in logs and status.",
    kinds::name,
);

pub(in crate::config) static SENDER: Key<path::Address> = Key::new(
    LISTENER,
    "sender",
    Nothing { sample: "erp@contoso.com" },
    "The reverse-path of every message that this listener takes, whatever the client says; it is \
     where notices go. The From field stays as it is.",
    kinds::sender,
);

pub(in crate::config) static PROXY_PROTOCOL: Key<Vec<IpNet>> = Key::new(
    LISTENER,
    "proxy_protocol",
    List(&[]),
    "Networks of balancers, such as [\"10.1.0.5\"]: each connection from there must begin with a \
     PROXY header (version 1 or 2), and the client that it names is the one that counts. A header \
     from anywhere else is refused.",
    kinds::networks_if_any,
);

pub(in crate::config) static UNIX_MODE: Key<u32> = Key::new(
    LISTENER,
    "unix_mode",
    Text("0660"),
    "The mode of a Unix socket's file; a client needs to write to it.",
    kinds::file_mode,
);

pub(in crate::config) static HOSTNAME: Key<String> = Key::new(
    LISTENER,
    "hostname",
    Computed { sample: "relay.contoso.com", from: "the host's name" },
    "Our name in the greeting and in Received fields.",
    kinds::host_name,
);

pub(in crate::config) static DEFAULT_DOMAIN: Key<String> = Key::new(
    LISTENER,
    "default_domain",
    Nothing { sample: "contoso.com" },
    "Completes addresses without a domain, such as `root`; unset, they are refused.",
    kinds::host_name,
);

pub(in crate::config) static MAX_MESSAGE_SIZE: Key<u64> = Key::new(
    LISTENER,
    "max_message_size",
    Text("35MiB"),
    "Largest message, in octets or with a unit.",
    |value| kinds::size(value, "1KiB", "1GiB"),
);

pub(in crate::config) static MAX_RECIPIENTS: Key<usize> = Key::new(
    LISTENER,
    "max_recipients",
    Count(500),
    "Most recipients of one message; a client is told to send the rest in another.",
    // RFC 5321 section 4.5.3.1.8 asks for 100, but a device may be held to less.
    |value| kinds::count(value, 1..=100_000),
);

pub(in crate::config) static MAX_CONNECTIONS: Key<usize> = Key::new(
    LISTENER,
    "max_connections",
    Count(500),
    "Most connections at a time; each listener has its own.",
    |value| kinds::count(value, 1..=100_000),
);

pub(in crate::config) static MAX_CONNECTIONS_PER_CLIENT: Key<usize> = Key::new(
    LISTENER,
    "max_connections_per_client",
    Count(100),
    "Most connections at a time from one address, all listeners together; those from this host \
     itself are counted at each listener.",
    |value| kinds::count(value, 1..=100_000),
);

pub(in crate::config) static COMMAND_TIMEOUT: Key<Duration> = Key::new(
    LISTENER,
    "command_timeout",
    Text("5m"),
    "How long a client may take for its next command.",
    |value| kinds::duration(value, "1s", "1d"),
);

pub(in crate::config) static DATA_TIMEOUT: Key<Duration> = Key::new(
    LISTENER,
    "data_timeout",
    Text("3m"),
    "How long a client may pause within a message.",
    |value| kinds::duration(value, "1s", "1d"),
);

pub(in crate::config) static SESSION_TIMEOUT: Key<Duration> = Key::new(
    LISTENER,
    "session_timeout",
    Text("1h"),
    "How long one connection may last.",
    |value| kinds::duration(value, "1s", "7d"),
);

pub(in crate::config) static MIN_DATA_RATE: Key<u64> = Key::new(
    LISTENER,
    "min_data_rate",
    Text("64B"),
    "Slowest message that is put up with, in octets a second or with a unit.",
    |value| kinds::size(value, "0B", "1GiB"),
);

pub(in crate::config) static MAX_FAULTS: Key<u32> = Key::new(
    LISTENER,
    "max_faults",
    Count(20),
    "Faulty commands before a connection is closed.",
    |value| kinds::count(value, 1..=1_000_000),
);

pub(in crate::config) static BARE_LINE_FEED: Key<BareLineFeed> = Key::new(
    LISTENER,
    "bare_line_feed",
    Text("normalize"),
    "A bare LF or CR in a message: \"normalize\" makes it a line end, \"reject\" refuses the \
     message.",
    |value| {
        let words = [("normalize", BareLineFeed::Normalize), ("reject", BareLineFeed::Reject)];
        kinds::choice(value, &words)
    },
);
