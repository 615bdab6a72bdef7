//! Queue ids: the name of a message from 250 to its end, in replies, logs, file names and
//! commands.

use std::fmt;

/// 48 bits of milliseconds and 40 random bits in 18 characters, without vowels so that no words
/// arise. Ids sort by time of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId([u8; LENGTH]);

const LENGTH: usize = 18;
const ALPHABET: &[u8; 32] = b"0123456789BCDFGHJKLMNPQRSTVWXYZ_";

impl QueueId {
    /// The id of a message that arrives at `unix_millis`, told apart by `random` (40 bits used).
    #[must_use]
    pub fn new(unix_millis: i64, random: u64) -> Self {
        let time = u128::from(unix_millis.cast_unsigned() & ((1 << 48) - 1));
        let mut bits = (time << 40) | u128::from(random & ((1 << 40) - 1));
        let mut text = [0; LENGTH];
        for character in text.iter_mut().rev() {
            *character = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a queue id has 18 characters of 0-9, B-Z without vowels, and _")]
pub struct NoQueueId;

impl std::str::FromStr for QueueId {
    type Err = NoQueueId;

    fn from_str(text: &str) -> Result<Self, NoQueueId> {
        let octets: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| NoQueueId)?;
        octets.iter().all(|b| ALPHABET.contains(b)).then_some(Self(octets)).ok_or(NoQueueId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_arrival_and_survive_text() {
        let (early, late) =
            (QueueId::new(1_795_415_050_123, u64::MAX), QueueId::new(1_795_415_050_124, 0));
        assert!(early < late && early.as_str() < late.as_str());
        assert_eq!(early.as_str().parse(), Ok(early));
        assert_eq!(early.to_string().len(), LENGTH);
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "../../etc/passwd..", "0123456789bcdfghjk", "0123456789ABCDFGHJ"] {
            assert_eq!(text.parse::<QueueId>(), Err(NoQueueId), "{text}");
        }
    }
}
