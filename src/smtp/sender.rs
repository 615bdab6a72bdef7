//! Which addresses other ones stand for.

use std::{fmt, str::FromStr};

use super::path::{Address, SenderPattern};

/// One line of a [`SenderMap`]: `root@host.local -> alerts@contoso.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    from: SenderPattern,
    to: Address,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected `old address -> new address`";
        let (from, to) = text.split_once("->").ok_or(FORM)?;
        let from = from.trim().parse()?;
        let to = to.trim().parse().map_err(|fault| format!("{FORM}: {fault}"))?;
        Ok(Self { from, to })
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// Addresses that others stand for; of several that fit, the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SenderMap(Vec<Mapping>);

impl SenderMap {
    /// A map of these lines.
    #[must_use]
    pub fn new(mappings: Vec<Mapping>) -> Self {
        Self(mappings)
    }

    /// Whether it maps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address that stands for `address`, if it is mapped.
    #[must_use]
    pub fn get(&self, address: &Address) -> Option<&Address> {
        self.0.iter().find(|mapping| mapping.from.matches(address)).map(|mapping| &mapping.to)
    }

    /// The addresses that stand for others.
    pub fn targets(&self) -> impl Iterator<Item = &Address> {
        self.0.iter().map(|mapping| &mapping.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let lines = ["root@host.local -> alerts@contoso.com", "*@Host.Local->relay@contoso.com"];
        let map = SenderMap::new(lines.iter().map(|line| line.parse().unwrap()).collect());
        let get = |address: &str| map.get(&address.parse().unwrap()).map(Address::as_str);
        assert_eq!(get("ROOT@host.local"), Some("alerts@contoso.com"));
        assert_eq!(get("cron@host.local"), Some("relay@contoso.com"));
        assert_eq!(get("root@contoso.com"), None);
        for wrong in ["a@b", "a@b -> ", "-> a@b", "a@b = c@d", "a@b -> c"] {
            assert!(wrong.parse::<Mapping>().is_err(), "{wrong}");
        }
    }
}
