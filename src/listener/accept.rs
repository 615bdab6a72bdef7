//! The accept loop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tracing::Instrument;

use super::{Config, connection::Connection, limits::Limits, outlet::Outlet, shared::Shared};
use crate::{clock::Clock, drain::Drain, smtp::reply::Reply};

/// Connections that wait to be accepted: a burst of clients is not refused by the kernel.
const BACKLOG: u32 = 1024;

/// After a failed accept (out of descriptors, say) the loop must not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(200);

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}: {source}{}", hint(*address, source))]
pub struct ListenerError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenerError {
    /// The address that was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the system said.
    #[must_use]
    pub fn cause(&self) -> &io::Error {
        &self.source
    }
}

fn hint(address: SocketAddr, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another program has this port (another o365-relay, or a mail server that came with \
             the system): find it with `ss -ltnp 'sport = :{}'` and stop it, or set listener.addresses",
            address.port()
        ),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: start it with the systemd unit, \
             or set listener.addresses to a port such as 127.0.0.1:2525"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this host has no such address: correct listener.addresses".into()
        }
        _ => String::new(),
    }
}

/// Bound sockets, ready to serve.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

impl Listener {
    /// Binds all addresses. One of IPv6 is left out with a warning on a host without IPv6, as
    /// long as another remains.
    ///
    /// # Errors
    /// [`ListenerError`] names the address, the reason and the next step.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, ListenerError> {
        let mut sockets = Vec::new();
        let mut left_out = Vec::new();
        for &address in addresses {
            // On its own `[::]` takes IPv4 too, where the system says so; beside an IPv4 address
            // with the same port it must not, or the second of the two cannot be bound.
            let beside_ipv4 =
                addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
            match bind(address, beside_ipv4) {
                Ok(socket) => sockets.push(socket),
                Err(source) if lacks_ipv6(address, &source) => {
                    left_out.push(ListenerError { address, source });
                }
                Err(source) => return Err(ListenerError { address, source }),
            }
        }
        if sockets.is_empty()
            && let Some(error) = left_out.pop()
        {
            return Err(error);
        }
        for error in left_out {
            tracing::warn!(%error, "no IPv6 on this host, address left out");
        }
        Ok(Self { sockets })
    }

    /// The addresses in use, with the ports that the system chose for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Accepts connections until the drain begins; sessions are tasks of `drain`. Finished mail
    /// goes to `outlet`.
    pub fn serve(self, config: Config, outlet: Arc<dyn Outlet>, clock: Clock, drain: &Drain) {
        let limits = Limits::new(config.max_connections, config.max_connections_per_client);
        let shared = Arc::new(Shared::new(config, outlet, clock));
        for socket in self.sockets {
            let accept = Accept {
                socket,
                shared: Arc::clone(&shared),
                limits: limits.clone(),
                drain: drain.clone(),
            };
            drain.spawn(accept.run());
        }
    }
}

fn bind(address: SocketAddr, beside_ipv4: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() && beside_ipv4 {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    address.is_ipv6()
        && (error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(EAFNOSUPPORT))
}

struct Accept {
    socket: TcpListener,
    shared: Arc<Shared>,
    limits: Limits,
    drain: Drain,
}

impl Accept {
    async fn run(self) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = self.drain.signaled() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "accept failed, trying again");
                    sleep(ACCEPT_BACK_OFF).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let client = peer.ip().to_canonical();
        let _ = stream.set_nodelay(true);
        if !self.shared.config.allow.iter().any(|network| network.contains(&client)) {
            let text = format!("{client} is not in listener.allow of this relay");
            return refuse(&stream, peer, &Reply::new(550, (5, 7, 1), text));
        }
        let permit = match self.limits.admit(client) {
            Ok(permit) => permit,
            Err(limit) => {
                return refuse(&stream, peer, &Reply::new(421, (4, 3, 2), limit.to_string()));
            }
        };
        let session = format!("{:08x}", fastrand::u32(..));
        let span = tracing::info_span!("session", id = session);
        let connection =
            Connection::new(stream.into(), client, Arc::clone(&self.shared), self.drain.clone());
        let task = async move {
            connection.run().await;
            drop(permit);
        };
        self.drain.spawn(task.instrument(span));
    }
}

/// One line into the fresh socket's empty buffer, without waiting for a client that may not read.
fn refuse(stream: &TcpStream, peer: SocketAddr, reply: &Reply) {
    let mut line = Vec::new();
    reply.write_to(&mut line);
    let _ = stream.try_write(&line);
    tracing::warn!(client = %peer, %reply, "connection refused");
}
