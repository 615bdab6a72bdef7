//! `[listener]`: the SMTP server.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;

use super::{
    AnyKey,
    Default::{Computed, Count, List, Nothing, Text},
    Key,
};
use crate::{config::kinds, smtp::mail_data::BareLineFeed};

const LISTENER: &str = "listener";

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[
    &ADDRESSES,
    &ALLOW,
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

pub(in crate::config) static ADDRESSES: Key<Vec<SocketAddr>> = Key::new(
    LISTENER,
    "addresses",
    List(&["127.0.0.1:25", "[::1]:25"]),
    "Addresses to listen on. Beyond loopback, `allow` must be set.",
    kinds::socket_addresses,
);

pub(in crate::config) static ALLOW: Key<Vec<IpNet>> = Key::new(
    LISTENER,
    "allow",
    List(&["127.0.0.0/8", "::1/128"]),
    "Networks that may send; everybody else is refused.",
    kinds::networks,
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

pub(in crate::config) static MAX_CONNECTIONS: Key<usize> =
    Key::new(LISTENER, "max_connections", Count(500), "Most connections at a time.", |value| {
        kinds::count(value, 1..=100_000)
    });

pub(in crate::config) static MAX_CONNECTIONS_PER_CLIENT: Key<usize> = Key::new(
    LISTENER,
    "max_connections_per_client",
    Count(100),
    "Most connections at a time from one address.",
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
