//! Direct mode over real sockets: the client's final reply is upstream's verdict, nothing is
//! stored, and what is no message's fault is never a permanent refusal.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use o365_relay::{
    clock::Clock,
    config::{self, Sources},
    daemon::Daemon,
    sandbox::{self, Event, SendAs},
};
use secrecy::ExposeSecret;
use serde_json::Value;

mod support;
use support::{
    client::{Client, get},
    relay::{MAILBOX, Place, Relay, closed_port, mail, pass, subjects},
    wait::until,
};

const MINUTE: Duration = Duration::from_secs(60);
const TO: &[&str] = &["somebody@example.com"];

/// A tenant, and settings of direct mode with a place for large messages.
async fn place_with(config: sandbox::Config, settings: &[&str]) -> Place {
    let mut place = Place::with(config).await;
    fs::create_dir(spool(&place)).expect("a directory");
    place.set("queue.mode=direct");
    place.set(&format!("queue.spool_directory={}", spool(&place).display()));
    for setting in settings {
        place.set(setting);
    }
    place
}

async fn place(settings: &[&str]) -> Place {
    place_with(sandbox::Config::default(), settings).await
}

fn spool(place: &Place) -> PathBuf {
    place.directory.path().join("spool")
}

/// A relay that has its token.
async fn relay(place: &Place) -> Relay {
    let relay = place.relay().await;
    until("a token", async || (get(relay.http(), "/readyz").await.0 == 200).then_some(())).await;
    relay
}

/// One transaction up to the reply that ends it: a refusal of MAIL, or the one after the final dot.
async fn transact(client: &mut Client, from: &str, to: &[&str], mail_data: &str) -> String {
    let reply = client.say(&format!("MAIL FROM:<{from}>")).await;
    if !reply.starts_with("250") {
        return reply;
    }
    for to in to {
        assert!(client.say(&format!("RCPT TO:<{to}>")).await.starts_with("250"));
    }
    assert!(client.say("DATA").await.starts_with("354"));
    client.say(&format!("{mail_data}.")).await
}

/// The final reply to a message of this sender and with this subject.
async fn send(relay: &Relay, from: &str, to: &[&str], subject: &str) -> String {
    transact(&mut relay.client().await, from, to, &mail(from, subject)).await
}

/// The same in a task of its own, to be waited for later.
fn sending(relay: &Relay, subject: &str) -> tokio::task::JoinHandle<String> {
    let (address, text) = (relay.smtp(), mail(MAILBOX, subject));
    tokio::spawn(
        async move { transact(&mut Client::connect(address).await, MAILBOX, TO, &text).await },
    )
}

/// Nothing has been written: no queue, no file in the spool, nothing but what the test put there.
fn nothing_on_disk(place: &Place) {
    let names = |path: PathBuf| {
        let listing = fs::read_dir(path).expect("a directory");
        let mut names: Vec<_> = listing.map(|item| item.expect("an item").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(place.directory.path().into()), ["ca.pem", "config.toml", "spool"]);
    assert!(names(spool(place)).is_empty());
}

// --- upstream's verdict

#[tokio::test]
async fn the_client_hears_upstreams_own_words_and_nothing_is_stored() {
    let mut place = place(&[]).await;
    let relay = relay(&place).await;
    let mut client = relay.client().await;
    let wanted = ["one", "two", "three"];
    for (subject, count) in wanted.into_iter().zip(1..) {
        let text = mail(MAILBOX, subject);
        let to = ["a@example.com", "b@example.com"];
        let reply = transact(&mut client, MAILBOX, &to, &text).await;
        assert!(reply.starts_with("250 2.0.0 OK") && reply.contains("[Hostname="), "{reply}");
        assert_eq!(place.sandbox.arrivals(), count, "before the client hears it");
        nothing_on_disk(&place);
    }
    let status = relay.status().await;
    assert_eq!((&status["mode"], &status["failures"]), (&"direct".into(), &serde_json::json!([])));
    assert_eq!(status["lanes"][0]["queued"], 0);
    let readiness: Value =
        serde_json::from_str(&get(relay.http(), "/readyz").await.1).expect("JSON");
    assert_eq!((&readiness["mode"], &readiness["ready"]), (&"direct".into(), &true.into()));
    assert!(relay.daemon.store().is_none());
    relay.stop().await;
    nothing_on_disk(&place);
    let (mut logins, mut arrived) = (0, Vec::new());
    for event in place.seen() {
        match event {
            Event::Authenticated { .. } => logins += 1,
            Event::Arrived { arrival, .. } => {
                assert_eq!(arrival.forward_paths.len(), 2);
                arrived.push(arrival);
            }
            _ => {}
        }
    }
    assert_eq!((subjects(&arrived), logins), (wanted.to_vec(), 1));
}

#[tokio::test]
async fn one_refused_recipient_keeps_the_message_from_all_and_is_named() {
    let mut place = place(&[]).await;
    let relay = relay(&place).await;
    place.fault("unknown-recipient=bad@example.com");
    let to = ["first@example.com", "bad@example.com", "last@example.com"];
    let reply = send(&relay, MAILBOX, &to, "refused").await;
    assert!(reply.starts_with("550-5.1.1 <bad@example.com>: 550 5.1.1 User unknown"), "{reply}");
    assert!(reply.contains("the other recipients have not got the message either"), "{reply}");
    assert!(!reply.contains("first@") && !reply.contains("last@"), "{reply}");
    assert_eq!(place.sandbox.arrivals(), 0, "nobody has got it");

    let reply = send(&relay, MAILBOX, &["first@example.com", "last@example.com"], "again").await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert_eq!(subjects(&place.arrivals(1).await), ["again"]);
    // What was not sent does not count.
    assert_eq!(relay.status().await["lanes"][0]["pause"], Value::Null);
    relay.stop().await;
    nothing_on_disk(&place);
}

#[tokio::test]
async fn recipients_that_are_all_refused_are_all_named() {
    let place = place(&[]).await;
    let relay = relay(&place).await;
    place.fault("unknown-recipient=*");
    let to: Vec<_> = (0..7).map(|n| format!("r{n}@example.com")).collect();
    let to: Vec<_> = to.iter().map(String::as_str).collect();
    let reply = send(&relay, MAILBOX, &to, "refused").await;
    assert!(reply.starts_with("550-5.1.1 <r0@example.com>: 550 5.1.1"), "{reply}");
    assert!(reply.contains("<r4@") && !reply.contains("<r5@"), "{reply}");
    assert!(reply.contains("and 2 more") && !reply.contains("have not got"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn more_recipients_than_upstream_takes_are_refused_for_now_with_the_number() {
    let config = sandbox::Config { max_recipients: 2, ..sandbox::Config::default() };
    let place = place_with(config, &[]).await;
    let relay = relay(&place).await;
    let reply =
        send(&relay, MAILBOX, &["a@example.com", "b@example.com", "c@example.com"], "many").await;
    assert!(reply.starts_with("451-4.5.3 "), "{reply}");
    assert!(reply.contains("takes 2 recipients") && reply.contains("listener.max_recipients to 2"));
    assert_eq!(place.sandbox.arrivals(), 0);
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_sender_hears_the_cure_and_is_then_kept_from_upstream() {
    let boss = "boss@sandbox.example";
    let config = sandbox::Config { send_as: SendAs::OnlyMailbox, ..sandbox::Config::default() };
    let mut place = place_with(config, &[]).await;
    let relay = relay(&place).await;
    let reply = send(&relay, boss, TO, "denied").await;
    assert!(reply.starts_with("554-5.2.252 554 5.2.252 SendAsDenied"), "{reply}");
    assert!(reply.contains("Add-RecipientPermission -Identity boss@sandbox.example"), "{reply}");

    place.seen();
    let reply = send(&relay, boss, TO, "held").await;
    assert!(reply.starts_with("451-4.7.0 mail from <boss@sandbox.example> is held for"), "{reply}");
    assert!(reply.contains("SendAsDenied") && reply.contains("Add-RecipientPermission"), "{reply}");
    assert!(place.seen().is_empty(), "upstream was not asked");
    assert!(send(&relay, MAILBOX, TO, "other").await.starts_with("250"), "others go on");

    // A quarter of an hour later one probe goes, and is told what upstream says.
    pass(15 * MINUTE).await;
    until("a token", async || (get(relay.http(), "/readyz").await.0 == 200).then_some(())).await;
    assert!(send(&relay, boss, TO, "probe").await.starts_with("554-5.2.252"));
    assert!(send(&relay, boss, TO, "held again").await.starts_with("451-4.7.0"));
    relay.stop().await;
    nothing_on_disk(&place);
}

#[tokio::test]
async fn a_message_that_upstream_does_not_want_is_refused_for_good() {
    let place = place(&[]).await;
    let relay = relay(&place).await;
    place.fault("invalid-content*1");
    let reply = send(&relay, MAILBOX, TO, "odd").await;
    assert!(reply.starts_with("55") && reply.as_bytes()[4..].starts_with(b"5.6."), "{reply}");
    assert!(reply.contains("(in reply to end of mail data)"), "{reply}");
    assert!(send(&relay, MAILBOX, TO, "next").await.starts_with("250"));
    relay.stop().await;
}

// --- what is no message's fault

/// What goes wrong, and how the reply to the message that meets it begins.
const TROUBLE: &[(&str, &str)] = &[
    ("auth-535", "451-4.7.0 535 5.7.3"),
    ("auth-disabled", "451-4.7.0 535 5.7.139"),
    ("throttle", "451-4.3.2 432 4.3.2"),
    ("throttle-dot", "451-4.3.2 432 4.3.2"),
    ("blocked", "451-4.2.252 550 5.2.252"),
    ("quota", "451-4.2.0 554 5.2.0"),
    ("mailbox-full", "451-4.2.2 554 5.2.2"),
    ("refuse-tls", "451-4.7.0 454 4.7.0"),
    ("wrong-certificate=authority", "451-4.4.2 localhost: invalid peer certificate"),
    ("greeting-421", "451-4.3.2 421 4.3.2"),
    ("busy", "451"),
    ("rate", "451"),
    ("data-421", "451-4.3.2 421 4.3.2"),
    ("drop-before-dot", "451 4.4.2"),
    ("drop-at-dot", "451 4.4.2"),
];

#[tokio::test]
async fn what_is_no_messages_fault_is_451_with_the_reason_and_never_a_bounce() {
    for (name, start) in TROUBLE {
        let mut place = place(&["queue.direct_wait=0s"]).await;
        let relay = relay(&place).await;
        place.fault(name);
        let reply = send(&relay, MAILBOX, TO, "met").await;
        assert!(reply.starts_with(start), "{name}: {reply}");
        assert_eq!(place.sandbox.arrivals(), 0, "{name}");

        // Where it pauses, the next client hears why and upstream is left alone.
        let status = relay.status().await;
        let (all, lane) = (&status["relay_pause"], &status["lanes"][0]["pause"]);
        if !(all.is_null() && lane.is_null()) {
            relay.quiet().await;
            place.seen();
            let reply = send(&relay, MAILBOX, TO, "after").await;
            assert!(reply.starts_with("451-4.4.0 relay is paused for "), "{name}: {reply}");
            assert!(reply.contains("what to do: "), "{name}: {reply}");
            assert!(place.seen().is_empty(), "{name}: upstream was asked in a pause");
        }

        // When it is over, the next message finds out.
        place.sandbox.clear_faults();
        relay.quiet().await;
        pass(Duration::from_secs(3600 + 1)).await;
        until("a token", async || (relay.status().await["token"]["valid"] == true).then_some(()))
            .await;
        let reply = send(&relay, MAILBOX, TO, "over").await;
        assert!(reply.starts_with("250 2.0.0"), "{name}: {reply}");
        assert_eq!(subjects(&place.arrivals(1).await), ["over"], "{name}");
        relay.stop().await;
        nothing_on_disk(&place);
    }
}

#[tokio::test]
async fn in_a_long_pause_of_everything_mail_is_refused_before_it_is_sent() {
    let mut place = place(&["queue.direct_wait=1s"]).await;
    let relay = relay(&place).await;
    place.fault("greeting-421*1");
    assert!(send(&relay, MAILBOX, TO, "met").await.starts_with("451-4.3.2 421 4.3.2"));
    let mut client = relay.client().await;
    let reply = client.say(&format!("MAIL FROM:<{MAILBOX}>")).await;
    assert!(reply.starts_with("451-4.4.0 relay is paused for "), "{reply}");
    let readiness = get(relay.http(), "/readyz").await;
    assert!(readiness.0 == 200 && readiness.1.contains("nothing is relayed"), "{readiness:?}");
    // Within a second of its end it is worth the wait.
    pass(Duration::from_millis(4_500)).await;
    let reply = transact(&mut client, MAILBOX, TO, &mail(MAILBOX, "next")).await;
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(subjects(&place.arrivals(1).await), ["next"]);
    relay.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_is_451_at_mail_and_mail_flows_when_it_is_right() {
    let mut place = place(&["queue.direct_wait=1s"]).await;
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    let file = place.use_secret_file("wrong\n");
    let relay = place.relay().await;
    until("the refusal of the secret", async || {
        (relay.status().await["token"]["last_error"].is_object()).then_some(())
    })
    .await;
    let reply = relay.client().await.say(&format!("MAIL FROM:<{MAILBOX}>")).await;
    assert!(reply.starts_with("451-4.7.0 no access token, nothing was sent: "), "{reply}");
    assert!(reply.contains("AADSTS7000215") && reply.contains("what to do: "), "{reply}");
    assert!(!reply.contains("wrong"), "{reply}");

    fs::write(&file, right).expect("the secret file");
    pass(Duration::from_secs(40)).await;
    until("a token", async || (get(relay.http(), "/readyz").await.0 == 200).then_some(())).await;
    assert!(send(&relay, MAILBOX, TO, "later").await.starts_with("250"));
    fs::remove_file(file).expect("the secret file");
    relay.stop().await;
    nothing_on_disk(&place);
}

#[tokio::test]
async fn a_message_that_comes_before_the_token_waits_for_it() {
    let place = place(&[]).await;
    place.fault("token-hang=5s*1");
    let relay = place.relay().await;
    let sent = sending(&relay, "early");
    relay.lane_with("a client that waits", |lane| lane["waiting"] == 1).await;
    // Time that passes before the request has got there is not what it hangs for.
    until("the request", async || {
        place.sandbox.faults().iter().any(|fault| fault.struck == 1).then_some(())
    })
    .await;
    pass(Duration::from_secs(5)).await; // the request fails, and the next one is made
    until("the failure", async || {
        (relay.status().await["token"]["last_error"].is_object()).then_some(())
    })
    .await;
    pass(Duration::from_secs(10)).await;
    let reply = sent.await.expect("a client");
    assert!(reply.starts_with("250"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn a_short_pause_is_waited_for_and_one_client_probes() {
    let place = place(&[]).await;
    let relay = relay(&place).await;
    place.fault("greeting-421*1");
    assert!(send(&relay, MAILBOX, TO, "met").await.starts_with("451-4.3.2 421 4.3.2"));
    let sent: Vec<_> = (0..3).map(|n| sending(&relay, &format!("n{n}"))).collect();
    relay.lane_with("three clients that wait", |lane| lane["waiting"] == 3).await;
    assert_eq!(place.sandbox.arrivals(), 0);
    pass(Duration::from_secs(5)).await;
    for sent in sent {
        let reply = sent.await.expect("a client");
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert_eq!(place.sandbox.arrivals(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn nobody_there_is_no_answer_from_the_host() {
    let mut place = place(&["queue.direct_wait=0s"]).await;
    let (_socket, port) = closed_port();
    place.set_smtp_port(port);
    let relay = relay(&place).await;
    let reply = send(&relay, MAILBOX, TO, "lost").await;
    assert!(reply.starts_with("451-4.4.1 could not connect to localhost:"), "{reply}");
    relay.stop().await;
}

// --- no turn

#[tokio::test]
async fn over_the_pace_a_client_waits_and_is_told_if_it_would_be_too_long() {
    let steady =
        ["office365.pace=steady", "office365.messages_per_minute=6", "queue.direct_wait=15s"];
    let place = place(&steady).await;
    let relay = relay(&place).await;
    for subject in ["one", "two"] {
        assert!(send(&relay, MAILBOX, TO, subject).await.starts_with("250"));
    }
    let third = sending(&relay, "three");
    relay.lane_with("a client that waits", |lane| lane["waiting"] == 1).await;
    let fourth = sending(&relay, "four");
    relay.lane_with("two clients that wait", |lane| lane["waiting"] == 2).await;
    assert_eq!(place.sandbox.arrivals(), 2);
    pass(Duration::from_secs(11)).await;
    assert!(third.await.expect("a client").starts_with("250"), "its turn came");
    // The fourth has 4 s left and would have to wait for 9.
    let reply = fourth.await.expect("a client");
    assert!(reply.starts_with("451 4.4.5 "), "{reply}");
    assert!(reply.contains("office365.messages_per_minute is 6"), "{reply}");
    assert!(reply.contains("queue.direct_wait"), "{reply}");
    assert_eq!(place.sandbox.arrivals(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn recipients_over_the_days_number_are_refused_at_once() {
    let settings = [
        "office365.pace=steady",
        "office365.messages_per_minute=1000000",
        "office365.recipients_per_day=3",
    ];
    let place = place(&settings).await;
    let relay = relay(&place).await;
    place.fault("unknown-recipient=bad@example.com");
    assert!(
        send(&relay, MAILBOX, &["bad@example.com", "a@example.com"], "x").await.starts_with("550")
    );
    let two = ["a@example.com", "b@example.com"];
    assert!(send(&relay, MAILBOX, &two, "two").await.starts_with("250"));
    relay.lane_with("two counted", |lane| lane["recipients_today"] == 2).await;
    let reply = send(&relay, MAILBOX, &two, "over").await;
    assert!(
        reply.starts_with("451 4.4.5 ") && reply.contains("recipients_per_day is 3"),
        "{reply}"
    );
    assert!(send(&relay, MAILBOX, TO, "one more").await.starts_with("250"));
    relay.stop().await;
}

#[tokio::test]
async fn one_connection_serves_one_client_after_the_other() {
    let place = place(&["office365.max_connections=1"]).await;
    let relay = relay(&place).await;
    place.fault("slow-dot=10s*1");
    let first = sending(&relay, "first");
    until("the strike", async || (place.struck("slow-dot") == 1).then_some(())).await;
    let second = sending(&relay, "second");
    let lane = relay.lane_with("a client that waits", |lane| lane["waiting"] == 1).await;
    assert_eq!(lane["in_flight"], 1);
    pass(Duration::from_secs(10)).await;
    assert!(first.await.expect("a client").starts_with("250"));
    assert!(second.await.expect("a client").starts_with("250"));
    assert_eq!(place.sandbox.arrivals(), 2);
    relay.stop().await;
}

#[tokio::test]
async fn many_clients_share_two_connections_and_each_message_arrives_once() {
    // A third connection would be refused with 432 at DATA.
    let config = sandbox::Config { max_connections: Some(2), ..sandbox::Config::default() };
    let place = place_with(config, &[]).await;
    let relay = relay(&place).await;
    let clients: Vec<_> = (0..8)
        .map(|session| {
            let address = relay.smtp();
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for n in 0..15 {
                    let text = mail(MAILBOX, &format!("s{session}m{n}"));
                    let reply = transact(&mut client, MAILBOX, TO, &text).await;
                    assert!(reply.starts_with("250"), "{reply}");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a client");
    }
    assert_eq!(place.sandbox.arrivals(), 120);
    relay.quiet().await;
    let lane = relay.status().await["lanes"][0].clone();
    assert_eq!((&lane["waiting"], &lane["connection_limit"]), (&0.into(), &2.into()), "{lane}");
    assert!(
        lane["idle_connections"].as_u64().is_some_and(|idle| (1..=2).contains(&idle)),
        "{lane}"
    );
    pass(Duration::from_secs(31)).await;
    relay.lane_with("no idle connection", |lane| lane["idle_connections"] == 0).await;
    relay.stop().await;
}

// --- a reply that is lost, clients that go, the shutdown

#[tokio::test]
async fn a_lost_final_reply_is_451_that_says_that_the_message_may_come_twice() {
    let mut place = place(&[]).await;
    let relay = relay(&place).await;
    place.fault("drop-after-dot*1");
    let reply = send(&relay, MAILBOX, TO, "twice").await;
    assert!(reply.starts_with("451 4.4.2 "), "{reply}");
    assert!(reply.contains("upstream may have the message, so it can come twice"), "{reply}");
    let reply = send(&relay, MAILBOX, TO, "twice").await;
    assert!(reply.starts_with("250"), "the client's next try needs no pause: {reply}");
    assert_eq!(subjects(&place.arrivals(2).await), ["twice", "twice"]);
    relay.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_before_its_turn_has_sent_nothing() {
    let mut place = place(&["office365.max_connections=1"]).await;
    let relay = relay(&place).await;
    place.fault("slow-dot=10s*1");
    let first = sending(&relay, "first");
    until("the strike", async || (place.struck("slow-dot") == 1).then_some(())).await;
    let mut gone = relay.client().await;
    gone.envelope(MAILBOX, TO).await;
    assert!(gone.say("DATA").await.starts_with("354"));
    gone.write(format!("{}.\r\n", mail(MAILBOX, "gone")).as_bytes()).await;
    relay.lane_with("a client that waits", |lane| lane["waiting"] == 1).await;
    drop(gone);
    relay.lane_with("nobody who waits", |lane| lane["waiting"] == 0).await;
    pass(Duration::from_secs(10)).await;
    assert!(first.await.expect("a client").starts_with("250"));
    assert!(send(&relay, MAILBOX, TO, "next").await.starts_with("250"));
    assert_eq!(subjects(&place.arrivals(2).await), ["first", "next"]);
    assert_eq!(place.sandbox.arrivals(), 2);
    relay.stop().await;
}

#[tokio::test]
async fn what_a_client_has_begun_and_does_not_wait_for_comes_to_its_end() {
    let mut place = place(&["office365.max_connections=1"]).await;
    let relay = relay(&place).await;
    place.fault("slow-dot=10s*1");
    let mut gone = relay.client().await;
    gone.envelope(MAILBOX, TO).await;
    assert!(gone.say("DATA").await.starts_with("354"));
    gone.write(format!("{}.\r\n", mail(MAILBOX, "begun")).as_bytes()).await;
    until("the strike", async || (place.struck("slow-dot") == 1).then_some(())).await;
    drop(gone);
    pass(Duration::from_secs(10)).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["begun"]);
    // Its connection and its place are free again.
    assert!(send(&relay, MAILBOX, TO, "next").await.starts_with("250"));
    relay.quiet().await;
    relay.stop().await;
}

#[tokio::test]
async fn a_shutdown_lets_the_attempt_finish_and_tells_those_who_wait() {
    let place = place(&["office365.max_connections=1"]).await;
    let relay = relay(&place).await;
    place.fault("slow-dot=5s*1");
    let begun = sending(&relay, "begun");
    until("the strike", async || (place.struck("slow-dot") == 1).then_some(())).await;
    let waiting = sending(&relay, "waiting");
    relay.lane_with("a client that waits", |lane| lane["waiting"] == 1).await;
    let mut sending = relay.client().await;
    sending.envelope(MAILBOX, TO).await;
    assert!(sending.say("DATA").await.starts_with("354"));

    let stop = tokio::spawn(relay.stop());
    assert!(waiting.await.expect("a client").starts_with("451 4.3.2 relay is shutting down"));
    // One that has sent its message only now is told the same.
    let reply = sending.say(&format!("{}.", mail(MAILBOX, "late"))).await;
    assert!(reply.starts_with("451 4.3.2 relay is shutting down"), "{reply}");
    pass(Duration::from_secs(5)).await;
    assert!(begun.await.expect("a client").starts_with("250"), "within the grace period");
    stop.await.expect("an orderly end");
    assert_eq!(place.sandbox.arrivals(), 1);
    nothing_on_disk(&place);
}

#[tokio::test]
async fn at_the_end_of_the_grace_period_the_client_hears_that_nobody_knows() {
    let place = place(&["daemon.shutdown_grace=20s"]).await;
    let relay = relay(&place).await;
    place.fault("slow-dot=100s*1");
    let begun = sending(&relay, "begun");
    until("the strike", async || (place.struck("slow-dot") == 1).then_some(())).await;
    let drain = relay.daemon.drain();
    tokio::pin!(drain);
    tokio::time::timeout(Duration::from_millis(50), &mut drain).await.expect_err("it waits");
    pass(Duration::from_secs(18)).await;
    let (reply, ()) = tokio::join!(begun, async {
        tokio::time::timeout(Duration::from_secs(1), &mut drain).await.ok();
    });
    let reply = reply.expect("a client");
    assert!(reply.starts_with("451 4.3.2 ") && reply.contains("may come twice"), "{reply}");
    pass(Duration::from_secs(3)).await;
    drain.await;
}

// --- large messages

#[tokio::test]
async fn a_large_message_goes_through_a_file_that_nobody_can_see() {
    let mut place = place(&[]).await;
    let relay = relay(&place).await;
    let line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n";
    let text = mail(MAILBOX, "large") + &line.repeat(200_000);
    let mut client = relay.client().await;
    for _ in 0..2 {
        client.envelope(MAILBOX, TO).await;
        assert!(client.say("DATA").await.starts_with("354"));
        let (front, rest) = text.split_at(text.len() / 2);
        client.write(front.as_bytes()).await;
        until("a file without a name", async || (deleted_files(&place) == 1).then_some(())).await;
        nothing_on_disk(&place);
        let reply = client.say(&format!("{rest}.")).await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        let arrival = place.arrivals(1).await.remove(0);
        let got = arrival.mail_data.as_deref().expect("mail data");
        assert!(got.ends_with(text.as_bytes()), "{} octets", got.len());
        until("nothing left open", async || (deleted_files(&place) == 0).then_some(())).await;
    }
    relay.stop().await;
    nothing_on_disk(&place);
}

/// Files of the spool that this process has open and that have no name.
fn deleted_files(place: &Place) -> usize {
    let spool = spool(place);
    let open = fs::read_dir("/proc/self/fd").expect("a listing").flatten();
    let target = |item: fs::DirEntry| fs::read_link(item.path()).ok();
    open.filter_map(target).filter(|path| path.starts_with(&spool)).count()
}

// --- configuration and commands

fn sources(place: &Place, set: &[&str]) -> Sources {
    let file = Some(place.directory.path().join("config.toml"));
    let set = place.set.iter().cloned().chain(set.iter().map(|&text| text.to_owned())).collect();
    Sources { file, set, ..Sources::default() }
}

#[tokio::test]
async fn what_makes_no_sense_in_direct_mode_is_told() {
    let place = place(&[]).await;
    let faults = config::load(&sources(&place, &["queue.on_uncertain=hold"])).expect_err("a fault");
    let faults = faults.to_string();
    assert!(faults.contains("`queue.on_uncertain`") && faults.contains("direct"), "{faults}");

    let set = ["notices.to=postmaster@contoso.com", "queue.give_up_after=1d", "queue.directory=/q"];
    let warnings = config::load(&sources(&place, &set)).expect("a configuration").warnings;
    let about =
        |key: &str| warnings.iter().filter(|text| text.starts_with(&format!("`{key}`:"))).count();
    assert_eq!((about("notices.to"), about("queue.give_up_after")), (1, 1), "{warnings:?}");
    assert_eq!(about("queue.directory") + about("queue.direct_wait"), 0, "{warnings:?}");

    let set = ["queue.mode=queue", "queue.direct_wait=5s"];
    let warnings = config::load(&sources(&place, &set)).expect("a configuration").warnings;
    assert!(warnings.iter().any(|text| text.starts_with("`queue.direct_wait`: has no effect")));
}

#[tokio::test]
async fn a_spool_directory_that_cannot_be_used_is_told_at_start() {
    let place = place(&["queue.spool_directory=/nonexistent/spool"]).await;
    let config = config::load(&sources(&place, &[])).expect("a configuration");
    let error = Daemon::start(config, Clock::system()).await.err().expect("no start").to_string();
    assert!(
        error.contains("/nonexistent/spool") && error.contains("queue.spool_directory"),
        "{error}"
    );
}

#[tokio::test]
async fn queue_commands_say_that_there_is_no_queue() {
    let place = place(&[]).await;
    let file = place.directory.path().join("config.toml");
    for arguments in [&["queue", "list"][..], &["queue", "retry", "--all"], &["history"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_o365-relay"))
            .args(arguments)
            .args(["--set", "queue.mode=direct", "--config"])
            .arg(&file)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains("there is no queue in direct mode"), "{arguments:?}: {said}");
    }
}

/// A balancer that sends nobody to a relay that is not ready must not keep the message away that
/// would show that the trouble is over.
#[tokio::test]
async fn a_hiccup_that_no_further_message_tests_does_not_make_the_relay_unready_for_ever() {
    for (name, longest) in [("greeting-421*1", 5 * MINUTE), ("auth-535*1", 10 * MINUTE)] {
        let place = place(&[]).await;
        let relay = relay(&place).await;
        place.fault(name);
        let refused = send(&relay, MAILBOX, TO, "one").await;
        assert!(refused.starts_with("451"), "{name}: {refused}");
        pass(2 * MINUTE).await;
        assert_eq!(get(relay.http(), "/readyz").await.0, 503, "{name}");
        assert!(
            get(relay.http(), "/metrics").await.1.contains("o365_relay_pause_cause{"),
            "{name}"
        );
        pass(longest).await;
        assert_eq!(get(relay.http(), "/readyz").await.0, 200, "{name}");
        assert!(
            !get(relay.http(), "/metrics").await.1.contains("o365_relay_pause_cause{"),
            "{name}"
        );
        let taken = send(&relay, MAILBOX, TO, "two").await;
        assert!(taken.starts_with("250"), "{name}: {taken}");
        relay.stop().await;
    }
}
