//! Dialogue files: `README.md` in this folder says what their lines mean.

/// A dialogue as it stands in its file.
#[derive(Debug, Default)]
pub struct Script {
    /// Each with its words.
    pub settings: Vec<Vec<String>>,
    pub exchanges: Vec<Exchange>,
    pub stored: Vec<Stored>,
}

/// What leaves in one write, and the replies to it.
#[derive(Debug, Default)]
pub struct Exchange {
    pub input: Vec<u8>,
    pub replies: Vec<Reply>,
}

#[derive(Debug)]
pub struct Reply {
    /// Where it stands in the file.
    pub line: usize,
    pub expected: Expected,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// One line that begins like this.
    Line(String),
    /// A reply of any number of lines, the first of which begins like this.
    Whole(String),
    Closed,
}

/// A message that must be queued.
#[derive(Debug)]
pub struct Stored {
    pub line: usize,
    pub facts: Vec<(String, String)>,
    /// With placeholders; `None` if the file does not say.
    pub data: Option<Vec<u8>>,
}

/// Reads a dialogue.
///
/// # Errors
/// `line: what is wrong`.
pub fn parse(text: &str) -> Result<Script, String> {
    let mut script = Script::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.split_once("  # ").map_or(line, |(line, _)| line.trim_end());
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        script.take(at + 1, line).map_err(|fault| format!("{}: {fault}", at + 1))?;
    }
    if script.exchanges.iter().all(|exchange| exchange.replies.is_empty()) {
        return Err("1: nothing is expected".into());
    }
    Ok(script)
}

impl Script {
    fn take(&mut self, line: usize, text: &str) -> Result<(), String> {
        if let Some(facts) = text.strip_prefix("STORED ") {
            return self.begin_stored(line, facts);
        }
        let Some((head, rest)) = text.split_once(':') else { return self.set(text) };
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        match head {
            "S" | "S*" => {
                let expected = match (head, rest.trim_end()) {
                    ("S", "(closed)") => Expected::Closed,
                    ("S", start) => Expected::Line(start.into()),
                    (_, start) => Expected::Whole(start.into()),
                };
                if self.exchanges.is_empty() {
                    self.exchanges.push(Exchange::default()); // the greeting
                }
                let last = self.exchanges.last_mut().ok_or("no exchange")?;
                last.replies.push(Reply { line, expected });
            }
            _ if head.starts_with("STORED-DATA") => {
                let octets = octets(&head["STORED-DATA".len()..], rest)?;
                let last = self.stored.last_mut().ok_or("no STORED line before it")?;
                last.data.get_or_insert_default().extend(octets);
            }
            _ if head.starts_with('C') => {
                let octets = octets(&head[1..], rest)?;
                let answered = |exchange: &Exchange| !exchange.replies.is_empty();
                if self.exchanges.last().is_none_or(answered) {
                    self.exchanges.push(Exchange::default());
                }
                let last = self.exchanges.last_mut().ok_or("no exchange")?;
                last.input.extend(octets);
            }
            _ => return self.set(text),
        }
        Ok(())
    }

    fn set(&mut self, text: &str) -> Result<(), String> {
        const KNOWN: [&str; 10] = [
            "limit",
            "default_domain",
            "sender",
            "sender_allow",
            "bare_line_feed",
            "auth",
            "user",
            "auth_without_tls",
            "from",
            "tls",
        ];
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        if words.len() < 2 || !KNOWN.contains(&words[0].as_str()) {
            return Err(format!("not understood: {text:?}"));
        }
        if !self.exchanges.is_empty() {
            return Err("settings come first".into());
        }
        self.settings.push(words);
        Ok(())
    }

    fn begin_stored(&mut self, line: usize, facts: &str) -> Result<(), String> {
        let fact = |word: &str| match word.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(format!("{word:?} is no key=value")),
        };
        let facts = facts.split_whitespace().map(fact).collect::<Result<Vec<_>, _>>()?;
        for key in ["reverse-path", "forward-paths"] {
            if !facts.iter().any(|(known, _)| known == key) {
                return Err(format!("{key} is missing"));
            }
        }
        self.stored.push(Stored { line, facts, data: None });
        Ok(())
    }
}

/// The octets of a line whose head ends with `marks`: `*N` repeats, `=` leaves the CRLF out.
fn octets(marks: &str, text: &str) -> Result<Vec<u8>, String> {
    let (repeat, exact) = match marks.strip_suffix('=') {
        Some(repeat) => (repeat, true),
        None => (marks, false),
    };
    let times = match repeat.strip_prefix('*') {
        Some(number) => number.parse().map_err(|_| format!("{number:?} is no number"))?,
        None if repeat.is_empty() => 1,
        None => return Err(format!("{marks:?} is not understood")),
    };
    let mut octets = unescape(text)?;
    if !exact {
        octets.extend_from_slice(b"\r\n");
    }
    Ok(octets.repeat(times))
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        octets.extend_from_slice(before.as_bytes());
        let (octet, length) = match after.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (0, 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => {
                let digits = after.get(1..3).ok_or("\\x wants two digits")?;
                (u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?, 3)
            }
            _ => return Err(format!("no escape: \\{after}")),
        };
        octets.push(octet);
        rest = &after[length..];
    }
    octets.extend_from_slice(rest.as_bytes());
    Ok(octets)
}
