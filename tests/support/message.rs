//! Messages in a queue of their own.

use std::{path::PathBuf, sync::Arc, time::Duration};

use o365_relay::{
    clock::Clock,
    mail::queue_id::QueueId,
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
    store::{self, Arrival, Entry, Router, Store, Synced},
};

use super::dialogue::{MAILBOX, START};

pub const BODY: &[u8] = b"Subject: hello\r\n\r\nText\r\n";

/// A message as a client of the relay would send it.
pub struct Mail<'a> {
    pub from: &'a str,
    pub to: Vec<Recipient>,
    pub parameters: MailParameters,
    pub body: &'a [u8],
}

impl Default for Mail<'_> {
    fn default() -> Self {
        let to = vec![to("a@example.net")];
        Self { from: "app@contoso.com", to, parameters: MailParameters::default(), body: BODY }
    }
}

pub fn to(address: &str) -> Recipient {
    Recipient {
        forward_path: ForwardPath(address.parse().expect("an address")),
        parameters: RcptParameters::default(),
    }
}

/// A queue in a directory of its own: entries come only from a store.
pub struct Queue {
    pub store: Store,
    directory: tempfile::TempDir,
}

struct OneLane;

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        MAILBOX.to_owned()
    }

    fn knows(&self, _: &str) -> bool {
        true
    }
}

impl Queue {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = store::Config {
            directory: directory.path().join("queue"),
            min_free_bytes: 0,
            max_messages: 100,
            history_keep: Duration::from_secs(3600),
        };
        let store = Store::open(config, Clock::at(START), Arc::new(Synced), Arc::new(OneLane));
        Self { store: store.expect("a store"), directory }
    }

    /// Puts a message into the queue; a running relay may have sent it before this returns.
    pub async fn put(&self, mail: Mail<'_>) -> QueueId {
        let mut draft = self.store.draft();
        for chunk in mail.body.chunks(10_000) {
            draft.append(chunk).await.expect("room");
        }
        let reverse_path = match mail.from {
            "" => ReversePath::Null,
            from => ReversePath::Address(from.parse().expect("an address")),
        };
        let envelope = Envelope { reverse_path, parameters: mail.parameters, recipients: mail.to };
        let arrival = Arrival {
            envelope,
            time: START,
            client: "127.0.0.1".into(),
            hello: "printer".into(),
            message_id: "<1@x>".into(),
        };
        self.store.accept(draft, arrival).await.expect("a receipt").id()
    }

    /// The same, as the queue hands it to delivery; for queues without a relay.
    pub async fn entry(&self, mail: Mail<'_>) -> Entry {
        let id = self.put(mail).await;
        let due = self.store.due(MAILBOX, 100).await.expect("a page");
        due.into_iter().find(|entry| entry.id == id).expect("the entry")
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("queue/queue.db")
    }

    pub fn body_file(&self, entry: &Entry) -> PathBuf {
        self.directory.path().join(format!("queue/bodies/{}.eml", entry.id))
    }
}
