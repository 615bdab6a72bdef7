//! The moments at which something becomes durable, where tests can stand.

use super::error::StoreError;
use crate::mail::queue_id::QueueId;

/// What is about to become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// The octets of a body file.
    BodyFile(QueueId),
    /// The names of body files in their directory.
    BodyDirectory,
    /// The rows of one transaction.
    Rows,
}

/// Stands around each sync. The real one only carries it out; tests record, hold or fail it.
pub trait Durability: Send + Sync + 'static {
    /// Carries out `sync`, which returns once `what` is durable.
    ///
    /// # Errors
    /// That of `sync`.
    fn make_durable(
        &self,
        what: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _ = what;
        sync()
    }
}

/// Syncs, and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct Synced;

impl Durability for Synced {}
