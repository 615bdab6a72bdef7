//! Reverse-paths and forward-paths (RFC 5321 section 4.1.2).

/// A pattern for reverse-paths: `*@contoso.com`, `printer@contoso.com` or `*`. Domains compare
/// without regard to case, as do local parts (as Exchange Online does).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPattern(String);

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

impl std::fmt::Display for SenderPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
