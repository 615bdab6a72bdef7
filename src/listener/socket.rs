//! Sockets to accept from: TCP, and Unix with its file.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use super::{address::Address, client::Client, inherited::Bound, stream::Stream};

/// Connections that wait to be accepted: a burst of clients is not refused by the kernel.
const BACKLOG: u32 = 1024;

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}: {source}{}", hint(address, keys, source))]
pub struct ListenerError {
    pub(super) address: Address,
    /// The section of its keys, such as `listener`.
    pub(super) keys: String,
    pub(super) source: io::Error,
}

impl ListenerError {
    /// The address that was asked for.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What the system said.
    #[must_use]
    pub fn cause(&self) -> &io::Error {
        &self.source
    }
}

fn hint(address: &Address, keys: &str, source: &io::Error) -> String {
    match address {
        Address::Tcp(address) => match source.kind() {
            io::ErrorKind::AddrInUse => format!(
                "; another program has this port (another o365-relay, or a mail server that came \
                 with the system): find it with `ss -ltnp 'sport = :{}'` and stop it, or set \
                 {keys}.addresses",
                address.port()
            ),
            io::ErrorKind::PermissionDenied if address.port() < 1024 => format!(
                "; ports below 1024 need root or CAP_NET_BIND_SERVICE: start it with the systemd \
                 unit, or set {keys}.addresses to a port such as 127.0.0.1:2525"
            ),
            io::ErrorKind::AddrNotAvailable => {
                format!("; this host has no such address: correct {keys}.addresses")
            }
            _ => String::new(),
        },
        Address::Unix(path) => {
            let shown = path.display();
            let directory = path.parent().unwrap_or(path).display();
            match source.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "; a program is listening there (another o365-relay?): find it with \
                     `ss -lxp src {shown}` and stop it, or set {keys}.addresses"
                ),
                io::ErrorKind::AlreadyExists => format!(
                    "; there is a file that is no socket, and it is left alone: move it away, or \
                     set {keys}.addresses"
                ),
                io::ErrorKind::NotFound => format!(
                    "; make its directory first: `install -d -o o365-relay {directory}`, or \
                     RuntimeDirectory= in the systemd unit"
                ),
                io::ErrorKind::PermissionDenied => format!(
                    "; the user of the service must be able to write to {directory} and to an old \
                     socket there"
                ),
                _ => String::new(),
            }
        }
        Address::Systemd(name) => format!(
            "; `systemctl enable --now o365-relay.socket` and restart the service{}, or set \
             {keys}.addresses to an address",
            match name {
                Some(name) => format!(
                    " (the socket unit needs FileDescriptorName={name}; `systemctl show -p \
                     FileDescriptorName o365-relay.socket` tells what it has)"
                ),
                None => String::new(),
            }
        ),
    }
}

/// A socket that is being listened on.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Socket {
    /// Binds and listens. `ipv6_only` keeps an IPv6 address from taking IPv4 too; `mode` is that
    /// of a Unix socket's file.
    pub fn bind(address: &Address, ipv6_only: bool, mode: u32) -> io::Result<Self> {
        let address = match address {
            Address::Unix(path) => {
                let (socket, file) = bind_unix(path, mode)?;
                return Ok(Self::Unix(socket, file));
            }
            Address::Tcp(address) => *address,
            Address::Systemd(_) => {
                let nothing = "systemd has handed over no socket for it";
                return Err(io::Error::new(io::ErrorKind::NotFound, nothing));
            }
        };
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if address.is_ipv6() && ipv6_only {
            rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // A restart must not wait for the old connections' TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG).map(Self::Tcp)
    }

    /// One that systemd has bound. Its file, if it has one, is systemd's.
    pub fn inherited(bound: Bound) -> io::Result<Self> {
        match bound.address {
            Address::Unix(path) => {
                let socket = std::os::unix::net::UnixListener::from(bound.socket);
                socket.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(socket)?, SocketFile { path, ours: None }))
            }
            Address::Tcp(_) | Address::Systemd(_) => {
                let socket = std::net::TcpListener::from(bound.socket);
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Self::Tcp)
            }
        }
    }

    /// The address in use, with the port that the system chose for port 0.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok().map(Address::Tcp),
            Self::Unix(_, file) => Some(Address::Unix(file.path.clone())),
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(Stream, Client)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                // Without it a reply can wait for the client's acknowledgement of the last one.
                let _ = stream.set_nodelay(true);
                Ok((stream.into(), Client::at(peer.ip())))
            }
            Self::Unix(socket, _) => {
                let (stream, _) = socket.accept().await?;
                Ok((stream.into(), Client::LocalSocket))
            }
        }
    }
}

/// The file of a Unix socket. Dropping it removes the file, if it is ours and no other has taken
/// its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode of what we made.
    ours: Option<(u64, u64)>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.is_some() && identity(&self.path) == self.ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    make_way(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile { path: path.to_owned(), ours: identity(path) };
    // Nobody can connect before `listen`, so the mode holds from the first client on.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, file))
}

/// Removes what a daemon that was killed has left behind, and nothing else.
fn make_way(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog counts as somebody who listens.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn connect(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(())
}
