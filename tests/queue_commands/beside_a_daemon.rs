//! Queue commands while a daemon runs on the same queue.

use std::sync::Arc;

use o365_relay::{
    daemon::Daemon,
    sandbox::{Config, Event, Sandbox},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, broadcast::Receiver},
    time::{Instant, timeout},
};

use crate::fixture::{PATIENCE, Queue, Ran, Settings, defer, put};

/// A daemon on a queue, and what is needed to run commands beside it.
struct Running {
    queue: Queue,
    settings: Settings,
    daemon: Daemon,
}

impl Running {
    async fn run(&self, arguments: &[&str]) -> Ran {
        let settings = self.settings.arguments(&self.daemon);
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        self.queue.run_with(&settings, arguments).await
    }
}

async fn sandbox() -> Sandbox {
    Sandbox::start(Config::default()).await.expect("a sandbox")
}

/// The forward-path of the next message that arrives upstream.
async fn next_arrival(events: &mut Receiver<Event>) -> String {
    let next = async {
        loop {
            if let Event::Arrived { arrival, .. } = events.recv().await.expect("an event") {
                return arrival.forward_paths[0].address.clone();
            }
        }
    };
    timeout(PATIENCE, next).await.expect("an arrival")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cause_of_the_wait_is_told_with_its_cure() {
    let queue = Queue::new();
    let store = queue.store();
    let id = put(&store, "app@a.example", &["b@b.example"]).await.to_string();
    store.close().await;
    drop(store);
    // Ours, and nobody listens there.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let sandbox = sandbox().await;
    let settings = queue.configure(&sandbox, closed.local_addr().unwrap().port());
    let daemon = settings.start().await;
    let running = Running { queue, settings, daemon };

    let begun = Instant::now();
    loop {
        let list = running.run(&["queue", "list", "--json"]).await.ends(0);
        let causes = list.json()[0]["waits_for"].clone();
        if causes[0]["kind"] == "relay-paused" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{causes}");
    }
    let told =
        ["smarthost paused since", "could not connect to localhost", "do: check that this host"];
    running.run(&["queue", "list"]).await.ends(0).tells(&told);
    running.run(&["queue", "show", &id]).await.ends(0).tells(&told).tells(&["0 attempts"]);
    let retried = running.run(&["queue", "retry", &id]).await.ends(0).tells(&told);
    retried.tells(&["due now", "ends no pause", "`systemctl restart o365-relay` tries at once"]);
    running.daemon.drain().await;
}

/// The mailbox as a whole goes on, so nothing else would tell why this mail does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_sender_is_held_is_told_with_its_cure() {
    let queue = Queue::new();
    let store = queue.store();
    // More than go out at a time: the first that is refused stops those behind it.
    for to in ["a@b.example", "b@b.example", "c@b.example", "d@b.example", "e@b.example"] {
        put(&store, "app@a.example", &[to]).await;
    }
    store.close().await;
    drop(store);
    let sandbox = sandbox().await;
    sandbox.set_fault("deny-sender=app@a.example".parse().unwrap());
    let settings = queue.configure(&sandbox, sandbox.smtp_address().port());
    let daemon = settings.start().await;
    let running = Running { queue, settings, daemon };

    let begun = Instant::now();
    loop {
        let list = running.run(&["queue", "list", "--json", "--from", "app@a.example"]).await;
        let list = list.ends(0).json();
        let causes = list.first().and_then(|message| message["waits_for"].as_array());
        if causes.is_some_and(|causes| causes.iter().any(|one| one["kind"] == "sender-paused")) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{list:?}");
    }
    let told = ["554 5.2.252 SendAsDenied", "do: ", "Add-RecipientPermission", "app@a.example"];
    running.run(&["queue", "list"]).await.ends(0).tells(&told);
    running.run(&["status"]).await.ends(0).tells(&told).tells(&["mail from app@a.example is held"]);
    running.daemon.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_acts_on_retry_and_release() {
    let queue = Queue::new();
    let store = queue.store();
    let mut ids = Vec::new();
    for to in ["retried@b.example", "released@b.example", "stays@b.example"] {
        let id = put(&store, "app@a.example", &[to]).await;
        defer(&store, id, 0, "451 later", "").await;
        ids.push(id.to_string());
    }
    store.close().await;
    drop(store);
    queue.run(&["queue", "retry", &ids[1]]).await.ends(0);
    queue.run(&["queue", "hold", &ids[1]]).await.ends(0);
    let sandbox = sandbox().await;
    let mut events = sandbox.subscribe();
    let settings = queue.configure(&sandbox, sandbox.smtp_address().port());
    let daemon = settings.start().await;
    let running = Running { queue, settings, daemon };

    running.run(&["queue", "retry", &ids[0]]).await.ends(0);
    assert_eq!(next_arrival(&mut events).await, "retried@b.example");
    running.run(&["queue", "release", &ids[1]]).await.ends(0);
    assert_eq!(next_arrival(&mut events).await, "released@b.example");
    running.run(&["queue", "remove", &ids[2]]).await.ends(0);
    running.daemon.drain().await;
    assert_eq!(sandbox.arrivals(), 2);
}

/// Stands between the daemon and the sandbox, and lets a connection through for each permit.
async fn gate(upstream: u16) -> (u16, Arc<Semaphore>, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (waiting, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    tokio::spawn({
        let (waiting, open) = (Arc::clone(&waiting), Arc::clone(&open));
        async move {
            while let Ok((mut client, _)) = listener.accept().await {
                waiting.add_permits(1);
                open.acquire().await.unwrap().forget();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }
    });
    (port, waiting, open)
}

/// The lane has read all three and waits for the first one's connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_daemon_has_in_hand_is_not_sent_once_it_is_removed_or_held() {
    let queue = Queue::new();
    let store = queue.store();
    let mut ids = Vec::new();
    for to in ["first@b.example", "removed@b.example", "held@b.example", "last@b.example"] {
        ids.push(put(&store, "app@a.example", &[to]).await.to_string());
    }
    store.close().await;
    drop(store);
    let sandbox = sandbox().await;
    let mut events = sandbox.subscribe();
    let (port, waiting, open) = gate(sandbox.smtp_address().port()).await;
    let settings = queue.configure(&sandbox, port);
    let daemon = settings.start().await;
    let running = Running { queue, settings, daemon };
    timeout(PATIENCE, waiting.acquire()).await.expect("a connection").unwrap().forget();

    running.run(&["queue", "remove", &ids[1]]).await.ends(0).tells(&["may still deliver"]);
    running.run(&["queue", "hold", &ids[2]]).await.ends(0);
    open.add_permits(1);
    assert_eq!(next_arrival(&mut events).await, "first@b.example");
    assert_eq!(next_arrival(&mut events).await, "last@b.example");
    running.daemon.drain().await;
    assert_eq!(sandbox.arrivals(), 2);
    let held = running.queue.run(&["queue", "list", "--json"]).await.ends(0).json();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["id"], ids[2]);
}
