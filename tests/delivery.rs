//! The SMTP client against a scripted smarthost: what it sends, to the octet, and what it makes
//! of the replies.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use o365_relay::{
    delivery::{
        Config, NullSender,
        smarthost::{Connection, Share, Smarthost, Verdict},
        trouble::{Stage, Trouble},
    },
    smtp::envelope::{self, MailParameters, Ret},
    store::Entry,
};
use rustls::RootCertStore;
use tokio::time::Instant;

mod support;
use support::{
    dialogue::{
        ALL_OFFERS, FEW_OFFERS, MAILBOX, SECURE, TAKEN, TRANSACTION, auth, config, login,
        login_with, token,
    },
    message::{BODY, Mail, Queue, to},
    upstream::{Upstream, trusting},
};

// --- the client's side

fn smarthost(upstream: &Upstream) -> Smarthost {
    Smarthost::new(config(upstream.port, upstream.tls()))
}

async fn connect(upstream: &Upstream) -> Result<Connection, Trouble> {
    smarthost(upstream).connect(MAILBOX, &token()).await
}

async fn connected(upstream: &Upstream) -> Connection {
    connect(upstream).await.expect("a login")
}

/// What the client makes of a script that does not let it log in.
async fn refused_login(script: &str) -> Trouble {
    let upstream = Upstream::start(&[script]);
    let trouble = connect(&upstream).await.err().expect("no login");
    upstream.finish().await;
    trouble
}

async fn send(
    connection: &mut Connection,
    queue: &Queue,
    entry: &Entry,
) -> Result<Vec<(u32, Verdict)>, Trouble> {
    let body = queue.store.body(entry).await.expect("the body");
    connection.send(entry, body, Share::Accepted).await
}

/// Logs in and sends one message over the script of a transaction.
async fn one_message(
    mail: Mail<'_>,
    script: &str,
) -> (Result<Vec<(u32, Verdict)>, Trouble>, bool, Vec<Vec<u8>>) {
    let upstream = Upstream::start(&[format!("{}{script}", login())]);
    let queue = Queue::new();
    let entry = queue.entry(mail).await;
    let mut connection = connected(&upstream).await;
    let outcome = send(&mut connection, &queue, &entry).await;
    let reusable = connection.is_reusable();
    drop(connection);
    (outcome, reusable, upstream.finish().await)
}

/// Verdicts as text: `0 relayed 250 ...`.
fn told(verdicts: &[(u32, Verdict)]) -> Vec<String> {
    let mut told: Vec<_> = verdicts
        .iter()
        .map(|(position, verdict)| match verdict {
            Verdict::Relayed(taken) => format!("{position} relayed {}", taken.reply()),
            Verdict::Refused(stage, reply) => format!("{position} {} {reply}", stage.label()),
            Verdict::Uncertain(_) => format!("{position} uncertain"),
        })
        .collect();
    told.sort();
    told
}

// --- a connection's life

#[tokio::test]
async fn one_message_goes_through_a_second_without_rset_and_quit_ends_it() {
    let second = "\
C: MAIL FROM:<other@contoso.com> SIZE=24
S: 250 OK
C: RCPT TO:<b@example.net>
S: 251 will forward
C: DATA
S: 354 go ahead
DATA
S: 250-2.0.0 OK
S: 250 2.0.0 <2@x>
C: QUIT
S: 221 2.0.0 bye
CLOSE
";
    let upstream = Upstream::start(&[format!("{}{TRANSACTION}{TAKEN}{second}", login())]);
    let queue = Queue::new();
    let first = queue.entry(Mail::default()).await;
    let other =
        Mail { from: "other@contoso.com", to: vec![to("b@example.net")], ..Mail::default() };
    let other = queue.entry(other).await;
    let mut connection = connected(&upstream).await;

    let verdicts = send(&mut connection, &queue, &first).await.expect("verdicts");
    assert_eq!(told(&verdicts), ["0 relayed 250 2.0.0 OK <1@x> [Hostname=fake]"]);
    assert!(connection.is_reusable());
    let verdicts = send(&mut connection, &queue, &other).await.expect("verdicts");
    assert_eq!(told(&verdicts), ["0 relayed 250 2.0.0 OK <2@x>"]);
    connection.quit().await;
    let sent = upstream.finish().await;
    assert_eq!(sent, [[BODY, b".\r\n"].concat(), [BODY, b".\r\n"].concat()]);
}

#[tokio::test]
async fn a_refused_transaction_is_reset_before_the_next() {
    for refused in [
        "C: MAIL FROM:<app@contoso.com> SIZE=24\nS: 451 4.3.0 not now\n".to_owned(),
        "C: MAIL FROM:<app@contoso.com> SIZE=24\nS: 250 OK\nC: RCPT TO:<a@example.net>\n\
         S: 550 5.1.1 nobody\n"
            .to_owned(),
        TRANSACTION.replace("354 go ahead", "451 4.3.0 not now"),
        format!("{TRANSACTION}DATA\nS: 554 5.6.0 not like this\n"),
    ] {
        let script =
            format!("{}{refused}C: RSET\nS: 250 2.0.0 Resetting\n{TRANSACTION}{TAKEN}", login());
        let upstream = Upstream::start(&[script]);
        let queue = Queue::new();
        let entry = queue.entry(Mail::default()).await;
        let mut connection = connected(&upstream).await;
        let verdicts = send(&mut connection, &queue, &entry).await.expect("verdicts");
        assert!(matches!(verdicts[..], [(0, Verdict::Refused(..))]), "{verdicts:?}");
        assert!(connection.is_reusable(), "{refused}");
        let verdicts = send(&mut connection, &queue, &entry).await.expect("verdicts");
        assert!(matches!(verdicts[..], [(0, Verdict::Relayed(_))]), "{verdicts:?}");
        drop(connection);
        upstream.finish().await;
    }
}

#[tokio::test]
async fn a_connection_carries_no_more_messages_than_configured() {
    let upstream = Upstream::start(&[format!("{}{TRANSACTION}{TAKEN}", login())]);
    let queue = Queue::new();
    let entry = queue.entry(Mail::default()).await;
    let mut config = config(upstream.port, upstream.tls());
    config.max_messages_per_connection = 1;
    let mut connection = Smarthost::new(config).connect(MAILBOX, &token()).await.expect("a login");
    assert!(connection.is_reusable());
    send(&mut connection, &queue, &entry).await.expect("verdicts");
    assert!(!connection.is_reusable());
    drop(connection);
    upstream.finish().await;
}

// --- what goes with MAIL and RCPT

fn everything() -> Mail<'static> {
    let mut first = to("a@example.net");
    first.parameters.notify = Some("SUCCESS,FAILURE".into());
    first.parameters.orcpt = Some("rfc822;a+2Bb@example.net".into());
    Mail {
        to: vec![first, to("b@example.net")],
        parameters: MailParameters {
            size: Some(7), // what the client said; what counts is what we have
            body: envelope::Body::EightBitMime,
            smtputf8: false,
            ret: Some(Ret::Headers),
            envid: Some("QQ314159".into()),
        },
        ..Mail::default()
    }
}

#[tokio::test]
async fn parameters_go_upstream_where_they_are_offered() {
    let mut mail = everything();
    mail.parameters.smtputf8 = true;
    let (verdicts, _, _) = one_message(
        mail,
        "C: MAIL FROM:<app@contoso.com> SIZE=24 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159\n\
         S: 250 OK\n\
         C: RCPT TO:<a@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb@example.net\n\
         S: 250 OK\nC: RCPT TO:<b@example.net>\nS: 250 OK\nC: DATA\nS: 354 go\nDATA\nS: 250 OK\n",
    )
    .await;
    assert_eq!(told(&verdicts.expect("verdicts")), ["0 relayed 250 OK", "1 relayed 250 OK"]);
}

#[tokio::test]
async fn parameters_stay_here_where_they_are_not_offered() {
    let script = "C: MAIL FROM:<app@contoso.com>\nS: 250 OK\nC: RCPT TO:<a@example.net>\n\
                  S: 250 OK\nC: RCPT TO:<b@example.net>\nS: 250 OK\nC: DATA\nS: 354 go\nDATA\n\
                  S: 250 OK\n";
    let upstream = Upstream::start(&[format!("{}{script}", login_with(FEW_OFFERS))]);
    let queue = Queue::new();
    let entry = queue.entry(everything()).await;
    let mut connection = connected(&upstream).await;
    send(&mut connection, &queue, &entry).await.expect("verdicts");
    drop(connection);
    upstream.finish().await;
}

#[tokio::test]
async fn a_null_reverse_path_becomes_the_mailbox_or_is_passed() {
    for (null_sender, line) in [
        (NullSender::Mailbox, "C: MAIL FROM:<relay@contoso.com>"),
        (NullSender::Pass, "C: MAIL FROM:<>"),
    ] {
        let script = format!("{}{line}\nS: 451 4.3.0 enough seen\n", login_with(FEW_OFFERS));
        let upstream = Upstream::start(&[script]);
        let queue = Queue::new();
        let entry = queue.entry(Mail { from: "", ..Mail::default() }).await;
        let config = Config { null_sender, ..config(upstream.port, upstream.tls()) };
        let mut connection =
            Smarthost::new(config).connect(MAILBOX, &token()).await.expect("a login");
        send(&mut connection, &queue, &entry).await.expect("verdicts");
        drop(connection);
        upstream.finish().await;
    }
}

#[tokio::test]
async fn what_upstream_cannot_take_by_its_own_word_is_refused_without_asking() {
    let offers = "S: 250-fake\nS: 250-AUTH XOAUTH2\nS: 250 SIZE 23\n";
    let utf8 = MailParameters { smtputf8: true, ..MailParameters::default() };
    for (offers, parameters, expected) in [
        (
            offers,
            MailParameters::default(),
            "0 MAIL 552 5.3.4 message of 24 octets exceeds upstream's limit of 23",
        ),
        (
            FEW_OFFERS,
            utf8,
            "0 MAIL 550 5.6.7 message needs SMTPUTF8, which upstream does not offer",
        ),
    ] {
        let upstream = Upstream::start(&[login_with(offers)]);
        let queue = Queue::new();
        let entry = queue.entry(Mail { parameters, ..Mail::default() }).await;
        let mut connection = connected(&upstream).await;
        let verdicts = send(&mut connection, &queue, &entry).await.expect("verdicts");
        assert_eq!(told(&verdicts), [expected]);
        assert!(connection.is_reusable());
        drop(connection);
        upstream.finish().await;
    }
}

#[tokio::test]
async fn size_zero_or_without_a_number_limits_nothing() {
    for size in ["SIZE 0", "SIZE"] {
        let offers = format!("S: 250-fake\nS: 250-AUTH=LOGIN XOAUTH2\nS: 250 {size}\n");
        let mail = "C: MAIL FROM:<app@contoso.com>";
        let script = format!("{}{mail}", login_with(&offers));
        let script = if size == "SIZE 0" { format!("{script} SIZE=24") } else { script };
        let upstream = Upstream::start(&[format!("{script}\nS: 451 4.3.0 enough seen\n")]);
        let queue = Queue::new();
        let entry = queue.entry(Mail::default()).await;
        let mut connection = connected(&upstream).await;
        let verdicts = send(&mut connection, &queue, &entry).await.expect("verdicts");
        assert_eq!(told(&verdicts), ["0 MAIL 451 4.3.0 enough seen"]);
        drop(connection);
        upstream.finish().await;
    }
}

// --- mail data

#[tokio::test]
async fn mail_data_is_stuffed_and_ends_in_one_final_dot() {
    let long_line = [vec![b'x'; 300_000], b"\r\n".to_vec()].concat();
    let dots = b".\r\n..\r\n...\r\n.x\r\nx.\r\n.\r\n".repeat(20_000);
    let stuffed_dots = b"..\r\n...\r\n....\r\n..x\r\nx.\r\n..\r\n".repeat(20_000);
    let bodies: [(&[u8], &[u8]); 12] = [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"no line end", b"no line end\r\n.\r\n"),
        (b"", b"\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"a\r\n\r\n\r\n", b"a\r\n\r\n\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
        (b"\x00\xff\x80 \xc3\xbc\r\n", b"\x00\xff\x80 \xc3\xbc\r\n.\r\n"),
        (&long_line, &[&long_line[..], b".\r\n"].concat()),
        (&dots, &[&stuffed_dots[..], b".\r\n"].concat()),
    ];
    let queue = Queue::new();
    let mut script = login_with(FEW_OFFERS);
    let mut entries = Vec::new();
    for (body, _) in bodies {
        script += "C: MAIL FROM:<app@contoso.com>\nS: 250 OK\nC: RCPT TO:<a@example.net>\n\
                   S: 250 OK\nC: DATA\nS: 354 go\nDATA\nS: 250 OK\n";
        entries.push(queue.entry(Mail { body, ..Mail::default() }).await);
    }
    let upstream = Upstream::start(&[script]);
    let mut connection = connected(&upstream).await;
    for entry in &entries {
        let verdicts = send(&mut connection, &queue, entry).await.expect("verdicts");
        assert_eq!(told(&verdicts), ["0 relayed 250 OK"]);
    }
    drop(connection);
    for (sent, (body, expected)) in upstream.finish().await.iter().zip(bodies) {
        let start = String::from_utf8_lossy(&body[..body.len().min(40)]);
        assert!(sent == expected, "{start:?} was sent as {} octets", sent.len());
    }
}

#[tokio::test]
async fn a_body_file_that_is_cut_short_never_gets_its_final_dot() {
    let body = b"0123456789abcde\r\n".repeat(20_000);
    let script = format!(
        "{}C: MAIL FROM:<app@contoso.com> SIZE={}\nS: 250 OK\nC: RCPT TO:<a@example.net>\n\
         S: 250 OK\nC: DATA\nS: 354 go\nDATA\n",
        login(),
        body.len()
    );
    let upstream = Upstream::start(&[script]);
    let queue = Queue::new();
    let entry = queue.entry(Mail { body: &body, ..Mail::default() }).await;
    let mut connection = connected(&upstream).await;

    let opened = queue.store.body(&entry).await.expect("the body");
    let file = std::fs::OpenOptions::new().write(true).open(queue.body_file(&entry));
    file.and_then(|file| file.set_len(200_000)).expect("a shorter file");
    let trouble = connection.send(&entry, opened, Share::Accepted).await.expect_err("trouble");
    assert!(matches!(trouble, Trouble::Damaged { .. }), "{trouble}");
    assert!(!connection.is_reusable());
    drop(connection);
    let fault = upstream.fault().await;
    assert!(fault.contains("at MailData"), "the mail data must not end: {fault}");

    let error = queue.store.body(&entry).await.expect_err("a damaged body");
    assert!(error.is_missing_body(), "{error}");
    assert!(error.to_string().contains("200000 octets of 340000"), "{error}");
}

// --- no way in: nothing of a message is sent

#[tokio::test]
async fn without_starttls_nothing_is_sent() {
    let trouble =
        refused_login("S: 220 fake\nC: EHLO relay.contoso.com\nS: 250-fake\nS: 250 AUTH XOAUTH2\n")
            .await;
    assert_eq!(trouble.stage(), Stage::StartTls);
    assert!(trouble.to_string().contains("does not offer STARTTLS; nothing was sent"), "{trouble}");
}

#[tokio::test]
async fn plain_text_behind_the_reply_to_starttls_is_refused() {
    let hello = "S: 220 fake\nC: EHLO relay.contoso.com\nS: 250-fake\nS: 250 STARTTLS\n";
    let trouble =
        refused_login(&format!("{hello}C: STARTTLS\nS: 220 go\nS: 250-injected\nS: 250 AUTH\n"))
            .await;
    assert_eq!(trouble.stage(), Stage::StartTls);
    assert!(trouble.to_string().contains("plain text came after"), "{trouble}");
}

/// Up to a handshake that the client must not go through with.
fn untrusted() -> String {
    SECURE.replace("\nTLS\nC: EHLO relay.contoso.com", "\nTLS FAILS")
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let upstream = Upstream::start_as("smtp.example.org", &[untrusted()]);
    let trouble = connect(&upstream).await.err().expect("no login");
    upstream.finish().await;
    assert_eq!(trouble.stage(), Stage::Tls);
    assert!(trouble.to_string().contains("check office365.smtp_host"), "{trouble}");
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let upstream = Upstream::start(&[untrusted()]);
    let nobody = trusting(RootCertStore::empty());
    let smarthost = Smarthost::new(config(upstream.port, nobody));
    let trouble = smarthost.connect(MAILBOX, &token()).await.err().expect("no login");
    upstream.finish().await;
    assert_eq!(trouble.stage(), Stage::Tls);
    assert!(trouble.to_string().contains("office365.ca_file"), "{trouble}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_named() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port"); // bound, so that nobody takes it
    let port = socket.local_addr().expect("an address").port();
    let smarthost = Smarthost::new(config(port, trusting(RootCertStore::empty())));
    let trouble = smarthost.connect(MAILBOX, &token()).await.err().expect("no login");
    assert_eq!(trouble.stage(), Stage::Connect);
    assert!(trouble.to_string().contains(&format!("localhost:{port}")), "{trouble}");
}

#[tokio::test]
async fn whatever_stands_between_the_offers_is_no_obstacle() {
    for between in ["S: 250- ", "S: 250-\t \u{b}", "S: 250-\u{c}\0", "S: 250-", "S: 250-AUTH"] {
        let offers = FEW_OFFERS.replace("S: 250 ", &format!("{between}\nS: 250 "));
        let upstream = Upstream::start(&[format!("{}C: QUIT\nS: 221 bye\n", login_with(&offers))]);
        connect(&upstream)
            .await
            .unwrap_or_else(|trouble| panic!("{trouble}: {between:?}"))
            .quit()
            .await;
        upstream.finish().await;
    }
}

#[tokio::test]
async fn refusals_up_to_the_login_keep_upstreams_words() {
    let tls_hello = |reply: &str| format!("{SECURE}{reply}\n");
    let auth_reply = |reply: &str| format!("{SECURE}{ALL_OFFERS}{}{reply}\n", auth());
    for (script, stage, words) in [
        ("S: 554 5.3.2 no\n".to_owned(), Stage::Greeting, "554 5.3.2 no"),
        (
            "S: 421-4.3.2 busy\nS: 421 4.3.2 come back\n".to_owned(),
            Stage::Greeting,
            "421 4.3.2 busy come back",
        ),
        (
            "S: 220 fake\nC: EHLO relay.contoso.com\nS: 501 5.5.4 Invalid domain name\n".to_owned(),
            Stage::Ehlo,
            "501 5.5.4 Invalid domain name",
        ),
        (
            SECURE.replace("220 2.0.0 ready\nTLS\nC: EHLO relay.contoso.com", "454 4.7.0 no TLS"),
            Stage::StartTls,
            "454 4.7.0 no TLS",
        ),
        (
            tls_hello("S: 501 5.5.4 odd name\nC: QUIT\nS: 221 bye"),
            Stage::Ehlo,
            "501 5.5.4 odd name",
        ),
        (
            tls_hello("S: 250-fake\nS: 250 AUTH LOGIN PLAIN"),
            Stage::Auth,
            "504 5.7.4 the server's EHLO reply does not offer AUTH XOAUTH2",
        ),
        (
            format!("{SECURE}{ALL_OFFERS}C: AUTH XOAUTH2\nS: 504 5.7.4 Unrecognized\n"),
            Stage::Auth,
            "504 5.7.4 Unrecognized",
        ),
        (
            auth_reply("S: 535 5.7.3 Authentication unsuccessful [HOST time id]"),
            Stage::Auth,
            "535 5.7.3 Authentication unsuccessful [HOST time id]",
        ),
        (auth_reply("S: 454 4.7.0 back end"), Stage::Auth, "454 4.7.0 back end"),
    ] {
        match refused_login(&script).await {
            Trouble::Refused { stage: found, reply } => {
                assert_eq!((found, reply.to_string().as_str()), (stage, words), "{script}");
            }
            trouble => panic!("{trouble} by {script}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_reply_is_shown_on_one_line() {
    for (script, expected) in [
        ("S: 650 OK\n", r#"this is no SMTP reply: "650 OK\r\n" (during MAIL)"#),
        ("S: \u{1b}[2J\n", r#"this is no SMTP reply: "\u{1b}[2J\r\n" (during MAIL)"#),
        ("S: 250-a\nS: 550 b\n", r#"this is no SMTP reply: "250-a\r\n550 b\r\n" (during MAIL)"#),
        ("S| 250 cut o\nCLOSE\n", "the server closed the connection (during MAIL)"),
    ] {
        let mail = "C: MAIL FROM:<app@contoso.com> SIZE=24\n";
        let (outcome, reusable, _) = one_message(Mail::default(), &format!("{mail}{script}")).await;
        let trouble = outcome.expect_err("no verdicts");
        assert_eq!((trouble.to_string().as_str(), reusable), (expected, false));
    }
    let trouble = refused_login(&format!("{SECURE}S: SSH-2.0-OpenSSH\n")).await;
    let expected = r#"this is no SMTP reply: "SSH-2.0-OpenSSH\r\n" (during EHLO)"#;
    assert_eq!(trouble.to_string(), expected);
}

#[tokio::test]
async fn a_reply_that_came_too_early_is_not_shown_as_it_came() {
    let early = "S: 235 2.7.0 in\nS: 550 5.1.1 \u{1b}[2J\nC: MAIL FROM:*\n";
    let upstream = Upstream::start(&[format!("{SECURE}{ALL_OFFERS}{}{early}", auth())]);
    let queue = Queue::new();
    let entry = queue.entry(Mail::default()).await;
    let mut connection = connected(&upstream).await;
    let trouble = send(&mut connection, &queue, &entry).await.expect_err("no verdicts");
    assert_eq!(trouble.to_string(), "the server answered before it was asked (during MAIL)");
}

#[tokio::test]
async fn a_reply_without_an_end_is_not_read_to_it() {
    let endless = "x".repeat(70_000);
    for script in [
        format!("{SECURE}S| {endless}\nCLOSE\n"),
        format!("{SECURE}{ALL_OFFERS}C: AUTH XOAUTH2\nS| {endless}\nCLOSE\n"),
    ] {
        let upstream = Upstream::start(&[script]);
        let trouble = connect(&upstream).await.err().expect("no login");
        assert!(trouble.to_string().starts_with("the server's reply never ends"), "{trouble}");
    }
}

#[tokio::test]
async fn a_refusal_with_a_challenge_keeps_both_texts() {
    let challenge = STANDARD.encode(r#"{"status":"400","schemes":"bearer"}"#);
    let end = "C: \nS: 535 5.7.3 Authentication unsuccessful\n";
    let trouble =
        refused_login(&format!("{SECURE}{ALL_OFFERS}{}S: 334 {challenge}\n{end}", auth())).await;
    let text = trouble.to_string();
    assert!(text.contains("535 5.7.3 Authentication unsuccessful"), "{text}");
    assert!(text.contains(r#"{"status":"400","schemes":"bearer"}"#), "{text}");
}

#[tokio::test]
async fn the_token_is_in_no_trouble() {
    let echo = STANDARD.encode("user=relay@contoso.com\x01auth=Bearer token-1\x01\x01");
    for end in ["S: 535 5.7.3 no\n".to_owned(), "CLOSE\n".to_owned()] {
        let trouble = refused_login(&format!("{SECURE}{ALL_OFFERS}{}{end}", auth())).await;
        let text = format!("{trouble} {trouble:?}");
        assert!(!text.contains("token-1") && !text.contains(&echo), "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_before_the_login_is_broken_where_it_ended() {
    let hello = "S: 220 fake\nC: EHLO relay.contoso.com\n";
    for (script, stage) in [
        ("CLOSE\n".to_owned(), Stage::Greeting),
        ("S: garbage\n".to_owned(), Stage::Greeting),
        ("S| 220 cut\nCLOSE\n".to_owned(), Stage::Greeting),
        (format!("{hello}CLOSE\n"), Stage::Ehlo),
        (format!("{hello}S: 250-fake\nS: 251 STARTTLS\n"), Stage::Ehlo),
        (format!("{hello}S: 250-fake\nS: 250 STARTTLS\nC: STARTTLS\nCLOSE\n"), Stage::StartTls),
        (SECURE.replace("\nTLS\nC: EHLO relay.contoso.com", "\nCLOSE"), Stage::StartTls),
        (format!("{SECURE}CLOSE\n"), Stage::Ehlo),
        (format!("{SECURE}S: hello there\n"), Stage::Ehlo),
        (format!("{SECURE}{ALL_OFFERS}C: AUTH XOAUTH2\nCLOSE\n"), Stage::Auth),
        (format!("{SECURE}{ALL_OFFERS}{}S: 2x5\n", auth()), Stage::Auth),
    ] {
        // A close behind the 220 may be seen before the handshake or in it.
        let trouble = refused_login(&script).await;
        let found = trouble.stage();
        let close_enough = stage == Stage::StartTls && found == Stage::Tls;
        assert!(found == stage || close_enough, "{trouble} by {script}");
        assert!(matches!(trouble, Trouble::Broken { .. }), "{trouble} by {script}");
    }
}

// --- one verdict a recipient

fn three() -> Mail<'static> {
    Mail { to: ["a@x.net", "b@x.net", "c@x.net"].map(to).into(), ..Mail::default() }
}

const MAIL_OK: &str = "C: MAIL FROM:<app@contoso.com> SIZE=24\nS: 250 2.1.0 OK\n";

#[tokio::test]
async fn each_recipient_has_its_own_verdict() {
    let (verdicts, reusable, _) = one_message(
        three(),
        &format!(
            "{MAIL_OK}C: RCPT TO:<a@x.net>\nS: 250 OK\nC: RCPT TO:<b@x.net>\n\
             S: 550-5.1.10 no\nS: 550 5.1.10 such user\nC: RCPT TO:<c@x.net>\nS: 250 OK\n\
             C: DATA\nS: 354 go\nDATA\nS: 250 2.0.0 OK\n"
        ),
    )
    .await;
    assert_eq!(
        told(&verdicts.expect("verdicts")),
        ["0 relayed 250 2.0.0 OK", "1 RCPT 550 5.1.10 no such user", "2 relayed 250 2.0.0 OK"]
    );
    assert!(reusable);
}

#[tokio::test]
async fn where_all_or_nobody_gets_it_one_refusal_keeps_the_mail_data_back() {
    let script = format!(
        "{}{MAIL_OK}C: RCPT TO:<a@x.net>\nS: 250 OK\nC: RCPT TO:<b@x.net>\n\
         S: 550 5.1.10 no such user\nC: RCPT TO:<c@x.net>\nS: 450 4.2.1 busy\n\
         C: RSET\nS: 250 2.0.0 Resetting\n\
         {MAIL_OK}C: RCPT TO:<a@x.net>\nS: 250 OK\nC: RCPT TO:<b@x.net>\nS: 250 OK\n\
         C: RCPT TO:<c@x.net>\nS: 250 OK\nC: DATA\nS: 354 go\n{TAKEN}",
        login()
    );
    let (upstream, queue) = (Upstream::start(&[script]), Queue::new());
    let entry = queue.entry(three()).await;
    let mut connection = connected(&upstream).await;
    for expected in [
        &["1 RCPT 550 5.1.10 no such user", "2 RCPT 450 4.2.1 busy"][..],
        &[0, 1, 2]
            .map(|at| format!("{at} relayed 250 2.0.0 OK <1@x> [Hostname=fake]"))
            .each_ref()
            .map(String::as_str),
    ] {
        let body = queue.store.body(&entry).await.expect("the body");
        let verdicts = connection.send(&entry, body, Share::All).await.expect("verdicts");
        assert_eq!(told(&verdicts), expected);
        assert!(connection.is_reusable());
    }
    drop(connection);
    assert_eq!(upstream.finish().await.len(), 1);
}

#[tokio::test]
async fn with_every_recipient_refused_no_data_is_sent() {
    let (verdicts, _, _) = one_message(
        three(),
        &format!(
            "{MAIL_OK}C: RCPT TO:<a@x.net>\nS: 550 5.1.1 a\nC: RCPT TO:<b@x.net>\n\
             S: 450 4.2.1 b\nC: RCPT TO:<c@x.net>\nS: 550 5.1.1 c\n"
        ),
    )
    .await;
    assert_eq!(
        told(&verdicts.expect("verdicts")),
        ["0 RCPT 550 5.1.1 a", "1 RCPT 450 4.2.1 b", "2 RCPT 550 5.1.1 c"]
    );
}

#[tokio::test]
async fn too_many_recipients_leave_the_rest_for_later() {
    let (verdicts, _, sent) = one_message(
        three(),
        &format!(
            "{MAIL_OK}C: RCPT TO:<a@x.net>\nS: 250 OK\nC: RCPT TO:<b@x.net>\n\
             S: 452 4.5.3 Too many recipients\nC: DATA\nS: 354 go\nDATA\nS: 250 OK\n"
        ),
    )
    .await;
    assert_eq!(
        told(&verdicts.expect("verdicts")),
        [
            "0 relayed 250 OK",
            "1 RCPT 452 4.5.3 Too many recipients",
            "2 RCPT 452 4.5.3 Too many recipients"
        ]
    );
    assert_eq!(sent.len(), 1);
}

#[tokio::test]
async fn a_server_that_closes_at_a_recipient_is_taken_at_its_word() {
    let (verdicts, reusable, _) = one_message(
        three(),
        &format!(
            "{MAIL_OK}C: RCPT TO:<a@x.net>\nS: 250 OK\nC: RCPT TO:<b@x.net>\n\
             S: 421 4.3.2 Service not available\n"
        ),
    )
    .await;
    let verdicts = told(&verdicts.expect("verdicts"));
    let expected = [0, 1, 2].map(|at| format!("{at} RCPT 421 4.3.2 Service not available"));
    assert_eq!(verdicts, expected);
    assert!(!reusable);
}

/// One message to three, to a server that offers PIPELINING: it answers nothing before it has read
/// MAIL and every RCPT.
async fn pipelined(replies: &str, then: &str) -> (Result<Vec<(u32, Verdict)>, Trouble>, bool) {
    let offers = ALL_OFFERS.replace("S: 250-DSN", "S: 250-PIPELINING\nS: 250-DSN");
    let script = format!(
        "{}C: MAIL FROM:<app@contoso.com> SIZE=24\nC: RCPT TO:<a@x.net>\nC: RCPT TO:<b@x.net>\n\
         C: RCPT TO:<c@x.net>\n{replies}{then}",
        login_with(&offers)
    );
    let (upstream, queue) = (Upstream::start(&[script]), Queue::new());
    let entry = queue.entry(three()).await;
    let mut connection = connected(&upstream).await;
    let outcome = send(&mut connection, &queue, &entry).await;
    let reusable = connection.is_reusable();
    drop(connection);
    upstream.finish().await;
    (outcome, reusable)
}

#[tokio::test]
async fn mail_and_recipients_leave_in_one_write_where_that_is_offered() {
    let data = "C: DATA\nS: 354 go\nDATA\nS: 250 OK\n";
    let refused = "S: 250-5.1.1 a\nS: 250 5.1.1 b\nS: 550-5.1.1 no\nS: 550 5.1.1 such user\n";
    let full = "S: 452 4.5.3 full\n";
    let nobody = "S: 503 5.5.2 what\n".repeat(3);
    for (replies, then, expected, reused) in [
        (
            format!("S: 250 OK\n{refused}S: 250 OK\n"),
            data,
            ["0 relayed 250 OK", "1 RCPT 550 5.1.1 no such user", "2 relayed 250 OK"],
            true,
        ),
        (
            format!("S: 250 OK\n{full}S: 250 OK\n{full}"),
            data,
            ["0 RCPT 452 4.5.3 full", "1 relayed 250 OK", "2 RCPT 452 4.5.3 full"],
            true,
        ),
        (
            format!("S: 554 5.2.252 no\n{nobody}"),
            "",
            ["0 MAIL 554 5.2.252 no", "1 MAIL 554 5.2.252 no", "2 MAIL 554 5.2.252 no"],
            true,
        ),
        (
            "S: 421 4.4.2 idle\n".into(),
            "CLOSE\n",
            ["0 MAIL 421 4.4.2 idle", "1 MAIL 421 4.4.2 idle", "2 MAIL 421 4.4.2 idle"],
            false,
        ),
        (
            "S: 250 OK\nS: 250 OK\nS: 421 4.3.2 bye\n".into(),
            "CLOSE\n",
            ["0 RCPT 421 4.3.2 bye", "1 RCPT 421 4.3.2 bye", "2 RCPT 421 4.3.2 bye"],
            false,
        ),
        (
            "S: 550 5.7.1 no\nS: 503 5.5.2 what\n".into(),
            "CLOSE\n",
            ["0 MAIL 550 5.7.1 no", "1 MAIL 550 5.7.1 no", "2 MAIL 550 5.7.1 no"],
            false,
        ),
    ] {
        let (outcome, reusable) = pipelined(&replies, then).await;
        let mut verdicts = told(&outcome.expect("verdicts"));
        verdicts.sort();
        assert_eq!(
            (&verdicts[..], reusable),
            (&expected.map(String::from)[..], reused),
            "{replies}"
        );
    }
}

#[tokio::test]
async fn a_missing_reply_to_one_of_several_lines_is_told_by_its_stage() {
    for (replies, stage) in [("", Stage::Mail), ("S: 250 OK\nS: 250 OK\n", Stage::Rcpt)] {
        let (outcome, reusable) = pipelined(replies, "CLOSE\n").await;
        let trouble = outcome.expect_err("trouble");
        assert!(matches!(trouble, Trouble::Broken { .. }), "{trouble}");
        assert_eq!((trouble.stage(), reusable), (stage, false), "{trouble}");
    }
    // A reply too many must not be taken for that to DATA, which is not even sent.
    let (outcome, reusable) = pipelined(&"S: 250 OK\n".repeat(5), "").await;
    assert_eq!((outcome.expect_err("trouble").stage(), reusable), (Stage::Data, false));
}

#[tokio::test]
async fn refusals_from_mail_on_keep_stage_and_words() {
    let to = "C: RCPT TO:<a@example.net>\nS: 250 OK\n";
    for (script, expected) in [
        (MAIL_OK.replace("250 2.1.0 OK", "530 5.7.57 no"), "0 MAIL 530 5.7.57 no"),
        (format!("{MAIL_OK}{to}C: DATA\nS: 432 4.3.2 busy\n"), "0 DATA 432 4.3.2 busy"),
        (format!("{MAIL_OK}{to}C: DATA\nS: 250 what\n"), "0 DATA 250 what"),
        (
            format!("{MAIL_OK}{to}C: DATA\nS: 354 go\nDATA\nS: 554 5.2.252 SendAsDenied\n"),
            "0 end of mail data 554 5.2.252 SendAsDenied",
        ),
        (
            format!("{MAIL_OK}{to}C: DATA\nS: 354 go\nDATA\nS: 451 4.7.0 later\n"),
            "0 end of mail data 451 4.7.0 later",
        ),
    ] {
        let (verdicts, _, _) = one_message(Mail::default(), &script).await;
        assert_eq!(told(&verdicts.expect("verdicts")), [expected]);
    }
}

#[tokio::test]
async fn words_that_are_no_ascii_do_not_hide_a_reply() {
    let (verdicts, reusable, _) =
        one_message(Mail::default(), &format!("{TRANSACTION}DATA\nS: 250 2.0.0 d\u{e9}j\u{e0}\n"))
            .await;
    assert_eq!(told(&verdicts.expect("verdicts")), ["0 relayed 250 2.0.0 d?j?"]);
    assert!(reusable);
}

// --- broken connections

#[tokio::test]
async fn a_connection_that_breaks_before_the_final_dot_has_relayed_nothing() {
    let big = [b"x".repeat(70).as_slice(), b"\r\n"].concat().repeat(200_000);
    let size = format!("SIZE={}", big.len());
    for (body, script, stage) in [
        (BODY, "C: MAIL FROM:<app@contoso.com> SIZE=24\nCLOSE\n".to_owned(), Stage::Mail),
        (BODY, format!("{MAIL_OK}C: RCPT TO:<a@example.net>\nCLOSE\n"), Stage::Rcpt),
        (BODY, format!("{MAIL_OK}C: RCPT TO:<a@example.net>\nS: 2 5 0\n"), Stage::Rcpt),
        (BODY, TRANSACTION.replace("S: 354 go ahead", "CLOSE"), Stage::Data),
        (
            &big,
            format!("{}READ 100000\nCLOSE\n", TRANSACTION.replace("SIZE=24", &size)),
            Stage::MailData,
        ),
    ] {
        let (outcome, reusable, _) = one_message(Mail { body, ..Mail::default() }, &script).await;
        let trouble = outcome.expect_err("trouble");
        assert!(matches!(trouble, Trouble::Broken { .. }), "{trouble}");
        assert_eq!(trouble.stage(), stage, "{trouble}");
        assert!(!reusable, "{script}");
    }
}

#[tokio::test]
async fn after_the_final_dot_anything_but_a_reply_leaves_it_uncertain() {
    for end in ["CLOSE\n", "S| 250 2.0.\nCLOSE\n", "S: 250-2.0.0 a\nCLOSE\n", "S: queued\n"] {
        let (verdicts, reusable, _) =
            one_message(Mail::default(), &format!("{TRANSACTION}DATA\n{end}")).await;
        let verdicts = verdicts.expect("verdicts");
        assert!(matches!(verdicts[..], [(0, Verdict::Uncertain(_))]), "{end}: {verdicts:?}");
        assert!(!reusable, "{end}");
    }
}

#[tokio::test]
async fn a_verdict_counts_though_the_server_says_goodbye_with_it() {
    let (verdicts, reusable, _) = one_message(
        Mail::default(),
        &format!("{TRANSACTION}DATA\nS: 250 2.0.0 OK\nS: 421 4.4.2 closing\nCLOSE\n"),
    )
    .await;
    assert_eq!(told(&verdicts.expect("verdicts")), ["0 relayed 250 2.0.0 OK"]);
    assert!(!reusable);
}

#[tokio::test]
async fn a_server_that_closes_with_a_421_gets_no_further_message() {
    for script in [
        format!("{TRANSACTION}DATA\nS: 421 4.3.2 closing\n"),
        TRANSACTION.replace("354 go ahead", "421 4.3.2 closing"),
        "C: MAIL FROM:<app@contoso.com> SIZE=24\nS: 421 4.3.2 closing\n".to_owned(),
    ] {
        let (verdicts, reusable, _) = one_message(Mail::default(), &script).await;
        assert!(verdicts.expect("verdicts")[0].1 != Verdict::Uncertain(String::new()));
        assert!(!reusable, "{script}");
    }
}

// --- silence

/// Time on the client's side stands still until the smarthost falls silent, then runs by itself
/// whenever nothing else can happen.
async fn in_silence<T>(upstream: &mut Upstream, work: impl Future<Output = T>) -> (T, Duration) {
    tokio::pin!(work);
    tokio::select! {
        _ = &mut work => panic!("over before the smarthost fell silent"),
        () = upstream.silence() => {}
    }
    // All that the smarthost has to say is in the socket by now.
    tokio::time::pause();
    let since = Instant::now();
    let outcome = work.await;
    let waited = since.elapsed();
    tokio::time::resume();
    (outcome, waited)
}

/// The wait began a moment before time stood still.
fn about(seconds: u64, waited: Duration) -> bool {
    (seconds - 1..=seconds + 1).contains(&waited.as_secs())
}

#[tokio::test]
async fn silence_before_the_login_is_not_waited_out_for_ever() {
    let hello = "S: 220 fake\nC: EHLO relay.contoso.com\n";
    for (script, stage, seconds) in [
        ("SILENCE\n".to_owned(), Stage::Greeting, 300),
        ("S| 220 half\nSILENCE\n".to_owned(), Stage::Greeting, 300),
        (format!("{hello}SILENCE\n"), Stage::Ehlo, 300),
        (
            format!("{hello}S: 250-fake\nS: 250 STARTTLS\nC: STARTTLS\nSILENCE\n"),
            Stage::StartTls,
            300,
        ),
        (SECURE.replace("\nTLS\nC: EHLO relay.contoso.com", "\nREAD 5\nSILENCE"), Stage::Tls, 60),
        (format!("{SECURE}SILENCE\n"), Stage::Ehlo, 300),
        (format!("{SECURE}{ALL_OFFERS}C: AUTH XOAUTH2\nSILENCE\n"), Stage::Auth, 300),
        (format!("{SECURE}{ALL_OFFERS}{}SILENCE\n", auth()), Stage::Auth, 300),
    ] {
        let mut upstream = Upstream::start(&[&script]);
        let smarthost = smarthost(&upstream);
        let (outcome, waited) =
            in_silence(&mut upstream, smarthost.connect(MAILBOX, &token())).await;
        let trouble = outcome.err().expect("no login");
        assert_eq!(trouble.stage(), stage, "{trouble}");
        assert!(about(seconds, waited), "{trouble} after {waited:?}");
        upstream.finish().await;
    }
}

#[tokio::test]
async fn silence_within_a_transaction_is_not_waited_out_for_ever() {
    let big = [b"x".repeat(70).as_slice(), b"\r\n"].concat().repeat(400_000);
    let big_transaction = TRANSACTION.replace("SIZE=24", &format!("SIZE={}", big.len()));
    for (body, script, stage, seconds) in [
        (BODY, "C: MAIL FROM:<app@contoso.com> SIZE=24\nSILENCE\n".to_owned(), Stage::Mail, 300),
        (BODY, format!("{MAIL_OK}C: RCPT TO:<a@example.net>\nSILENCE\n"), Stage::Rcpt, 300),
        (BODY, TRANSACTION.replace("S: 354 go ahead", "SILENCE"), Stage::Data, 120),
        (&big[..], format!("{big_transaction}SILENCE\n"), Stage::MailData, 180),
        (BODY, format!("{TRANSACTION}DATA\nSILENCE\n"), Stage::EndOfData, 600),
    ] {
        let mut upstream = Upstream::start(&[format!("{}{script}", login())]);
        let queue = Queue::new();
        let entry = queue.entry(Mail { body, ..Mail::default() }).await;
        let mut connection = connected(&upstream).await;
        let body = queue.store.body(&entry).await.expect("the body");
        let sending = connection.send(&entry, body, Share::Accepted);
        let (outcome, waited) = in_silence(&mut upstream, sending).await;
        match outcome {
            Err(trouble) => assert_eq!(trouble.stage(), stage, "{trouble}"),
            Ok(verdicts) => {
                assert_eq!(stage, Stage::EndOfData);
                assert!(matches!(verdicts[..], [(0, Verdict::Uncertain(_))]), "{verdicts:?}");
            }
        }
        assert!(about(seconds, waited), "{stage:?} after {waited:?}");
        assert!(!connection.is_reusable());
        upstream.finish().await;
    }
}
