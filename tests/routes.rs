//! Many senders, mailboxes and tenants: who goes through which mailbox, and as whom.

use std::{collections::BTreeMap, time::Duration};

use o365_relay::{
    clock::Clock,
    sandbox::{self, Event, Sandbox},
};
use serde_json::Value;
use tokio::time::timeout;

mod support;
use support::{
    client::get,
    relay::{MAILBOX, Place, Relay, closed_port, forward, mail, pass, subjects},
    wait::{PATIENCE, until},
};

const DOMAIN: &str = "sandbox.example";

fn person(number: usize) -> String {
    format!("person{number}@{DOMAIN}")
}

/// A tenant with so many people besides the relay's own mailbox; mail goes through theirs.
async fn place(people: usize) -> Place {
    let mut mailboxes: Vec<_> = (0..people).map(person).collect();
    mailboxes.push(MAILBOX.into());
    let send_as = sandbox::SendAs::OnlyMailbox;
    let mut place = Place::with(sandbox::Config { mailboxes, send_as, ..Default::default() }).await;
    place.set("office365.mailbox=sender");
    place.set(&format!("office365.default_mailbox={MAILBOX}"));
    place
}

fn token_requests(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::TokenIssued { .. })).count()
}

async fn lanes(relay: &Relay) -> Vec<Value> {
    relay.status().await["lanes"].as_array().expect("lanes").clone()
}

/// Waits until no lane is left.
async fn no_lanes(relay: &Relay) {
    until("no lanes", async || lanes(relay).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn mail_of_many_senders_goes_through_their_own_mailboxes_with_one_token() {
    const PEOPLE: usize = 150;
    let mut place = place(PEOPLE).await;
    place.set("queue.max_connections=5");
    let relay = place.relay().await;
    let mut client = relay.client().await;
    for round in 0..2 {
        for number in 0..PEOPLE {
            let from = person(number);
            let text = mail(&from, &format!("r{round}n{number}"));
            client.send(&from.replace("person", "Person"), &["a@example.com"], &text).await;
        }
    }
    let mut tokens = 0;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    while seen.values().sum::<usize>() < 2 * PEOPLE {
        match place.events.recv().await.expect("an event") {
            Event::Arrived { arrival, .. } => {
                let sender = arrival.reverse_path.trim_matches(['<', '>']).to_lowercase();
                assert_eq!(arrival.authenticated_as, sender);
                *seen.entry(sender).or_default() += 1;
            }
            other => tokens += token_requests(&[other]),
        }
    }
    assert_eq!(tokens, 1, "one token for all mailboxes");
    assert_eq!(seen.len(), PEOPLE);
    assert!(seen.values().all(|count| *count == 2));
    until("a history", async || (relay.history().await.len() == 2 * PEOPLE).then_some(())).await;
    pass(Duration::from_secs(31)).await; // idle connections are closed
    no_lanes(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_lane_that_has_ended_does_not_send_faster_for_it() {
    let mut place = place(2).await;
    for setting in
        ["office365.pace=steady", "office365.messages_per_minute=1", "office365.idle_close=1s"]
    {
        place.set(setting);
    }
    let relay = place.relay().await;
    let mut client = relay.client().await;
    for number in 0..2 {
        for subject in ["one", "two"] {
            let from = person(number);
            client.send(&from, &["a@example.com"], &mail(&from, subject)).await;
        }
    }
    place.arrivals(4).await; // a burst of two for each of them
    until("a history", async || (relay.history().await.len() == 4).then_some(())).await;
    pass(Duration::from_secs(2)).await;
    let still = async || {
        let lanes = lanes(&relay).await;
        lanes.iter().all(|lane| lane["idle_connections"] == 0).then_some(lanes)
    };
    let lanes = until("closed connections", still).await;
    assert_eq!(lanes.len(), 2, "they remember what they have sent");
    client.send(&person(0), &["a@example.com"], &mail(&person(0), "three")).await;
    pass(Duration::from_secs(50)).await;
    assert_eq!(relay.status().await["lanes"][0]["queued"], 1);
    assert_eq!(relay.history().await.len(), 4);
    pass(Duration::from_secs(10)).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["three"]);
    until("a history", async || (relay.history().await.len() == 5).then_some(())).await;
    pass(Duration::from_secs(2)).await;
    pass(Duration::from_secs(180)).await;
    no_lanes(&relay).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_mailbox_that_cannot_log_in_stops_no_other_and_not_the_relay() {
    let mut place = place(1).await;
    let relay = place.relay().await;
    let mut client = relay.client().await;
    let stranger = format!("stranger@{DOMAIN}");
    client.send(&stranger, &["a@example.com"], &mail(&stranger, "waits")).await;
    let pause = async || {
        let lanes = lanes(&relay).await;
        lanes.iter().any(|lane| lane["pause"].is_object()).then_some(lanes)
    };
    let lanes = until("a pause", pause).await;
    assert_eq!(lanes[0]["name"], stranger.as_str());
    pass(Duration::from_secs(120)).await;
    client.send(&person(0), &["a@example.com"], &mail(&person(0), "goes")).await;
    client.send("", &["a@example.com"], &mail(MAILBOX, "of nobody")).await;
    let mut arrivals = place.arrivals(2).await;
    arrivals.sort_by_key(|arrival| arrival.subject.clone());
    assert_eq!(subjects(&arrivals), ["goes", "of nobody"]);
    assert_eq!(arrivals[1].authenticated_as, MAILBOX, "there is a mailbox for no sender");
    let (code, body) = get(relay.http(), "/readyz").await;
    assert_eq!(code, 200, "{body}");
    assert!(body.contains(&format!("nothing is relayed as {stranger}: ")), "{body}");
    relay.stop().await;
}

/// A second tenant, and a route to it.
async fn with_fabrikam(place: &mut Place, faults: &[&str]) -> Sandbox {
    let config = sandbox::Config {
        mailboxes: vec!["relay@fabrikam.example".into()],
        keep_mail_data: true,
        faults: faults.iter().map(|fault| fault.parse().expect("a fault")).collect(),
        ..Default::default()
    };
    let fabrikam = Sandbox::start(config).await.expect("a sandbox");
    let ca_file = place.write("fabrikam.pem", fabrikam.ca_pem());
    let section = fabrikam.relay_config(&ca_file).replace("[office365]", "[[route]]");
    let section = section.replace(&format!("\"{MAILBOX}\""), "\"relay@fabrikam.example\"");
    let own = std::fs::read_to_string(place.directory.path().join("config.toml"));
    let text = format!(
        "{}\n{section}\nsenders = [\"*@fabrikam.example\"]\npace = \"unlimited\"\n",
        own.expect("config.toml")
    );
    place.write("config.toml", &text);
    fabrikam
}

#[tokio::test]
async fn trouble_of_one_tenant_stops_its_own_mail_only() {
    let mut place = Place::new().await;
    let fabrikam = with_fabrikam(&mut place, &["greeting-421"]).await;
    let mut events = fabrikam.subscribe();
    let relay = place.relay().await;
    let mut client = relay.client().await;
    client.send("a@fabrikam.example", &["x@example.com"], &mail("a@fabrikam.example", "f")).await;
    let paused = async || {
        let status = relay.status().await;
        status["accounts"][1]["pause"].is_object().then_some(status)
    };
    let status = until("a pause of the account", paused).await;
    assert_eq!(status["accounts"][0]["name"], "office365");
    assert_eq!(status["accounts"][1]["name"], "route");
    assert_eq!(status["accounts"][1]["token"]["valid"], true);
    assert_eq!(
        (&status["accounts"][0]["pause"], &status["relay_pause"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(status["lanes"][0]["account"], "route");
    pass(Duration::from_secs(61)).await;
    client.send("b@contoso.example", &["x@example.com"], &mail("b@contoso.example", "c")).await;
    let arrivals = place.arrivals(1).await;
    assert_eq!((arrivals[0].authenticated_as.as_str(), subjects(&arrivals)), (MAILBOX, vec!["c"]));
    let (code, body) = get(relay.http(), "/readyz").await;
    assert_eq!(code, 200, "the other tenant's mail goes: {body}");
    assert!(body.contains("nothing is relayed (route): "), "{body}");

    fabrikam.clear_faults();
    pass(Duration::from_secs(300)).await;
    let arrival = loop {
        let event = timeout(PATIENCE, events.recv()).await.expect("mail in the other tenant");
        if let Event::Arrived { arrival, .. } = event.expect("an event") {
            break arrival;
        }
    };
    assert_eq!(arrival.authenticated_as, "relay@fabrikam.example");
    relay.stop().await;
}

#[tokio::test]
async fn each_account_has_metrics_of_its_own_and_one_alone_no_label() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let (_, alone) = get(relay.http(), "/metrics").await;
    assert!(alone.contains("\no365_relay_token_valid "), "{alone}");
    assert!(alone.contains("\no365_relay_paused{lane=\"all\"} 0"), "{alone}");
    assert!(alone.contains("\no365_relay_token_refresh_failures_total{cause=\"network\"} "));
    relay.stop().await;

    let _fabrikam = with_fabrikam(&mut place, &["greeting-421"]).await;
    let relay = place.relay().await;
    let mut client = relay.client().await;
    client.send("a@fabrikam.example", &["x@example.com"], &mail("a@fabrikam.example", "f")).await;
    let page = until("a pause of the account", async || {
        let (_, page) = get(relay.http(), "/metrics").await;
        page.contains("o365_relay_paused{lane=\"all of route\"} 1").then_some(page)
    })
    .await;
    for series in [
        "o365_relay_paused{lane=\"all of office365\"} 0",
        "o365_relay_pauses_total{lane=\"all of office365\",cause=\"network\"} 0",
        "o365_relay_token_valid{account=\"office365\"} 1",
        "o365_relay_token_valid{account=\"route\"} 1",
        "o365_relay_token_remaining_seconds{account=\"route\"} ",
        "o365_relay_token_refreshes_total{account=\"route\"} ",
        "o365_relay_token_refresh_failures_total{account=\"route\",cause=\"network\"} 0",
    ] {
        assert!(page.lines().any(|line| line.starts_with(series)), "{series}: {page}");
    }
    assert!(!page.contains("\no365_relay_token_valid "), "{page}");
    relay.stop().await;
}

#[tokio::test]
async fn the_end_of_each_accounts_credential_is_told_by_its_own_mailbox() {
    let mut place = place(1).await;
    let fabrikam = with_fabrikam(&mut place, &[]).await;
    let mut events = fabrikam.subscribe();
    let end = (Clock::system().now() + Duration::from_secs(5 * 86_400)).rfc3339();
    let (date, _) = end.split_once('T').expect("a date");
    place.set(&format!("office365.client_secret_expires={date}"));
    place.set(&format!("route.client_secret_expires={date}"));
    place.set("notices.to=admin@contoso.com");

    let relay = place.relay().await;
    let ours = place.arrivals(1).await.remove(0);
    let theirs = loop {
        let event = timeout(PATIENCE, events.recv()).await.expect("mail in the other tenant");
        if let Event::Arrived { arrival, .. } = event.expect("an event") {
            break arrival;
        }
    };
    for (reminder, mailbox, what) in [
        (&ours, MAILBOX, "client secret of office365"),
        (&theirs, "relay@fabrikam.example", "client secret of route"),
    ] {
        assert_eq!(reminder.subject.as_deref(), Some("The mail relay's credential ends in 4 days"));
        assert_eq!(reminder.authenticated_as, mailbox);
        let text = String::from_utf8(reminder.mail_data.clone().expect("mail data"));
        let text = text.expect("text").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(what), "{text}");
    }
    let warnings = relay.status().await["readiness"]["warnings"].to_string();
    assert!(warnings.contains("(client secret of office365): add"), "{warnings}");
    assert!(warnings.contains("(client secret of route): add"), "{warnings}");
    relay.settled(2).await;
    relay.stop().await;

    let relay = place.relay().await;
    let person = person(0);
    relay.client().await.send(&person, &["a@example.com"], &mail(&person, "between")).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["between"], "each is told once");
    assert_eq!(relay.settled(3).await.len(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn from_and_reverse_path_become_the_mailbox_and_the_record_has_who_sent() {
    let send_as = sandbox::SendAs::OnlyMailbox;
    let mut place = Place::with(sandbox::Config { send_as, ..Default::default() }).await;
    place.set("sender.rewrite=mailbox");
    place.set("sender.map=*@host.local -> app@contoso.example, app@contoso.example -> relay@sandbox.example");
    let relay = place.relay().await;
    let mut client = relay.client().await;
    let text = mail("ERP <erp@contoso.example>", "s");
    client.send("erp@contoso.example", &["x@example.com"], &text).await;
    let arrivals = place.arrivals(1).await;
    assert_eq!(arrivals[0].reverse_path, MAILBOX);
    let received =
        String::from_utf8(arrivals[0].mail_data.clone().expect("mail data")).expect("text");
    let (_, received) = received.split_once("From: ").expect("a From field");
    let expected = text.replace(
        "From: ERP <erp@contoso.example>\r\n",
        &format!(
            "ERP <{MAILBOX}>\r\nReply-To: ERP <erp@contoso.example>\r\n\
             X-Original-From: ERP <erp@contoso.example>\r\n"
        ),
    );
    assert_eq!(received, expected);
    let history = relay.settled(1).await;
    assert_eq!(history[0].reverse_path, "erp@contoso.example", "on record is who sent it");
    relay.stop().await;
}

#[tokio::test]
async fn the_door_looks_at_the_address_that_another_stands_for() {
    let mut place = Place::new().await;
    place.set("sender.allow=*@contoso.example");
    place.set("sender.map=*@host.local -> app@contoso.example");
    let relay = place.relay().await;
    let mut client = relay.client().await;
    client.send("root@host.local", &["x@example.com"], &mail("root@host.local", "s")).await;
    let arrivals = place.arrivals(1).await;
    assert_eq!(arrivals[0].reverse_path, "app@contoso.example");
    assert_eq!(arrivals[0].from.as_deref(), Some("app@contoso.example"));
    let refusal = client.say("MAIL FROM:<erp@elsewhere.example>").await;
    assert!(refusal.starts_with("550 5.7.1 "), "{refusal}");
    relay.stop().await;
}

#[tokio::test]
async fn mail_that_waits_takes_the_routes_that_hold_after_a_restart() {
    let mut place = place(2).await;
    let upstream = place.sandbox.smtp_address();
    let (socket, port) = closed_port();
    place.set_smtp_port(port);
    let relay = place.relay().await;
    let mut client = relay.client().await;
    for number in 0..2 {
        client.send(&person(number), &["a@example.com"], &mail(&person(number), "waits")).await;
    }
    assert_eq!(lanes(&relay).await.len(), 2);
    relay.stop().await;

    forward(socket.listen(5).expect("a listener"), upstream);
    place.set(&format!("office365.mailbox={MAILBOX}"));
    place.set("route.1.senders=person1@sandbox.example");
    place.set(&format!("route.1.mailbox={}", person(1)));
    place.set("sender.rewrite=mailbox");
    let relay = place.relay().await;
    let mut mailboxes: Vec<_> =
        place.arrivals(2).await.iter().map(|arrival| arrival.authenticated_as.clone()).collect();
    mailboxes.sort();
    assert_eq!(mailboxes, [person(1), MAILBOX.into()], "none is stuck in a lane that is gone");
    relay.settled(2).await;
    relay.stop().await;
}

#[tokio::test]
async fn in_direct_mode_mail_takes_the_same_routes() {
    let mut place = place(2).await;
    place.set("queue.mode=direct");
    let fabrikam = with_fabrikam(&mut place, &[]).await;
    let relay = place.relay().await;
    let mut client = relay.client().await;
    for from in [person(0), person(1), String::new(), "a@fabrikam.example".into()] {
        client.envelope(&from, &["x@example.com"]).await;
        assert!(client.say("DATA").await.starts_with("354"));
        let header = if from.is_empty() { MAILBOX } else { &from };
        let reply = client.say(&format!("{}.", mail(header, "s"))).await;
        assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    }
    let arrivals = place.arrivals(3).await;
    let mailboxes: Vec<_> = arrivals.iter().map(|one| one.authenticated_as.clone()).collect();
    assert_eq!(mailboxes, [person(0), person(1), MAILBOX.into()]);
    assert_eq!(fabrikam.arrivals(), 1);
    assert_eq!(lanes(&relay).await.len(), 4);
    pass(Duration::from_secs(31)).await;
    let left = until("a lane of the configuration alone", async || {
        let lanes = lanes(&relay).await;
        (lanes.len() == 1).then_some(lanes)
    })
    .await;
    assert_eq!(left[0]["name"], "relay@fabrikam.example");
    relay.stop().await;
}
