//! Sockets that systemd has bound and hands over at the start (socket activation). It keeps them
//! when the daemon ends, so that clients of a restart wait instead of being refused.
//!
//! A socket belongs to the listener that has its address; else to the one whose address is
//! `systemd:NAME`, with the socket's `FileDescriptorName=`; else to the one that has `systemd`. One
//! that belongs to nobody is a fault: its clients would wait for ever.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    net::{SocketAddrUnix, SocketType, getsockname, sockopt},
};

use super::{Config, address::Address};

/// What systemd has handed over.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Bound>);

/// One of the sockets.
#[derive(Debug)]
pub(super) struct Bound {
    /// Its `FileDescriptorName=`.
    name: String,
    pub address: Address,
    pub socket: OwnedFd,
}

/// The sockets with the configured addresses that they are for.
#[derive(Debug, Default)]
pub struct Fitted(Vec<(Address, Bound)>);

/// What systemd hands over is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// The variables of the protocol.
    #[error(
        "could not take sockets from systemd: LISTEN_PID and LISTEN_FDS are no numbers; start \
         o365-relay by its systemd unit, or without these variables"
    )]
    Variables,
    /// A descriptor that is none, or not one of a listening stream socket.
    #[error(
        "descriptor {descriptor} (\"{name}\") of LISTEN_FDS is {what}; a socket unit for o365-relay \
         has ListenStream= with an IP address and a port or with an absolute path, and no Accept=yes"
    )]
    NoListener {
        /// Its number.
        descriptor: u32,
        /// What systemd calls it.
        name: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A socket that no listener has.
    #[error(
        "systemd hands over a socket at {address} (\"{name}\") that no listener has, so that its \
         clients would wait for ever; add \"{address}\" or \"systemd:{name}\" to {keys}.addresses, \
         or take it out of the socket unit (`systemctl edit --full o365-relay.socket`)"
    )]
    Stranger {
        /// Where it listens.
        address: Address,
        /// What systemd calls it.
        name: String,
        /// The section of the keys of the first listener.
        keys: String,
    },
}

impl Inherited {
    /// Takes what systemd has handed over to this process: nothing, if it was not started so. May
    /// be called once, before anything else opens files.
    ///
    /// # Errors
    /// What was handed over is no set of listening sockets.
    pub fn take() -> Result<Self, InheritedError> {
        const FIRST: u32 = 3; // SD_LISTEN_FDS_START
        let given = sd_listen_fds::get().map_err(|_| InheritedError::Variables)?;
        let take =
            |(number, (name, socket)): (u32, (Option<String>, sd_listen_fds::OwnedFd))| {
                let name = name.unwrap_or_default();
                Bound::new(name.clone(), socket.into_std()).map_err(|what| {
                    InheritedError::NoListener { descriptor: FIRST + number, name, what }
                })
            };
        (0..).zip(given).map(take).collect::<Result<_, _>>().map(Self)
    }

    /// Finds the listener of each socket.
    ///
    /// # Errors
    /// None of `configs` has one of them.
    pub fn fit(self, configs: &[Config]) -> Result<Fitted, InheritedError> {
        let configured = || configs.iter().flat_map(|config| &config.addresses);
        let one = |bound: Bound| {
            let named = Address::Systemd(Some(bound.name.clone()));
            let by_rank = [&bound.address, &named, &Address::Systemd(None)];
            let place = by_rank.into_iter().find(|place| configured().any(|it| it == *place));
            match place.cloned() {
                Some(place) => Ok((place, bound)),
                None => Err(InheritedError::Stranger {
                    address: bound.address,
                    name: bound.name,
                    keys: configs.first().map_or_else(String::new, |config| config.keys.clone()),
                }),
            }
        };
        self.0.into_iter().map(one).collect::<Result<_, _>>().map(Fitted)
    }
}

impl Fitted {
    /// The sockets for one configured address.
    pub(super) fn take(&mut self, address: &Address) -> Vec<Bound> {
        let ours = |(place, _): &mut (Address, Bound)| place == address;
        self.0.extract_if(.., ours).map(|(_, bound)| bound).collect()
    }
}

impl Bound {
    fn new(name: String, socket: OwnedFd) -> Result<Self, &'static str> {
        if fcntl_setfd(&socket, FdFlags::CLOEXEC).is_err() {
            let _ = socket.into_raw_fd(); // there is nothing to close
            return Err("not open");
        }
        let address = listening_at(socket.as_fd())?;
        Ok(Self { name, address, socket })
    }
}

fn listening_at(socket: BorrowedFd<'_>) -> Result<Address, &'static str> {
    match sockopt::socket_type(socket) {
        Ok(SocketType::STREAM) => {}
        Ok(_) => return Err("a socket, but not one of a stream"),
        Err(_) => return Err("not a socket"),
    }
    if !sockopt::socket_acceptconn(socket).unwrap_or(false) {
        return Err("a connection, or a socket that nobody listens on");
    }
    let address = getsockname(socket).map_err(|_| "a socket without an address")?;
    if let Ok(tcp) = SocketAddr::try_from(address.clone()) {
        return Ok(Address::Tcp(tcp));
    }
    let unix = SocketAddrUnix::try_from(address).map_err(|_| "a socket of another family")?;
    let path = unix.path().and_then(|path| path.to_str().ok().map(PathBuf::from));
    path.map(Address::Unix).ok_or("a Unix socket without a file, or with one whose path is no text")
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixListener, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn only_a_socket_that_is_listened_on_is_taken() {
        let what = |socket: OwnedFd| Bound::new("x".into(), socket).unwrap_err();
        assert_eq!(what(std::fs::File::open("/dev/null").unwrap().into()), "not a socket");
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(what(datagram.into()).contains("not one of a stream"));
        let (connection, _other) = UnixStream::pair().unwrap();
        assert!(what(connection.into()).contains("nobody listens on"));

        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        assert_eq!(Bound::new("x".into(), tcp.into()).unwrap().address, Address::Tcp(address));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smtp.sock");
        let unix = UnixListener::bind(&path).unwrap();
        assert_eq!(Bound::new("x".into(), unix.into()).unwrap().address, Address::Unix(path));
    }
}
