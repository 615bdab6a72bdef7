//! `[listener]`: the SMTP server. It may stand several times, as `[[listener]]`.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;

use super::{
    AnyKey,
    Default::{Computed, Count, Flag, List, Nothing, Text},
    Key,
};
use crate::{
    config::{encryption, kinds, logins},
    listener::{Address, Users},
    smtp::{mail_data::BareLineFeed, path},
};

const LISTENER: &str = "listener";

/// The section, by its name.
pub(in crate::config) const SECTION: &str = LISTENER;

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[
    &ADDRESSES,
    &ALLOW,
    &NAME,
    &SENDER,
    &PROXY_PROTOCOL,
    &AUTH,
    &USERS,
    &USERS_FILE,
    &AUTH_WITHOUT_TLS,
    &TLS,
    &TLS_CERTIFICATE_FILE,
    &TLS_KEY_FILE,
    &TLS_REQUIRED,
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
    &ADD_FROM,
];

pub(in crate::config) static ADDRESSES: Key<Vec<Address>> = Key::new(
    LISTENER,
    "addresses",
    List(&["127.0.0.1:25", "[::1]:25"]),
    "Addresses to listen on: an IP address with a port, or \"unix:/run/o365-relay/smtp.sock\". \
     Beyond loopback, `allow` must be set. Sockets that systemd hands over are taken where they have \
     one of these addresses; \"systemd\" takes all others, \"systemd:NAME\" those with that \
     FileDescriptorName=.",
    kinds::listener_addresses,
)
.needs_restart();

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
)
.needs_restart();

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

pub(in crate::config) static AUTH: Key<logins::Mode> = Key::new(
    LISTENER,
    "auth",
    Text("none"),
    "Whether clients log in (AUTH PLAIN and LOGIN): \"none\" does not offer it, \"users\" asks for \
     one of the users below, \"any\" takes every name and password, for devices that cannot do \
     without. `allow` holds all the same.",
    |value| {
        let words = [
            ("none", logins::Mode::None),
            ("users", logins::Mode::Users),
            ("any", logins::Mode::Any),
        ];
        kinds::choice(value, &words)
    },
);

pub(in crate::config) static USERS: Key<Users> = Key::new(
    LISTENER,
    "users",
    Nothing {
        sample: "scanner:$argon2id$v=19$m=19456,t=2,p=1$c2FsdCBmb3Igbm90aGluZw$\
                 dGhpcyBpcyBubyBoYXNoLCBtYWtlIGEgbmV3IG9uZSE",
    },
    "Who may log in: a list of `name:hash`. `o365-relay hash-password` makes a hash; it is no \
     password, and yet nobody else should read it. In a variable, put blanks between users.",
    logins::users,
)
.secret();

pub(in crate::config) static USERS_FILE: Key<PathBuf> = Key::new(
    LISTENER,
    "users_file",
    Nothing { sample: "/etc/o365-relay/users" },
    "A file with a line `name:hash` for each user, in place of `users`. It is read again when it \
     changes.",
    kinds::path,
);

pub(in crate::config) static AUTH_WITHOUT_TLS: Key<bool> = Key::new(
    LISTENER,
    "auth_without_tls",
    Flag(false),
    "Whether clients of other hosts may log in without TLS: everybody on the way can read the \
     password then. Clients of this host always may.",
    kinds::flag,
);

pub(in crate::config) static TLS: Key<encryption::Mode> = Key::new(
    LISTENER,
    "tls",
    Computed { sample: "starttls", from: "\"starttls\" with a certificate, else \"none\"" },
    "TLS towards clients: \"starttls\" offers it, \"implicit\" begins with it (a listener of its \
     own, such as on port 465), \"none\" has none. It is TLS 1.2 and 1.3: a device that is too old \
     for them needs a listener without. A Unix socket does without too.",
    |value| {
        let words = [
            ("none", encryption::Mode::None),
            ("starttls", encryption::Mode::StartTls),
            ("implicit", encryption::Mode::Implicit),
        ];
        kinds::choice(value, &words)
    },
);

pub(in crate::config) static TLS_CERTIFICATE_FILE: Key<PathBuf> = Key::new(
    LISTENER,
    "tls_certificate_file",
    Nothing { sample: "/etc/o365-relay/tls.pem" },
    "Our certificate as PEM text, and behind it those that lead to its authority. Both files are \
     read again when they change.",
    kinds::path,
);

pub(in crate::config) static TLS_KEY_FILE: Key<PathBuf> = Key::new(
    LISTENER,
    "tls_key_file",
    Nothing { sample: "/etc/o365-relay/tls.key" },
    "Its private key as PEM text, not encrypted.",
    kinds::path,
);

pub(in crate::config) static TLS_REQUIRED: Key<bool> = Key::new(
    LISTENER,
    "tls_required",
    Flag(false),
    "Whether mail and logins are refused without TLS, from this host too.",
    kinds::flag,
);

pub(in crate::config) static UNIX_MODE: Key<u32> = Key::new(
    LISTENER,
    "unix_mode",
    Text("0660"),
    "The mode of a Unix socket's file; a client needs to write to it.",
    kinds::file_mode,
)
.needs_restart();

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

pub(in crate::config) static ADD_FROM: Key<bool> = Key::new(
    LISTENER,
    "add_from",
    Flag(true),
    "Whether a message without a From field gets one: its reverse-path, or the mailbox if that is \
     null. Exchange Online refuses mail without (550 5.7.512). Date and Message-ID are \
     always added.",
    kinds::flag,
);
