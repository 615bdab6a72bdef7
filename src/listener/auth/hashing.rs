//! The slow hash. Its memory is kept from one time to the next and never more than two pieces of
//! it: given back to the allocator it would stay with whichever thread did the hashing, and the
//! process would grow to hundreds of megabytes.

use std::sync::{Arc, Mutex, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{self, Output},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hashes at a time, over all listeners.
const AT_A_TIME: usize = 2;

/// What a hash may ask for: whoever can write it could otherwise take all memory, or all time.
const MOST_MEMORY_KIB: u32 = 64 * 1024;
const MOST_PASSES: u32 = 16;
const MOST_LANES: u32 = 8;

/// Workshop for hashing. Clones share it.
#[derive(Clone)]
pub(in crate::listener) struct Workshop {
    permits: Arc<Semaphore>,
    memory: Arc<Mutex<Vec<Vec<Block>>>>,
}

impl Default for Workshop {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_A_TIME)), memory: Arc::default() }
    }
}

/// A place in the workshop, with memory to work in.
pub(in crate::listener) struct Place {
    workshop: Workshop,
    _permit: OwnedSemaphorePermit,
}

impl Workshop {
    /// Waits for a place; they are given in the order in which they were asked for.
    pub async fn enter(&self) -> Option<Place> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(Place { workshop: self.clone(), _permit: permit })
    }
}

impl Place {
    fn with_memory<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let kept = &self.workshop.memory;
        let mut memory = kept.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = memory.get_or_insert_default();
        if memory.len() < blocks {
            *memory = vec![Block::new(); blocks];
        }
        let result = work(memory.get_mut(..blocks).unwrap_or_default());
        // The first blocks are a fast hash of the password.
        memory.fill(Block::new());
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(memory));
        result
    }
}

/// A hash that the configuration or a file holds; it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordHash {
    hash: phc::PasswordHash,
}

impl PasswordHash {
    /// Argon2id as a PHC string (RFC 9106), with parameters that are within reason.
    pub fn parse(text: &str) -> Option<Self> {
        let hash = phc::PasswordHash::new(text).ok()?;
        let params = Params::try_from(&hash).ok()?;
        let fits = hash.algorithm == Algorithm::Argon2id.ident()
            && hash.version == Some(Version::V0x13.into())
            && params.m_cost() <= MOST_MEMORY_KIB
            && params.t_cost() <= MOST_PASSES
            && params.p_cost() <= MOST_LANES
            && hash.salt.is_some()
            && hash.hash.is_some();
        fits.then_some(Self { hash })
    }

    /// Whether it is that of `password`. It takes as long as its parameters say.
    pub fn matches(&self, password: &[u8], place: &Place) -> bool {
        self.hash_of(password, place).is_some_and(|found| Some(found) == self.hash.hash)
    }

    fn hash_of(&self, password: &[u8], place: &Place) -> Option<Output> {
        let params = Params::try_from(&self.hash).ok()?;
        let (salt, length) = (self.hash.salt?, self.hash.hash?.len());
        let blocks = params.block_count();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..length)?;
        let hash = |memory: &mut [Block]| {
            argon2.hash_password_into_with_memory(password, &salt, output, memory).ok()?;
            Output::new(output).ok()
        };
        place.with_memory(blocks, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_wiped_kept_and_never_more_than_two_pieces() {
        let workshop = Workshop::default();
        for _ in 0..3 {
            let (one, two) = (workshop.enter().await.unwrap(), workshop.enter().await.unwrap());
            one.with_memory(8, |first| {
                two.with_memory(16, |second| {
                    first.fill(block(7));
                    second.fill(block(7));
                });
            });
            drop((one, two));
            let memory = workshop.memory.lock().unwrap();
            assert_eq!(memory.len(), 2);
            let words = memory.iter().flatten().flat_map(|block| block.as_ref().iter());
            assert!(words.copied().all(|word| word == 0));
        }
    }

    fn block(word: u64) -> Block {
        let mut block = Block::new();
        block.as_mut().fill(word);
        block
    }
}
