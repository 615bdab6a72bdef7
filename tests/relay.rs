//! The whole relay in one process, between plain SMTP clients and the sandbox: what users and
//! admins notice.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use o365_relay::sandbox::{self, Event, SendAs};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

mod support;
use support::{
    client::{Client, get, queue_id},
    relay::{MAILBOX, Place, closed_port, forward, mail, pass, subjects},
    wait::until,
};

/// Takes one Received field off the front.
fn without_trace(mail_data: &[u8]) -> &[u8] {
    assert!(mail_data.starts_with(b"Received: "), "{}", String::from_utf8_lossy(mail_data));
    let mut rest = mail_data;
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").expect("a line end");
        rest = &rest[end + 2..];
        if !matches!(rest.first(), Some(b' ' | b'\t')) {
            return rest;
        }
    }
}

/// As `forward`, but the first connections are cut once the client has sent so many octets.
fn forward_and_cut(listener: TcpListener, target: SocketAddr, cuts: Vec<u64>) {
    let mut cuts = cuts.into_iter();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let limit = cuts.next().unwrap_or(u64::MAX);
            tokio::spawn(async move {
                let server = TcpStream::connect(target).await?;
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let mut limited = (&mut from_client).take(limit);
                tokio::select! {
                    up = tokio::io::copy(&mut limited, &mut to_server) => up,
                    down = tokio::io::copy(&mut from_server, &mut to_client) => down,
                }
            });
        }
    });
}

// --- mail goes through

#[tokio::test]
async fn mail_arrives_once_and_unchanged_but_for_the_trace_field() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let body =
        format!("{}..\r\n..two\r\n...\r\n{}\r\nlast\r\n", mail(MAILBOX, "dots"), "x".repeat(5_000));
    let mut client = relay.client().await;
    client.envelope(MAILBOX, &["somebody@example.com"]).await;
    assert!(client.say("DATA").await.starts_with("354"));
    client.write(body.as_bytes()).await;
    client.write(b"8-bit \xe4\x00\xff\r\n").await;
    let id = queue_id(&client.say(".").await);

    let arrivals = place.arrivals(1).await;
    let unstuffed = body.replace("\r\n.", "\r\n");
    let expected = [unstuffed.as_bytes(), b"8-bit \xe4\x00\xff\r\n"].concat();
    let got = arrivals[0].mail_data.as_deref().expect("mail data");
    assert!(without_trace(got) == expected, "{}", String::from_utf8_lossy(got));
    assert!(String::from_utf8_lossy(got).contains(&id), "the trace names the queue id");
    assert_eq!(arrivals[0].reverse_path, MAILBOX);
    assert_eq!(arrivals[0].authenticated_as, MAILBOX);

    let history = relay.settled(1).await;
    assert_eq!((history[0].id.as_str(), history[0].disposition.as_str()), (&*id, "relayed"));
    assert!(history[0].reply.starts_with("250 2.0.0 OK <dots@printer.example>"));
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 1);
}

#[tokio::test]
async fn a_message_beyond_the_memory_limit_goes_through_a_file_unchanged() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let text = format!("{}{}", mail(MAILBOX, "large"), "0123456789abcde\r\n".repeat(60_000));
    relay.client().await.send(MAILBOX, &["somebody@example.com"], &text).await;
    let arrivals = place.arrivals(1).await;
    let got = arrivals[0].mail_data.as_deref().expect("mail data");
    assert!(without_trace(got) == text.as_bytes(), "{} octets", got.len());
    relay.settled(1).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_hundred_recipients_get_one_message() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let to: Vec<_> = (0..100).map(|n| format!("r{n}@example.com")).collect();
    relay.client().await.send(MAILBOX, &to, &mail(MAILBOX, "many")).await;
    let arrivals = place.arrivals(1).await;
    let got: Vec<_> = arrivals[0].forward_paths.iter().map(|path| path.address.clone()).collect();
    assert_eq!(got, to);
    assert_eq!(relay.settled(100).await.len(), 100);
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 1);
}

#[tokio::test]
async fn recipients_beyond_upstreams_limit_follow_in_further_messages() {
    let config = sandbox::Config { max_recipients: 40, ..sandbox::Config::default() };
    let mut place = Place::with(config).await;
    let relay = place.relay().await;
    let to: Vec<_> = (0..100).map(|n| format!("r{n}@example.com")).collect();
    relay.client().await.send(MAILBOX, &to, &mail(MAILBOX, "many")).await;
    let arrivals = place.arrivals(3).await;
    let got = arrivals.iter().flat_map(|arrival| &arrival.forward_paths);
    let mut got: Vec<_> = got.map(|path| path.address.clone()).collect();
    assert_eq!(got.len(), 100);
    got.sort_by_key(|address| to.iter().position(|wanted| wanted == address));
    assert_eq!(got, to);
    relay.settled(100).await;
    relay.stop().await;
}

#[tokio::test]
async fn many_sessions_share_two_connections_and_each_message_arrives_once() {
    // A third connection would be refused with 432 at DATA.
    let config = sandbox::Config { max_connections: Some(2), ..sandbox::Config::default() };
    let mut place = Place::with(config).await;
    let relay = place.relay().await;
    let sessions = (0..10).map(|session| {
        let address = relay.smtp();
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            for n in 0..20 {
                let text = mail(MAILBOX, &format!("s{session}m{n}"));
                client.send(MAILBOX, &["somebody@example.com"], &text).await;
            }
        })
    });
    for session in sessions.collect::<Vec<_>>() {
        session.await.expect("a session");
    }
    relay.settled(200).await;
    relay.stop().await;

    let (mut logins, mut arrived) = (0, BTreeSet::new());
    for event in place.seen() {
        match event {
            Event::Authenticated { .. } => logins += 1,
            Event::Arrived { arrival, .. } => assert!(arrived.insert(arrival.subject.clone())),
            Event::Refused { command, reply } => panic!("{command}: {reply}"),
            _ => {}
        }
    }
    assert_eq!((arrived.len(), place.sandbox.arrivals()), (200, 200));
    // 50 messages a connection.
    assert!((4..=6).contains(&logins), "{logins} logins");
}

#[tokio::test]
async fn messages_that_follow_each_other_use_one_connection() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let mut client = relay.client().await;
    for n in 1..=5 {
        let text = mail(MAILBOX, &format!("n{n}"));
        client.send(MAILBOX, &["somebody@example.com"], &text).await;
        relay.settled(n).await;
        until("an idle connection", async || {
            (relay.status().await["lanes"][0]["idle_connections"] == 1).then_some(())
        })
        .await;
    }
    relay.stop().await;
    let logins = place.seen().into_iter().filter(|e| matches!(e, Event::Authenticated { .. }));
    assert_eq!(logins.count(), 1);
}

// --- one message's trouble is its own

#[tokio::test]
async fn a_sender_without_the_right_fails_and_others_flow() {
    let config = sandbox::Config { send_as: SendAs::OnlyMailbox, ..sandbox::Config::default() };
    let mut place = Place::with(config).await;
    let relay = place.relay().await;
    let mut client = relay.client().await;
    let boss = "boss@sandbox.example";
    let denied = client.send(boss, &["somebody@example.com"], &mail(boss, "denied")).await;
    let sent = client.send(MAILBOX, &["somebody@example.com"], &mail(MAILBOX, "sent")).await;
    // The notice of the failure goes to the sender, through the same mailbox.
    let arrivals = place.arrivals(2).await;
    let mut subjects = subjects(&arrivals);
    subjects.sort_unstable();
    assert_eq!(subjects, ["Mail could not be relayed", "sent"]);
    let history = relay.settled(3).await;
    let of = |id: &str| history.iter().find(|row| row.id == id).expect("a row");
    assert_eq!(of(&sent).disposition, "relayed");
    assert_eq!((of(&denied).disposition.as_str(), of(&denied).attempts), ("failed", 1));
    assert!(of(&denied).reply.starts_with("554 5.2.252 SendAsDenied"), "{}", of(&denied).reply);

    let status = relay.status().await;
    assert_eq!(status["failures"][0]["id"], *denied);
    assert_eq!(status["failures"][0]["reverse_path"], boss);
    assert!(status["lanes"][0]["pause"].is_null());
    relay.stop().await;
}

#[tokio::test]
async fn a_recipient_that_upstream_refuses_fails_alone() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    // The sandbox keeps to the letter of RFC 5321: no empty atom, no underscore in a domain.
    let to = ["first@example.com", "a..b@example.com", "c@d_e.example", "last@example.com"];
    relay.client().await.send(MAILBOX, &to, &mail(MAILBOX, "four")).await;
    let arrivals = place.arrivals(1).await;
    let got: Vec<_> = arrivals[0].forward_paths.iter().map(|path| path.address.as_str()).collect();
    assert_eq!(got, ["first@example.com", "last@example.com"]);
    let history = relay.settled(4).await;
    for row in history {
        let refused = ["a..b@example.com", "c@d_e.example"].contains(&row.forward_path.as_str());
        let expected = if refused { ("failed", "501 5.1.3") } else { ("relayed", "250 2.0.0") };
        assert_eq!(row.disposition, expected.0, "{row:?}");
        assert!(row.reply.starts_with(expected.1), "{row:?}");
    }
    relay.stop().await;
}

// --- trouble that is nobody's message's: mail is taken and waits

#[tokio::test]
async fn with_a_wrong_secret_mail_waits_and_flows_once_the_file_has_the_right_one() {
    let mut place = Place::new().await;
    let right = place.sandbox.config().client_secret.expose_secret().to_owned();
    let file = place.use_secret_file("wrong\n");
    let relay = place.relay().await;
    let text = mail(MAILBOX, "patient");
    relay.client().await.send(MAILBOX, &["somebody@example.com"], &text).await;

    let reasons = until("the refusal of the secret", async || {
        let (code, body) = get(relay.http(), "/readyz").await;
        let readiness: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((code, &readiness["ready"]), (503, &Value::Bool(false)), "{body}");
        let reason = readiness["reasons"][0].as_str()?;
        reason.contains("AADSTS").then(|| reason.to_owned())
    })
    .await;
    assert!(reasons.contains("AADSTS7000215"), "{reasons}");
    let status = relay.status().await;
    let error = &status["token"]["last_error"];
    assert_eq!(status["token"]["valid"], false);
    let advice = error["advice"].as_str().expect("advice");
    assert!(!advice.is_empty() && reasons.ends_with(advice), "{reasons}");
    assert_eq!(status["lanes"][0]["queued"], 1);
    assert_eq!(get(relay.http(), "/healthz").await, (200, "ok\n".to_owned()));
    assert!(relay.history().await.is_empty());

    std::fs::write(file, format!("{right}\n")).expect("the secret file");
    pass(Duration::from_secs(40)).await; // the task asks again 30 to 36 s after a refusal
    assert_eq!(subjects(&place.arrivals(1).await), ["patient"]);
    assert_eq!(relay.settled(1).await[0].attempts, 1);
    assert_eq!(get(relay.http(), "/readyz").await.0, 200);
    relay.stop().await;
}

#[tokio::test]
async fn with_the_smarthost_down_mail_waits_and_flows_by_itself_afterwards() {
    let mut place = Place::new().await;
    let (socket, port) = closed_port();
    place.set_smtp_port(port);
    let relay = place.relay().await;
    let text = mail(MAILBOX, "patient");
    relay.client().await.send(MAILBOX, &["somebody@example.com"], &text).await;
    let pause = until("a pause", async || {
        let pause = relay.status().await["relay_pause"].clone();
        (!pause.is_null()).then_some(pause)
    })
    .await;
    let reason = pause["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("could not connect to localhost:{port}")), "{reason}");
    let advice = pause["advice"].as_str().expect("advice");
    assert!(advice.contains(&format!("port {port}")), "{advice}");
    assert!(pause["retry_in_seconds"].as_u64().expect("a number") <= 5);
    // A short pause is no reason to be taken out of service.
    assert_eq!(get(relay.http(), "/readyz").await.0, 200);
    assert!(relay.history().await.is_empty());

    forward(socket.listen(16).expect("a listener"), place.sandbox.smtp_address());
    pass(Duration::from_secs(5)).await;
    assert_eq!(subjects(&place.arrivals(1).await), ["patient"]);
    assert_eq!(relay.settled(1).await[0].attempts, 1, "an outage costs no attempt");
    assert!(relay.status().await["relay_pause"].is_null());
    relay.stop().await;
}

#[tokio::test]
async fn a_mailbox_that_the_token_does_not_open_pauses_its_lane_with_the_cure() {
    let mut place = Place::new().await;
    place.set("office365.mailbox=nobody@sandbox.example");
    let relay = place.relay().await;
    let text = mail(MAILBOX, "patient");
    relay.client().await.send(MAILBOX, &["somebody@example.com"], &text).await;
    let lane = until("a pause", async || {
        let lane = relay.status().await["lanes"][0].clone();
        (!lane["pause"].is_null()).then_some(lane)
    })
    .await;
    assert_eq!((&lane["name"], &lane["queued"]), (&"nobody@sandbox.example".into(), &1.into()));
    let reason = lane["pause"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("535 5.7.3 Authentication unsuccessful"), "{reason}");
    let token = relay.daemon.watched().queue.accounts()[0].token.snapshot().token.expect("a token");
    let object_id = token.object_id().expect("an object id");
    let advice = lane["pause"]["advice"].as_str().expect("advice");
    let cure = format!("-Identity nobody@sandbox.example -User {object_id}");
    assert!(advice.contains(&cure), "{advice}");
    assert!(relay.status().await["relay_pause"].is_null());
    assert!(relay.history().await.is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn a_way_that_breaks_again_and_again_loses_nothing() {
    let mut place = Place::new().await;
    let (socket, port) = closed_port();
    place.set_smtp_port(port);
    // Octets that the first connections carry before they are cut: in the handshake, at the
    // login, in the envelope, in mail data, around the final dot. The others are left alone.
    let cuts = vec![7, 40, 300, 900, 1_800, 3_000, 4_100, 4_400, 4_700, 5_000, 5_300, 6_000, 9_000];
    let most = 30 + cuts.len() as u64;
    forward_and_cut(socket.listen(64).expect("a listener"), place.sandbox.smtp_address(), cuts);
    let relay = place.relay().await;
    let mut client = relay.client().await;
    let subjects: BTreeSet<_> = (0..30).map(|n| format!("n{n}")).collect();
    for subject in &subjects {
        client.send(MAILBOX, &["somebody@example.com"], &mail(MAILBOX, subject)).await;
    }
    let history = until("an empty queue", async || {
        let lane = relay.status().await["lanes"][0].clone();
        if lane["queued"] == 0 {
            return Some(relay.history().await);
        }
        if lane["in_flight"] == 0 {
            pass(Duration::from_secs(61)).await;
        }
        None
    })
    .await;
    relay.stop().await;
    assert_eq!(history.len(), 30);
    assert!(history.iter().all(|row| row.disposition == "relayed"), "{history:?}");
    let arrived = place.seen().into_iter().filter_map(|event| match event {
        Event::Arrived { arrival, .. } => arrival.subject.clone(),
        _ => None,
    });
    assert_eq!(arrived.collect::<BTreeSet<_>>(), subjects);
    // What was cut behind the final dot may have come twice; nothing else.
    assert!(place.sandbox.arrivals() <= most);
    let attempts: u32 = history.iter().map(|row| row.attempts).sum();
    assert!(attempts > 30, "some cut must have hit a transaction");
}

// --- restarts

#[tokio::test]
async fn what_was_queued_before_a_restart_is_delivered_after_it() {
    let mut place = Place::new().await;
    let (_socket, port) = closed_port();
    let right = place.sandbox.smtp_address().port();
    place.set_smtp_port(port);
    let relay = place.relay().await;
    let mut client = relay.client().await;
    let big = "0123456789abcde\r\n".repeat(10_000);
    for n in 0..5 {
        let text = mail(MAILBOX, &format!("n{n}")) + if n % 2 == 0 { "" } else { &big };
        client.send(MAILBOX, &["somebody@example.com"], &text).await;
    }
    relay.stop().await;

    place.set_smtp_port(right);
    let relay = place.relay().await;
    let arrivals = place.arrivals(5).await;
    let mut got = subjects(&arrivals);
    got.sort_unstable();
    assert_eq!(got, ["n0", "n1", "n2", "n3", "n4"]);
    relay.settled(5).await;
    relay.stop().await;
    assert_eq!(place.sandbox.arrivals(), 5);
}

#[tokio::test]
async fn a_message_under_way_at_the_shutdown_is_taken_and_sent_after_the_restart() {
    let mut place = Place::new().await;
    let relay = place.relay().await;
    let (mut idle, mut busy) = (relay.client().await, relay.client().await);
    busy.envelope(MAILBOX, &["somebody@example.com"]).await;
    assert!(busy.say("DATA").await.starts_with("354"));
    let text = mail(MAILBOX, "interrupted");
    let (first, second) = text.split_at(text.len() / 2);
    busy.write(first.as_bytes()).await;
    let stop = tokio::spawn(relay.stop());
    assert!(idle.reply().await.starts_with("421 4.3.2"), "the drain has begun");
    busy.write(second.as_bytes()).await;
    queue_id(&busy.say(".").await);
    assert!(busy.reply().await.starts_with("421 4.3.2"));
    stop.await.expect("an orderly end");
    assert_eq!(place.sandbox.arrivals(), 0);

    let relay = place.relay().await;
    let arrivals = place.arrivals(1).await;
    let got = arrivals[0].mail_data.as_deref().expect("mail data");
    assert!(without_trace(got) == text.as_bytes());
    relay.settled(1).await;
    relay.stop().await;
}

// --- what watches it

#[tokio::test]
async fn health_and_status_tell_all_but_secrets() {
    let place = Place::new().await;
    let relay = place.relay().await;
    until("a token", async || (get(relay.http(), "/readyz").await.0 == 200).then_some(())).await;
    let (_, body) = get(relay.http(), "/readyz").await;
    let readiness: Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "ready": true, "mode": "queue", "reasons": [], "warnings": []
    });
    assert_eq!(readiness, expected);
    assert_eq!(get(relay.http(), "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(relay.http(), "/elsewhere").await.0, 404);

    relay.client().await.send(MAILBOX, &["a@example.com"], &mail(MAILBOX, "one")).await;
    relay.settled(1).await;
    until("the end of the attempt", async || {
        (relay.status().await["lanes"][0]["in_flight"] == 0).then_some(())
    })
    .await;
    let (_, text) = get(relay.http(), "/status").await;
    let status: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["listening"][0], relay.smtp().to_string());
    assert_eq!(status["readiness"]["ready"], true);
    assert_eq!(status["token"]["valid"], true);
    assert!((3_500..3_600).contains(&status["token"]["expires_in_seconds"].as_u64().expect("s")));
    assert!(status["token"]["last_error"].is_null() && status["relay_pause"].is_null());
    let lane = &status["lanes"][0];
    assert_eq!(lane["name"], MAILBOX);
    for number in ["queued", "held", "octets", "in_flight"] {
        assert_eq!(lane[number], 0, "{number} in {lane}");
    }
    assert!(lane["pause"].is_null() && lane["oldest_seconds"].is_null());
    assert_eq!(status["failures"], serde_json::json!([]));

    let token = relay.daemon.watched().queue.accounts()[0].token.snapshot().token.expect("a token");
    assert!(!text.contains(token.secret()));
    assert!(!text.contains(place.sandbox.config().client_secret.expose_secret()));
    relay.stop().await;
}
