//! What a peer wrote, made fit for a log line.

/// At most `limit` characters of `text` on one line: control characters and runs of white space
/// become one space each.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    let mut length = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        for c in word.chars() {
            if length >= limit {
                line.truncate(line.trim_end().len());
                line.push_str("...");
                return line;
            }
            line.push(c);
            length += 1;
        }
    }
    line
}

/// Entra's `error_description` without the ids at its end, which have members of their own.
pub(super) fn description(text: &str, limit: usize) -> String {
    let start = text.split_once("Trace ID:").map_or(text, |(start, _)| start);
    one_line(start, limit)
}

/// Removes every place where a server, or a proxy's error page, echoes our own `secret`.
pub(super) fn without(text: &str, secret: &str) -> String {
    // Shorter ones would take ordinary words with them; Entra's have 40 characters.
    if secret.len() < 8 {
        return text.to_owned();
    }
    let encoded: String = oauth2::url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    text.replace(secret, "***").replace(&encoded, "***")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_short_line() {
        assert_eq!(one_line(" <html>\r\n\t<b>no\u{1b}[1m\0", 120), "<html> <b>no [1m");
        assert_eq!(one_line("", 5), "");
        assert_eq!(one_line("abcde", 5), "abcde");
        assert_eq!(one_line("abcdef", 5), "abcde...");
        assert_eq!(one_line("abcd ef", 5), "abcd...");
        assert_eq!(one_line("äöüäöü", 3), "äöü...");
    }

    #[test]
    fn the_ids_at_the_end_of_a_description_go() {
        let old = "AADSTS7000215: Invalid client secret.\r\nTrace ID: 1\r\nCorrelation ID: 2";
        let new = "AADSTS7000215: Invalid  client secret. Trace ID: 1 Correlation ID: 2";
        assert_eq!(description(old, 100), "AADSTS7000215: Invalid client secret.");
        assert_eq!(description(new, 100), "AADSTS7000215: Invalid client secret.");
    }

    #[test]
    fn an_echoed_secret_goes_in_both_spellings() {
        let echo = "you sent s3cr+t&s3cr+t and client_secret=s3cr%2Bt%26s3cr%2Bt";
        assert_eq!(without(echo, "s3cr+t&s3cr+t"), "you sent *** and client_secret=***");
        assert_eq!(without("the words", "the"), "the words");
    }
}
