//! "Did you mean": the known word that is nearest to an unknown one.

/// The word among `known` that `word` is most likely a misspelling of, if any comes near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= tolerance(&word, candidate) || word.starts_with(candidate)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A third of the longer word, so that `cloud` is not offered for `route`.
fn tolerance(word: &str, candidate: &str) -> usize {
    word.len().max(candidate.len()) / 3
}

/// How many insertions, deletions, replacements and swaps of neighbours turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_of_neighbours_counts_once() {
        assert_eq!(distance("alolw", "allow"), 1);
        assert_eq!(distance("", "allow"), 5);
        assert_eq!(distance("tennant_id", "tenant_id"), 1);
    }

    #[test]
    fn only_near_words_are_offered() {
        let known = ["cloud", "scope", "mailbox"];
        assert_eq!(nearest("Mailbx", known), Some("mailbox"));
        assert_eq!(nearest("cloud_name", known), Some("cloud"));
        assert_eq!(nearest("route", known), None);
        assert_eq!(nearest("", known), None);
    }
}
