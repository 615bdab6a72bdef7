//! How many connections at a time, in all and from one client address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts connections. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct Limits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    most_per_client: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One counted connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Limits,
    client: IpAddr,
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
    pub fn new(most: usize, most_per_client: usize) -> Self {
        Self(Arc::new(Shared { most, most_per_client, counts: Mutex::default() }))
    }

    pub fn admit(&self, client: IpAddr) -> Result<Permit, LimitReached> {
        let mut counts = self.counts();
        if counts.all >= self.0.most {
            return Err(LimitReached::All);
        }
        let of_client = counts.by_client.entry(client).or_default();
        if *of_client >= self.0.most_per_client {
            return Err(LimitReached::Client);
        }
        *of_client += 1;
        counts.all += 1;
        Ok(Permit { limits: self.clone(), client })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.limits.counts();
        counts.all -= 1;
        if let Some(count) = counts.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_all_and_per_client_and_give_room_back() {
        let limits = Limits::new(3, 2);
        let (one, two): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "::1".parse().unwrap());
        let first = limits.admit(one).unwrap();
        let _second = limits.admit(one).unwrap();
        assert_eq!(limits.admit(one).unwrap_err(), LimitReached::Client);
        let _third = limits.admit(two).unwrap();
        assert_eq!(limits.admit(two).unwrap_err(), LimitReached::All);
        drop(first);
        limits.admit(one).unwrap();
    }
}
