//! Where a listener listens: an IP address with a port, a path for a Unix socket, or what systemd
//! hands over.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// What stands before the path of a Unix socket.
const UNIX: &str = "unix:";

/// What stands for a socket that systemd has bound.
const SYSTEMD: &str = "systemd";

/// The longest path of a Unix socket, in octets: `sun_path` without its final NUL.
const MAX_PATH: usize = 107;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP. Port 0 takes any free port (tests).
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path; written `unix:/run/o365-relay/smtp.sock`.
    Unix(PathBuf),
    /// The sockets of systemd's socket units that no other address has: with a name those of this
    /// `FileDescriptorName=`, without one all the rest. Written `systemd:printers`, `systemd`.
    Systemd(Option<String>),
}

impl Address {
    /// Whether only this host reaches it. For a Unix socket, file permissions say who does. What
    /// systemd hands over is known at the start, and local until then.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) | Self::Systemd(_) => true,
        }
    }

    /// Whether the system would refuse to have both. `[::]` takes IPv6 only where an IPv4 address
    /// with the same port stands beside it, so the families never overlap.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unix(one), Self::Unix(other)) => one == other,
            (Self::Systemd(one), Self::Systemd(other)) => one == other,
            (Self::Tcp(one), Self::Tcp(other)) => {
                let any = one.ip().is_unspecified() || other.ip().is_unspecified();
                one.port() != 0
                    && one.port() == other.port()
                    && one.is_ipv4() == other.is_ipv4()
                    && (any || one.ip() == other.ip())
            }
            _ => false,
        }
    }
}

/// The text is neither an IP address with a port nor `unix:` and an absolute path that fits, nor
/// `systemd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither an IP address with a port nor `unix:/path` of at most {MAX_PATH} octets, nor `systemd`"
)]
pub struct NoAddress;

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Some(rest) = text.strip_prefix(SYSTEMD) {
            return match rest.strip_prefix(':') {
                Some(name) if is_descriptor_name(name) => Ok(Self::Systemd(Some(name.into()))),
                None if rest.is_empty() => Ok(Self::Systemd(None)),
                _ => Err(NoAddress),
            };
        }
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Tcp).map_err(|_| NoAddress);
        };
        let fits = path.len() <= MAX_PATH && !path.contains('\0') && !path.ends_with('/');
        if fits && path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(NoAddress) }
    }
}

/// What `FileDescriptorName=` takes (systemd.socket(5)).
fn is_descriptor_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_graphic() && c != b':')
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            Self::Systemd(None) => f.write_str(SYSTEMD),
            Self::Systemd(Some(name)) => write!(f, "{SYSTEMD}:{name}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(one: &str, other: &str) -> bool {
        let (one, other): (Address, Address) = (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(one.overlaps(&other), other.overlaps(&one));
        one.overlaps(&other)
    }

    #[test]
    fn addresses_are_written_as_they_are_read() {
        let texts = [
            "127.0.0.1:25",
            "[::1]:25",
            "unix:/run/o365-relay/smtp.sock",
            "systemd",
            "systemd:o365-relay.socket",
        ];
        for text in texts {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(107));
        let no_addresses = ["127.0.0.1", "localhost:25", "unix:", "unix:smtp.sock", "unix:/run/"];
        let not_of_systemd = ["systemd:", "systemd:a b", "systemd:a:b", "systemd1"];
        for text in no_addresses.into_iter().chain(not_of_systemd).chain([long.as_str()]) {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }

    #[test]
    fn what_the_system_would_refuse_overlaps() {
        assert!(overlap("127.0.0.1:25", "127.0.0.1:25"));
        assert!(overlap("0.0.0.0:25", "10.1.2.3:25"));
        assert!(overlap("[::]:25", "[::1]:25"));
        assert!(overlap("unix:/a", "unix:/a"));
        assert!(overlap("systemd", "systemd"));
        assert!(!overlap("systemd", "systemd:a"));
        assert!(!overlap("0.0.0.0:25", "[::]:25"));
        assert!(!overlap("127.0.0.1:25", "127.0.0.1:26"));
        assert!(!overlap("127.0.0.1:25", "127.0.0.2:25"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!overlap("unix:/a", "unix:/b"));
    }
}
