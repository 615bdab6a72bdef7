//! The log as text: each fact is `key=value`, and a value that would not read as one word stands in
//! quotes.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
};

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
        let mut text = String::with_capacity(TYPICAL);
        write!(text, "{value:?}")?;
        if field.name() == "message" {
            return out.write_str(&one_line(&text));
        }
        out.write_str(field.name())?;
        out.write_char('=')?;
        out.write_str(&word(&text))
    })
    .delimited(" ")
}

/// Most values are shorter: a reply of upstream's is among the long ones.
const TYPICAL: usize = 128;

/// The message is ours, or that of a crate which may quote somebody else.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The value as one word: in quotes, with quotes and odd characters escaped as Rust has it, unless
/// it is a word already or in such quotes.
fn word(value: &str) -> Cow<'_, str> {
    let is_simple = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b'=');
    // Nearly every value: nothing in it that would have to be escaped.
    if !value.is_empty() && value.bytes().all(is_simple) || is_quoted(value) {
        return value.into();
    }
    let quoted = format!("{value:?}");
    let is_plain = quoted.get(1..quoted.len() - 1) == Some(value);
    match is_plain && !value.is_empty() && !value.contains([' ', '=']) {
        true => value.into(),
        false => quoted.into(),
    }
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
            ("größe", "größe"),
            ("größe = 7", r#""größe = 7""#),
            ("[1, 2]", r#""[1, 2]""#),
        ] {
            assert_eq!(word(value), shown, "{value}");
        }
    }
}
