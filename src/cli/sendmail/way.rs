//! To whom a message goes: the running relay, or its store, where none runs.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::process::{Gid, Uid};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::super::exit::Failure;
use crate::{
    clock::Clock,
    config::{self, Config, Sources},
    drain::Drain,
    listener::{self, Address},
    queue::{Lanes, Mode},
    store::{Store, StoreError, Synced},
};

/// A variable that names the relay's address, as `--server` does.
pub(super) const SERVER: &str = "O365_RELAY_SERVER";

/// How long to wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for others who have the store: another sendmail, or a relay that starts.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A stream of any kind.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// What was found before anything asynchronous runs.
pub(super) enum Found {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Nobody listens; the store is at hand, in this configuration.
    Nobody(Box<Config>, Vec<Address>),
}

/// Looks for the relay. Where none runs, gives up the rights of root in favour of whoever owns the
/// queue: files of root's in there would stop the relay.
pub(super) fn find(server: Option<&Address>, sources: &Sources) -> Result<Found, Failure> {
    let named = match (server, sources.environment.get(SERVER).filter(|name| !name.is_empty())) {
        (Some(server), _) => Some(server.clone()),
        (None, Some(name)) => {
            let address = name.parse();
            Some(address.map_err(|error| Failure::configuration(format!("{SERVER}: {error}")))?)
        }
        (None, None) => None,
    };
    let addresses = match &named {
        Some(address) => vec![address.clone()],
        // Who may not read the configuration tries where relays listen.
        None => config::plain_addresses(sources).unwrap_or_else(|_| usual()),
    };
    let addresses: Vec<_> = addresses.into_iter().flat_map(where_to_try).collect();
    let mut last = None;
    for address in &addresses {
        match connect(address) {
            Ok(found) => return Ok(found),
            Err(error) => last = Some((address, error)),
        }
    }
    let tried = match last {
        Some((address, error)) => format!("no relay at {address}: {error}"),
        None => "each listener of the relay asks for a login or for TLS".to_owned(),
    };
    if named.is_some() {
        return Err(Failure::try_later(tried));
    }
    let config = config::load(sources).map_err(|faults| match sources.path().exists() {
        true if readable(&sources.path()) => faults.into(),
        _ => no_store(&tried, "and this user may not read its configuration"),
    })?;
    if config.queue.mode == Mode::Direct {
        return Err(no_store(&tried, "and in direct mode (queue.mode) nothing is queued"));
    }
    become_owner(&config.store.directory, &tried)?;
    Ok(Found::Nobody(Box::new(config), addresses))
}

fn usual() -> Vec<Address> {
    let local = |ip: IpAddr| Address::Tcp(SocketAddr::new(ip, 25));
    vec![local(Ipv4Addr::LOCALHOST.into()), local(Ipv6Addr::LOCALHOST.into())]
}

/// Which socket systemd hands over is up to its unit: ours has the usual ones.
fn where_to_try(address: Address) -> Vec<Address> {
    match address {
        Address::Systemd(_) => usual(),
        known => vec![known],
    }
}

fn readable(path: &Path) -> bool {
    std::fs::File::open(path).is_ok()
}

fn no_store(tried: &str, why: &str) -> Failure {
    Failure::try_later(format!("{tried}, {why}; start it, and send the message again"))
}

fn connect(address: &Address) -> io::Result<Found> {
    match address {
        Address::Systemd(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        Address::Unix(path) => UnixStream::connect(path).map(Found::Unix),
        Address::Tcp(address) => {
            let local: IpAddr = match address.ip() {
                ip if !ip.is_unspecified() => ip,
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            let address = SocketAddr::new(local, address.port());
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            Ok(Found::Tcp(stream))
        }
    }
}

fn become_owner(directory: &Path, tried: &str) -> Result<(), Failure> {
    let facts = std::fs::metadata(directory).map_err(|error| {
        no_store(tried, &format!("and its queue {} is not there: {error}", directory.display()))
    })?;
    if !rustix::process::geteuid().is_root() || facts.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
    rustix::thread::set_thread_groups(&[])
        .and_then(|()| rustix::thread::set_thread_res_gid(group, group, group))
        .and_then(|()| rustix::thread::set_thread_res_uid(user, user, user))
        .map_err(|error| {
            no_store(tried, &format!("and this process may not become user {user:?}: {error}"))
        })
}

/// A way for one session.
pub(super) struct Way {
    pub wire: Box<dyn Wire>,
    inside: Option<(JoinHandle<()>, Store)>,
}

impl Way {
    /// Makes of what was found a stream that an SMTP server is at the other end of.
    pub async fn open(found: Found) -> Result<Self, Failure> {
        let (config, addresses) = match found {
            Found::Nobody(config, addresses) => (*config, addresses),
            connected => return connected_way(connected),
        };
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match open_store(&config).await {
                Ok(store) => return Self::into_store(store, config),
                Err(StoreError::Locked { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(no_room(&config, &error)),
            }
            // Whoever has it may be a relay that has just started.
            if let Some(found) = addresses.iter().find_map(|address| connect(address).ok()) {
                return connected_way(found);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    fn into_store(store: Store, config: Config) -> Result<Self, Failure> {
        let mut listeners = config.listeners;
        let plain = listeners.iter().position(listener::Config::takes_mail_as_it_comes);
        let listener = listeners.swap_remove(plain.unwrap_or(0));
        let pair = tokio::net::UnixStream::pair();
        let (ours, theirs) =
            pair.map_err(|error| Failure::try_later(format!("could not make a socket: {error}")))?;
        let outlet = Arc::new(store.clone());
        let session =
            listener::serve_inside(theirs, listener, outlet, Clock::system(), Drain::new());
        Ok(Self { wire: Box::new(ours), inside: Some((tokio::spawn(session), store)) })
    }

    /// The end of the session; the store is closed.
    pub async fn close(self) {
        let Self { wire, inside } = self;
        drop(wire);
        if let Some((session, store)) = inside {
            let _ = session.await;
            store.close().await;
        }
    }
}

fn connected_way(found: Found) -> Result<Way, Failure> {
    let wire: io::Result<Box<dyn Wire>> = match found {
        Found::Tcp(stream) => stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpStream::from_std(stream))
            .map(|stream| Box::new(stream) as Box<dyn Wire>),
        Found::Unix(stream) => stream
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixStream::from_std(stream))
            .map(|stream| Box::new(stream) as Box<dyn Wire>),
        Found::Nobody(..) => Err(io::ErrorKind::NotConnected.into()),
    };
    let wire = wire.map_err(|error| Failure::try_later(format!("no relay: {error}")))?;
    Ok(Way { wire, inside: None })
}

async fn open_store(config: &Config) -> Result<Store, StoreError> {
    let (store, lanes) = (config.store.clone(), Arc::new(Lanes::new(&config.queue)));
    let open = move || Store::open(store, Clock::system(), Arc::new(Synced), lanes);
    tokio::task::spawn_blocking(open).await.map_err(|_| StoreError::Closed)?
}

fn no_room(config: &Config, error: &StoreError) -> Failure {
    let directory = config.store.directory.display();
    Failure::try_later(format!(
        "no relay runs, and the message cannot be put into its queue {directory}: {error}; start \
         the relay, and send the message again"
    ))
}
