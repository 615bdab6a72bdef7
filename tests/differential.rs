//! Our mail data decoder and command parser beside those of another project, smtp-proto (of
//! Stalwart), on generated input. Where both read the same, two people who do not know each other
//! read the RFC alike. Where they differ, a row of a table below says why, and each row has to be
//! met: a difference without a row fails, and so does a row without a difference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "differential/commands.rs"]
mod commands;
#[path = "differential/mail_data.rs"]
mod mail_data;

use std::fmt::Debug;

/// A difference that is there on purpose.
struct Known<T> {
    reason: &'static str,
    /// Whether it may show in this case.
    applies: fn(&T) -> bool,
}

/// Sorts the cases that differ into the rows, and fails if one is left over or a row stays empty.
fn sort_into<T: Debug>(rows: &[Known<T>], differing: &[T], tried: usize) {
    let mut met = vec![0usize; rows.len()];
    let mut left_over = Vec::new();
    for case in differing {
        match rows.iter().position(|row| (row.applies)(case)) {
            Some(row) => met[row] += 1,
            None => left_over.push(case),
        }
    }
    for (row, count) in rows.iter().zip(&met) {
        eprintln!("{count:6}  {}", row.reason);
    }
    eprintln!("{} of {tried} differ", differing.len());
    assert!(
        left_over.is_empty(),
        "{} without a row: {:#?}",
        left_over.len(),
        &left_over[..left_over.len().min(10)]
    );
    assert!(differing.len() * 2 < tried, "where most differs, nothing is compared");
    for (row, count) in rows.iter().zip(met) {
        assert!(count > 0, "no case shows this difference any more: {}", row.reason);
    }
}

fn pick<'a, T: ?Sized>(dice: &mut fastrand::Rng, from: &[&'a T]) -> &'a T {
    from[dice.usize(..from.len())]
}
