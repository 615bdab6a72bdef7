//! `[queue]`, `[http]`, `[log]` and `[daemon]`: the process and what it keeps.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    AnyKey,
    Default::{Count, Flag, Text},
    Key,
};
use crate::{
    config::kinds,
    queue::{Mode, OnUncertain},
    telemetry::Format,
};

const QUEUE: &str = "queue";

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[
    &QUEUE_MODE,
    &QUEUE_DIRECTORY,
    &EPHEMERAL,
    &GIVE_UP_AFTER,
    &MIN_FREE_BYTES,
    &MAX_UPSTREAM,
    &MAX_MESSAGES,
    &HISTORY_KEEP,
    &ON_UNCERTAIN,
    &DIRECT_WAIT,
    &SPOOL_DIRECTORY,
    &HTTP_ADDRESS,
    &LOG_FORMAT,
    &LOG_LEVEL,
    &SHUTDOWN_GRACE,
];

pub(in crate::config) static QUEUE_MODE: Key<Mode> = Key::new(
    QUEUE,
    "mode",
    Text("queue"),
    "\"queue\" stores a message, answers, and sends it on; \"direct\" stores nothing: the client \
     waits while its message is sent on, and hears what Office 365 says to it.",
    |value| kinds::choice(value, &[("queue", Mode::Queue), ("direct", Mode::Direct)]),
)
.needs_restart();

pub(in crate::config) static QUEUE_DIRECTORY: Key<PathBuf> = Key::new(
    QUEUE,
    "directory",
    Text("/var/lib/o365-relay"),
    "The directory of the queue, for one daemon alone, on a local disk.",
    kinds::path,
)
.needs_restart();

pub(in crate::config) static EPHEMERAL: Key<bool> = Key::new(
    QUEUE,
    "ephemeral",
    Flag(false),
    "Run in a container even though the queue goes with it: accepted mail that has not been sent \
     is then lost with the container. Without it the relay does not start there.",
    kinds::flag,
);

pub(in crate::config) static GIVE_UP_AFTER: Key<Duration> = Key::new(
    QUEUE,
    "give_up_after",
    Text("5d"),
    "How long a message is tried before its sender gets a notice of failure, counted from its \
     arrival. What an outage has kept back for longer has the attempts of the first two hours \
     nevertheless.",
    |value| kinds::duration(value, "1m", "30d"),
);

pub(in crate::config) static MIN_FREE_BYTES: Key<u64> = Key::new(
    QUEUE,
    "min_free_bytes",
    Text("256MiB"),
    "Free disk space below which no mail is taken, in octets or with a unit.",
    |value| kinds::size(value, "0B", "1PiB"),
);

pub(in crate::config) static MAX_UPSTREAM: Key<usize> = Key::new(
    QUEUE,
    "max_connections",
    Count(100),
    "Connections upstream at a time, over all mailboxes; each mailbox has at most \
     `office365.max_connections` of them.",
    |value| kinds::count(value, 1..=10_000),
);

pub(in crate::config) static MAX_MESSAGES: Key<u64> = Key::new(
    QUEUE,
    "max_messages",
    Count(1_000_000),
    "Messages in the queue above which no mail is taken.",
    |value| kinds::count(value, 1..=1_000_000_000),
);

pub(in crate::config) static HISTORY_KEEP: Key<Duration> = Key::new(
    QUEUE,
    "history_keep",
    Text("30d"),
    "How long the record of a relayed or failed message is kept; the recipients of the day are \
     counted by it.",
    |value| kinds::duration(value, "1d", "3650d"),
);

pub(in crate::config) static ON_UNCERTAIN: Key<OnUncertain> = Key::new(
    QUEUE,
    "on_uncertain",
    Text("retry"),
    "What follows when the connection is lost after the final dot, so that nobody knows whether \
     Office 365 has the message: \"retry\" sends it again with the same Message-ID, \"hold\" sets \
     it aside for you.",
    |value| kinds::choice(value, &[("retry", OnUncertain::Retry), ("hold", OnUncertain::Hold)]),
);

pub(in crate::config) static DIRECT_WAIT: Key<Duration> = Key::new(
    QUEUE,
    "direct_wait",
    Text("60s"),
    "In direct mode: how long a client waits for its message's turn (pace, connections, a pause) \
     before it is told to try again later. Less than clients wait for a reply.",
    |value| kinds::duration(value, "0s", "9m"),
);

pub(in crate::config) static SPOOL_DIRECTORY: Key<PathBuf> = Key::new(
    QUEUE,
    "spool_directory",
    Text("/tmp"),
    "In direct mode: where a message above 64 KiB lies while its client waits, in a file without a \
     name, which is gone with the process. May be in memory (tmpfs).",
    kinds::path,
)
.or_variable("TMPDIR")
.needs_restart();

pub(in crate::config) static HTTP_ADDRESS: Key<Option<SocketAddr>> = Key::new(
    "http",
    "address",
    Text("127.0.0.1:9587"),
    "Where /healthz, /readyz, /metrics and /status are served, or \"off\".",
    kinds::address_or_off,
)
.needs_restart();

pub(in crate::config) static LOG_FORMAT: Key<Format> = Key::new(
    "log",
    "format",
    Text("text"),
    "\"text\" for people, \"json\" for programs, both on standard error; \"journald\" for systemd, \
     with each fact as a field to search by.",
    |value| {
        let choices =
            [("text", Format::Text), ("json", Format::Json), ("journald", Format::Journald)];
        kinds::choice(value, &choices)
    },
)
.needs_restart();

pub(in crate::config) static LOG_LEVEL: Key<String> = Key::new(
    "log",
    "level",
    Text("info"),
    "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"; also for a part alone, such as \
     \"info,o365_relay::delivery=debug\".",
    kinds::log_filter,
);

pub(in crate::config) static SHUTDOWN_GRACE: Key<Duration> = Key::new(
    "daemon",
    "shutdown_grace",
    Text("20s"),
    "How long running transactions may take to finish at shutdown.",
    |value| kinds::duration(value, "0s", "1h"),
);
