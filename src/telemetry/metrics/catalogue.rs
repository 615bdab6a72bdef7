//! Every metric, in the order of the page.

use super::{Counter, Histogram, Live, Metric, Read};

/// Local work: from a fraction of a millisecond to what a client gives up at.
const TIMES: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Changes in one transaction; there are 256 at most.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Replies from far away: the final dot may take minutes.
const UPSTREAM: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// From at once to the give-up time.
const DELAYS: &[f64] = &[
    0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0, 86400.0,
    259_200.0, 432_000.0,
];

/// Messages taken with 250.
pub static MESSAGES_ACCEPTED: Counter =
    Counter::new("messages_accepted", &["listener"], "Messages taken with 250");
/// Mail data of the messages taken.
pub static ACCEPTED_BYTES: Counter =
    Counter::new("accepted_bytes", &["listener"], "Mail data of the messages taken");
/// Recipients of the messages taken.
pub static RECIPIENTS_ACCEPTED: Counter =
    Counter::new("recipients_accepted", &["listener"], "Recipients of the messages taken");
/// From DATA to the 250 that a client hears.
pub static ACCEPT_DURATION: Histogram = Histogram::new(
    "accept_duration_seconds",
    &[],
    "From DATA to the 250 that a client hears",
    TIMES,
);
/// Connections of clients now.
pub static CONNECTIONS: Live =
    Live::new("connections", &["listener"], "Connections of clients now");
/// Connections that the listener takes at a time (`max_connections`).
pub static CONNECTIONS_LIMIT: Live = Live::new(
    "connections_limit",
    &["listener"],
    "Connections that the listener takes at a time (max_connections)",
);
/// Connections of clients that were let in.
pub static CONNECTIONS_ACCEPTED: Counter =
    Counter::new("connections_accepted", &["listener"], "Connections of clients that were let in");
/// Connections that were refused before the greeting.
pub static CONNECTIONS_REFUSED: Counter = Counter::new(
    "connections_refused",
    &["listener", "cause"],
    "Connections that were refused before the greeting",
);
/// Sessions that did not end with QUIT.
pub static SESSIONS_CUT: Counter =
    Counter::new("sessions_cut", &["listener", "cause"], "Sessions that did not end with QUIT");
/// Replies of 400 and above that clients heard.
pub static CLIENT_REFUSALS: Counter = Counter::new(
    "client_refusals",
    &["listener", "cause"],
    "Replies of 400 and above that clients heard",
);
/// Messages and mail transactions refused because nothing can be stored now.
pub static STORE_REFUSALS: Counter = Counter::new(
    "store_refusals",
    &["cause"],
    "Messages and mail transactions refused because nothing can be stored now",
);
/// One transaction of the queue database with its sync.
pub static STORE_COMMIT_DURATION: Histogram = Histogram::new(
    "store_commit_duration_seconds",
    &[],
    "One transaction of the queue database with its sync",
    TIMES,
);
/// Changes that were written in one transaction.
pub static STORE_COMMIT_CHANGES: Histogram = Histogram::new(
    "store_commit_changes",
    &[],
    "Changes that were written in one transaction",
    COUNTS,
);
/// Transactions of the queue database that failed.
pub static STORE_COMMIT_FAILURES: Counter =
    Counter::new("store_commit_failures", &[], "Transactions of the queue database that failed");
/// 1 after a failed sync: no mail is taken until a restart.
pub static STORE_POISONED: Read =
    Read::new("store_poisoned", &[], "1 after a failed sync: no mail is taken until a restart");
/// Messages queued, held ones included.
pub static QUEUE_MESSAGES: Read =
    Read::new("queue_messages", &["lane"], "Messages queued, held ones included");
/// Messages that are set aside for an operator.
pub static QUEUE_HELD: Read =
    Read::new("queue_held_messages", &["lane"], "Messages that are set aside for an operator");
/// Mail data queued.
pub static QUEUE_BYTES: Read = Read::new("queue_bytes", &["lane"], "Mail data queued");
/// Age of the oldest message that is queued and not held, 0 without one.
pub static QUEUE_OLDEST: Read = Read::new(
    "queue_oldest_age_seconds",
    &["lane"],
    "Age of the oldest message that is queued and not held, 0 without one",
);
/// Messages above which no mail is taken (`queue.max_messages`).
pub static QUEUE_LIMIT: Read = Read::new(
    "queue_messages_limit",
    &[],
    "Messages above which no mail is taken (queue.max_messages)",
);
/// Room for the relay on the disk of the queue.
pub static DISK_FREE: Read =
    Read::new("queue_disk_free_bytes", &[], "Room for the relay on the disk of the queue");
/// Free room below which no mail is taken (`queue.min_free_bytes`).
pub static DISK_WANTED: Read = Read::new(
    "queue_disk_wanted_bytes",
    &[],
    "Free room below which no mail is taken (queue.min_free_bytes)",
);
/// Recipients that Office 365 took a message for.
pub static RECIPIENTS_RELAYED: Counter =
    Counter::new("recipients_relayed", &["lane"], "Recipients that Office 365 took a message for");
/// Attempts after which a recipient is tried again.
pub static RECIPIENTS_DEFERRED: Counter = Counter::new(
    "recipients_deferred",
    &["lane", "cause"],
    "Attempts after which a recipient is tried again",
);
/// Recipients that failed for good.
pub static RECIPIENTS_FAILED: Counter =
    Counter::new("recipients_failed", &["lane", "cause"], "Recipients that failed for good");
/// Messages that the relay held for an operator to look at.
pub static MESSAGES_SET_ASIDE: Counter = Counter::new(
    "messages_set_aside",
    &["lane"],
    "Messages that the relay held for an operator to look at",
);
/// Notices that the relay has written.
pub static NOTICES_QUEUED: Counter =
    Counter::new("notices_queued", &["kind"], "Notices that the relay has written");
/// From a message's arrival until Office 365 took it for a recipient.
pub static RELAY_DELAY: Histogram = Histogram::new(
    "relay_delay_seconds",
    &[],
    "From a message's arrival until Office 365 took it for a recipient",
    DELAYS,
);
/// Messages that are being sent now.
pub static ATTEMPTS: Read =
    Read::new("attempts_in_progress", &["lane"], "Messages that are being sent now");
/// Clients that wait for their message's turn, in direct mode.
pub static WAITING: Read = Read::new(
    "waiting_clients",
    &["lane"],
    "Clients that wait for their message's turn, in direct mode",
);
/// Connections to the smarthost that wait for the next message.
pub static UPSTREAM_IDLE: Read = Read::new(
    "upstream_idle_connections",
    &["lane"],
    "Connections to the smarthost that wait for the next message",
);
/// Connections to the smarthost that the lane uses at most now.
pub static UPSTREAM_LIMIT: Read = Read::new(
    "upstream_connections_limit",
    &["lane"],
    "Connections to the smarthost that the lane uses at most now",
);
/// Recipients of the last 24 hours.
pub static DAY_RECIPIENTS: Read =
    Read::new("day_recipients", &["lane"], "Recipients of the last 24 hours");
/// Recipients that the mailbox may have in 24 hours (`recipients_per_day`).
pub static DAY_RECIPIENTS_LIMIT: Read = Read::new(
    "day_recipients_limit",
    &["lane"],
    "Recipients that the mailbox may have in 24 hours (recipients_per_day)",
);
/// From a command to the smarthost's reply to it.
pub static UPSTREAM_DURATION: Histogram = Histogram::new(
    "upstream_duration_seconds",
    &["stage"],
    "From a command to the smarthost's reply to it",
    UPSTREAM,
);
/// Connections to the smarthost that came to nothing or broke.
pub static UPSTREAM_FAILURES: Counter = Counter::new(
    "upstream_failures",
    &["stage"],
    "Connections to the smarthost that came to nothing or broke",
);
/// 1 while nothing is sent; lane "all" is the way to the smarthost.
pub static PAUSED: Read = Read::new(
    "paused",
    &["lane"],
    "1 while nothing is sent; lane \"all\" is the way to the smarthost",
);
/// 1 while a pause for this cause lasts.
pub static PAUSE_CAUSE: Read =
    Read::new("pause_cause", &["lane", "cause"], "1 while a pause for this cause lasts");
/// How long the pause has lasted, 0 without one.
pub static PAUSE_AGE: Read =
    Read::new("pause_age_seconds", &["lane"], "How long the pause has lasted, 0 without one");
/// Pauses that began, or went on for another reason.
pub static PAUSES: Counter =
    Counter::new("pauses", &["lane", "cause"], "Pauses that began, or went on for another reason");
/// Senders whose mail waits because the mailbox may not send as them.
pub static HELD_SENDERS: Read = Read::new(
    "held_senders",
    &["lane"],
    "Senders whose mail waits because the mailbox may not send as them",
);
/// 1 if there is an access token to log in with.
pub static TOKEN_VALID: Read =
    Read::new("token_valid", &["account"], "1 if there is an access token to log in with");
/// Since the access token was obtained; absent without one.
pub static TOKEN_AGE: Read = Read::new(
    "token_age_seconds",
    &["account"],
    "Since the access token was obtained; absent without one",
);
/// How long the access token stays valid.
pub static TOKEN_REMAINING: Read =
    Read::new("token_remaining_seconds", &["account"], "How long the access token stays valid");
/// Access tokens obtained.
pub static TOKEN_REFRESHES: Counter =
    Counter::new("token_refreshes", &["account"], "Access tokens obtained");
/// Requests for an access token that failed.
pub static TOKEN_FAILURES: Counter = Counter::new(
    "token_refresh_failures",
    &["account", "cause"],
    "Requests for an access token that failed",
);
/// Until the client secret or certificate ends, negative afterwards; absent if the end is not known.
pub static CREDENTIAL_REMAINING: Read = Read::new(
    "credential_remaining_seconds",
    &["account"],
    "Until the client secret or certificate ends, negative afterwards; absent if the end is not known",
);
/// When the client secret or certificate ends; absent if that is not known.
pub static CREDENTIAL_EXPIRY: Read = Read::new(
    "credential_expiry_timestamp_seconds",
    &["account"],
    "When the client secret or certificate ends; absent if that is not known",
);
/// What /readyz says: 1 if mail is accepted and can be relayed.
pub static READY: Read =
    Read::new("ready", &[], "What /readyz says: 1 if mail is accepted and can be relayed");
/// 1; the labels say which program this is.
pub static BUILD_INFO: Read =
    Read::new("build_info", &["version", "mode"], "1; the labels say which program this is");
/// Panics, which are faults of o365-relay itself.
pub static PANICS: Counter =
    Counter::new("panics", &[], "Panics, which are faults of o365-relay itself");
/// Processor time used.
pub static PROCESS_CPU: Read = Read::counter("process_cpu_seconds", &[], "Processor time used");
/// Memory in use.
pub static PROCESS_RESIDENT: Read =
    Read::new("process_resident_memory_bytes", &[], "Memory in use");
/// Address space in use.
pub static PROCESS_VIRTUAL: Read =
    Read::new("process_virtual_memory_bytes", &[], "Address space in use");
/// Threads.
pub static PROCESS_THREADS: Read = Read::new("process_threads", &[], "Threads");
/// Open file descriptors.
pub static PROCESS_FDS: Read = Read::new("process_open_fds", &[], "Open file descriptors");
/// File descriptors that may be open.
pub static PROCESS_MAX_FDS: Read =
    Read::new("process_max_fds", &[], "File descriptors that may be open");
/// When the process began.
pub static PROCESS_START: Read =
    Read::new("process_start_time_seconds", &[], "When the process began");

/// All of them.
pub static ALL: &[&dyn Metric] = &[
    &MESSAGES_ACCEPTED,
    &ACCEPTED_BYTES,
    &RECIPIENTS_ACCEPTED,
    &ACCEPT_DURATION,
    &CONNECTIONS,
    &CONNECTIONS_LIMIT,
    &CONNECTIONS_ACCEPTED,
    &CONNECTIONS_REFUSED,
    &SESSIONS_CUT,
    &CLIENT_REFUSALS,
    &STORE_REFUSALS,
    &STORE_COMMIT_DURATION,
    &STORE_COMMIT_CHANGES,
    &STORE_COMMIT_FAILURES,
    &STORE_POISONED,
    &QUEUE_MESSAGES,
    &QUEUE_HELD,
    &QUEUE_BYTES,
    &QUEUE_OLDEST,
    &QUEUE_LIMIT,
    &DISK_FREE,
    &DISK_WANTED,
    &RECIPIENTS_RELAYED,
    &RECIPIENTS_DEFERRED,
    &RECIPIENTS_FAILED,
    &MESSAGES_SET_ASIDE,
    &NOTICES_QUEUED,
    &RELAY_DELAY,
    &ATTEMPTS,
    &WAITING,
    &UPSTREAM_IDLE,
    &UPSTREAM_LIMIT,
    &DAY_RECIPIENTS,
    &DAY_RECIPIENTS_LIMIT,
    &UPSTREAM_DURATION,
    &UPSTREAM_FAILURES,
    &PAUSED,
    &PAUSE_CAUSE,
    &PAUSE_AGE,
    &PAUSES,
    &HELD_SENDERS,
    &TOKEN_VALID,
    &TOKEN_AGE,
    &TOKEN_REMAINING,
    &TOKEN_REFRESHES,
    &TOKEN_FAILURES,
    &CREDENTIAL_REMAINING,
    &CREDENTIAL_EXPIRY,
    &READY,
    &BUILD_INFO,
    &PANICS,
    &PROCESS_CPU,
    &PROCESS_RESIDENT,
    &PROCESS_VIRTUAL,
    &PROCESS_THREADS,
    &PROCESS_FDS,
    &PROCESS_MAX_FDS,
    &PROCESS_START,
];
