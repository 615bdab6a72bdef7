//! What a client meets at the socket, beyond the dialogue: limits, access, patience, shutdown,
//! and that 250 waits for the disk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod served;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use o365_relay::{
    listener::{self, Address, ListenerError, Listeners},
    store::{Durability, Durable, StoreError},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use served::{Client, PATIENCE, Relay, listener_config};

/// Short enough for a test, long enough for a server that is busy.
const SOON: Duration = Duration::from_millis(80);

async fn connect_from(relay: &Relay, address: [u8; 4]) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((address, 0))).unwrap();
    Client::new(socket.connect(relay.address).await.unwrap())
}

/// From the greeting to 354.
async fn begin_data(client: &mut Client) {
    client.expect("220 ").await;
    client.say("HELO client", "250 ").await;
    continue_to_data(client).await;
}

async fn continue_to_data(client: &mut Client) {
    client.say("MAIL FROM:<a@b.example>", "250 2.1.0").await;
    client.say("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.say("DATA", "354").await;
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the condition in time");
}

#[tokio::test]
async fn over_the_limit_a_connection_is_told_so_and_closed_and_room_comes_back() {
    let relay = Relay::start(listener::Config { max_connections: 1, ..listener_config() });
    let mut first = relay.connect().await;
    first.expect("220 ").await;
    let mut second = connect_from(&relay, [127, 0, 0, 2]).await;
    let reply = second.expect("421 4.3.2 ").await;
    assert!(reply.contains("listener.max_connections"), "{reply}");
    assert_eq!(second.line().await, None);

    first.say("NOOP", "250 ").await;
    first.say("QUIT", "221 ").await;
    // The place is free a moment after the socket has closed.
    let again = async {
        while !relay.connect().await.line().await.unwrap().starts_with("220 ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("room comes back");
}

#[tokio::test]
async fn one_client_cannot_take_all_places() {
    let config = listener::Config { max_connections_per_client: 1, ..listener_config() };
    let relay = Relay::start(config);
    let mut first = relay.connect().await;
    first.expect("220 ").await;
    let mut second = relay.connect().await;
    let reply = second.expect("421 4.3.2 ").await;
    assert!(reply.contains("listener.max_connections_per_client"), "{reply}");
    assert_eq!(second.line().await, None);
    connect_from(&relay, [127, 0, 0, 2]).await.expect("220 ").await;
}

#[tokio::test]
async fn who_is_not_allowed_is_told_which_key_says_so() {
    let allow = vec!["127.0.0.2/32".parse().unwrap()];
    let relay = Relay::start(listener::Config { allow, ..listener_config() });
    let mut stranger = relay.connect().await;
    stranger.expect("550 5.7.1 127.0.0.1 is not in listener.allow").await;
    assert_eq!(stranger.line().await, None);
    connect_from(&relay, [127, 0, 0, 2]).await.expect("220 ").await;
}

#[tokio::test]
async fn a_silent_client_is_sent_away() {
    let relay = Relay::start(listener::Config { command_timeout: SOON, ..listener_config() });
    let mut silent = relay.connect().await;
    let mut midway = relay.connect().await;
    midway.expect("220 ").await;
    midway.send(b"NOO").await;
    silent.expect("220 ").await;
    for mut client in [silent, midway] {
        client.expect("421 4.4.2 ").await;
        assert_eq!(client.line().await, None);
    }
}

#[tokio::test]
async fn a_client_that_stops_within_mail_data_is_sent_away_and_nothing_is_stored() {
    let relay = Relay::start(listener::Config { data_timeout: SOON, ..listener_config() });
    let mut client = relay.connect().await;
    begin_data(&mut client).await;
    client.send(b"half a mess").await;
    client.expect("421 4.4.2 ").await;
    assert_eq!(client.line().await, None);
    relay.stop().await;
    assert_eq!(relay.entries().await.len(), 0);
}

#[tokio::test]
async fn a_chunk_may_announce_any_length_and_takes_no_room() {
    let relay = Relay::start(listener::Config { data_timeout: SOON, ..listener_config() });
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    client.say("MAIL FROM:<a@b.example>", "250 2.1.0").await;
    client.say("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.send(b"BDAT 18446744073709551615 LAST\r\n").await;
    client.send(&b"QUIT\r\n".repeat(50_000)).await;
    client.expect("421 4.4.2 ").await;
    assert_eq!(client.line().await, None);
    relay.stop().await;
    assert_eq!((relay.entries().await.len(), relay.body_files()), (0, 0));
}

#[tokio::test]
async fn chunks_that_are_given_up_leave_nothing() {
    let relay = Relay::start(listener_config());
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    client.say("MAIL FROM:<a@b.example>", "250 2.1.0").await;
    client.say("RCPT TO:<c@d.example>", "250 2.1.5").await;
    client.send(b"BDAT 320000\r\n").await;
    client.send(&b"a line of text\r\n".repeat(20_000)).await;
    client.expect("250 2.0.0 320000 octets received").await;
    assert_eq!(relay.body_files(), 1);
    client.say("RSET", "250 2.0.0").await;
    until(|| relay.body_files() == 0).await;
}

#[tokio::test]
async fn a_session_that_is_never_silent_ends_all_the_same() {
    let relay = Relay::start(listener::Config { session_timeout: SOON, ..listener_config() });
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    let talk = async {
        loop {
            client.send(b"NOOP\r\n").await;
            let line = client.line().await.unwrap();
            if !line.starts_with("250 ") {
                return line;
            }
        }
    };
    let last = timeout(PATIENCE, talk).await.expect("an end");
    assert!(last.starts_with("421 4.4.2 "), "{last}");
}

#[tokio::test]
async fn a_drain_ends_idle_sessions_and_takes_no_new_ones() {
    let relay = Relay::start(listener_config());
    let (mut fresh, mut greeted) = (relay.connect().await, relay.connect().await);
    fresh.expect("220 ").await;
    greeted.expect("220 ").await;
    greeted.say("HELO client", "250 ").await;
    relay.drain.signal();
    for mut client in [fresh, greeted] {
        client.expect("421 4.3.2 ").await;
        assert_eq!(client.line().await, None);
    }
    assert_eq!(relay.drain.finish(PATIENCE).await, Ok(()));
    let refused = TcpStream::connect(relay.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_drain_lets_a_running_transaction_finish() {
    let relay = Relay::start(listener_config());
    let (mut in_data, mut at_mail) = (relay.connect().await, relay.connect().await);
    begin_data(&mut in_data).await;
    in_data.send(b"Subject: one\r\n").await;
    at_mail.expect("220 ").await;
    at_mail.say("MAIL FROM:<a@b.example>", "250 ").await;

    relay.drain.signal();
    let drain = relay.drain.clone();
    let finished = tokio::spawn(async move { drain.finish(PATIENCE).await });
    at_mail.say("RCPT TO:<c@d.example>", "250 ").await;
    at_mail.say("DATA", "354").await;
    at_mail.say(".", "250 2.0.0 queued as").await;
    assert!(!finished.is_finished());
    in_data.send(b"\r\ntext\r\n.\r\n").await;
    in_data.expect("250 2.0.0 queued as").await;
    for mut client in [at_mail, in_data] {
        client.expect("421 4.3.2 ").await;
        assert_eq!(client.line().await, None);
    }
    assert_eq!(finished.await.unwrap(), Ok(()));
    assert_eq!(relay.entries().await.len(), 2);
}

#[tokio::test]
async fn a_client_that_breaks_off_within_mail_data_leaves_nothing() {
    let relay = Relay::start(listener_config());
    let mut small = relay.connect().await;
    begin_data(&mut small).await;
    small.send(b"Subject: x\r\n\r\ntext\r\n.\r").await;
    drop(small);
    let mut large = relay.connect().await;
    begin_data(&mut large).await;
    large.send(&b"a line of text\r\n".repeat(20_000)).await;
    until(|| relay.body_files() == 1).await;
    drop(large);
    relay.stop().await;
    assert_eq!((relay.entries().await.len(), relay.body_files()), (0, 0));
}

#[tokio::test]
async fn replies_to_pipelined_commands_leave_in_one_write() {
    let relay = Relay::start(listener_config());
    let address = relay.address;
    // A thread of its own that reads as soon as anything is there: it would see a second write.
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        assert!(stream.read(&mut buffer).unwrap() > 0);
        stream.write_all(&b"NOOP\r\n".repeat(200)).unwrap();
        let length = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).lines().count()
    });
    assert_eq!(client.await.unwrap(), 200);
}

#[tokio::test]
async fn sessions_do_not_wait_for_each_other() {
    let relay = Relay::start(listener_config());
    let mut silent = relay.connect().await;
    begin_data(&mut silent).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = relay.connect().await;
        clients.push(tokio::spawn(async move {
            begin_data(&mut client).await;
            client.send(b"Subject: x\r\n\r\ntext\r\n").await;
            client.say(".", "250 2.0.0 queued as").await
        }));
    }
    let mut replies = Vec::new();
    for client in clients {
        replies.push(client.await.unwrap());
    }
    replies.sort();
    replies.dedup();
    assert_eq!((replies.len(), relay.entries().await.len()), (20, 20));
}

/// Says what is about to be synced, and waits to be let through.
struct Gate {
    reached: UnboundedSender<Durable>,
    pass: Mutex<mpsc::Receiver<()>>,
}

impl Gate {
    fn new() -> (Self, UnboundedReceiver<Durable>, mpsc::Sender<()>) {
        let (reached, arrivals) = unbounded_channel();
        let (open, pass) = mpsc::channel();
        (Self { reached, pass: Mutex::new(pass) }, arrivals, open)
    }
}

impl Durability for Gate {
    fn make_durable(
        &self,
        what: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _ = self.reached.send(what);
        let _ = self.pass.lock().unwrap().recv();
        sync()
    }
}

#[tokio::test]
async fn the_final_250_waits_for_each_sync() {
    let (gate, mut reached, open) = Gate::new();
    let relay = Relay::start_with(listener_config(), Arc::new(gate), 0);
    let mut client = relay.connect().await;
    begin_data(&mut client).await;
    for (lines, syncs) in [(1, 1), (20_000, 3)] {
        if lines > 1 {
            continue_to_data(&mut client).await;
        }
        client.send(&b"a line of text\r\n".repeat(lines)).await;
        client.send(b".\r\n").await;
        let queued = relay.entries().await.len();
        for sync in 0..syncs {
            let what = timeout(PATIENCE, reached.recv()).await.expect("a sync").unwrap();
            assert_eq!(what == Durable::Rows, sync == syncs - 1, "rows come last: {what:?}");
            let early = timeout(Duration::from_millis(30), client.line()).await;
            assert!(early.is_err(), "a reply before {what:?}: {early:?}");
            assert_eq!(relay.entries().await.len(), queued, "a row before {what:?}");
            open.send(()).unwrap();
        }
        client.expect("250 2.0.0 queued as").await;
        assert_eq!(relay.entries().await.len(), queued + 1);
    }
    drop(open);
}

/// Fails syncs while it is told to.
#[derive(Default)]
struct Failing(AtomicBool);

impl Durability for Failing {
    fn make_durable(
        &self,
        _: Durable,
        sync: &mut dyn FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if self.0.load(Ordering::Relaxed) {
            let (path, source) = ("queue.db-wal".into(), io::Error::other("no such luck"));
            return Err(StoreError::Io { doing: "sync", path, source });
        }
        sync()
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let failing = Arc::new(Failing::default());
    let relay = Relay::start_with(listener_config(), Arc::clone(&failing) as _, 0);
    let mut client = relay.connect().await;
    let mut other = relay.connect().await;
    begin_data(&mut client).await;
    begin_data(&mut other).await;
    failing.0.store(true, Ordering::Relaxed);
    let reply = client.say(".", "451 4.3.0 ").await;
    assert!(!reply.contains("luck") && !reply.contains("queue.db"), "no inner matters: {reply}");
    failing.0.store(false, Ordering::Relaxed);
    other.say(".", "451 4.3.0 ").await;
    client.say("MAIL FROM:<a@b.example>", "451 4.3.0 ").await;
    client.say("NOOP", "250 ").await;
    assert_eq!(relay.entries().await.len(), 0);
}

#[tokio::test]
async fn a_full_disk_refuses_mail_for_the_time_being() {
    let relay = Relay::start_with(listener_config(), Arc::new(o365_relay::store::Synced), u64::MAX);
    let mut client = relay.connect().await;
    client.expect("220 ").await;
    client.say("HELO client", "250 ").await;
    client.say("MAIL FROM:<a@b.example>", "452 4.3.1 ").await;
    client.say("RCPT TO:<c@d.example>", "503 5.5.1 ").await;
    client.say("NOOP", "250 ").await;
}

fn bind(addresses: &[SocketAddr]) -> Result<Listeners, ListenerError> {
    let addresses = addresses.iter().copied().map(Address::from).collect();
    Listeners::bind(vec![listener::Config { addresses, ..listener_config() }])
}

fn port(listeners: &Listeners) -> u16 {
    match listeners.listening()[0].addresses[0] {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) | Address::Systemd(_) => unreachable!("no path was asked for"),
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_named_with_the_cure() {
    let relay = Relay::start(listener_config());
    let address = relay.address;
    let text = bind(&[address]).unwrap_err().to_string();
    assert!(text.starts_with(&format!("could not listen on {address}: ")), "{text}");
    for cure in [format!("ss -ltnp 'sport = :{}'", address.port()), "listener.addresses".into()] {
        assert!(text.contains(&cure), "{text}");
    }

    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    let text = bind(&[foreign]).unwrap_err().to_string();
    assert!(text.contains("192.0.2.1:0") && text.contains("no such address"), "{text}");
}

#[tokio::test]
async fn both_families_of_any_address_can_be_listened_on_together() {
    let (four, six): (IpAddr, IpAddr) = ([0; 4].into(), [0_u16; 8].into());
    if std::net::TcpListener::bind((six, 0)).is_err() {
        return; // a host without IPv6
    }
    for order in [[four, six], [six, four]] {
        // Another test may take the port in between, though hardly three times.
        let bound = (0..3).find_map(|_| {
            let port = port(&bind(&[(four, 0).into()]).unwrap());
            bind(&order.map(|ip| (ip, port).into())).ok()
        });
        assert_eq!(bound.expect("both families").listening()[0].addresses.len(), 2);
    }
}

#[tokio::test]
async fn a_listener_without_any_socket_is_an_error() {
    // No host has these; alone or together they must not look like a listener that works.
    let foreign: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
    bind(&[foreign]).unwrap_err();
    bind(&[foreign, foreign]).unwrap_err();
    let bound = bind(&[foreign, ([127, 0, 0, 1], 0).into()]).unwrap();
    assert_eq!(bound.listening()[0].addresses.len(), 1);
}
