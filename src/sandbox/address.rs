//! Addresses exactly as RFC 5321 section 4.1.2 has them, and no more liberal: a test double that
//! overlooks a malformed address hides the mistake of the client under test.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressFault {
    /// It does not have the form `local-part@domain`, or is too long.
    Syntax,
    /// It holds characters outside ASCII, and SMTPUTF8 was not asked for (RFC 6531).
    NonAscii,
}

/// Checks a `Mailbox`.
pub(super) fn check(mailbox: &str, smtputf8: bool) -> Result<(), AddressFault> {
    let (local, domain) = mailbox.rsplit_once('@').ok_or(AddressFault::Syntax)?;
    if !is_local_part(local) || !(is_domain(domain) || is_address_literal(domain)) {
        return Err(AddressFault::Syntax);
    }
    if !smtputf8 && !mailbox.is_ascii() {
        return Err(AddressFault::NonAscii);
    }
    Ok(())
}

/// Takes `<...>` from the front of `text`: what is between the brackets, and what follows them.
/// A bracket inside a quoted local part does not count.
pub(super) fn split_path(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, octet) in inside.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some((&inside[..at], &inside[at + 1..])),
            _ => {}
        }
    }
    None
}

/// Whether `text` is a `Domain`; labels may hold characters outside ASCII.
pub(super) fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || !c.is_ascii())
    };
    text.len() <= MAX_DOMAIN && text.split('.').all(is_label)
}

/// Whether `text` is an `address-literal` of IPv4 or IPv6.
pub(super) fn is_address_literal(text: &str) -> bool {
    let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return false;
    };
    match address.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => address[5..].parse::<Ipv6Addr>().is_ok(),
        _ => address.parse::<Ipv4Addr>().is_ok(),
    }
}

fn is_local_part(text: &str) -> bool {
    (1..=MAX_LOCAL_PART).contains(&text.len())
        && (is_quoted_string(text) || text.split('.').all(is_atom))
}

fn is_atom(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| {
            c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
        })
}

fn is_quoted_string(text: &str) -> bool {
    let Some(inside) =
        text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).filter(|_| text.len() >= 2)
    else {
        return false;
    };
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        let sound = match character {
            '\\' => characters.next().is_some_and(|c| (' '..='~').contains(&c)),
            '"' => false,
            other => (' '..='~').contains(&other) || !other.is_ascii(),
        };
        if !sound {
            return false;
        }
    }
    true
}

// RFC 5321 section 4.5.3.1, RFC 1035 section 2.3.4
const MAX_LOCAL_PART: usize = 64;
const MAX_DOMAIN: usize = 255;
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_rfc_pass() {
        for address in [
            "a@b",
            "first.last@example.com",
            "o'neil+tag@sub.example.com",
            r#""two words"@example.com"#,
            r#""a\"b>c@d"@example.com"#,
            "a@[192.0.2.1]",
            "a@[IPv6:2001:db8::1]",
        ] {
            assert_eq!(check(address, false), Ok(()), "{address}");
        }
    }

    #[test]
    fn malformed_addresses_do_not_pass() {
        let long_local = format!("{}@example.com", "x".repeat(65));
        let long_label = format!("a@{}.com", "x".repeat(64));
        for address in [
            "",
            "root",
            "@example.com",
            "a@",
            "a@b.",
            "a@.b",
            "a..b@example.com",
            ".a@example.com",
            "a.@example.com",
            "a b@example.com",
            "a@exa mple.com",
            "a@-b.com",
            "a@b_c.com",
            r#"""@@example.com"#,
            r#"""#,
            r#""@example.com"#,
            r#""a"b"@example.com"#,
            "@relay.example:a@b.com",
            "a@[192.0.2]",
            "a@[IPv6:nonsense]",
            "a@[]",
            &long_local,
            &long_label,
        ] {
            assert_eq!(check(address, true), Err(AddressFault::Syntax), "{address}");
        }
    }

    #[test]
    fn addresses_beyond_ascii_need_smtputf8() {
        for address in ["jörg@example.com", "a@exämple.com"] {
            assert_eq!(check(address, true), Ok(()));
            assert_eq!(check(address, false), Err(AddressFault::NonAscii));
        }
    }

    #[test]
    fn a_path_ends_at_the_first_bracket_outside_quotes() {
        assert_eq!(split_path("<a@b> SIZE=1"), Some(("a@b", " SIZE=1")));
        assert_eq!(split_path(r#"<"x>y"@b>"#), Some((r#""x>y"@b"#, "")));
        assert_eq!(split_path("<>"), Some(("", "")));
        for text in ["a@b", "<a@b", r#"<"a>"#, ""] {
            assert_eq!(split_path(text), None, "{text}");
        }
    }
}
