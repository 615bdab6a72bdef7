//! What a piece of text looks like: the checks behind the kinds of values.

/// Whether `text` is a host name (RFC 1123 section 2.1); an IPv4 address is none.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

/// Whether `text` is an address as Exchange Online has them: a dot-atom and a domain.
pub(super) fn is_mailbox(text: &str) -> bool {
    // RFC 5322 section 3.2.3, atext
    let atom = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let dots_apart = !local.split('.').any(str::is_empty);
    (1..=64).contains(&local.len()) && dots_apart && local.bytes().all(atom) && is_host_name(domain)
}

/// Whether `text` has the form of a GUID, 8-4-4-4-12 hexadecimal digits.
pub(super) fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// Whether `text` is what guides write where the reader is to put a value.
pub(super) fn is_placeholder(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    let wrapped = [('<', '>'), ('{', '}'), ('[', ']')]
        .iter()
        .any(|(open, close)| text.starts_with(*open) && text.ends_with(*close));
    let worded = ["your-", "your_", "your ", "my-tenant", "changeme", "change-me", "replace_"]
        .iter()
        .any(|word| text.starts_with(word));
    let blank = text.len() >= 4 && text.chars().all(|c| matches!(c, '0' | 'x' | '-'));
    wrapped || worded || blank
}

/// Whether `text` must not be shown in a message: people paste secrets into the wrong key.
pub(super) fn hides_secret(text: &str) -> bool {
    // Entra's client secrets are 34 to 40 characters, nearly always with a tilde among them.
    let entra = text.len() >= 24 && text.contains('~') && !text.contains(char::is_whitespace);
    let token = text.starts_with("eyJ") && text.len() >= 24;
    let user_in_url = text.contains("://") && text.contains('@');
    entra || token || user_in_url || text.contains("-----BEGIN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        for name in ["mail", "mail.contoso.com", "a-1.example", "3com.com"] {
            assert!(is_host_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-a.b", "a-.b", "a_b.c", "10.0.0.1", "host:25", "h ost"] {
            assert!(!is_host_name(name), "{name}");
        }
    }

    #[test]
    fn mailboxes() {
        for address in ["relay@contoso.com", "o'neil+x@mail.contoso.com"] {
            assert!(is_mailbox(address), "{address}");
        }
        for address in ["relay", "@contoso.com", "relay@", "a b@c.de", "<a@b.c>", "a..b@c.de"] {
            assert!(!is_mailbox(address), "{address}");
        }
    }

    #[test]
    fn placeholders_and_secrets_are_recognised() {
        for text in ["<tenant>", "YOUR_TENANT_ID", "{tenant}", "your-tenant-id"] {
            assert!(is_placeholder(text), "{text}");
        }
        assert!(is_placeholder("00000000-0000-0000-0000-000000000000"));
        assert!(is_placeholder("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"));
        assert!(!is_placeholder("yours.example") && !is_placeholder(""));
        assert!(hides_secret("k3y8Q~dGhpcyBpcyBub3QgYSBzZWNyZXQhISEhISE"));
        assert!(hides_secret("https://user:password@login.example"));
        assert!(!hides_secret("relay@contoso.com") && !hides_secret("/var/lib/o365-relay"));
    }
}
