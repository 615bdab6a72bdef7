//! The configuration is read again while the relay works: what can change does, what cannot is
//! told, faults change nothing, and neither mail nor a session is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;
mod support;

use std::{
    collections::BTreeSet,
    os::unix::net::UnixDatagram,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use o365_relay::{
    clock::Clock,
    daemon::{Daemon, Reloader},
    sandbox,
    smtp::path::ReversePath,
    store::Router,
};
use serde_json::Value;
use support::{
    client::Client,
    relay::{Place, Relay, closed_port, mail, subjects},
    wait::until,
};

/// A relay whose configuration file can be written anew.
struct Bench {
    place: Place,
    /// The file as the tenant wrote it.
    text: String,
    relay: Relay,
    reloader: Reloader,
}

impl Bench {
    async fn new(keys: &str) -> Self {
        Self::of(Place::new().await, keys).await
    }

    async fn of(place: Place, keys: &str) -> Self {
        let text = std::fs::read_to_string(place.directory.path().join("config.toml")).unwrap();
        place.write("config.toml", &format!("{text}{keys}"));
        let (config, reloader) = Reloader::load(place.sources()).unwrap();
        let daemon = Daemon::start(config, Clock::at(Clock::system().now())).await.unwrap();
        Self { place, text, relay: Relay { daemon }, reloader }
    }

    async fn reload(&mut self, keys: &str) -> Value {
        self.place.write("config.toml", &format!("{}{keys}", self.text));
        self.reloader.reload(&mut self.relay.daemon).await;
        self.relay.status().await["reload"].clone()
    }
}

fn list(reload: &Value, name: &str) -> Vec<String> {
    serde_json::from_value(reload[name].clone()).unwrap()
}

#[tokio::test]
async fn a_session_keeps_its_settings_and_the_next_has_the_new_ones() {
    let mut bench = Bench::new("").await;
    let mut early = bench.relay.client().await;
    early.envelope("erp@sandbox.example", &["a@example.com"]).await;
    let reload = bench
        .reload("[listener]\nmax_recipients = 1\n[sender]\nallow = [\"*@sandbox.example\"]\n")
        .await;
    assert_eq!(
        list(&reload, "changed"),
        ["listener.max_recipients: 500 -> 1", "sender.allow: [] -> [\"*@sandbox.example\"]"]
    );
    assert!(early.say("RCPT TO:<b@example.com>").await.starts_with("250"));
    assert!(early.say("DATA").await.starts_with("354"));
    let text = mail("erp@sandbox.example", "early");
    assert!(early.say(&format!("{text}.")).await.starts_with("250"));

    let mut late = bench.relay.client().await;
    late.envelope("erp@sandbox.example", &["a@example.com"]).await;
    assert!(late.say("RCPT TO:<b@example.com>").await.starts_with("452"));
    assert!(late.say("RSET").await.starts_with("250"));
    assert!(late.say("MAIL FROM:<a@other.example>").await.starts_with("550"));

    let reload = bench.reload("[listener]\nallow = [\"10.0.0.0/8\"]\n").await;
    assert_eq!(list(&reload, "changed").len(), 3, "{reload}");
    assert!(late.say("NOOP").await.starts_with("250"), "it is in");
    let stream = tokio::net::TcpStream::connect(bench.relay.smtp()).await.unwrap();
    let mut first = String::new();
    let mut reader = tokio::io::BufReader::new(stream);
    tokio::io::AsyncBufReadExt::read_line(&mut reader, &mut first).await.unwrap();
    assert!(first.starts_with("550 5.7.1 127.0.0.1 is not in listener.allow"), "{first}");
    bench.relay.stop().await;
}

#[tokio::test]
async fn what_takes_a_restart_is_told_until_there_is_one() {
    let mut bench = Bench::new("").await;
    let keys = "[log]\nformat = \"json\"\n[listener]\nunix_mode = \"0600\"\nmax_faults = 3\n";
    for changed in [vec!["listener.max_faults: 20 -> 3"], vec![]] {
        let reload = bench.reload(keys).await;
        assert_eq!(list(&reload, "changed"), changed);
        assert_eq!(
            list(&reload, "needs_restart"),
            ["listener.unix_mode: \"0660\" -> \"0600\"", "log.format: \"text\" -> \"json\""]
        );
    }
    let reload = bench.reload("").await;
    assert_eq!(list(&reload, "changed"), ["listener.max_faults: 3 -> 20"]);
    assert!(list(&reload, "needs_restart").is_empty());

    // Where listeners come or go nobody can say which of them is which.
    bench.place.set.retain(|setting| !setting.starts_with("listener."));
    bench.relay.stop().await;
}

#[tokio::test]
async fn another_listener_takes_a_restart_and_the_others_stay_as_they_are() {
    let mut place = Place::new().await;
    place.set.retain(|setting| !setting.starts_with("listener."));
    let one = "[[listener]]\naddresses = [\"127.0.0.1:0\"]\n";
    let mut bench = Bench::of(place, one).await;
    let two = "[[listener]]\naddresses = [\"127.0.0.2:0\"]\nmax_recipients = 1\n";
    let sender = "[sender]\nallow = [\"*@sandbox.example\"]\n";
    let reload = bench.reload(&format!("{two}{one}{sender}")).await;
    assert_eq!(list(&reload, "changed"), ["sender.allow: [] -> [\"*@sandbox.example\"]"]);
    assert!(list(&reload, "needs_restart").len() > 2, "{reload}");
    let mut client = bench.relay.client().await;
    client.envelope("erp@sandbox.example", &["a@example.com", "b@example.com"]).await;
    assert!(client.say("RSET").await.starts_with("250"));
    assert!(client.say("MAIL FROM:<a@other.example>").await.starts_with("550"), "it holds for all");
    bench.relay.stop().await;
}

#[tokio::test]
async fn faults_change_nothing_and_are_told() {
    let mut bench = Bench::new("[listener]\nmax_recipients = 2\n").await;
    let keys = "[listener]\nmax_recipients = \"many\"\nmax_faultss = 1\n[queue]\nmode = \"x\"\n";
    let reload = bench.reload(keys).await;
    assert_eq!(list(&reload, "faults").len(), 3, "{reload}");
    assert!(reload["faults"].to_string().contains("max_faultss"), "{reload}");
    let mut client = bench.relay.client().await;
    client.envelope("erp@sandbox.example", &["a@example.com", "b@example.com"]).await;
    assert!(client.say("RCPT TO:<c@example.com>").await.starts_with("452"));
    let reload = bench.reload("[listener]\nmax_recipients = 2\n").await;
    assert!(list(&reload, "faults").is_empty() && list(&reload, "changed").is_empty());
    bench.relay.stop().await;
}

#[tokio::test]
async fn mail_that_waits_goes_by_the_new_way_at_once() {
    let mut place = Place::new().await;
    let (_closed, port) = closed_port();
    let right = format!("smtp_port = {}\n", place.sandbox.smtp_address().port());
    let wrong = format!("smtp_port = {port}\n");
    let text = std::fs::read_to_string(place.directory.path().join("config.toml")).unwrap();
    place.write("config.toml", &text.replace(&right, &wrong));
    place.set("office365.pace=unlimited");
    let mut bench = Bench::of(place, "").await;
    let mut client = bench.relay.client().await;
    client.send("erp@sandbox.example", &["a@example.com"], &mail("erp@x", "waits")).await;
    until("a pause", async || bench.relay.daemon.watched().queue.relay_pause()).await;
    bench.text = text;
    let reload = bench.reload("").await;
    assert!(list(&reload, "changed")[0].starts_with("office365.smtp_port: "), "{reload}");
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["waits"]);
    assert!(bench.relay.daemon.watched().queue.relay_pause().is_none());
    bench.relay.stop().await;
}

#[tokio::test]
async fn mail_that_waits_in_a_lane_that_is_gone_goes_through_another() {
    let mut bench = Bench::new("").await;
    let route = "[[route]]\nsenders = [\"*@lab.example\"]\nmailbox = \"nobody@sandbox.example\"\n";
    let reload = bench.reload(route).await;
    assert_eq!(list(&reload, "changed").len(), 2, "{reload}");
    let mut client = bench.relay.client().await;
    client.send("a@lab.example", &["a@example.com"], &mail("a@lab.example", "lab")).await;
    let lane = |name: &'static str| {
        let lanes = bench.relay.daemon.watched().queue.lanes();
        lanes.into_iter().find(|lane| lane.name == name)
    };
    until("a pause of its lane", async || lane("nobody@sandbox.example")?.pause).await;
    let map = "[sender]\nrewrite = \"mailbox\"\n";
    bench.reload(map).await;
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["lab"]);
    assert_eq!(arrivals[0].authenticated_as, support::relay::MAILBOX);
    bench.relay.stop().await;
}

#[tokio::test]
async fn a_token_lasts_and_a_new_secret_is_a_new_token() {
    let mut bench = Bench::new("").await;
    let token = |bench: &Bench| bench.relay.daemon.watched().queue.accounts()[0].token.clone();
    let first = token(&bench);
    first.valid().await;
    let reload = bench.reload("max_connections = 1\n").await;
    assert_eq!(list(&reload, "changed"), ["office365.max_connections: 2 -> 1"]);
    assert!(token(&bench).is_same(&first));
    assert_eq!(bench.relay.daemon.watched().queue.lanes()[0].connection_limit, 1);

    let secret = bench.text.lines().find(|line| line.starts_with("client_secret")).unwrap();
    bench.text = bench.text.replace(secret, "client_secret = \"another one, which is wrong\"");
    let reload = bench.reload("").await;
    let changed = list(&reload, "changed");
    assert_eq!(changed[0], "office365.client_secret: ******** -> ******** (another value)");
    assert!(!token(&bench).is_same(&first));
    bench.relay.stop().await;
}

const OTHER: &str = "other@sandbox.example";

/// Mail of laboratories goes through another mailbox than the rest.
const LAB: &str = "[[route]]\nsenders = [\"*@lab.example\"]\nmailbox = \"other@sandbox.example\"\n";

/// A tenant with two mailboxes, whose first message takes its time.
async fn slow_place() -> Place {
    let mailboxes = vec![support::relay::MAILBOX.to_owned(), OTHER.to_owned()];
    let place = Place::with(sandbox::Config { mailboxes, ..Default::default() }).await;
    place.sandbox.set_fault("slow-dot=300s*1".parse().unwrap());
    place
}

async fn send(bench: &Bench, from: &str, subject: &str) {
    let mut client = bench.relay.client().await;
    client.send(from, &["a@example.com"], &mail(from, subject)).await;
}

/// Waits until that message is upstream. Its lane does not hear of it before five minutes.
async fn slow_one(bench: &mut Bench, lane: &str) {
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["slow"]);
    assert_eq!(arrivals[0].authenticated_as, lane);
    assert_eq!(under_way(bench, lane), 1);
}

fn under_way(bench: &Bench, lane: &str) -> usize {
    let lanes = bench.relay.daemon.watched().queue.lanes();
    lanes.iter().find(|one| one.name == lane).map_or(0, |lane| lane.in_flight)
}

#[tokio::test]
async fn one_slow_message_holds_up_its_own_mailbox_and_no_other() {
    let mut bench = Bench::of(slow_place().await, LAB).await;
    send(&bench, "erp@sandbox.example", "slow").await;
    slow_one(&mut bench, support::relay::MAILBOX).await;
    for connections in [1, 3] {
        let reload = bench.reload(&format!("max_connections = {connections}\n{LAB}")).await;
        assert!(!list(&reload, "changed").is_empty(), "{reload}");
        send(&bench, "erp@sandbox.example", "behind").await;
        send(&bench, "a@lab.example", "lab").await;
        assert_eq!(subjects(&bench.place.arrivals(1).await), ["lab"]);
        let lanes = bench.relay.status().await["lanes"].clone();
        let lane =
            lanes.as_array().unwrap().iter().find(|lane| lane["name"] == support::relay::MAILBOX);
        let lane = lane.unwrap();
        assert_eq!((&lane["in_flight"], &lane["takes_over"]), (&1.into(), &true.into()), "{lane}");
    }
    assert_eq!(bench.place.sandbox.arrivals(), 3);
    support::relay::pass(std::time::Duration::from_secs(301)).await;
    assert_eq!(subjects(&bench.place.arrivals(2).await), ["behind", "behind"]);
    bench.relay.settled(5).await;
    bench.relay.stop().await;
    assert_eq!(bench.place.sandbox.arrivals(), 5, "each of them once");
}

#[tokio::test]
async fn mail_under_way_stays_in_its_lane_and_what_waits_behind_it_changes() {
    let mut bench = Bench::of(slow_place().await, &format!("max_connections = 1\n{LAB}")).await;
    send(&bench, "a@lab.example", "slow").await;
    slow_one(&mut bench, OTHER).await;
    send(&bench, "a@lab.example", "behind").await;
    bench.reload("max_connections = 1\n").await;
    send(&bench, "a@lab.example", "new").await;
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["new"]);
    assert_eq!(arrivals[0].authenticated_as, support::relay::MAILBOX);
    support::relay::pass(std::time::Duration::from_secs(301)).await;
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["behind"], "without a restart");
    assert_eq!(arrivals[0].authenticated_as, support::relay::MAILBOX);
    bench.relay.settled(3).await;
    bench.relay.stop().await;
    assert_eq!(bench.place.sandbox.arrivals(), 3, "each of them once");
}

#[tokio::test]
async fn mail_under_way_stays_in_its_lane_though_its_mailbox_is_spelt_anew_and_then_gone() {
    let mut bench = Bench::of(slow_place().await, &format!("max_connections = 1\n{LAB}")).await;
    send(&bench, "a@lab.example", "slow").await;
    slow_one(&mut bench, OTHER).await;
    let spelt = LAB.replace(OTHER, "Other@Sandbox.Example");
    assert_ne!(spelt, LAB);
    bench.reload(&format!("max_connections = 1\n{spelt}")).await;
    send(&bench, "a@lab.example", "behind").await;
    bench.reload("max_connections = 1\n").await;
    send(&bench, "a@lab.example", "new").await;
    assert_eq!(subjects(&bench.place.arrivals(1).await), ["new"]);
    support::relay::pass(std::time::Duration::from_secs(301)).await;
    assert_eq!(subjects(&bench.place.arrivals(1).await), ["behind"]);
    bench.relay.settled(3).await;
    bench.relay.stop().await;
    assert_eq!(bench.place.sandbox.arrivals(), 3, "each of them once");
}

/// Leads the first message into a lane that is gone by the time it is committed.
struct JustGone(AtomicBool);

impl Router for JustGone {
    fn lane(&self, _: &ReversePath) -> String {
        let gone = !self.0.swap(true, Ordering::Relaxed);
        if gone { OTHER.to_owned() } else { support::relay::MAILBOX.to_owned() }
    }

    fn knows(&self, lane: &str) -> bool {
        lane == support::relay::MAILBOX
    }
}

#[tokio::test]
async fn mail_that_is_committed_just_as_its_lane_goes_needs_no_restart() {
    let mut bench = Bench::new("").await;
    let store = bench.relay.daemon.store().unwrap();
    let routes = Arc::new(JustGone(AtomicBool::new(false)));
    store.set_router(routes, BTreeSet::new()).await.unwrap();
    send(&bench, "a@lab.example", "late").await;
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["late"]);
    assert_eq!(arrivals[0].authenticated_as, support::relay::MAILBOX);
    bench.relay.settled(1).await;
    bench.relay.stop().await;
}

#[tokio::test]
async fn a_mailbox_is_the_same_however_it_is_spelt_and_whatever_leads_to_it() {
    let place = slow_place().await;
    let file = place.directory.path().join("config.toml");
    let fixed = std::fs::read_to_string(&file).unwrap();
    let mailbox = format!("mailbox = {:?}\n", support::relay::MAILBOX);
    let by_sender = fixed.replace(&mailbox, &format!("mailbox = \"sender\"\ndefault_{mailbox}"));
    assert_ne!(by_sender, fixed);
    place.write("config.toml", &by_sender);
    let mut bench = Bench::of(place, "").await;
    send(&bench, OTHER, "slow").await;
    slow_one(&mut bench, OTHER).await;
    send(&bench, support::relay::MAILBOX, "early").await;
    assert_eq!(subjects(&bench.place.arrivals(1).await), ["early"]);

    bench.text = fixed;
    let route = "[[route]]\nsenders = [\"other@*\"]\nmailbox = \"Other@Sandbox.Example\"\n";
    bench.reload(&route.replace("other@*", OTHER)).await;
    send(&bench, OTHER, "behind").await;
    send(&bench, "erp@sandbox.example", "others").await;
    assert_eq!(subjects(&bench.place.arrivals(1).await), ["others"]);
    assert_eq!(under_way(&bench, "Other@Sandbox.Example"), 1);
    support::relay::pass(std::time::Duration::from_secs(301)).await;
    let arrivals = bench.place.arrivals(1).await;
    assert_eq!(subjects(&arrivals), ["behind"]);
    assert!(arrivals[0].authenticated_as.eq_ignore_ascii_case(OTHER));
    bench.relay.settled(4).await;
    bench.relay.stop().await;
    assert_eq!(bench.place.sandbox.arrivals(), 4, "each of them once");
}

/// Reloads with these keys, by the number of the reload, for as long as a client sends from `from`.
/// Each message arrives, and none twice; returns the mailboxes that they went through.
async fn reloads_under_load(
    bench: &mut Bench,
    from: &'static str,
    keys: impl Fn(usize) -> String,
) -> BTreeSet<String> {
    const MESSAGES: usize = 120;
    let smtp = bench.relay.smtp();
    let client = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let mut client = Client::connect(smtp).await;
            client.send(from, &["a@example.com"], &mail(from, &format!("m{number}"))).await;
        }
    });
    let mut reloads = 0;
    while !client.is_finished() {
        reloads += 1;
        bench.reload(&keys(reloads)).await;
    }
    client.await.unwrap();
    assert!(reloads > 2, "{reloads}");
    bench.relay.settled(MESSAGES).await;
    let arrivals = bench.place.arrivals(MESSAGES).await;
    let seen: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.subject.clone()).collect();
    assert_eq!(seen.len(), MESSAGES);
    assert!(bench.place.seen().iter().all(|event| !format!("{event:?}").contains("Arrived")));
    arrivals.iter().map(|arrival| arrival.authenticated_as.clone()).collect()
}

#[tokio::test]
async fn under_load_each_message_arrives_once() {
    let mut bench = Bench::new("").await;
    let keys = |reload| format!("max_connections = {}\n", 1 + reload % 3);
    reloads_under_load(&mut bench, "erp@sandbox.example", keys).await;
    bench.relay.stop().await;
}

/// The same while the lane of all mail comes and goes.
#[tokio::test]
async fn under_load_each_message_arrives_once_whatever_the_routes_do() {
    let mailboxes = vec![support::relay::MAILBOX.to_owned(), OTHER.to_owned()];
    let place = Place::with(sandbox::Config { mailboxes, ..Default::default() }).await;
    let mut bench = Bench::of(place, LAB).await;
    let keys = |reload| if reload % 2 == 0 { LAB.to_owned() } else { String::new() };
    let through = reloads_under_load(&mut bench, "a@lab.example", keys).await;
    assert_eq!(through, BTreeSet::from([support::relay::MAILBOX, OTHER].map(str::to_owned)));
    bench.relay.stop().await;
}

#[tokio::test]
async fn in_direct_mode_the_next_message_goes_by_the_new_way() {
    let mut place = Place::new().await;
    place.set("queue.mode=direct");
    place.set("queue.direct_wait=0s");
    let (_closed, port) = closed_port();
    let right = format!("smtp_port = {}\n", place.sandbox.smtp_address().port());
    let wrong = format!("smtp_port = {port}\n");
    let text = std::fs::read_to_string(place.directory.path().join("config.toml")).unwrap();
    place.write("config.toml", &text.replace(&right, &wrong));
    let mut bench = Bench::of(place, "").await;
    until("a token", async || {
        let token = bench.relay.daemon.watched().queue.accounts()[0].token.clone();
        token.snapshot().token
    })
    .await;
    let mut client = bench.relay.client().await;
    client.envelope("erp@sandbox.example", &["a@example.com"]).await;
    assert!(client.say("DATA").await.starts_with("354"));
    let message = mail("erp@sandbox.example", "direct");
    let reply = client.say(&format!("{message}.")).await;
    assert!(reply.starts_with("451"), "{reply}");
    bench.text = text;
    bench.reload("").await;
    client.envelope("erp@sandbox.example", &["a@example.com"]).await;
    assert!(client.say("DATA").await.starts_with("354"));
    let reply = client.say(&format!("{message}.")).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(subjects(&bench.place.arrivals(1).await), ["direct"]);
    bench.relay.stop().await;
}

#[tokio::test]
async fn in_direct_mode_no_client_notices_a_reload() {
    const CLIENTS: usize = 6;
    let keys =
        |connections: usize| format!("max_connections = {connections}\npace = \"unlimited\"\n");
    let mut bench = direct("", &keys(2)).await;
    let (mut reloads, mut sent) = (0, Vec::new());
    for round in 0..10 {
        sent.extend((0..CLIENTS).map(|client| sending(&bench, &format!("r{round}c{client}"))));
        reloads += 1;
        bench.reload(&keys(1 + reloads % 3)).await;
    }
    let messages = sent.len();
    for sent in sent {
        let reply = sent.await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    lane_has(&bench, 0, 0).await;
    let arrivals = bench.place.arrivals(messages).await;
    let once: BTreeSet<_> = subjects(&arrivals).into_iter().collect();
    assert_eq!((once.len(), bench.place.sandbox.arrivals()), (messages, messages as u64));
    bench.relay.stop().await;
}

/// Direct mode with this fault and these settings, and a token.
async fn direct(fault: &str, keys: &str) -> Bench {
    let mut place = Place::new().await;
    place.set.retain(|setting| !setting.starts_with("office365.pace"));
    place.set("queue.mode=direct");
    if !fault.is_empty() {
        place.sandbox.set_fault(fault.parse().unwrap());
    }
    let bench = Bench::of(place, keys).await;
    bench.relay.daemon.watched().queue.accounts()[0].token.clone().valid().await;
    bench
}

/// A client of its own that waits for the reply to its message.
fn sending(bench: &Bench, subject: &str) -> tokio::task::JoinHandle<String> {
    let (smtp, text) = (bench.relay.smtp(), mail("erp@sandbox.example", subject));
    tokio::spawn(async move {
        let mut client = Client::connect(smtp).await;
        client.envelope("erp@sandbox.example", &["a@example.com"]).await;
        assert!(client.say("DATA").await.starts_with("354"));
        client.say(&format!("{text}.")).await
    })
}

/// Until so many clients wait for their turn and so many messages are under way.
async fn lane_has(bench: &Bench, waiting: usize, in_flight: usize) {
    until(&format!("{waiting} waiting and {in_flight} under way"), async || {
        let lanes = bench.relay.daemon.watched().queue.lanes();
        (lanes[0].waiting == waiting && lanes[0].in_flight == in_flight).then_some(())
    })
    .await;
}

#[tokio::test]
async fn in_direct_mode_who_waits_goes_on_to_wait_and_all_keep_one_pace() {
    let keys = |connections: u32| {
        format!(
            "max_connections = {connections}\npace = \"steady\"\nmessages_per_minute = 10\n\
             [queue]\ndirect_wait = \"60s\"\n"
        )
    };
    let mut bench = direct("", &keys(2)).await;
    for subject in ["one", "two"] {
        assert!(sending(&bench, subject).await.unwrap().starts_with("250"));
    }
    let early = sending(&bench, "early");
    lane_has(&bench, 1, 0).await;
    for connections in [1, 3] {
        let reload = bench.reload(&keys(connections)).await;
        assert_eq!(list(&reload, "changed").len(), 1, "{reload}");
        lane_has(&bench, 1, 0).await;
    }
    let late = sending(&bench, "late");
    lane_has(&bench, 2, 0).await;
    support::relay::pass(std::time::Duration::from_millis(6_500)).await;
    assert!(early.await.unwrap().starts_with("250"));
    lane_has(&bench, 1, 0).await;
    assert_eq!(bench.place.sandbox.arrivals(), 3, "one in six seconds");
    support::relay::pass(std::time::Duration::from_secs(6)).await;
    assert!(late.await.unwrap().starts_with("250"));
    bench.relay.stop().await;
}

#[tokio::test]
async fn in_direct_mode_what_is_under_way_counts_for_the_connections() {
    let keys = |wait: u32| {
        format!("max_connections = 1\npace = \"unlimited\"\n[queue]\ndirect_wait = \"{wait}s\"\n")
    };
    let mut bench = direct("slow-dot=15s*1", &keys(55)).await;
    let slow = sending(&bench, "slow");
    lane_has(&bench, 0, 1).await;
    let early = sending(&bench, "early");
    lane_has(&bench, 1, 1).await;
    for wait in [56, 57] {
        let reload = bench.reload(&keys(wait)).await;
        assert_eq!(list(&reload, "changed").len(), 1, "{reload}");
        lane_has(&bench, 1, 1).await;
    }
    let late = sending(&bench, "late");
    lane_has(&bench, 2, 1).await;
    assert_eq!(subjects(&bench.place.arrivals(1).await), ["slow"]);
    assert_eq!(bench.place.sandbox.arrivals(), 1, "there is one connection");
    support::relay::pass(std::time::Duration::from_secs(16)).await;
    for sent in [slow, early, late] {
        let reply = sent.await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    bench.relay.stop().await;
}

#[test]
fn sighup_reloads_and_systemd_hears_of_it() {
    let place = operator::Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(operator::PATIENCE)).unwrap();
    // The line of state comes when it likes.
    let heard = || {
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if !told.starts_with("STATUS=") {
                return told;
            }
        }
    };
    let mut command = place.command([]);
    let mut relay =
        operator::Relay::start(command.arg("run").env("NOTIFY_SOCKET", place.path("notify")));
    assert!(heard().contains("READY=1"));
    let hang_up = |relay: &operator::Relay| {
        let id = rustix::process::Pid::from_raw(relay.process.id().cast_signed()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    };

    let text = std::fs::read_to_string(&place.config).unwrap();
    let other = operator::SECRET.to_uppercase();
    let changed =
        text.replace("min_free_bytes = 0", "min_free_bytes = \"1KiB\"\nmode = \"direct\"");
    let changed = changed.replace(operator::SECRET, &other);
    std::fs::write(&place.config, format!("{changed}[log]\nlevel = \"debug\"\n")).unwrap();
    hang_up(&relay);
    let reloading = heard();
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="));
    assert!(heard().contains("READY=1"));
    let line = relay.process.line_with("key=\"queue.mode\"");
    assert!(line.contains("which takes a restart"), "{line}");
    relay.process.line_with("queue.min_free_bytes");
    relay.process.line_with("office365.client_secret");
    relay.process.line_with("configuration reloaded");
    assert!(!relay.process.text().contains(&other), "a secret in the log");

    std::fs::write(&place.config, text.replace("min_free_bytes", "min_free_byte")).unwrap();
    hang_up(&relay);
    assert!(heard().contains("RELOADING=1"));
    assert!(heard().contains("READY=1"));
    relay.process.line_with("configuration not reloaded, the old one stays");
    let told = relay.ask(&["status"]);
    told.succeeds(&["reload     FAILED", "queue.min_free_byte", "restart    needed", "queue.mode"]);
    assert!(relay.process.is_running());
    relay.stop();
}
