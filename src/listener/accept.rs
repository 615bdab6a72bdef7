//! The accept loops: one for each socket, so that none waits for another.

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::Instrument;

use super::{
    Config,
    address::Address,
    auth::Workshop,
    client::Client,
    connection::Connection,
    inherited::Fitted,
    limits::{LimitReached, Limits, Permit, Room},
    outlet::Outlet,
    proxy::{self, Source},
    serving::{Doorway, Serving},
    shared::Shared,
    socket::{ListenerError, Socket},
    stream::Stream,
};
use crate::{
    clock::Clock,
    drain::Drain,
    smtp::reply::Reply,
    telemetry::{
        events::ConnectionRefused,
        metrics::{self, Connected, causes::NoEntry},
    },
};

/// After a failed accept (out of descriptors, say) the loop must not spin.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(200);

/// All listeners with their bound sockets, ready to serve.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    config: Config,
    sockets: Vec<Socket>,
}

/// Where one listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// The listener's name.
    pub name: String,
    /// Its addresses, with the ports that the system chose for port 0.
    pub addresses: Vec<Address>,
    /// The reverse-path that its mail gets, if it is fixed.
    pub sender: Option<String>,
}

impl Listeners {
    /// Binds all addresses of all listeners. One of IPv6 is left out with a warning on a host
    /// without IPv6, as long as its listener has another.
    ///
    /// # Errors
    /// [`ListenerError`] names the address, the reason and the next step.
    pub fn bind(configs: Vec<Config>) -> Result<Self, ListenerError> {
        Self::bind_beside(configs, Fitted::default())
    }

    /// As [`Listeners::bind`], but takes the sockets that systemd has bound already.
    ///
    /// # Errors
    /// As [`Listeners::bind`].
    pub fn bind_beside(configs: Vec<Config>, mut fitted: Fitted) -> Result<Self, ListenerError> {
        let all: Vec<_> = configs.iter().flat_map(|config| config.addresses.clone()).collect();
        let bind = |config: Config| {
            let sockets = bind(&config, &all, &mut fitted)?;
            Ok(Listener { config, sockets })
        };
        configs.into_iter().map(bind).collect::<Result<_, _>>().map(Self)
    }

    /// Where each of them listens.
    #[must_use]
    pub fn listening(&self) -> Vec<Listening> {
        let listening = |listener: &Listener| Listening {
            name: listener.config.name.clone(),
            addresses: listener.sockets.iter().filter_map(Socket::address).collect(),
            sender: listener.config.sender.as_ref().map(ToString::to_string),
        };
        self.0.iter().map(listening).collect()
    }

    /// Accepts connections until the drain begins; sessions are tasks of `drain`. Finished mail
    /// goes to `outlet`.
    pub fn serve(self, outlet: &Arc<dyn Outlet>, clock: Clock, drain: &Drain) -> Serving {
        let limits = Limits::default();
        let hashing = Workshop::default();
        let mut doorways = Vec::new();
        for (number, listener) in self.0.into_iter().enumerate() {
            let config = listener.config;
            metrics::know_listener(&config.name, config.max_connections);
            let room =
                limits.room(number, config.max_connections, config.max_connections_per_client);
            let hashing = hashing.clone();
            let shared = Arc::new(Shared::new(config, Arc::clone(outlet), clock, hashing));
            let doorway = Doorway::new(Door { shared, room, drain: drain.clone() });
            for socket in listener.sockets {
                drain.spawn(drain.vital("listener", serve(doorway.clone(), socket)));
            }
            doorways.push(doorway);
        }
        Serving::new(doorways, limits)
    }
}

/// Each connection goes in by the door that is there as it comes.
async fn serve(doorway: Doorway, socket: Socket) {
    let drain = doorway.door().drain;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = drain.signaled() => return,
        };
        match accepted {
            Ok((stream, peer)) => doorway.door().open(stream, peer),
            Err(error) => {
                tracing::warn!(%error, "accept failed, trying again");
                sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

fn bind(
    config: &Config,
    all: &[Address],
    fitted: &mut Fitted,
) -> Result<Vec<Socket>, ListenerError> {
    let mut sockets = Vec::new();
    let mut left_out = Vec::new();
    for address in &config.addresses {
        // On its own `[::]` takes IPv4 too, where the system says so; beside an IPv4 address
        // with the same port it must not, or the second of the two cannot be bound.
        let ipv6_only = all.iter().any(|other| is_ipv4_beside(other, address));
        let error = |source| {
            let (address, keys) = (address.clone(), config.keys.clone());
            ListenerError { address, keys, source }
        };
        let inherited = fitted.take(address);
        if !inherited.is_empty() {
            for bound in inherited {
                warn_of_nobody(config, &bound.address);
                sockets.push(Socket::inherited(bound).map_err(error)?);
            }
            continue;
        }
        match Socket::bind(address, ipv6_only, config.unix_mode) {
            Ok(socket) => sockets.push(socket),
            Err(source) if lacks_ipv6(address, &source) => left_out.push(error(source)),
            Err(source) => return Err(error(source)),
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
    Ok(sockets)
}

/// The configuration cannot tell where systemd listens, so it cannot ask for `allow`.
fn warn_of_nobody(config: &Config, address: &Address) {
    if !address.is_local() && config.allow.iter().all(|network| network.addr().is_loopback()) {
        tracing::warn!(
            listener = config.name,
            %address,
            "other hosts can reach this socket of systemd's, and none of them may send; set \
             {}.allow", config.keys
        );
    }
}

fn is_ipv4_beside(other: &Address, address: &Address) -> bool {
    match (other, address) {
        (Address::Tcp(other), Address::Tcp(address)) => {
            other.is_ipv4() && other.port() == address.port()
        }
        _ => false,
    }
}

fn lacks_ipv6(address: &Address, error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(address, Address::Tcp(address) if address.is_ipv6())
        && (error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(EAFNOSUPPORT))
}

/// Who comes in, and who does not.
#[derive(Clone)]
pub(super) struct Door {
    pub shared: Arc<Shared>,
    pub room: Room,
    pub drain: Drain,
}

impl Door {
    /// Whoever is refused costs no task, apart from who stands behind a balancer.
    fn open(&self, stream: Stream, peer: Client) {
        if self.shared.is_balancer(peer) {
            match self.room.enter() {
                Ok(permit) => {
                    self.drain.spawn(self.clone().read_header(stream, peer, permit));
                }
                Err(limit) => self.refuse(&stream, peer, &over(limit)),
            }
            return;
        }
        match self.admit(peer, || self.room.enter()) {
            Ok(permit) => {
                self.drain.spawn(self.session(stream, peer, permit));
            }
            Err(reply) => self.refuse(&stream, peer, &reply),
        }
    }

    /// The header says who the client is, and from there on all is as if it had come itself.
    async fn read_header(self, mut stream: Stream, balancer: Client, permit: Permit) {
        let header = tokio::select! {
            header = proxy::read_header(&mut stream) => header,
            () = self.drain.signaled() => return,
        };
        let client = match header {
            Ok(Source::Client(address)) => Client::at(address),
            Ok(Source::Balancer) => balancer,
            Err(fault) => {
                let reply = self.shared.no_header(balancer, &fault);
                return self.refuse(&stream, balancer, &(reply, NoEntry::ProxyHeader));
            }
        };
        match self.admit(client, || Ok(permit)) {
            Ok(permit) => self.session(stream, client, permit).await,
            Err(reply) => self.refuse(&stream, client, &reply),
        }
    }

    /// Whether the client may come in; `enter` gives it a place.
    fn admit(
        &self,
        client: Client,
        enter: impl FnOnce() -> Result<Permit, LimitReached>,
    ) -> Result<Permit, (Reply, NoEntry)> {
        if let Some(reply) = self.shared.not_allowed(client) {
            return Err((reply, NoEntry::NotAllowed));
        }
        enter().and_then(|permit| permit.of(client)).map_err(over)
    }

    fn session(
        &self,
        stream: Stream,
        client: Client,
        permit: Permit,
    ) -> impl Future<Output = ()> + Send + 'static {
        let id = format!("{:08x}", fastrand::u32(..));
        let span = tracing::info_span!("session", id, listener = self.shared.config.name);
        let connection =
            Connection::new(stream, client, Arc::clone(&self.shared), self.drain.clone());
        let connected = Connected::to(&self.shared.config.name);
        // A session's state takes kilobytes, and every layer around it would copy them.
        let running = Box::pin(connection.run());
        let session = async move {
            running.await;
            drop((permit, connected));
        };
        session.instrument(span)
    }

    /// One line into the fresh socket's empty buffer, without waiting for a client that may not
    /// read.
    fn refuse(&self, stream: &Stream, client: Client, (reply, cause): &(Reply, NoEntry)) {
        // A client that expects TLS cannot read it, and a handshake is more than it is worth.
        if self.shared.implicit_tls(client).is_none() {
            let mut line = Vec::new();
            reply.write_to(&mut line);
            stream.try_write(&line);
        }
        let (listener, client) = (self.shared.config.name.as_str(), client.to_string());
        ConnectionRefused { listener, client: &client, reply, cause: *cause }.emit();
    }
}

fn over(limit: LimitReached) -> (Reply, NoEntry) {
    let cause = match limit {
        LimitReached::All => NoEntry::MaxConnections,
        LimitReached::Client => NoEntry::PerClient,
    };
    (Reply::new(421, (4, 3, 2), limit.to_string()), cause)
}
