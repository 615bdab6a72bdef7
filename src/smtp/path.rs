//! Reverse-paths and forward-paths (RFC 5321 section 4.1.2), read liberally: without brackets,
//! with a source route, without a domain if one is configured. What cannot be relayed is
//! refused here, so that nothing odd travels further: no control character, no blank outside
//! quotes, no bracket.

use std::fmt;

/// The longest address that we take, in octets. RFC 5321 section 4.5.3.1 asks for 256 at least.
const MAX_ADDRESS: usize = 512;

/// A mailbox address, `local-part@domain`, exactly as the client wrote it apart from a source
/// route, a final dot of the domain and a completed domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// The address as text, without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can only travel with SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.0.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Address {
    type Err = PathFault;

    /// An address that needs no completion, such as one from the configuration or the store.
    fn from_str(text: &str) -> Result<Self, PathFault> {
        parse_address(text, PathRules { smtputf8: true, default_domain: None })
    }
}

/// The MAIL argument: where notices go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: no notice may ever be sent (RFC 5321 section 4.5.5).
    Null,
    /// An address.
    Address(Address),
}

impl ReversePath {
    /// The address as text; empty for the null reverse-path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Address(address) => address.as_str(),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The RCPT argument: one mailbox that gets the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ForwardPath(pub Address);

impl ForwardPath {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a path is read against.
#[derive(Debug, Clone, Copy)]
pub struct PathRules<'a> {
    /// The transaction declared SMTPUTF8, so addresses may hold UTF-8.
    pub smtputf8: bool,
    /// Completes an address without a domain.
    pub default_domain: Option<&'a str>,
}

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Not of the form `<local-part@domain>`.
    #[error("address is not of the form <local-part@domain>")]
    Syntax,
    /// Several addresses where one belongs.
    #[error("one address only; send a RCPT command for each recipient")]
    Several,
    /// No domain, and none is configured.
    #[error("address has no domain; use user@domain, or set listener.default_domain")]
    NoDomain,
    /// Longer than we take.
    #[error("address is longer than 512 octets")]
    TooLong,
    /// UTF-8 without SMTPUTF8 (RFC 6531 section 3.3).
    #[error("address holds non-ASCII characters but MAIL did not declare SMTPUTF8")]
    NeedsSmtpUtf8,
}

/// Splits the argument of MAIL FROM: or RCPT TO: into what stands in the path (without
/// brackets) and the parameters after it.
///
/// # Errors
/// [`PathFault::Syntax`] for unbalanced brackets or quotes, or text glued to the closing bracket.
pub fn split_path(argument: &str) -> Result<(&str, &str), PathFault> {
    let argument = argument.trim_start_matches([' ', '\t']);
    let bracketed = argument.starts_with('<');
    let content = if bracketed { &argument[1..] } else { argument };
    let ends = |c: char| if bracketed { c == '>' } else { c == ' ' || c == '\t' };
    let end = match find_unquoted(content, ends)? {
        Some(end) => end,
        None if bracketed => return Err(PathFault::Syntax),
        None => content.len(),
    };
    let rest = if bracketed { &content[end + 1..] } else { &content[end..] };
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return Err(PathFault::Syntax);
    }
    Ok((&content[..end], rest.trim_matches([' ', '\t'])))
}

/// Reads what stands in a reverse-path.
///
/// # Errors
/// [`PathFault`] says what is wrong with it.
pub fn parse_reverse_path(content: &str, rules: PathRules<'_>) -> Result<ReversePath, PathFault> {
    match content.trim_matches(' ') {
        "" => Ok(ReversePath::Null),
        address => parse_address(address, rules).map(ReversePath::Address),
    }
}

/// Reads what stands in a forward-path.
///
/// # Errors
/// [`PathFault`] says what is wrong with it.
pub fn parse_forward_path(content: &str, rules: PathRules<'_>) -> Result<ForwardPath, PathFault> {
    parse_address(content.trim_matches(' '), rules).map(ForwardPath)
}

fn parse_address(text: &str, rules: PathRules<'_>) -> Result<Address, PathFault> {
    // A source route `@one,@two:` is to be ignored (RFC 5321 appendix C).
    let text = match text.strip_prefix('@') {
        Some(routed) => routed.split_once(':').ok_or(PathFault::Syntax)?.1,
        None => text,
    };
    if text.len() > MAX_ADDRESS {
        return Err(PathFault::TooLong);
    }
    if !rules.smtputf8 && !text.is_ascii() {
        return Err(PathFault::NeedsSmtpUtf8);
    }
    let at = find_unquoted(text, |c| c == '@')?;
    let (local, domain) = match (at, rules.default_domain) {
        (Some(at), _) => (&text[..at], text[at + 1..].trim_end_matches('.')),
        (None, Some(domain)) if is_local_part(text) => (text, domain),
        (None, None) if is_local_part(text) => return Err(PathFault::NoDomain),
        (None, _) => return Err(complaint(text)),
    };
    if !is_local_part(local) || !is_domain(domain) {
        return Err(complaint(text));
    }
    let address = format!("{local}@{domain}");
    // Again, as a domain may have been completed: the store reads back what was taken here.
    if address.len() > MAX_ADDRESS {
        return Err(PathFault::TooLong);
    }
    Ok(Address(address))
}

/// Devices with one recipient field send `a@x, b@y`: worth a reply of its own.
fn complaint(text: &str) -> PathFault {
    let several = text.contains([',', ';']) && text.matches('@').count() > 1;
    if several { PathFault::Several } else { PathFault::Syntax }
}

/// The place of the first character that matches outside a quoted string.
fn find_unquoted(text: &str, matches: impl Fn(char) -> bool) -> Result<Option<usize>, PathFault> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted && matches(c) => return Ok(Some(at)),
            _ => {}
        }
    }
    if quoted { Err(PathFault::Syntax) } else { Ok(None) }
}

fn is_local_part(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('"') {
        return is_quoted_string_tail(inner);
    }
    !text.is_empty() && text.chars().all(is_atext_or_dot)
}

/// What follows the opening quote: text without controls up to one closing quote at the end.
fn is_quoted_string_tail(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => return characters.next().is_none(),
            '\\' => match characters.next() {
                Some(c) if !c.is_control() => {}
                _ => return false,
            },
            c if c.is_control() => return false,
            _ => {}
        }
    }
    false
}

/// RFC 5321 Dot-string, with dots wherever the client put them (`a..b@x` is in use).
fn is_atext_or_dot(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~.".contains(c)
        || (!c.is_ascii() && !c.is_control())
}

fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".:-".contains(&b);
        return !literal.is_empty() && literal.bytes().all(allowed);
    }
    // Underscores are no host name by the book, but Windows host names carry them.
    let allowed = |c: char| {
        c.is_ascii_alphanumeric() || "-_".contains(c) || (!c.is_ascii() && !c.is_control())
    };
    text.split('.').all(|label| !label.is_empty() && label.chars().all(allowed))
}

/// A pattern for reverse-paths: `*@contoso.com`, `printer@contoso.com` or `*`. Domains compare
/// without regard to case, as do local parts (as Exchange Online does).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPattern(String);

impl SenderPattern {
    /// Whether `address` fits the pattern.
    #[must_use]
    pub fn matches(&self, address: &Address) -> bool {
        let address = address.as_str().to_lowercase();
        match self.0.strip_prefix("*@") {
            Some(domain) => address.rsplit_once('@').is_some_and(|(_, of)| of == domain),
            None => self.0 == "*" || self.0 == address,
        }
    }
}

impl SenderPattern {
    /// Whether each address that fits `other` fits this one.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let domain = |pattern: &str| pattern.rsplit_once('@').map(|(_, domain)| domain.to_owned());
        match self.0.strip_prefix("*@") {
            Some(own) => domain(&other.0).is_some_and(|domain| domain == own),
            None => self.0 == "*" || self.0 == other.0,
        }
    }
}

impl std::str::FromStr for SenderPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (local, domain) = match text {
            "*" => return Ok(Self("*".into())),
            _ => text.rsplit_once('@').ok_or("expected `*@domain`, `local@domain` or `*`")?,
        };
        if local.is_empty() || domain.is_empty() || (local.contains('*') && local != "*") {
            return Err("expected `*@domain`, `local@domain` or `*`".into());
        }
        Ok(Self(text.to_lowercase()))
    }
}

impl fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCII: PathRules<'static> = PathRules { smtputf8: false, default_domain: None };

    fn reverse(argument: &str, rules: PathRules<'_>) -> Result<String, PathFault> {
        let (content, _) = split_path(argument)?;
        parse_reverse_path(content, rules).map(|path| path.to_string())
    }

    #[test]
    fn paths_are_read_as_devices_send_them() {
        for (argument, address) in [
            ("<a@b.example>", "a@b.example"),
            (" <a@b.example>", "a@b.example"),
            ("a@b.example", "a@b.example"),
            ("a@b.example SIZE=10", "a@b.example"),
            ("<a..b@b.example.>", "a..b@b.example"),
            ("<@one.example,@two.example:a@b.example>", "a@b.example"),
            ("<\"a b>\"@b.example>", "\"a b>\"@b.example"),
            ("<\"a@b\\\"\"@b.example>", "\"a@b\\\"\"@b.example"),
            ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
            ("<o'hara+tag=1/2@b_c.example>", "o'hara+tag=1/2@b_c.example"),
            ("<a@localhost>", "a@localhost"),
            ("<>", ""),
            ("< >", ""),
        ] {
            assert_eq!(reverse(argument, ASCII).as_deref(), Ok(address), "{argument}");
        }
    }

    #[test]
    fn what_cannot_be_relayed_is_refused_with_its_reason() {
        use PathFault::{NeedsSmtpUtf8, NoDomain, Several, Syntax, TooLong};
        let long = format!("<{}@b.example>", "a".repeat(600));
        for (argument, fault) in [
            ("<a@b.example", Syntax),
            ("<a@b.example>SIZE=1", Syntax),
            ("<a b@c.example>", Syntax),
            ("<a\r@c.example>", Syntax),
            ("<a@c.example\u{0}>", Syntax),
            ("<\"a\u{1}\"@c.example>", Syntax),
            ("<\"a@c.example>", Syntax),
            ("<a<b@c.example>", Syntax),
            ("<@c.example>", Syntax),
            ("<a@>", Syntax),
            ("<a@b..c>", Syntax),
            ("<a@b@c.example>", Syntax),
            ("<DOMAIN\\user>", Syntax),
            ("Name <a@c.example>", NoDomain),
            ("<a@b.example,c@d.example>", Several),
            ("<a@b.example;c@d.example>", Several),
            ("<root>", NoDomain),
            (long.as_str(), TooLong),
            ("<gr\u{fc}n@c.example>", NeedsSmtpUtf8),
        ] {
            assert_eq!(reverse(argument, ASCII), Err(fault), "{argument}");
        }
    }

    #[test]
    fn a_missing_domain_is_completed_if_one_is_configured() {
        let rules = PathRules { smtputf8: false, default_domain: Some("corp.example") };
        assert_eq!(reverse("<root>", rules).as_deref(), Ok("root@corp.example"));
        assert_eq!(reverse("<a@b,c>", rules), Err(PathFault::Syntax));
        let (content, _) = split_path("<Postmaster>").unwrap();
        assert_eq!(parse_forward_path(content, rules).unwrap().as_str(), "Postmaster@corp.example");
    }

    #[test]
    fn what_is_taken_can_be_read_back() {
        let rules = PathRules { smtputf8: false, default_domain: Some("corp.example") };
        for length in 490..=512 {
            let local = "x".repeat(length);
            match parse_forward_path(&local, rules) {
                Ok(path) => assert_eq!(path.as_str().parse(), Ok(path.0)),
                Err(fault) => assert_eq!((fault, length > 499), (PathFault::TooLong, true)),
            }
        }
    }

    #[test]
    fn an_empty_forward_path_is_no_address() {
        assert!(parse_forward_path("", ASCII).is_err());
    }

    #[test]
    fn smtputf8_opens_addresses_to_utf8() {
        let rules = PathRules { smtputf8: true, default_domain: None };
        assert_eq!(
            reverse("<gr\u{fc}n@b\u{fc}ro.example>", rules).as_deref(),
            Ok("gr\u{fc}n@b\u{fc}ro.example")
        );
    }

    #[test]
    fn parameters_follow_the_path() {
        assert_eq!(split_path("<a@b> SIZE=1 BODY=8BITMIME"), Ok(("a@b", "SIZE=1 BODY=8BITMIME")));
        assert_eq!(split_path("a@b SIZE=1"), Ok(("a@b", "SIZE=1")));
        assert_eq!(split_path("<a@b>  "), Ok(("a@b", "")));
    }

    #[test]
    fn sender_patterns_compare_without_case() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        let domain: SenderPattern = "*@Contoso.com".parse().unwrap();
        assert!(domain.matches(&address("Printer@CONTOSO.com")));
        assert!(!domain.matches(&address("printer@evil-contoso.com")));
        let one: SenderPattern = "printer@contoso.com".parse().unwrap();
        assert!(
            one.matches(&address("PRINTER@contoso.com")) && !one.matches(&address("x@contoso.com"))
        );
        assert!("*".parse::<SenderPattern>().unwrap().matches(&address("a@b")));
        assert!(domain.covers(&one) && domain.covers(&domain) && !one.covers(&domain));
        let all = "*".parse::<SenderPattern>().unwrap();
        assert!(all.covers(&domain) && !domain.covers(&all));
        assert!("contoso.com".parse::<SenderPattern>().is_err());
        assert!("pr*@contoso.com".parse::<SenderPattern>().is_err());
    }
}
