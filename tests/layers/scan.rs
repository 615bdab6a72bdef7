//! Reads Rust source as far as the layer rules need it: which paths a file names, on which line,
//! and whether in test code. Comments and literals are no code; macros are read as they stand.

/// A path that a file names, from the root of its crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub line: usize,
    /// `crate` first for the modules of this crate, else the name of another crate. A glob is
    /// the segment `*`.
    pub segments: Vec<String>,
    /// It stands in a `use` declaration.
    pub imported: bool,
    /// It stands behind `#[cfg(test)]`.
    pub test: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Every path in `source`, which is the text of `module` (empty for the root).
pub fn paths(source: &str, module: &[String]) -> Vec<Path> {
    let tokens = tokens(source);
    let mut scan = Scan { tokens: &tokens, room: module.to_vec(), ..Scan::default() };
    scan.run();
    scan.found
}

#[derive(Default)]
struct Scan<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    /// The module that the current token stands in, and the depths at which inline modules began.
    room: Vec<String>,
    inline: Vec<usize>,
    /// Test code reaches up to here.
    test_until: usize,
    found: Vec<Path>,
}

impl Scan<'_> {
    fn run(&mut self) {
        while self.at < self.tokens.len() {
            match self.text(0) {
                "{" => self.depth += 1,
                "}" => self.leave(),
                "mod" if self.text(2) == "{" => {
                    self.room.push(self.text(1).to_owned());
                    self.inline.push(self.depth);
                    self.at += 1; // the brace is read next
                }
                "#" => self.attribute(),
                "extern" if self.text(1) == "crate" => {
                    self.at += 2;
                    self.note(self.at, vec![self.text(0).to_owned()], true);
                }
                "use" => {
                    self.at += 1;
                    self.tree(&[]);
                    continue;
                }
                _ => {
                    self.plain_path();
                    continue;
                }
            }
            self.at += 1;
        }
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| &token.text)
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.inline.last() == Some(&self.depth) {
            self.inline.pop();
            self.room.pop();
        }
    }

    /// `#[cfg(test)]`, `#[cfg(all(test, ..))]` or `#[test]`: the item behind it is test code.
    fn attribute(&mut self) {
        if self.text(1) != "[" {
            return;
        }
        let end = self.closing(self.at + 1);
        let inside: Vec<_> = self.tokens[self.at..end].iter().map(|t| t.text.as_str()).collect();
        let conditional =
            inside.get(2) == Some(&"cfg") && inside.contains(&"test") && !inside.contains(&"not");
        if conditional || inside.get(2..) == Some(&["test"][..]) {
            self.test_until = self.test_until.max(self.item_end(end + 1));
        }
    }

    /// The place of the bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.text.as_str() {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return at;
            }
        }
        self.tokens.len()
    }

    /// The end of the item that begins at `at`: its semicolon or its closing brace.
    fn item_end(&self, mut at: usize) -> usize {
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                ";" => return at,
                "{" => return self.closing(at),
                "(" | "[" => at = self.closing(at) + 1,
                _ => at += 1,
            }
        }
        at
    }

    /// One branch of a `use` tree, up to its comma or its end.
    fn tree(&mut self, stem: &[String]) {
        let mut path = stem.to_vec();
        let begin = self.at;
        let mut grouped = false;
        while self.at < self.tokens.len() {
            match self.text(0) {
                ";" | "," | "}" => break,
                "{" => {
                    grouped = true;
                    self.at += 1;
                    while !matches!(self.text(0), "}" | ";" | "") {
                        self.tree(&path);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                }
                "as" => self.at += 1, // skips the new name too
                "::" => {}
                name => path.push(name.to_owned()),
            }
            self.at += 1;
        }
        if !grouped && path.len() > stem.len() {
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            self.note(begin, path, true);
        }
    }

    /// A path in code: names joined by `::`.
    fn plain_path(&mut self) {
        let begin = self.at;
        let mut path = Vec::new();
        if self.text(0) == "::" {
            self.at += 1;
        }
        while self.tokens.get(self.at).is_some_and(Token::is_name) {
            path.push(self.text(0).to_owned());
            self.at += 1;
            if self.text(0) != "::" || !self.tokens.get(self.at + 1).is_some_and(Token::is_name) {
                break;
            }
            self.at += 1;
        }
        if path.len() > 1 {
            self.note(begin, path, false);
        }
        self.at = self.at.max(begin + 1);
    }

    fn note(&mut self, at: usize, path: Vec<String>, imported: bool) {
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        let segments = from_root(&self.room, path);
        self.found.push(Path {
            line,
            segments,
            imported,
            test: at <= self.test_until && self.test_until > 0,
        });
    }
}

/// Resolves `crate`, `self` and `super`; other first names are taken for those of crates.
fn from_root(room: &[String], path: Vec<String>) -> Vec<String> {
    let mut names = path.iter().map(String::as_str).peekable();
    let mut base = match names.peek() {
        Some(&("crate" | "o365_relay")) => {
            names.next();
            Vec::new()
        }
        Some(&("self" | "super")) => room.to_vec(),
        _ => return path,
    };
    while let Some(name) = names.next_if(|name| matches!(*name, "self" | "super")) {
        if name == "super" {
            base.pop();
        }
    }
    let rest = names.map(str::to_owned);
    ["crate".to_owned()].into_iter().chain(base).chain(rest).collect()
}

fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < text.len() {
        let end = match text[at] {
            '/' if text.get(at + 1) == Some(&'/') => find(&text, at, '\n'),
            '/' if text.get(at + 1) == Some(&'*') => comment_end(&text, at),
            '"' => string_end(&text, at + 1),
            '\'' => quote_end(&text, at),
            c if c.is_alphabetic() || c == '_' => {
                let end = name_end(&text, at);
                raw_end(&text, at, end).unwrap_or_else(|| {
                    let text = text[at..end].iter().collect();
                    found.push(Token { line, text });
                    end
                })
            }
            c if c.is_ascii_digit() => name_end(&text, at),
            c if c.is_whitespace() => at + 1,
            ':' if text.get(at + 1) == Some(&':') => {
                found.push(Token { line, text: "::".into() });
                at + 2
            }
            c => {
                found.push(Token { line, text: c.into() });
                at + 1
            }
        };
        line += text[at..end.min(text.len())].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

fn find(text: &[char], from: usize, wanted: char) -> usize {
    text[from..].iter().position(|c| *c == wanted).map_or(text.len(), |at| from + at)
}

fn name_end(text: &[char], from: usize) -> usize {
    let other = |c: &char| !c.is_alphanumeric() && *c != '_';
    text[from..].iter().position(other).map_or(text.len(), |at| from + at)
}

/// Block comments nest.
fn comment_end(text: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0_usize, from);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn string_end(text: &[char], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            '"' => return at + 1,
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// A character literal, or the quote of a lifetime.
fn quote_end(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => find(text, (at + 3).min(text.len()), '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// The end of `r"..."`, `br#"..."#` and the like whose prefix is `text[at..end]`.
fn raw_end(text: &[char], at: usize, end: usize) -> Option<usize> {
    let prefix: String = text[at..end].iter().collect();
    if !matches!(prefix.as_str(), "r" | "br" | "cr") {
        return None;
    }
    let hashes = text[end..].iter().take_while(|c| **c == '#').count();
    (text.get(end + hashes) == Some(&'"')).then_some(())?;
    let closes = |at: &usize| {
        text[*at] == '"' && text[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    Some((end + hashes + 1..text.len()).find(closes).map_or(text.len(), |at| at + 1 + hashes))
}
