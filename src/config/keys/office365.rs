//! `[office365]` and `[sender]`: who we are upstream, and for whom.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    AnyKey,
    Default::{Computed, Count, List, Nothing, Required, Text},
    Key,
};
pub(in crate::config) use crate::config::kinds::{Identity, Mailbox};
use crate::{
    clock::UnixMillis, config::kinds, delivery::NullSender, office365::clouds::Cloud,
    smtp::path::SenderPattern, smtp::sender::Mapping, token::Algorithm,
};

pub(in crate::config) const OFFICE365: &str = "office365";
const CLOUD_PRESET: &str = "the preset of `cloud`";

pub(in crate::config) static KEYS: &[&dyn AnyKey] = &[
    &TENANT_ID,
    &CLIENT_ID,
    &CLIENT_SECRET_FILE,
    &CLIENT_SECRET,
    &CLIENT_SECRET_EXPIRES,
    &CERTIFICATE_FILE,
    &PRIVATE_KEY_FILE,
    &CERTIFICATE_ALGORITHM,
    &FEDERATED_TOKEN_FILE,
    &MANAGED_IDENTITY,
    &MAILBOX,
    &DEFAULT_MAILBOX,
    &CLOUD,
    &LOGIN_URL,
    &SCOPE,
    &SMTP_HOST,
    &SMTP_PORT,
    &GRAPH_URL,
    &CA_FILE,
    &MAX_CONNECTIONS,
    &MESSAGES_PER_MINUTE,
    &RECIPIENTS_PER_DAY,
    &PACE,
    &MAX_MESSAGES_PER_CONNECTION,
    &IDLE_CLOSE,
    &EHLO_NAME,
    &NULL_SENDER,
    &TOKEN_TIMEOUT,
    &SENDER_ALLOW,
    &SENDER_REWRITE,
    &SENDER_MAP,
];

pub(in crate::config) static TENANT_ID: Key<String> = Key::new(
    OFFICE365,
    "tenant_id",
    Required { sample: "contoso.onmicrosoft.com" },
    "The tenant: its Directory (tenant) ID, or one of its domains.",
    kinds::tenant,
)
.or_variable("AZURE_TENANT_ID");

pub(in crate::config) static CLIENT_ID: Key<String> = Key::new(
    OFFICE365,
    "client_id",
    Required { sample: "58d827e0-c69c-401f-8deb-b1224d129dc8" },
    "The Application (client) ID of the app registration.",
    kinds::guid,
)
.or_variable("AZURE_CLIENT_ID");

pub(in crate::config) static CLIENT_SECRET_FILE: Key<Vec<PathBuf>> = Key::new(
    OFFICE365,
    "client_secret_file",
    Required { sample: "/etc/o365-relay/client_secret" },
    "The file with the client secret; read for each token, so a new secret needs no restart. A \
     list of two files (old and new) bridges a change. Without it, `client_secret` in \
     $CREDENTIALS_DIRECTORY is read. Or else set one of the other credentials below: exactly one.",
    kinds::paths,
);

pub(in crate::config) static CLIENT_SECRET: Key<SecretString> = Key::new(
    OFFICE365,
    "client_secret",
    Nothing { sample: "********" },
    "The client secret itself (its Value, not its Secret ID), in place of the file.",
    kinds::secret,
)
.or_variable("AZURE_CLIENT_SECRET")
.secret();

pub(in crate::config) static CLIENT_SECRET_EXPIRES: Key<UnixMillis> = Key::new(
    OFFICE365,
    "client_secret_expires",
    Nothing { sample: "2027-03-01" },
    "The day on which the client secret ends, as the portal shows it: the log warns 60, 30, 7 \
     days and 1 day before.",
    kinds::day,
);

pub(in crate::config) static CERTIFICATE_FILE: Key<PathBuf> = Key::new(
    OFFICE365,
    "certificate_file",
    Nothing { sample: "/etc/o365-relay/certificate.pem" },
    "The certificate (PEM) that was uploaded to the app registration, in place of a secret; read \
     for each token. Its key may stand in the same file.",
    kinds::path,
)
.or_variable("AZURE_CLIENT_CERTIFICATE_PATH");

pub(in crate::config) static PRIVATE_KEY_FILE: Key<PathBuf> = Key::new(
    OFFICE365,
    "private_key_file",
    Nothing { sample: "/etc/o365-relay/private_key.pem" },
    "The RSA key of the certificate (PEM, without a password), if it stands in a file of its own.",
    kinds::path,
);

pub(in crate::config) static CERTIFICATE_ALGORITHM: Key<Algorithm> = Key::new(
    OFFICE365,
    "certificate_algorithm",
    Text("PS256"),
    "How the key signs: \"PS256\", or \"RS256\" for clouds that know nothing newer.",
    |value| kinds::choice(value, &[("PS256", Algorithm::Ps256), ("RS256", Algorithm::Rs256)]),
);

pub(in crate::config) static FEDERATED_TOKEN_FILE: Key<PathBuf> = Key::new(
    OFFICE365,
    "federated_token_file",
    Nothing { sample: "/var/run/secrets/azure/tokens/azure-identity-token" },
    "A token of another issuer that the app registration trusts (workload identity), in place of \
     a secret; read for each token.",
    kinds::path,
)
.or_variable("AZURE_FEDERATED_TOKEN_FILE");

pub(in crate::config) static MANAGED_IDENTITY: Key<Identity> = Key::new(
    OFFICE365,
    "managed_identity",
    Nothing { sample: "system" },
    "On Azure, in place of a secret: \"system\" for the identity of the host, or the Client ID of \
     a user-assigned one. `tenant_id` and `client_id` are not needed then.",
    kinds::identity,
);

pub(in crate::config) static MAILBOX: Key<Mailbox> = Key::new(
    OFFICE365,
    "mailbox",
    Required { sample: "relay@contoso.com" },
    "The mailbox to log in as, or \"sender\": each message goes through the mailbox of its \
     reverse-path, with a pace of its own; the application must have access to all of them.",
    kinds::mailbox,
);

pub(in crate::config) static DEFAULT_MAILBOX: Key<String> = Key::new(
    OFFICE365,
    "default_mailbox",
    Nothing { sample: "relay@contoso.com" },
    "The mailbox for messages with a null reverse-path (`<>`) while `mailbox` is \"sender\"; \
     required then.",
    kinds::address,
);

pub(in crate::config) static CLOUD: Key<Cloud> = Key::new(
    OFFICE365,
    "cloud",
    Text("global"),
    "Microsoft's cloud: \"global\" (GCC too), \"gcc-high\", \"dod\", \"china\", or \"hve\" for \
     High Volume Email. It sets the five keys below.",
    |value| kinds::choice(value, &Cloud::ALL),
);

pub(in crate::config) static LOGIN_URL: Key<String> = Key::new(
    OFFICE365,
    "login_url",
    Computed { sample: "https://login.microsoftonline.com", from: CLOUD_PRESET },
    "Where tokens are issued.",
    kinds::https_url,
)
.or_variable("AZURE_AUTHORITY_HOST");

pub(in crate::config) static SCOPE: Key<String> = Key::new(
    OFFICE365,
    "scope",
    Computed { sample: "https://outlook.office365.com/.default", from: CLOUD_PRESET },
    "What a token is asked for.",
    kinds::scope,
);

pub(in crate::config) static SMTP_HOST: Key<String> = Key::new(
    OFFICE365,
    "smtp_host",
    Computed { sample: "smtp.office365.com", from: CLOUD_PRESET },
    "The submission host; its certificate must match this name.",
    kinds::host,
);

pub(in crate::config) static SMTP_PORT: Key<u16> = Key::new(
    OFFICE365,
    "smtp_port",
    Computed { sample: "587", from: CLOUD_PRESET },
    "The submission port, with STARTTLS.",
    |value| kinds::count(value, 1..=65_535),
);

/// `None` if it is not to be asked.
pub(in crate::config) static GRAPH_URL: Key<Option<String>> = Key::new(
    OFFICE365,
    "graph_url",
    Computed {
        sample: "https://graph.microsoft.com",
        from: "the preset of `cloud`, \"off\" where `login_url` is not that of the preset",
    },
    "Microsoft Graph, asked once a day when the client secret ends if `client_secret_expires` does \
     not say; it tells where the application may read itself (Application.Read.All). \"off\": it is \
     not asked.",
    kinds::https_url_or_off,
);

pub(in crate::config) static CA_FILE: Key<PathBuf> = Key::new(
    OFFICE365,
    "ca_file",
    Nothing { sample: "/etc/ssl/corporate.pem" },
    "CA certificates (PEM) to trust besides the system's, for login and SMTP.",
    kinds::path,
);

pub(in crate::config) static MAX_CONNECTIONS: Key<usize> = Key::new(
    OFFICE365,
    "max_connections",
    Count(2),
    "Connections to the submission host at a time; Exchange Online takes 3 from a mailbox.",
    |value| kinds::count(value, 1..=1_000),
);

pub(in crate::config) static MESSAGES_PER_MINUTE: Key<NonZeroU32> = Key::new(
    OFFICE365,
    "messages_per_minute",
    Count(28),
    "Messages a minute; Exchange Online takes 30 from a mailbox.",
    |value| {
        let count: u32 = kinds::count(value, 1..=1_000_000)?;
        Ok(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN))
    },
);

pub(in crate::config) static RECIPIENTS_PER_DAY: Key<u64> = Key::new(
    OFFICE365,
    "recipients_per_day",
    Count(10_000),
    "Recipients in any 24 hours; Office 365 allows a mailbox 10,000.",
    |value| kinds::count(value, 1..=1_000_000_000),
);

/// Whether messages wait for their turn: `true` unless the pace is unlimited.
pub(in crate::config) static PACE: Key<bool> = Key::new(
    OFFICE365,
    "pace",
    Text("steady"),
    "\"steady\" keeps to `messages_per_minute`; \"unlimited\" keeps to nothing (tests, other hosts).",
    |value| kinds::choice(value, &[("steady", true), ("unlimited", false)]),
);

pub(in crate::config) static MAX_MESSAGES_PER_CONNECTION: Key<u32> = Key::new(
    OFFICE365,
    "max_messages_per_connection",
    Count(50),
    "Messages sent over one connection before it is closed.",
    |value| kinds::count(value, 1..=1_000_000),
);

pub(in crate::config) static IDLE_CLOSE: Key<Duration> = Key::new(
    OFFICE365,
    "idle_close",
    Text("30s"),
    "How long a connection waits for the next message before it is closed.",
    |value| kinds::duration(value, "1s", "1h"),
);

pub(in crate::config) static EHLO_NAME: Key<String> = Key::new(
    OFFICE365,
    "ehlo_name",
    Computed {
        sample: "relay.contoso.com",
        from: "the host's name if it has a domain, else localhost.localdomain",
    },
    "The name given in EHLO.",
    kinds::host_name,
);

pub(in crate::config) static NULL_SENDER: Key<NullSender> = Key::new(
    OFFICE365,
    "null_sender",
    Text("mailbox"),
    "What becomes of a null reverse-path (`<>`): \"mailbox\" puts the mailbox in its place, \
     \"pass\" sends it as it is.",
    |value| kinds::choice(value, &[("mailbox", NullSender::Mailbox), ("pass", NullSender::Pass)]),
);

pub(in crate::config) static TOKEN_TIMEOUT: Key<Duration> = Key::new(
    OFFICE365,
    "token_timeout",
    Text("30s"),
    "Longest time for one token request.",
    |value| kinds::duration(value, "1s", "5m"),
);

pub(in crate::config) static SENDER_ALLOW: Key<Vec<SenderPattern>> = Key::new(
    "sender",
    "allow",
    List(&[]),
    "Reverse-paths that are taken, such as \"*@contoso.com\"; an empty list takes any.",
    kinds::sender_patterns,
);

/// Whether the mailbox takes the place of senders that are not mapped.
pub(in crate::config) static SENDER_REWRITE: Key<bool> = Key::new(
    "sender",
    "rewrite",
    Text("never"),
    "\"mailbox\": From and reverse-path become the mailbox that the mail goes through; the display \
     name stays, and the old From goes to Reply-To (unless there is one) and to X-Original-From. \
     \"never\": they stay as they are, apart from `map`.",
    |value| kinds::choice(value, &[("never", false), ("mailbox", true)]),
);

pub(in crate::config) static SENDER_MAP: Key<Vec<Mapping>> = Key::new(
    "sender",
    "map",
    List(&[]),
    "Addresses that take the place of others in From and reverse-path, such as \
     \"root@host.local -> alerts@contoso.com\" and \"*@host.local -> relay@contoso.com\"; the \
     first that fits counts. It comes before `allow`, routes and `rewrite`.",
    kinds::mappings,
);
