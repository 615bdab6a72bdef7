//! Text from outside on its way to a terminal or a program: addresses, names and replies are
//! written by others, and a terminal must not act on them.

use std::{borrow::Cow, fmt::Write, time::Duration};

use serde::Serialize;

use super::exit::Failure;
use crate::clock::UnixMillis;

/// The text without anything that a terminal would act on instead of showing it.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_active) {
        text.chars().map(|c| if is_active(c) { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// Controls, and the characters that make text run backwards, break lines or take no room.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// One line of JSON. It too may end on a terminal, so what is active is escaped; the value that a
/// program reads is the same.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::unavailable(format!("could not write JSON: {error}")))?;
    if !text.chars().any(is_active) {
        return Ok(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_active(character) {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    Ok(safe)
}

/// An address as the envelope has it.
pub(super) fn path(address: &str) -> String {
    format!("<{}>", plain(address))
}

/// At most `most` characters, the rest as an ellipsis.
pub(super) fn clip(text: &str, most: usize) -> Cow<'_, str> {
    if text.chars().nth(most).is_none() {
        return text.into();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short.into()
}

/// A duration in its largest unit.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// When something is due.
pub(super) fn until(time: UnixMillis, now: UnixMillis) -> String {
    if time <= now { "now".into() } else { format!("in {}", short(time.since(now))) }
}

/// Octets for people.
pub(super) fn size(octets: u64) -> String {
    bytesize::ByteSize(octets).display().iec().to_string()
}

/// A number of things.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Reads a duration such as `90m` or `2h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 90m, 2h or 3d"))
}

/// A table whose columns are as wide as the widest cell so far, up to a bound.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    widths: [usize; N],
    most: usize,
}

impl<const N: usize> Table<N> {
    /// Columns wide enough for the heads.
    pub fn new(heads: [&str; N], most: usize) -> Self {
        Self { widths: heads.map(str::len), most }
    }

    /// Makes room for a row.
    pub fn fit(&mut self, row: &[String; N]) {
        for (width, cell) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count().min(self.most));
        }
    }

    /// A row in its columns; the last cell takes the room it needs.
    pub fn row(&self, row: &[impl AsRef<str>; N]) -> String {
        let mut line = String::new();
        for (number, (width, cell)) in self.widths.iter().zip(row).enumerate() {
            let cell = cell.as_ref();
            if number + 1 == N {
                line.push_str(cell);
            } else {
                let _ = write!(line, "{:width$}  ", clip(cell, self.most.max(*width)));
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2J\r\n\u{9b}31m\u{7f}\u{202e}b";

    #[test]
    fn a_terminal_gets_nothing_to_act_on() {
        assert_eq!(plain("gr\u{fc}n@b\u{fc}ro.example"), "gr\u{fc}n@b\u{fc}ro.example");
        let shown = plain(HOSTILE);
        assert_eq!(shown.chars().filter(|c| *c == '\u{fffd}').count(), 6);
        assert!(!shown.chars().any(is_active));
    }

    #[test]
    fn json_is_safe_to_look_at_and_says_the_same() {
        let line = json(&serde_json::json!({ "reply": HOSTILE })).unwrap();
        assert!(!line.chars().any(is_active), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["reply"], HOSTILE);
    }

    #[test]
    fn columns_line_up_and_long_cells_are_cut() {
        let mut table = Table::new(["A", "B", "C"], 5);
        let rows = [["1", "\u{fc}\u{fc}\u{fc}", "x"], ["22", "long text", "any length it likes"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        for row in &rows {
            table.fit(row);
        }
        assert_eq!(table.row(&["A", "B", "C"]), "A   B      C");
        assert_eq!(table.row(&rows[0]), "1   \u{fc}\u{fc}\u{fc}    x");
        assert_eq!(table.row(&rows[1]), "22  long\u{2026}  any length it likes");
    }

    #[test]
    fn durations_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_600, "1h"), (172_799, "47h"), (172_800, "2d")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
