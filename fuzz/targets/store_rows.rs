//! A queue database whose rows hold anything: each way to read it answers or says what is wrong,
//! and each amendment comes back. The store writes its rows itself, but disks and other programs
//! have been known to have opinions.
//!
//! The input is a list of changes: a column, a kind of value, a value.

#![no_main]

use std::{cell::RefCell, path::PathBuf, sync::Arc, time::Duration};

use libfuzzer_sys::{
    arbitrary::{Result as Taken, Unstructured},
    fuzz_target,
};
use o365_relay::{
    clock::{Clock, UnixMillis},
    mail::queue_id::QueueId,
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
    store::{self, Amendment, Arrival, Desk, Filter, HistoryFilter, Router, Store, Synced},
};
use rusqlite::{Connection, params, types::Value};

const LANE: &str = "relay@corp.example";

const COLUMNS: &[(&str, &[&str])] = &[
    (
        "message",
        &[
            "sequence",
            "id",
            "lane",
            "next_attempt",
            "arrival",
            "client",
            "hello",
            "reverse_path",
            "eight_bit",
            "smtputf8",
            "ret",
            "envid",
            "size",
            "message_id",
            "body_in_file",
            "is_notice",
            "delay_told",
            "hold_reason",
            "digest",
        ],
    ),
    (
        "recipient",
        &[
            "message",
            "position",
            "forward_path",
            "notify",
            "orcpt",
            "attempts",
            "next_attempt",
            "last_reply",
        ],
    ),
    ("attempt", &["id", "position", "number", "time", "disposition", "reply", "advice"]),
    ("body", &["message", "data"]),
    (
        "history",
        &[
            "sequence",
            "settled",
            "id",
            "position",
            "lane",
            "arrival",
            "client",
            "reverse_path",
            "forward_path",
            "disposition",
            "attempts",
            "reply",
            "advice",
            "size",
            "message_id",
        ],
    ),
];

const AMENDMENTS: &[Option<Amendment>] =
    &[None, None, Some(Amendment::Release), Some(Amendment::Remove)];

struct OneLane;

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        LANE.to_owned()
    }

    fn knows(&self, lane: &str) -> bool {
        lane == LANE
    }
}

/// A store with one message of each kind, and a way around it.
struct Place {
    runtime: tokio::runtime::Runtime,
    store: Store,
    desk: Desk,
    outside: Connection,
    ids: Vec<QueueId>,
    root: PathBuf,
    _directory: tempfile::TempDir,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

fuzz_target!(|input: &[u8]| {
    PLACE.with_borrow_mut(|place| {
        let place = place.get_or_insert_with(Place::new);
        place.restore();
        let mut input = Unstructured::new(input);
        let amendment = input.choose(AMENDMENTS).unwrap_or(&None);
        while !input.is_empty() && place.change(&mut input).is_ok() {}
        place.read();
        if let Some(amendment) = amendment {
            place.amend(amendment);
            place.read();
        }
    });
});

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = store::Config {
            directory: directory.path().join("queue"),
            min_free_bytes: 0,
            max_messages: 1000,
            history_keep: Duration::from_secs(86_400),
        };
        let root = config.directory.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let clock = Clock::system();
        let store =
            Store::open(config, clock, Arc::new(Synced), Arc::new(OneLane)).expect("a store");
        let ids = runtime.block_on(async {
            let mut ids = Vec::new();
            for size in [100, 100_000] {
                let mut draft = store.draft();
                draft.append(&vec![b'x'; size]).await.expect("room");
                let receipt = store.accept(draft, arrival(clock.now())).await;
                ids.push(receipt.expect("a receipt").id());
            }
            ids
        });
        let desk = Desk::open(&root).expect("a desk");
        let database = std::fs::read_dir(&root)
            .expect("files")
            .map(|entry| entry.expect("a file").path())
            .find(|path| std::fs::read(path).is_ok_and(|octets| octets.starts_with(b"SQLite")))
            .expect("a database");
        let outside = Connection::open(database).expect("the database");
        outside.execute_batch("PRAGMA synchronous = OFF").expect("a setting");
        for (table, _) in COLUMNS {
            let keep = format!("CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}");
            outside.execute_batch(&keep).expect("a copy");
        }
        Self { runtime, store, desk, outside, ids, root, _directory: directory }
    }

    /// The rows as they were, and one of each of the tables that were empty.
    fn restore(&self) {
        self.outside.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        for (table, _) in COLUMNS {
            let back =
                format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM kept_{table}");
            self.outside.execute_batch(&back).expect("rows");
        }
        let id = self.ids[0].as_str();
        self.outside
            .execute(
                "INSERT INTO attempt VALUES (?1, 0, 1, 1000, 'deferred', '451 4.7.0 busy', NULL)",
                params![id],
            )
            .expect("an attempt");
        self.outside
            .execute(
                "INSERT INTO history VALUES (1, 1000, ?1, 1, ?2, 500, '127.0.0.1', 'a@b.example', \
                 'c@d.example', 'relayed', 1, '250 2.0.0 OK', NULL, 100, '<1@x>')",
                params![id, LANE],
            )
            .expect("history");
        self.outside.execute_batch("COMMIT").expect("a commit");
    }

    /// Sets one column, of one row or of all.
    fn change(&self, input: &mut Unstructured<'_>) -> Taken<()> {
        let (table, columns) = input.choose(COLUMNS)?;
        let column = input.choose(columns)?;
        let one = if input.arbitrary()? { "LIMIT 1" } else { "" };
        let value = match input.int_in_range(0..=5u8)? {
            0 => Value::Null,
            1 => Value::Integer(input.arbitrary()?),
            2 => Value::Integer(*input.choose(&[0, 1, -1, i64::MAX, i64::MIN, 1 << 32, 5000])?),
            3 => Value::Real(input.arbitrary()?),
            4 => Value::Text(input.arbitrary::<&str>()?.to_owned()),
            _ => Value::Blob(input.arbitrary::<&[u8]>()?.to_vec()),
        };
        let key = match *table {
            "recipient" => "message",
            "attempt" => "id",
            "body" => "message",
            _ => "sequence",
        };
        let change = format!(
            "UPDATE OR IGNORE {table} SET {column} = ?1 WHERE {key} IN (SELECT {key} FROM {table} {one})"
        );
        // A constraint may object: then the row stays as it is.
        let _ = self.outside.execute(&change, params![value]);
        Ok(())
    }

    fn read(&self) {
        let store = &self.store;
        self.runtime.block_on(async {
            let _ = store.look_for_amendments().await;
            if let Ok(due) = store.due(LANE, 10).await {
                for entry in &due {
                    if let Ok(body) = store.body(entry).await {
                        body.chunks().take(4).for_each(drop);
                    }
                    let _ = store.body_if_waiting(entry).await;
                    let _ = entry.arrival.since(UnixMillis(0));
                    let _ = entry.arrival.rfc5322();
                }
            }
            let _ = store.next_due(LANE).await;
            let _ = store.summary().await;
            let _ = store.history(false, 10).await.map(|rows| format!("{rows:?}"));
            let _ = store.relayed_since(LANE, UnixMillis(0), Duration::from_secs(60)).await;
        });
        for page in self.desk.messages(&Filter::default()).take(4) {
            let Ok(page) = page else { break };
            let _ = format!("{page:?}");
        }
        for page in self.desk.history(&HistoryFilter::default()).take(4) {
            let Ok(page) = page else { break };
            for settled in &page {
                let _ = (settled.time.rfc3339(), settled.arrival.rfc3339());
            }
        }
        for id in &self.ids {
            let _ = self.desk.story(*id);
            let _ = self.desk.body(*id);
        }
    }

    /// At a desk of its own: the second amendment at one waits for the daemon to get its turn.
    fn amend(&self, amendment: &Amendment) {
        let desk = Desk::open(&self.root).expect("a desk");
        let _ = desk.amend(&self.ids, amendment, Clock::system().now());
    }
}

fn arrival(time: UnixMillis) -> Arrival {
    let to = |address: &str| Recipient {
        forward_path: ForwardPath(address.parse().expect("an address")),
        parameters: RcptParameters::default(),
    };
    let envelope = Envelope {
        reverse_path: ReversePath::Address("a@corp.example".parse().expect("an address")),
        parameters: MailParameters::default(),
        recipients: vec![to("b@example.net"), to("c@example.net")],
    };
    Arrival {
        envelope,
        time,
        client: "127.0.0.1".into(),
        hello: "printer".into(),
        message_id: "<1@x>".into(),
    }
}
