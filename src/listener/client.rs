//! Who is at the other end of a connection.

use std::{fmt, net::IpAddr};

use crate::smtp::peer::Origin;

/// A client, as the allow list, the limits, the log and the trace field see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// By its address; an IPv4 address that was mapped into IPv6 is the IPv4 address.
    Address(IpAddr),
    /// A program of this host on a Unix socket; all of them are one client.
    LocalSocket,
}

impl Client {
    /// The client with this address.
    pub fn at(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    /// Its address, if it has one.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::LocalSocket => None,
        }
    }

    /// Where its octets come from.
    pub fn origin(self) -> Origin {
        match self {
            Self::LocalSocket => Origin::Socket,
            Self::Address(address) if address.is_loopback() => Origin::Loopback,
            Self::Address(_) => Origin::Network,
        }
    }

    /// Whether it is a program of this host.
    pub fn is_local(self) -> bool {
        self.address().is_none_or(|address| address.is_loopback())
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::LocalSocket => f.write_str("unix"),
        }
    }
}
