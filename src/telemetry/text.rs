//! The log as text: each fact is `key=value`, and a value that would not read as one word stands in
//! quotes.

use std::fmt;

use tracing::field::Field;
use tracing_subscriber::{
    field::MakeExt,
    fmt::{
        FormatFields,
        format::{Writer, debug_fn},
    },
};

/// Writes the facts of an event or a span: the message as it is, then each `key=value`.
pub(super) fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(out, "{}", one_line(&value)),
            name => write!(out, "{name}={}", word(&value)),
        }
    })
    .delimited(" ")
}

/// The message is ours, or that of a crate which may quote somebody else.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The value as one word: in quotes, with quotes and odd characters escaped as Rust has it, unless
/// it is a word already or in such quotes.
fn word(value: &str) -> String {
    let quoted = format!("{value:?}");
    let is_plain = quoted.get(1..quoted.len() - 1) == Some(value);
    if is_plain && !value.is_empty() && !value.contains([' ', '=']) || is_quoted(value) {
        return value.to_owned();
    }
    quoted
}

/// Whether this is text in quotes, as a text that is given as such comes.
fn is_quoted(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let mut escaped = false;
    let is_closed = inner.chars().all(|c| {
        let is_sound = (escaped || c != '"') && !c.is_control();
        escaped = c == '\\' && !escaped;
        is_sound
    });
    is_closed && !escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_no_single_word_stands_in_quotes() {
        for (value, shown) in [
            ("7", "7"),
            ("a@b.example", "a@b.example"),
            ("[::1]:25", "[::1]:25"),
            ("<>", "<>"),
            ("", r#""""#),
            ("250 2.0.0 OK", r#""250 2.0.0 OK""#),
            ("x=y", r#""x=y""#),
            ("\"quoted already\"", "\"quoted already\""),
            (r#""a \" b""#, r#""a \" b""#),
            (r#""a" b="c""#, r#""\"a\" b=\"c\"""#),
            (r#""a\""#, r#""\"a\\\"""#),
            (r#"""#, r#""\"""#),
            ("a\nb", r#""a\nb""#),
            (r"a\b", r#""a\\b""#),
            ("a\u{202e}b", r#""a\u{202e}b""#),
            ("[1, 2]", r#""[1, 2]""#),
        ] {
            assert_eq!(word(value), shown, "{value}");
        }
    }
}
