//! Another sender in the header section: the address of From changes, its display name and every
//! other octet stay. Who sent the message at first is told in X-Original-From, and in Reply-To
//! where the application has set none and the address is one that can be answered.
//!
//! A DKIM-Signature that the application made cannot hold any more once From has changed, so it
//! goes with it.

use std::{ops::Range, sync::Arc};

use super::mailbox_list::{self, Item, MailboxList};
use crate::smtp::{
    path::{Address, ReversePath},
    sender::SenderMap,
};

/// The longest header section that is looked through, in octets. In a longer one the fields up to
/// here are edited and the others pass as they are.
pub const MAX_SECTION: usize = 256 * 1024;

/// As whom mail goes upstream.
#[derive(Debug, Clone, Default)]
pub struct Rewriting {
    /// Addresses that others take the place of.
    pub map: Arc<SenderMap>,
    /// The address that takes the place of all others.
    pub mailbox: Option<Address>,
}

/// What becomes of an address.
struct Target {
    address: String,
    /// Answers shall go to the old one.
    reply_to_old: bool,
}

impl Rewriting {
    /// Whether anything could change.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.mailbox.is_none() && self.map.is_empty()
    }

    /// The reverse-path that goes upstream; a null one stays.
    #[must_use]
    pub fn reverse_path(&self, reverse_path: &ReversePath) -> ReversePath {
        let ReversePath::Address(address) = reverse_path else { return ReversePath::Null };
        let other = self.map.get(address).or(self.mailbox.as_ref());
        ReversePath::Address(other.unwrap_or(address).clone())
    }

    fn target(&self, address: Option<&str>) -> Option<Target> {
        let parsed = address.and_then(|address| address.parse::<Address>().ok());
        let mapped = parsed.as_ref().and_then(|address| self.map.get(address));
        let to = |address: &Address, reply_to_old| Target {
            address: address.as_str().to_owned(),
            reply_to_old,
        };
        match (mapped, &self.mailbox) {
            // Whoever wrote the map named who stands for the old address, in answers too.
            (Some(mapped), _) => Some(to(mapped, false)),
            (None, Some(mailbox)) => Some(to(mailbox, true)),
            (None, None) => None,
        }
    }

    /// The header section with another sender, where From changes; `None` where it does not.
    /// `section` is all fields with the line end of each, without the empty line behind them.
    #[must_use]
    pub fn edit(&self, section: &[u8]) -> Option<Vec<u8>> {
        let fields = fields(section);
        let mut from = fields.iter().filter(|field| field.is(section, "From"));
        let first = from.next();
        let edited = match first {
            Some(field) => self.edit_from(&section[field.value.clone()], from.next().is_some())?,
            None => Edited::added(self.mailbox.as_ref()?),
        };
        let has_reply_to = fields.iter().any(|field| field.is(section, "Reply-To"));
        let mut out = Vec::with_capacity(section.len() + 256);
        let preamble = fields.first().map_or(section.len(), |field| field.line.start);
        out.extend_from_slice(&section[..preamble]);
        for field in &fields {
            let line = &section[field.line.clone()];
            if field.is(section, "DKIM-Signature") {
                continue;
            }
            if !field.is(section, "From") {
                out.extend_from_slice(line);
                continue;
            }
            let value = &section[field.value.clone()];
            if first.is_some_and(|first| first.line == field.line) {
                out.extend_from_slice(&section[field.line.start..field.value.start]);
                out.extend_from_slice(&edited.value);
                if let (Some(reply_to), false) = (&edited.reply_to, has_reply_to) {
                    put(&mut out, "Reply-To", reply_to);
                }
            }
            put(&mut out, "X-Original-From", value);
        }
        if first.is_none() {
            put(&mut out, "From", &edited.value);
        }
        Some(out)
    }

    fn edit_from(&self, value: &[u8], several_fields: bool) -> Option<Edited> {
        let list = mailbox_list::read(value);
        if let (Some(mailbox), false) = (&self.mailbox, several_fields)
            && let ([item], None) = (&list.items[..], &list.group)
            && item.sound
            && self.is_same(item, value, mailbox)
        {
            return None;
        }
        if self.mailbox.is_none() || self.is_all_mapped(&list, value) {
            return self.in_place(&list, value);
        }
        let first = list.items.iter().find(|item| item.address(value).is_some());
        let first = first.or(list.items.first());
        let target = self.target(first.and_then(|item| item.address(value)).as_deref())?;
        let reply_to = target.reply_to_old.then(|| answers_to(&list, value)).flatten();
        let edited = match (first, &list.items[..], &list.group) {
            (Some(item), [_], None) if item.sound => {
                replaced(value, &[(item.address.clone(), target.address)])
            }
            (item, _, group) => {
                let name = match item {
                    Some(item) if !item.phrase.is_empty() => Some(item.phrase.clone()),
                    _ => group.clone(),
                };
                composed(name.map(|name| &value[name]), &target.address)
            }
        };
        Some(Edited { value: edited, reply_to })
    }

    fn is_same(&self, item: &Item, value: &[u8], mailbox: &Address) -> bool {
        item.address(value).is_some_and(|address| address.eq_ignore_ascii_case(mailbox.as_str()))
            && self.map.get(mailbox).is_none_or(|mapped| mapped == mailbox)
    }

    /// Whether the map alone says what becomes of each address.
    fn is_all_mapped(&self, list: &MailboxList, value: &[u8]) -> bool {
        let mapped = |item: &Item| {
            let address = item.address(value).and_then(|address| address.parse::<Address>().ok());
            item.sound && address.is_some_and(|address| self.map.get(&address).is_some())
        };
        matches!((&list.items[..], &list.group), ([item], None) if mapped(item))
    }

    /// Changes the addresses that are mapped, and nothing else.
    fn in_place(&self, list: &MailboxList, value: &[u8]) -> Option<Edited> {
        let mut changes = Vec::new();
        for item in &list.items {
            let Some(address) = item.address(value) else { continue };
            let parsed = address.parse::<Address>().ok();
            let mapped = parsed.as_ref().and_then(|address| self.map.get(address));
            if let Some(mapped) = mapped.filter(|mapped| mapped.as_str() != address) {
                changes.push((item.address.clone(), mapped.as_str().to_owned()));
            }
        }
        let value = replaced(value, &changes);
        (!changes.is_empty()).then_some(Edited { value, reply_to: None })
    }
}

/// The old value as one of Reply-To; of a malformed one, only its addresses.
fn answers_to(list: &MailboxList, value: &[u8]) -> Option<Vec<u8>> {
    let addresses: Vec<_> = list.items.iter().filter_map(|item| item.address(value)).collect();
    if addresses.is_empty() {
        return None;
    }
    let sound = list.items.iter().all(|item| item.sound);
    Some(match sound {
        true => value.to_vec(),
        false => format!(" {}\r\n", addresses.join(", ")).into_bytes(),
    })
}

/// The new value of From, with its line end, and the value for Reply-To.
struct Edited {
    value: Vec<u8>,
    reply_to: Option<Vec<u8>>,
}

impl Edited {
    fn added(mailbox: &Address) -> Self {
        Self { value: composed(None, mailbox.as_str()), reply_to: None }
    }
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
    if !value.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

fn replaced(value: &[u8], changes: &[(Range<usize>, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 64);
    let mut done = 0;
    for (place, address) in changes {
        out.extend_from_slice(&value[done..place.start]);
        out.extend_from_slice(address.as_bytes());
        done = place.end;
    }
    out.extend_from_slice(&value[done..]);
    out
}

/// ` Name <address>`, for a value that cannot be kept as it is.
fn composed(name: Option<&[u8]>, address: &str) -> Vec<u8> {
    let mut out = b" ".to_vec();
    match name.map(displayable).filter(|name| !name.is_empty()) {
        Some(name) => {
            out.extend_from_slice(&name);
            out.extend_from_slice(format!(" <{address}>\r\n").as_bytes());
        }
        None => out.extend_from_slice(format!("{address}\r\n").as_bytes()),
    }
    out
}

/// A display name, quoted if it must be: Exchange Online refuses an `@` outside quotes.
fn displayable(name: &[u8]) -> Vec<u8> {
    let control = |octet: &u8| octet.is_ascii_control() && !b"\t\r\n".contains(octet);
    if name.iter().any(control) {
        return Vec::new();
    }
    let mut quoted = false;
    let mut escaped = false;
    let mut special = false;
    for octet in name {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'@' | b'<' | b'>' | b'[' | b']' | b':' | b'\\' | b'(' | b')' if !quoted => {
                special = true;
            }
            _ => {}
        }
    }
    if !special && !quoted {
        return name.to_vec();
    }
    let plain = name.iter().copied().filter(|octet| !b"\"\\".contains(octet));
    std::iter::once(b'"').chain(plain).chain([b'"']).collect()
}

/// One field with its continuation lines.
struct Field {
    line: Range<usize>,
    /// Where its name ends.
    name_end: usize,
    /// What stands behind the colon, with the line end.
    value: Range<usize>,
}

impl Field {
    fn is(&self, section: &[u8], name: &str) -> bool {
        let own = section[self.line.start..self.name_end].trim_ascii_end();
        own.eq_ignore_ascii_case(name.as_bytes())
    }
}

fn fields(section: &[u8]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    let mut at = 0;
    while at < section.len() {
        let end = memchr::memchr(b'\n', &section[at..]).map_or(section.len(), |lf| at + lf + 1);
        let line = &section[at..end];
        match (fields.last_mut(), memchr::memchr(b':', line)) {
            (Some(field), _) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                field.line.end = end;
                field.value.end = end;
            }
            (_, Some(colon)) => {
                let (line, value) = (at..end, at + colon + 1..end);
                fields.push(Field { line, name_end: at + colon, value });
            }
            // No field: it belongs to what stands before it.
            (Some(field), None) => field.line.end = end,
            (None, None) => {}
        }
        at = end;
    }
    fields
}

/// Edits a message as it streams by: the header section is kept back until all of it is here.
#[derive(Debug)]
pub struct Editor {
    rewriting: Rewriting,
    section: Vec<u8>,
    /// How much of the section has been searched for its end.
    searched: usize,
    in_body: bool,
}

impl Editor {
    /// An editor for one message.
    #[must_use]
    pub fn new(rewriting: Rewriting) -> Self {
        Self { rewriting, section: Vec::new(), searched: 0, in_body: false }
    }

    /// Takes the next octets and returns those that go on, possibly none.
    pub fn push(&mut self, chunk: Vec<u8>) -> Vec<u8> {
        if self.in_body {
            return chunk;
        }
        self.section.extend_from_slice(&chunk);
        let end = match section_end(&self.section, self.searched) {
            Some(end) => end,
            None if self.section.len() > MAX_SECTION => last_field(&self.section),
            None => {
                self.searched = self.section.len();
                return Vec::new();
            }
        };
        self.release(end)
    }

    /// What is left when no more comes: a message may consist of a header section.
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(self.section.len())
    }

    fn release(&mut self, end: usize) -> Vec<u8> {
        self.in_body = true;
        let mut section = std::mem::take(&mut self.section);
        let rest = section.split_off(end);
        let mut out = match section.is_empty() {
            true => section,
            false => self.rewriting.edit(&section).unwrap_or(section),
        };
        out.extend_from_slice(&rest);
        out
    }
}

/// Where the empty line begins that ends the header section.
fn section_end(octets: &[u8], searched: usize) -> Option<usize> {
    if octets.starts_with(b"\r\n") {
        return Some(0);
    }
    let from = searched.saturating_sub(3);
    memchr::memmem::find(&octets[from..], b"\r\n\r\n").map(|at| from + at + 2)
}

/// Where the last field begins, which may go on.
fn last_field(octets: &[u8]) -> usize {
    let begins = |at: &usize| !matches!(octets.get(at + 2), None | Some(b' ' | b'\t'));
    let found = memchr::memmem::rfind_iter(octets, b"\r\n").find(begins);
    found.map_or(octets.len(), |at| at + 2)
}
