//! The whole relay against a tenant that goes wrong on demand: what nobody's message is at fault
//! for bounces nothing, says what is the matter, and is over without an operator.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use o365_relay::{
    sandbox::{Arrival, Event},
    store::{Desk, Filter, Settled},
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

mod support;
use support::{
    client::get,
    relay::{MAILBOX, Place, Relay, closed_port, mail, pass, subjects},
    wait::until,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A relay that has sent one message already: it has a token, and nothing is under way. A jump in
/// time has closed the connection, so that the next message goes all the way again.
async fn settled_in(place: &mut Place) -> Relay {
    let relay = place.relay().await;
    send(&relay, MAILBOX, "before").await;
    assert_eq!(subjects(&place.arrivals(1).await), ["before"]);
    relay.settled(1).await;
    relay.quiet().await;
    pass(Duration::from_secs(31)).await;
    relay.lane_with("no idle connection", |lane| lane["idle_connections"] == 0).await;
    relay
}

/// One message of this sender and with this subject; returns its queue id.
async fn send(relay: &Relay, from: &str, subject: &str) -> String {
    relay.client().await.send(from, &["somebody@example.com"], &mail(from, subject)).await
}

/// The pause at this place of the status, once there is one and its probe is not under way.
async fn pause(relay: &Relay, pointer: &str) -> Value {
    let pause = until(&format!("a pause at {pointer}"), async || {
        let pause = relay.status().await.pointer(pointer).cloned()?;
        (!pause.is_null()).then_some(pause)
    })
    .await;
    relay.quiet().await;
    pause
}

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}"))
}

/// Lets time pass in steps of this length, whenever nothing is under way, until nothing is queued.
async fn drains(relay: &Relay, step: Duration, most: u32) {
    let steps = Cell::new(0);
    until("an empty queue", async || {
        let lane = relay.status().await["lanes"][0].clone();
        if lane["queued"] == 0 {
            return Some(());
        }
        if lane["in_flight"] == 0 && steps.get() < most {
            steps.set(steps.get() + 1);
            pass(step).await;
        }
        None
    })
    .await;
}

async fn row_of(relay: &Relay, id: &str) -> Settled {
    let history = relay.history().await;
    history.into_iter().find(|row| row.id == id).expect("a settled recipient")
}

/// What a fault comes to that is no message's: where the pause shows, what it says, how long it
/// lasts at first.
struct Outage {
    fault: &'static str,
    pointer: &'static str,
    reason: &'static str,
    advice: &'static str,
    first: Duration,
}

const LANE: &str = "/lanes/0/pause";
const ALL: &str = "/relay_pause";

const OUTAGES: &[Outage] = &[
    Outage {
        fault: "auth-535",
        pointer: LANE,
        reason: "535 5.7.3 Authentication unsuccessful",
        advice: "Add-MailboxPermission -Identity relay@sandbox.example",
        first: MINUTE,
    },
    Outage {
        fault: "auth-disabled",
        pointer: LANE,
        reason: "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled",
        advice: "Set-CASMailbox -Identity relay@sandbox.example -SmtpClientAuthenticationDisabled $false",
        first: MINUTE,
    },
    Outage {
        fault: "throttle",
        pointer: LANE,
        reason: "432 4.3.2 Concurrent connections limit exceeded",
        advice: "office365.max_connections",
        first: Duration::from_secs(30),
    },
    Outage {
        fault: "throttle-dot",
        pointer: LANE,
        reason: "432 4.3.2 STOREDRV.ClientSubmit",
        advice: "office365.max_connections",
        first: Duration::from_secs(30),
    },
    Outage {
        fault: "blocked",
        pointer: LANE,
        reason: "550 5.2.252 Sender throttled",
        advice: "Add-RecipientPermission",
        first: Duration::from_secs(30 * 60),
    },
    Outage {
        fault: "quota",
        pointer: LANE,
        reason: "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
        advice: "10,000 recipients",
        first: HOUR,
    },
    Outage {
        fault: "mailbox-full",
        pointer: LANE,
        reason: "554 5.2.2 STOREDRV.Submission.Exception:QuotaExceededException",
        advice: "Set-Mailbox -Identity relay@sandbox.example",
        first: MINUTE,
    },
    Outage {
        fault: "refuse-tls",
        pointer: ALL,
        reason: "454 4.7.0 TLS not available",
        advice: "office365.smtp_host",
        first: Duration::from_secs(5),
    },
    Outage {
        fault: "wrong-certificate=authority",
        pointer: ALL,
        reason: "office365.ca_file",
        advice: "openssl s_client -starttls smtp -connect localhost:",
        first: Duration::from_secs(5),
    },
    Outage {
        fault: "greeting-421",
        pointer: ALL,
        reason: "421 4.3.2 Service not available",
        advice: "service health",
        first: Duration::from_secs(5),
    },
];

// --- trouble of the smarthost and the mailbox

#[tokio::test]
async fn what_is_no_messages_fault_bounces_nothing_tells_the_cure_and_ends_by_itself() {
    for outage in OUTAGES {
        outlives(outage).await;
    }
}

async fn outlives(outage: &Outage) {
    let Outage { fault: name, pointer, reason, advice, first } = outage;
    let mut place = Place::new().await;
    let relay = settled_in(&mut place).await;
    place.fault(name);
    let mut ids = Vec::new();
    for subject in ["one", "two", "three"] {
        ids.push(send(&relay, MAILBOX, subject).await);
    }

    let pause_now = pause(&relay, pointer).await;
    let retry = Duration::from_secs(pause_now["retry_in_seconds"].as_u64().expect("a number"));
    assert!(retry <= *first && retry + Duration::from_secs(5) >= *first, "{name}: {retry:?}");
    assert!(text(&pause_now, "reason").contains(reason), "{name}: {pause_now}");
    assert!(text(&pause_now, "advice").contains(advice), "{name}: {pause_now}");
    let other = if *pointer == LANE { ALL } else { LANE };
    assert!(relay.status().await.pointer(other).expect("a member").is_null(), "{name}");

    // A probe fails and makes the pause longer; the mail is still there.
    pass(*first).await;
    until("a longer pause", async || {
        let status = relay.status().await;
        let retry = status.pointer(pointer)?["retry_in_seconds"].as_u64()?;
        (retry > first.as_secs() && status["lanes"][0]["in_flight"] == 0).then_some(())
    })
    .await;
    assert_eq!(relay.queued().await, 3, "{name}");
    assert_eq!(relay.history().await.len(), 1, "{name}: nothing has come to an end");

    place.sandbox.clear_faults();
    pass(*first * 2).await;
    let arrivals = place.arrivals(3).await;
    let mut arrived = subjects(&arrivals);
    arrived.sort_unstable();
    assert_eq!(arrived, ["one", "three", "two"], "{name}");
    relay.settled(4).await;
    for id in &ids {
        let row = row_of(&relay, id).await;
        assert_eq!((&*row.disposition, row.attempts), ("relayed", 1), "{name}: {row:?}");
    }
    let status = relay.status().await;
    assert!(status["relay_pause"].is_null() && status["lanes"][0]["pause"].is_null(), "{name}");
    assert_eq!(status["failures"], serde_json::json!([]), "{name}");
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 4, "{name}: neither a bounce nor a duplicate");
}

#[tokio::test]
async fn what_an_outage_kept_back_past_the_give_up_time_is_not_returned_for_the_first_hiccup() {
    for hiccup in ["busy*1", "data-421*1", "drop-at-dot*1"] {
        let mut place = Place::new().await;
        let relay = settled_in(&mut place).await;
        place.fault("auth-535");
        let id = send(&relay, MAILBOX, "kept back").await;
        pause(&relay, LANE).await;
        pass(6 * 24 * HOUR).await;
        relay.quiet().await;
        assert_eq!(relay.queued().await, 1, "{hiccup}");

        place.sandbox.clear_faults();
        place.fault(hiccup);
        drains(&relay, 10 * MINUTE, 10).await;
        let arrivals = place.arrivals(2).await;
        let mut arrived = subjects(&arrivals);
        arrived.sort_unstable();
        assert_eq!(arrived, ["Mail is delayed", "kept back"], "{hiccup}");
        let row = row_of(&relay, &id).await;
        assert_eq!((&*row.disposition, row.attempts), ("relayed", 2), "{hiccup}: {row:?}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn too_many_connections_leave_one_for_ten_minutes() {
    for name in ["throttle*1", "throttle-dot*1"] {
        let mut place = Place::new().await;
        let relay = settled_in(&mut place).await;
        assert_eq!(relay.status().await["lanes"][0]["connection_limit"], 2);
        place.fault(name);
        send(&relay, MAILBOX, "one").await;
        pause(&relay, LANE).await;
        assert_eq!(relay.status().await["lanes"][0]["connection_limit"], 1, "{name}");

        pass(Duration::from_secs(30)).await;
        place.arrivals(1).await;
        relay.settled(2).await;
        relay.quiet().await;
        let lane = relay.status().await["lanes"][0].clone();
        assert!(lane["pause"].is_null() && lane["connection_limit"] == 1, "{name}: {lane}");
        pass(10 * MINUTE).await;
        relay.lane_with("two connections again", |lane| lane["connection_limit"] == 2).await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_goes_away_at_data_costs_an_attempt_and_no_pause() {
    let mut place = Place::new().await;
    let relay = settled_in(&mut place).await;
    place.fault("data-421*1");
    let struck_first = send(&relay, MAILBOX, "interrupted").await;
    until("the strike", async || (place.struck("data-421") == 1).then_some(())).await;
    relay.quiet().await;
    let spared = send(&relay, MAILBOX, "next").await;
    assert_eq!(subjects(&place.arrivals(1).await), ["next"], "others need not wait");
    assert!(relay.status().await["lanes"][0]["pause"].is_null());

    relay.quiet().await;
    pass(MINUTE).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["interrupted"]);
    relay.settled(3).await;
    assert_eq!(row_of(&relay, &struck_first).await.attempts, 2);
    assert_eq!(row_of(&relay, &spared).await.attempts, 1);
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 3);
}

#[tokio::test]
async fn a_smarthost_that_hangs_up_on_everybody_is_waited_for() {
    let mut place = Place::new().await;
    let (socket, port) = closed_port();
    let listener = socket.listen(16).expect("a listener");
    let open = Arc::new(AtomicBool::new(true));
    guard(listener, place.sandbox.smtp_address(), Arc::clone(&open));
    place.set_smtp_port(port);
    let relay = settled_in(&mut place).await;

    open.store(false, Ordering::Relaxed);
    for subject in ["one", "two"] {
        send(&relay, MAILBOX, subject).await;
    }
    let pause = pause(&relay, ALL).await;
    assert!(text(&pause, "reason").contains("during greeting"), "{pause}");
    assert!(text(&pause, "advice").contains(&format!("localhost:{port}")), "{pause}");
    // Half an hour of this, with as many probes as there are; then a minute more is too much.
    for _ in 0..6 {
        pass(5 * MINUTE).await;
        relay.quiet().await;
    }
    assert_eq!((relay.queued().await, relay.history().await.len()), (2, 1));
    let (code, readiness) = get(relay.http(), "/readyz").await;
    assert_eq!(code, 503, "a long pause of everything makes it unready: {readiness}");

    open.store(true, Ordering::Relaxed);
    drains(&relay, 5 * MINUTE, 2).await;
    let history = relay.settled(3).await;
    assert!(history.iter().all(|row| row.attempts == 1 && row.disposition == "relayed"));
    assert_eq!(get(relay.http(), "/readyz").await.0, 200);
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 3);
}

/// Hands connections on to `target`, or closes them at once while it is not open.
fn guard(listener: TcpListener, target: std::net::SocketAddr, open: Arc<AtomicBool>) {
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if open.load(Ordering::Relaxed) {
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        }
    });
}

// --- trouble of the token endpoint

#[tokio::test]
async fn while_a_token_lives_its_endpoint_may_be_down() {
    let mut place = Place::new().await;
    let relay = settled_in(&mut place).await;
    place.fault("token-5xx");
    pass(30 * MINUTE).await; // the refresh is due at half of the token's hour at the latest
    let error = until("a failed refresh", async || {
        let error = relay.status().await["token"]["last_error"].clone();
        (!error.is_null()).then_some(error)
    })
    .await;
    assert!(text(&error, "error").contains("503"), "{error}");
    assert!(!text(&error, "advice").is_empty());
    assert_eq!(relay.status().await["token"]["valid"], true);
    send(&relay, MAILBOX, "during").await;
    assert_eq!(subjects(&place.arrivals(1).await), ["during"]);
    relay.settled(2).await;
    relay.quiet().await;

    // Now it has expired: mail waits, and nothing counts against it.
    pass(30 * MINUTE).await;
    until("no token", async || (relay.status().await["token"]["valid"] == false).then_some(()))
        .await;
    let id = send(&relay, MAILBOX, "after").await;
    assert_eq!((relay.queued().await, get(relay.http(), "/readyz").await.0), (1, 503));
    place.sandbox.clear_faults();
    pass(2 * MINUTE).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["after"]);
    relay.settled(3).await;
    assert_eq!(row_of(&relay, &id).await.attempts, 1);
    assert_eq!(get(relay.http(), "/readyz").await.0, 200);
    relay.stop().await;
}

#[tokio::test]
async fn without_a_token_mail_waits_and_one_request_hangs_at_a_time() {
    let mut place = Place::new().await;
    place.fault("token-hang=10m");
    let relay = place.relay().await;
    until("a request", async || (place.struck("token-hang") == 1).then_some(())).await;
    let wanted: Vec<_> = (0..10).map(|n| format!("n{n}")).collect();
    for subject in &wanted {
        send(&relay, MAILBOX, subject).await;
    }
    assert_eq!((place.struck("token-hang"), relay.queued().await), (1, 10));
    // The request is given up, and one follows the other.
    for _ in 0..5 {
        let before = place.struck("token-hang");
        pass(MINUTE).await;
        until("the end of the request", async || {
            (relay.status().await["token"]["last_error"]["error"].is_string()).then_some(())
        })
        .await;
        assert!(place.struck("token-hang") <= before + 1, "one request in a time limit");
    }
    let advice = relay.status().await["token"]["last_error"]["advice"].clone();
    assert!(advice.as_str().is_some_and(|advice| !advice.is_empty()), "{advice}");
    assert!(relay.history().await.is_empty());

    place.sandbox.clear_faults();
    pass(2 * MINUTE).await; // what hangs is given up
    pass(2 * MINUTE).await;
    assert_eq!(place.arrivals(10).await.len(), 10);
    assert!(relay.settled(10).await.iter().all(|row| row.attempts == 1));
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 10);
}

#[tokio::test]
async fn the_token_endpoint_is_not_asked_again_before_the_time_that_it_names() {
    let mut place = Place::new().await;
    place.fault("token-429=100s");
    let relay = place.relay().await;
    until("the refusal", async || {
        (relay.status().await["token"]["last_error"].is_object()).then_some(())
    })
    .await;
    // Neither mail nor time short of it makes the relay ask.
    for n in 0..3_u64 {
        send(&relay, MAILBOX, &format!("n{n}")).await;
        pass(Duration::from_secs(30)).await;
        assert_eq!(relay.queued().await, n + 1);
        assert_eq!(place.struck("token-429"), 1);
    }
    place.sandbox.clear_faults();
    pass(Duration::from_secs(30)).await; // a fifth more than the time that was named, at most
    assert_eq!(place.arrivals(3).await.len(), 3);
    assert!(relay.settled(3).await.iter().all(|row| row.attempts == 1));
    let refused =
        place.seen().into_iter().filter(|event| matches!(event, Event::TokenRefused { .. }));
    assert_eq!(refused.count(), 0);
    relay.stop().await;
}

// --- a sender that the mailbox may not use

#[tokio::test]
async fn a_refused_sender_fails_once_then_waits_while_others_flow() {
    let erp = "erp@sandbox.example";
    let mut place = Place::new().await;
    let relay = settled_in(&mut place).await;
    place.fault("deny-sender=erp@sandbox.example");
    let denied = send(&relay, erp, "denied").await;
    let notice = place.arrivals(1).await.remove(0);
    assert_eq!(notice.subject.as_deref(), Some("Mail could not be relayed"));
    assert_eq!(notice.forward_paths[0].address, erp);
    let said =
        String::from_utf8_lossy(notice.mail_data.as_deref().expect("mail data")).into_owned();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["may not send as erp@sandbox.example", MAILBOX, "Add-RecipientPermission -Identity erp@"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    relay.settled(3).await;
    assert_eq!(row_of(&relay, &denied).await.disposition, "failed");

    // The next ones of this sender wait; everybody else's mail goes.
    let mut waiting = Vec::new();
    for subject in ["second", "third", "fourth"] {
        waiting.push(send(&relay, erp, subject).await);
        send(&relay, MAILBOX, &format!("beside {subject}")).await;
    }
    let arrivals = place.arrivals(3).await;
    assert!(arrivals.iter().all(|arrival| arrival.reverse_path == MAILBOX));
    let lane = relay.lane_with("three waiting", |lane| lane["queued"] == 3).await;
    relay.quiet().await;
    assert!(lane["pause"].is_null());
    let held = &lane["held_senders"][0];
    assert_eq!(text(held, "sender"), erp);
    assert!(text(&held["pause"], "reason").contains("554 5.2.252 SendAsDenied"), "{held}");
    assert!(text(&held["pause"], "advice").contains("-Identity erp@sandbox.example"), "{held}");
    assert_eq!(place.struck("deny-sender"), 1);

    // A quarter of an hour later one goes to see, fails, and the others wait on.
    pass(15 * MINUTE).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["Mail could not be relayed"]);
    let lane = relay.lane_with("two waiting", |lane| lane["queued"] == 2).await;
    assert_eq!(place.struck("deny-sender"), 2, "one probe");
    let retry = lane["held_senders"][0]["pause"]["retry_in_seconds"].as_u64().expect("a number");
    assert!(retry > 15 * 60 && retry <= 30 * 60, "twice as long: {retry}");
    relay.quiet().await;

    place.sandbox.clear_faults();
    drains(&relay, 5 * MINUTE, 7).await;
    let arrivals = place.arrivals(2).await;
    assert!(arrivals.iter().all(|arrival| arrival.reverse_path == erp));
    relay.settled(9).await;
    let mut ends = Vec::new();
    for id in &waiting {
        let row = row_of(&relay, id).await;
        assert_eq!(row.attempts, 1, "{row:?}");
        ends.push(row.disposition);
    }
    ends.sort_unstable();
    assert_eq!(ends, ["failed", "relayed", "relayed"]);
    assert_eq!(relay.status().await["lanes"][0]["held_senders"], serde_json::json!([]));
    relay.stop().await;
}

// --- nobody knows whether it arrived

fn message_ids(arrivals: &[Arc<Arrival>]) -> Vec<String> {
    let field = |arrival: &Arc<Arrival>| {
        let data = String::from_utf8_lossy(arrival.mail_data.as_deref().expect("mail data"));
        let line = data.lines().find(|line| line.starts_with("Message-ID: ")).expect("a field");
        line.to_owned()
    };
    arrivals.iter().map(field).collect()
}

#[tokio::test]
async fn a_message_whose_reply_is_lost_comes_twice_at_most_with_one_message_id() {
    let mut place = Place::new().await;
    let relay = settled_in(&mut place).await;
    place.fault("drop-after-dot*1");
    let id = send(&relay, MAILBOX, "twice").await;
    let mut arrivals = place.arrivals(1).await;
    until("the strike", async || (place.struck("drop-after-dot") == 1).then_some(())).await;
    relay.quiet().await;
    assert_eq!(relay.queued().await, 1);
    drains(&relay, MINUTE, 2).await;
    arrivals.extend(place.arrivals(1).await);
    let ids = message_ids(&arrivals);
    assert_eq!(ids, ["Message-ID: <twice@printer.example>"; 2]);
    relay.settled(2).await;
    let row = row_of(&relay, &id).await;
    assert_eq!((&*row.disposition, row.attempts), ("relayed", 2));
    pass(HOUR).await;
    assert_eq!(relay.queued().await, 0);
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 3);
}

#[tokio::test]
async fn a_message_whose_reply_is_lost_is_held_if_that_is_wanted() {
    let mut place = Place::new().await;
    place.set("queue.on_uncertain=hold");
    let relay = settled_in(&mut place).await;
    place.fault("drop-after-dot*1");
    let id = send(&relay, MAILBOX, "uncertain").await;
    relay.lane_with("a held message", |lane| lane["held"] == 1 && lane["in_flight"] == 0).await;
    pass(24 * HOUR).await;
    send(&relay, MAILBOX, "next").await;
    assert_eq!(subjects(&place.arrivals(2).await), ["uncertain", "next"]);
    relay.lane_with("one message left", |lane| lane["queued"] == 1 && lane["held"] == 1).await;
    relay.quiet().await;

    let desk = Desk::open(&place.directory.path().join("queue")).expect("the queue");
    let filter = Filter { held: true, ..Filter::default() };
    let held: Vec<_> = desk.messages(&filter).flat_map(|page| page.expect("a page")).collect();
    assert_eq!((held.len(), held[0].id.to_string()), (1, id));
    let reason = held[0].hold_reason.as_deref().expect("a reason");
    assert!(reason.contains("nobody knows whether upstream has the message"), "{reason}");
    assert_eq!(held[0].recipients[0].attempts, 0);
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 3);
}

// --- recipients of a day

#[tokio::test]
async fn the_recipient_over_the_days_number_waits_for_a_day_and_over_a_restart() {
    let mut place = Place::new().await;
    for setting in [
        "office365.pace=steady",
        "office365.messages_per_minute=1000000",
        "office365.recipients_per_day=3",
    ] {
        place.set(setting);
    }
    let relay = place.relay().await;
    for subject in ["one", "two", "three", "four"] {
        send(&relay, MAILBOX, subject).await;
    }
    let arrivals = place.arrivals(3).await;
    let mut arrived = subjects(&arrivals);
    arrived.sort_unstable();
    assert_eq!(arrived, ["one", "three", "two"]);
    let full = |lane: &Value| lane["queued"] == 1 && lane["recipients_today"] == 3;
    let lane = relay.lane_with("three recipients", full).await;
    assert_eq!(lane["recipients_per_day"], 3);
    assert!(lane["pause"].is_null());
    relay.quiet().await;
    pass(HOUR).await;
    assert_eq!(relay.queued().await, 1);
    relay.stop().await;

    let relay = place.relay().await;
    relay.lane_with("the count of before", full).await;
    until("a token", async || (get(relay.http(), "/readyz").await.0 == 200).then_some(())).await;
    pass(22 * HOUR).await;
    until("a token", async || (get(relay.http(), "/readyz").await.0 == 200).then_some(())).await;
    relay.lane_with("still the same", full).await;
    assert_eq!(place.sandbox.arrivals(), 3);
    pass(2 * HOUR).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["four"]);
    relay.settled(4).await;
    relay.stop().await;
}

#[tokio::test]
async fn the_count_of_the_day_shows_after_a_restart_and_ends_with_the_day() {
    let mut place = Place::new().await;
    place.set("office365.pace=steady");
    let relay = place.relay().await;
    send(&relay, MAILBOX, "one").await;
    relay.settled(1).await;
    relay.stop().await;

    let relay = place.relay().await;
    relay.lane_with("the count of before", |lane| lane["recipients_today"] == 1).await;
    pass(25 * HOUR).await;
    until("a new day", async || {
        pass(HOUR).await; // a lane with nothing to do looks once an hour
        (relay.status().await["lanes"][0]["recipients_today"] == 0).then_some(())
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn recipients_of_mail_that_waits_are_not_counted() {
    let mut place = Place::new().await;
    place.set("office365.pace=steady");
    place.fault("auth-535");
    let relay = place.relay().await;
    let to: Vec<_> = (0..5).map(|n| format!("r{n}@example.com")).collect();
    relay.client().await.send(MAILBOX, &to, &mail(MAILBOX, "waiting")).await;
    pause(&relay, LANE).await;
    let lane = relay.status().await["lanes"][0].clone();
    assert_eq!((&lane["queued"], &lane["recipients_today"]), (&1.into(), &0.into()), "{lane}");
    place.sandbox.clear_faults();
    pass(MINUTE).await;
    relay.settled(5).await;
    relay.lane_with("five recipients", |lane| lane["recipients_today"] == 5).await;
    relay.stop().await;
}
