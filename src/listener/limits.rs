//! How many connections at a time: each listener has room of its own, so that a flood at one of
//! them leaves the others alone, and no client may have more than its share.
//!
//! The share counts over all listeners, or whoever floods would get it once for each. Programs of
//! this host are counted at each listener on its own: they all have one address, and the port is
//! what tells them apart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::client::Client;

/// Counts the connections of all listeners. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_listener: HashMap<usize, usize>,
    by_client: HashMap<Counted, usize>,
}

/// What a client's connections are counted under: a listener's number for a local one.
type Counted = (Option<usize>, Client);

/// The room of one listener.
#[derive(Debug, Clone)]
pub(super) struct Room {
    limits: Limits,
    listener: usize,
    most: usize,
    most_per_client: usize,
}

/// One counted connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Permit {
    room: Room,
    counted: Option<Counted>,
}

/// Which limit stands in the way; its text is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LimitReached {
    #[error("too many connections (listener.max_connections); try again later")]
    All,
    #[error("too many connections from your address (listener.max_connections_per_client)")]
    Client,
}

impl Limits {
    /// The room of listener number `listener`.
    pub fn room(&self, listener: usize, most: usize, most_per_client: usize) -> Room {
        Room { limits: self.clone(), listener, most, most_per_client }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Room for a connection whose client is not known yet.
    pub fn enter(&self) -> Result<Permit, LimitReached> {
        let mut counts = self.limits.counts();
        let here = counts.by_listener.entry(self.listener).or_default();
        if *here >= self.most {
            return Err(LimitReached::All);
        }
        *here += 1;
        Ok(Permit { room: self.clone(), counted: None })
    }
}

impl Permit {
    /// Counts the connection under its client; the place is lost if that client has its share.
    pub fn of(mut self, client: Client) -> Result<Self, LimitReached> {
        let counted = (client.is_local().then_some(self.room.listener), client);
        let limits = self.room.limits.clone();
        let mut counts = limits.counts();
        let connections = counts.by_client.entry(counted).or_default();
        if *connections < self.room.most_per_client {
            *connections += 1;
            drop(counts);
            self.counted = Some(counted);
            return Ok(self);
        }
        drop(counts); // the permit's end counts too
        Err(LimitReached::Client)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.room.limits.counts();
        release(&mut counts.by_listener, &self.room.listener);
        if let Some(counted) = self.counted {
            release(&mut counts.by_client, &counted);
        }
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::at(address.parse().unwrap())
    }

    fn admit(room: &Room, client: Client) -> Result<Permit, LimitReached> {
        room.enter()?.of(client)
    }

    #[test]
    fn limits_hold_in_all_and_per_client_and_give_room_back() {
        let room = Limits::default().room(0, 3, 2);
        let (one, two) = (client("192.0.2.1"), client("2001:db8::1"));
        let first = admit(&room, one).unwrap();
        let _second = admit(&room, one).unwrap();
        assert_eq!(admit(&room, one).unwrap_err(), LimitReached::Client);
        let _third = admit(&room, two).unwrap();
        assert_eq!(admit(&room, two).unwrap_err(), LimitReached::All);
        drop(first);
        admit(&room, one).unwrap();
    }

    #[test]
    fn a_client_has_one_share_at_all_listeners_but_a_listener_has_its_own_room() {
        let limits = Limits::default();
        let (first, second) = (limits.room(0, 2, 2), limits.room(1, 9, 2));
        let (one, two) = (client("192.0.2.1"), client("192.0.2.2"));
        let _held = [admit(&first, one).unwrap(), admit(&first, one).unwrap()];
        assert_eq!(admit(&first, two).unwrap_err(), LimitReached::All);
        assert_eq!(admit(&second, one).unwrap_err(), LimitReached::Client);
        let mapped = client("::ffff:192.0.2.1");
        assert_eq!(admit(&second, mapped).unwrap_err(), LimitReached::Client);
        admit(&second, two).unwrap();
    }

    #[test]
    fn programs_of_this_host_are_told_apart_by_their_listener() {
        let limits = Limits::default();
        let (first, second) = (limits.room(0, 9, 1), limits.room(1, 9, 1));
        for local in [client("127.0.0.1"), client("::1"), Client::LocalSocket] {
            let _held = admit(&first, local).unwrap();
            assert_eq!(admit(&first, local).unwrap_err(), LimitReached::Client);
            admit(&second, local).unwrap();
        }
    }
}
