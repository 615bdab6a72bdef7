//! The mailboxes of a From field (RFC 5322 section 3.4), with their places in its value: who
//! changes an address must leave every other octet as it is. Read liberally, for what it is that
//! applications write; nothing is ever refused.

use std::ops::Range;

/// What stands between two commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The name before the angle brackets, without blanks around it; empty if there is none.
    pub phrase: Range<usize>,
    /// The address, without brackets; empty if there is none.
    pub address: Range<usize>,
    /// Written by the book, apart from the missing domain of `root`: the address can be changed in
    /// place.
    pub sound: bool,
}

/// The value of a field, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MailboxList {
    pub items: Vec<Item>,
    /// The name of the first group.
    pub group: Option<Range<usize>>,
}

impl Item {
    /// The address without blanks and line ends; `None` if it has no domain.
    pub fn address<'a>(&self, value: &'a [u8]) -> Option<String> {
        let octets: &'a [u8] = value.get(self.address.clone())?;
        let text = std::str::from_utf8(octets).ok()?;
        let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let (local, domain) = text.rsplit_once('@')?;
        (!local.is_empty() && !domain.is_empty()).then_some(text)
    }
}

/// A piece of an item that is no blank and no comment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    place: Range<usize>,
    angle: bool,
}

/// Takes a value apart.
pub(super) fn read(value: &[u8]) -> MailboxList {
    let mut list = MailboxList::default();
    let mut words: Vec<Word> = Vec::new();
    let value = value.trim_ascii_end(); // the line end is part of no word
    let mut commented = false;
    let mut at = 0;
    while at < value.len() {
        let end = match value[at] {
            b' ' | b'\t' | b'\r' | b'\n' => at + 1,
            b'(' => {
                commented = true;
                comment_end(value, at)
            }
            b',' | b';' => {
                list.items.extend(item(value, &words, commented));
                words.clear();
                commented = false;
                at + 1
            }
            b':' if is_group(value, &words) => {
                let name = span(&words);
                list.group.get_or_insert(name);
                words.clear();
                at + 1
            }
            b'<' => {
                let end = angle_end(value, at);
                words.push(Word { place: at..end, angle: true });
                end
            }
            _ => {
                let end = word_end(value, at);
                words.push(Word { place: at..end, angle: false });
                end
            }
        };
        at = end;
    }
    list.items.extend(item(value, &words, commented));
    list
}

fn is_group(value: &[u8], words: &[Word]) -> bool {
    !words.is_empty() && words.iter().all(|word| !word.angle && !has_at(value, &word.place))
}

fn has_at(value: &[u8], place: &Range<usize>) -> bool {
    !value[place.clone()].starts_with(b"\"") && value[place.clone()].contains(&b'@')
}

fn span(words: &[Word]) -> Range<usize> {
    match (words.first(), words.last()) {
        (Some(first), Some(last)) => first.place.start..last.place.end,
        _ => 0..0,
    }
}

/// A comment may hold others, and quoted pairs.
fn comment_end(value: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 1,
            b'(' => depth += 1,
            b')' if depth <= 1 => return at + 1,
            b')' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    value.len()
}

/// Behind the closing quote; a quote that is never closed is an octet like others.
fn quoted_end(value: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < value.len() {
        match value[at] {
            b'\\' => at += 1,
            b'"' => return at + 1,
            _ => {}
        }
        at += 1;
    }
    start + 1
}

/// Up to and with the closing bracket; without one, up to the next comma.
fn angle_end(value: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < value.len() {
        match value[at] {
            b'"' => at = quoted_end(value, at) - 1,
            b'>' => return at + 1,
            b',' | b';' if !value[at..].contains(&b'>') => return at,
            _ => {}
        }
        at += 1;
    }
    value.len()
}

/// A word: a quoted string, an atom, or an address, whose parts may be quoted.
fn word_end(value: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < value.len() {
        match value[at] {
            b'"' => at = quoted_end(value, at) - 1,
            b' ' | b'\t' | b'\r' | b'\n' | b'(' | b',' | b';' | b'<' => return at,
            b':' if at > start && !value[start..at].contains(&b'@') => return at,
            _ => {}
        }
        at += 1;
    }
    value.len()
}

fn item(value: &[u8], words: &[Word], commented: bool) -> Option<Item> {
    if let Some(place) = words.iter().position(|word| word.angle) {
        return Some(angle_item(value, words, place));
    }
    let (last, others) = words.split_last()?;
    if others.is_empty() {
        // `root (Cron Daemon)` is an address of old, `Printer` is a name.
        let address = has_at(value, &last.place) || commented;
        let (phrase, address) = match address {
            true => (0..0, last.place.clone()),
            false => (last.place.clone(), 0..0),
        };
        return Some(Item { sound: !address.is_empty(), phrase, address });
    }
    if let Some(place) = words.iter().rposition(|word| has_at(value, &word.place)) {
        return Some(spaced_item(value, words, place));
    }
    Some(Item { phrase: span(words), address: 0..0, sound: false })
}

fn angle_item(value: &[u8], words: &[Word], place: usize) -> Item {
    let angle = words[place].place.clone();
    let closed = angle.len() > 1 && value[angle.end - 1] == b'>';
    let inner = angle.start + 1..if closed { angle.end - 1 } else { angle.end };
    let phrase = span(&words[..place]);
    let clean = words[..place].iter().all(|word| is_phrase_word(&value[word.place.clone()]));
    let address = trim(value, inner);
    let sound = closed && clean && place + 1 == words.len() && !address.is_empty();
    Item { phrase, address, sound }
}

/// `john . doe @ example . com` is one address; in `Scan To Mail scan@example.com` only the last
/// word is one.
fn spaced_item(value: &[u8], words: &[Word], place: usize) -> Item {
    let glued = |pair: &[Word]| {
        value[pair[0].place.end - 1] == b'.'
            || value[pair[0].place.end - 1] == b'@'
            || matches!(value[pair[1].place.start], b'.' | b'@')
    };
    if words.windows(2).all(glued) {
        return Item { phrase: 0..0, address: span(words), sound: true };
    }
    Item { phrase: span(&words[..place]), address: words[place].place.clone(), sound: false }
}

fn trim(value: &[u8], range: Range<usize>) -> Range<usize> {
    let inner = &value[range.clone()];
    let start = inner.len() - inner.trim_ascii_start().len();
    let length = inner.trim_ascii().len();
    range.start + start..range.start + start + length
}

/// A quoted string, or an atom; dots are obsolete there and in use, octets over 127 too.
fn is_phrase_word(word: &[u8]) -> bool {
    let quoted = word.starts_with(b"\"") && quoted_end(word, 0) == word.len() && word.len() > 1;
    let atom = |octet: &u8| {
        octet.is_ascii_alphanumeric() || *octet > 127 || b"!#$%&'*+-/=?^_`{|}~.".contains(octet)
    };
    (quoted && word.ends_with(b"\"")) || word.iter().all(atom)
}
