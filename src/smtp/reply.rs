//! Replies (RFC 5321 section 4.2) and enhanced status codes (RFC 3463, RFC 2034).

use std::{borrow::Cow, fmt};

/// A three-digit reply code, 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// The code, if it is one (RFC 5321 section 4.2: the first digit is 2 to 5).
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code < 600 { Some(Self(code)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// 2yz.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 < 300
    }

    /// 4yz.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.0 >= 400 && self.0 < 500
    }

    /// 5yz.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        self.0 >= 500
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An enhanced status code class.subject.detail (RFC 3463 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedStatusCode(pub u8, pub u16, pub u16);

impl EnhancedStatusCode {
    /// Takes the code off the front of `text`; the rest follows, without the space between.
    #[must_use]
    pub fn split_from(text: &str) -> Option<(Self, &str)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        word.parse().ok().map(|code| (code, rest))
    }
}

impl std::str::FromStr for EnhancedStatusCode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let mut part = |longest: usize| {
            let digits = parts.next().ok_or(())?;
            if digits.is_empty() || digits.len() > longest {
                return Err(());
            }
            digits.bytes().all(|b| b.is_ascii_digit()).then_some(()).ok_or(())?;
            digits.parse::<u16>().map_err(|_| ())
        };
        let (class, subject, detail) = (part(1)?, part(3)?, part(3)?);
        if parts.next().is_some() || !matches!(class, 2 | 4 | 5) {
            return Err(());
        }
        Ok(Self(u8::try_from(class).map_err(|_| ())?, subject, detail))
    }
}

impl fmt::Display for EnhancedStatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A whole reply: code, enhanced status code where there is one, and one text for each line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedStatusCode>,
    lines: Vec<Cow<'static, str>>,
}

impl Reply {
    /// A reply of one line with an enhanced status code. `code` is one we chose, so a number
    /// that is no reply code is a fault of ours.
    #[must_use]
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: impl Into<Cow<'static, str>>) -> Self {
        let enhanced = EnhancedStatusCode(enhanced.0, enhanced.1, enhanced.2);
        Self::with_lines(code, Some(enhanced), vec![text.into()])
    }

    /// A reply whose texts may be long: each begins a line, and goes on in further ones where a
    /// reply line would exceed its 512 octets (RFC 5321 section 4.5.3.1.5).
    #[must_use]
    pub fn wrapped(code: u16, enhanced: EnhancedStatusCode, texts: &[String]) -> Self {
        let lines = texts.iter().flat_map(|text| wrap(text)).map(Into::into).collect();
        Self::with_lines(code, Some(enhanced), lines)
    }

    /// A reply that carries no enhanced status code: greeting, EHLO, 354 (RFC 2034 section 4).
    #[must_use]
    pub fn plain(code: u16, lines: Vec<Cow<'static, str>>) -> Self {
        Self::with_lines(code, None, lines)
    }

    fn with_lines(
        code: u16,
        enhanced: Option<EnhancedStatusCode>,
        lines: Vec<Cow<'static, str>>,
    ) -> Self {
        let code = ReplyCode::new(code).expect("a reply code of our own");
        let lines = lines.into_iter().map(printable).collect();
        Self { code, enhanced, lines }
    }

    /// Reads one whole reply from the octets of its lines, as upstream sent them. `None` if they
    /// are no reply: lines of different codes, no final line, a code out of range. What is not
    /// printable ASCII becomes `?`.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(octets);
        let mut code = None;
        let mut enhanced = None;
        let mut lines = Vec::new();
        let mut complete = false;
        for line in text.lines() {
            let number = line.get(..3)?;
            if complete || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let this = ReplyCode::new(number.parse().ok()?)?;
            if *code.get_or_insert(this) != this {
                return None;
            }
            complete = match line.as_bytes().get(3) {
                Some(b'-') => false,
                Some(b' ') | None => true,
                Some(_) => return None,
            };
            let mut rest = line.get(4..).unwrap_or("");
            if let Some((status, after)) = EnhancedStatusCode::split_from(rest)
                && *enhanced.get_or_insert(status) == status
            {
                rest = after;
            }
            lines.push(printable(rest.to_owned().into()));
        }
        complete.then_some(())?;
        Some(Self { code: code?, enhanced, lines })
    }

    /// The same reply with one more line of text; empty text adds none.
    #[must_use]
    pub fn with_line(mut self, text: String) -> Self {
        if !text.is_empty() {
            self.lines.push(printable(text.into()));
        }
        self
    }

    /// The reply code.
    #[must_use]
    pub fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code, if the reply carries one.
    #[must_use]
    pub fn enhanced(&self) -> Option<EnhancedStatusCode> {
        self.enhanced
    }

    /// The texts of the lines, without codes.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(AsRef::as_ref)
    }

    /// All text as one line.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Appends the reply as it goes over the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (at, line) in self.lines.iter().enumerate() {
            let separator = if at == last { ' ' } else { '-' };
            let written = match self.enhanced {
                Some(enhanced) => {
                    write_line(out, self.code, separator, &format!("{enhanced} {line}"))
                }
                None => write_line(out, self.code, separator, line),
            };
            debug_assert!(written);
        }
    }
}

/// Octets of text in a reply line; code, enhanced status code and CRLF have the rest.
const LINE: usize = 480;

/// Cuts at blanks, or within a word that is longer than a line.
fn wrap(text: &str) -> Vec<String> {
    let text = printable(Cow::Owned(text.to_owned()));
    let mut lines = vec![String::new()];
    let words = text.split(' ').flat_map(|word| word.as_bytes().chunks(LINE));
    // What is printable is ASCII, so no chunk ends within a character.
    for word in words.map(String::from_utf8_lossy) {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(&word),
            Some(line) if line.len() + 1 + word.len() <= LINE => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word.into_owned()),
        }
    }
    lines
}

fn write_line(out: &mut Vec<u8>, code: ReplyCode, separator: char, text: &str) -> bool {
    use std::io::Write;
    write!(out, "{code}{separator}{text}\r\n").is_ok()
}

/// A reply line holds printable ASCII only: what a client or an upstream sent may come back in
/// our replies and logs, and must not start a line of its own there.
fn printable(text: Cow<'static, str>) -> Cow<'static, str> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return text;
    }
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect::<String>().into()
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for line in &self.lines {
            write!(f, " {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_written_with_its_enhanced_code_on_each_line() {
        assert_eq!(wire(&Reply::new(250, (2, 1, 0), "Sender OK")), "250 2.1.0 Sender OK\r\n");
        let hello = Reply::plain(250, vec!["relay.example".into(), "SIZE 1000".into()]);
        assert_eq!(wire(&hello), "250-relay.example\r\n250 SIZE 1000\r\n");
    }

    #[test]
    fn long_texts_go_over_several_lines_that_a_client_can_read() {
        let words = "word ".repeat(300);
        let texts =
            ["first".to_owned(), words.trim_end().to_owned(), "x".repeat(1000), "\u{e9}".into()];
        let reply = Reply::wrapped(451, EnhancedStatusCode(4, 4, 0), &texts);
        let wire = wire(&reply);
        assert!(wire.split_inclusive("\r\n").all(|line| line.len() <= 512), "{wire}");
        assert!(wire.starts_with("451-4.4.0 first\r\n451-4.4.0 word"));
        assert!(wire.ends_with("451 4.4.0 ?\r\n"));
        assert_eq!(reply.text().replace([' ', 'x'], ""), format!("first{}?", "word".repeat(300)));
        assert_eq!(Reply::parse(wire.as_bytes()).unwrap(), reply);
    }

    #[test]
    fn what_a_client_sent_cannot_start_a_line_of_its_own() {
        let reply = Reply::new(550, (5, 1, 1), format!("no such {}", "x\r\n250 ok\u{1b}é"));
        assert_eq!(wire(&reply), "550 5.1.1 no such x??250 ok??\r\n");
    }

    #[test]
    fn upstreams_replies_are_read_line_by_line() {
        let reply = Reply::parse(b"550-5.7.1 first\r\n550 5.7.1 second\r\n").unwrap();
        assert_eq!(reply.code().value(), 550);
        assert_eq!(reply.enhanced(), Some(EnhancedStatusCode(5, 7, 1)));
        assert_eq!(reply.lines().collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(reply.to_string(), "550 5.7.1 first second");

        assert_eq!(Reply::parse(b"250\r\n").unwrap().text(), "");
        assert_eq!(Reply::parse(b"334 \r\n").unwrap().code().value(), 334);
        assert_eq!(Reply::parse(b"354 End with .\r\n").unwrap().enhanced(), None);
        assert_eq!(Reply::parse(b"220 8.8.8.8 ready\r\n").unwrap().enhanced(), None);
    }

    #[test]
    fn what_is_no_reply_is_not_taken_for_one() {
        for octets in [
            &b""[..],
            b"250-never ended\r\n",
            b"250-one\r\n251 other\r\n",
            b"250 end\r\n250 more\r\n",
            b"999 out of range\r\n",
            b"25\r\n",
            b"250x\r\n",
            "2\u{e9}0 x\r\n".as_bytes(),
            b"hello\r\n",
        ] {
            assert_eq!(Reply::parse(octets), None, "{}", String::from_utf8_lossy(octets));
        }
    }
}
