//! Failed logins: each takes a while, and too many of them end a client's attempts for some time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::listener::client::Client;

/// Failures of one client are counted for so long, from its first one on.
const WINDOW: Duration = Duration::from_secs(600);

/// Failures of one client with one name. One program with an old password does not lock out the
/// others of its host, which all have one address.
const MOST_OF_NAME: u32 = 10;

/// Failures of one client with any names.
const MOST_OF_CLIENT: u32 = 100;

/// Clients that are remembered; there are more of them in the allowed networks of hardly anybody.
const MOST_CLIENTS: usize = 1_000;

const LONGEST_DELAY: u64 = 5;

/// Counts failed logins.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<Client, Record>>);

#[derive(Debug)]
struct Record {
    since: Instant,
    all: u32,
    by_name: HashMap<String, u32>,
}

impl Record {
    fn is_over(&self) -> bool {
        self.since.elapsed() > WINDOW
    }
}

impl Failures {
    /// Whether this client has failed too often with this name, or with all names.
    pub fn blocks(&self, client: Client, name: &str) -> bool {
        let records = self.records();
        let Some(record) = records.get(&client).filter(|record| !record.is_over()) else {
            return false;
        };
        let of_name = record.by_name.get(name).copied().unwrap_or_default();
        of_name >= MOST_OF_NAME || record.all >= MOST_OF_CLIENT
    }

    /// Counts a failure, and says how long the client is to wait for its reply.
    pub fn note(&self, client: Client, name: &str) -> Duration {
        let mut records = self.records();
        if records.get(&client).is_some_and(Record::is_over) {
            records.remove(&client);
        }
        if records.len() >= MOST_CLIENTS && !records.contains_key(&client) {
            make_room(&mut records);
        }
        let record = records.entry(client).or_insert_with(|| Record {
            since: Instant::now(),
            all: 0,
            by_name: HashMap::new(),
        });
        record.all = record.all.saturating_add(1);
        if record.all <= MOST_OF_CLIENT {
            *record.by_name.entry(name.to_owned()).or_default() += 1;
        }
        Duration::from_secs(u64::from(record.all).min(LONGEST_DELAY))
    }

    /// The client knows the password of this name after all.
    pub fn forgive(&self, client: Client, name: &str) {
        if let Some(record) = self.records().get_mut(&client) {
            record.by_name.remove(name);
        }
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Client, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is over, or else the client whose failures are the oldest.
fn make_room(records: &mut HashMap<Client, Record>) {
    records.retain(|_, record| !record.is_over());
    if records.len() < MOST_CLIENTS {
        return;
    }
    let oldest = records.iter().min_by_key(|(_, record)| record.since).map(|(client, _)| *client);
    if let Some(oldest) = oldest {
        records.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u16) -> Client {
        let [high, low] = number.to_be_bytes();
        Client::at([10, 0, high, low].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_tries_many_names_is_blocked_too() {
        let failures = Failures::default();
        let delays: Vec<_> =
            (0..100).map(|n| failures.note(client(1), &format!("user{n}")).as_secs()).collect();
        assert_eq!((&delays[..6], delays[99]), (&[1, 2, 3, 4, 5, 5][..], 5));
        assert!(failures.blocks(client(1), "another"));
        assert!(!failures.blocks(client(2), "another"));
        tokio::time::advance(WINDOW + Duration::from_secs(1)).await;
        assert!(!failures.blocks(client(1), "another"));
        assert_eq!(failures.note(client(1), "user").as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_works_forgives_its_own_name_only() {
        let failures = Failures::default();
        for _ in 0..10 {
            failures.note(client(1), "a");
            failures.note(client(1), "b");
        }
        failures.forgive(client(1), "a");
        assert!(!failures.blocks(client(1), "a"));
        assert!(failures.blocks(client(1), "b"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_clients_is_bounded() {
        let failures = Failures::default();
        for number in 0..1_500 {
            tokio::time::advance(Duration::from_millis(1)).await;
            failures.note(client(number), "a");
        }
        assert_eq!(failures.records().len(), MOST_CLIENTS);
        assert!(failures.records().contains_key(&client(1_499)));
        assert!(!failures.records().contains_key(&client(0)));
    }
}
