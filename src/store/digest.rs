//! A digest of each body, so that octets that have changed by themselves are never sent. It is
//! XXH3 with 64 bits: quick, and meant against disks, not against people.

use std::{fmt, hash::Hasher};

use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef},
};
use twox_hash::XxHash3_64;

/// What the octets of a body come to. It is kept with the message, so the algorithm never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    pub fn of(octets: &[u8]) -> Self {
        Self(XxHash3_64::oneshot(octets))
    }
}

/// SQLite's integers have a sign; the bits are the same.
impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.cast_signed().into())
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|bits| Self(bits.cast_unsigned()))
    }
}

/// Takes the octets as they come.
pub(super) struct Digester(XxHash3_64);

impl Digester {
    pub fn new() -> Self {
        Self(XxHash3_64::new())
    }

    pub fn take(&mut self, octets: &[u8]) {
        self.0.write(octets);
    }

    pub fn digest(&self) -> Digest {
        Digest(self.0.finish())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Digester").field(&self.digest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_on_disk_stay_valid_and_do_not_depend_on_the_pieces() {
        // Values of the reference implementation, seed 0.
        assert_eq!(Digest::of(b""), Digest(0x2d06_8005_38d3_94c2));
        assert_eq!(Digest::of(b"a"), Digest(0xe6c6_32b6_1e96_4e1f));
        let octets: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in [1, 7, 255, 256, 65_536] {
            let mut digester = Digester::new();
            octets.chunks(piece).for_each(|piece| digester.take(piece));
            assert_eq!(digester.digest(), Digest::of(&octets), "pieces of {piece}");
        }
    }
}
