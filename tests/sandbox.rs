//! The fake tenant, driven over real sockets by a client that knows nothing of its insides.

#[path = "support/sandbox_client.rs"]
mod sandbox_client;

use std::{path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use o365_relay::sandbox::{Config, Event, Sandbox, SandboxError, SendAs};
use secrecy::ExposeSecret;
use tokio::net::TcpStream;

use self::sandbox_client::*;

// --- the token endpoint

#[tokio::test]
async fn a_token_is_issued_as_entra_does() {
    let sandbox = start(Config::default()).await;
    let mut events = sandbox.subscribe();
    let request = TokenRequest::new(sandbox.config()).at("Sandbox.Example");
    let (status, answer) = request.send(&sandbox).await;
    assert_eq!(status, 200);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!((&answer["expires_in"], &answer["ext_expires_in"]), (&3599.into(), &3599.into()));
    assert_eq!(answer["access_token"].as_str().unwrap().split('.').count(), 3);
    assert!(matches!(
        events.try_recv().unwrap(),
        Event::TokenIssued { client_id, .. } if client_id == sandbox.config().client_id
    ));
}

#[tokio::test]
async fn each_mistake_in_a_token_request_has_its_own_answer() {
    let sandbox = start(Config::default()).await;
    let right = || TokenRequest::new(sandbox.config());
    let other = "00000000-1111-4222-8333-444444444444";
    let get = TokenRequest { method: "GET", ..right() };
    let json = TokenRequest { content_type: "application/json", ..right() };
    let typeless = || right().without("client_secret").with("client_assertion", "a.b.c");
    let jwt = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let assertion = typeless().with("client_assertion_type", jwt);
    let saml = typeless().with("client_assertion_type", "saml2-bearer");
    let large = right().with("padding", &"x".repeat(22_000));
    let cases = [
        (right().at(other), 400, "invalid_request", 90_002),
        (right().at("other.example"), 400, "invalid_request", 90_002),
        (right().at("your-tenant"), 400, "invalid_request", 900_023),
        (right().at("%7Btenant%7D"), 400, "invalid_request", 900_023),
        (right().at("common"), 400, "invalid_request", 9_001_023),
        (right().at("a/b"), 404, "invalid_request", 9_002_313),
        (right().with("client_id", other), 400, "unauthorized_client", 700_016),
        (right().with("client_secret", "wrong"), 401, "invalid_client", 7_000_215),
        (right().without("client_secret"), 401, "invalid_client", 7_000_218),
        (right().with("client_secret", ""), 401, "invalid_client", 7_000_218),
        (assertion, 401, "invalid_client", 50_027),
        (typeless(), 400, "invalid_request", 900_144),
        (saml, 400, "invalid_request", 9_002_313),
        (right().with("scope", "SMTP.Send"), 400, "invalid_scope", 70_011),
        (
            right().with("scope", "https://outlook.office.com/SMTP.Send"),
            400,
            "invalid_scope",
            1_002_012,
        ),
        (right().with("scope", "https://other.example/.default"), 400, "invalid_resource", 500_011),
        (right().without("scope"), 400, "invalid_request", 900_144),
        (right().without("client_id"), 400, "invalid_request", 900_144),
        (right().without("grant_type"), 400, "invalid_request", 900_144),
        (right().with("resource", "x"), 400, "invalid_request", 901_002),
        (right().with("grant_type", "password"), 400, "unsupported_grant_type", 70_003),
        (json, 400, "invalid_request", 900_144),
        (large, 413, "invalid_request", 9_002_313),
        (get, 400, "invalid_request", 900_561),
    ];
    let mut events = sandbox.subscribe();
    for (request, status, error, code) in cases {
        let (was, answer) = request.send(&sandbox).await;
        assert_eq!((was, &answer["error"]), (status, &error.into()), "{answer}");
        assert_eq!(answer["error_codes"], serde_json::json!([code]), "{answer}");
        let description = answer["error_description"].as_str().unwrap();
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        for (label, member) in [
            ("Trace ID", "trace_id"),
            ("Correlation ID", "correlation_id"),
            ("Timestamp", "timestamp"),
        ] {
            let value = answer[member].as_str().expect(member);
            assert!(description.contains(&format!("{label}: {value}")), "{description}");
        }
        assert!(answer["error_uri"].as_str().unwrap().ends_with(&format!("?code={code}")));
        match events.try_recv().unwrap() {
            Event::TokenRefused { code: seen, .. } => assert_eq!(seen, code),
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test]
async fn a_guid_sent_as_client_request_id_comes_back() {
    let sandbox = start(Config::default()).await;
    let id = "0b1c2d3e-4f50-4617-8293-a4b5c6d7e8f9";
    for (sent, same) in [(id, true), ("no-guid", false)] {
        let mut request = TokenRequest::new(sandbox.config()).with("client_secret", "wrong");
        request.headers = format!("client-request-id: {sent}\r\n");
        let (_, answer) = request.send(&sandbox).await;
        assert_eq!(answer["correlation_id"] == sent, same, "{answer}");
    }
}

#[tokio::test]
async fn basic_client_authentication_is_taken_as_well() {
    let sandbox = start(Config::default()).await;
    let config = sandbox.config();
    let secret = config.client_secret.expose_secret().replace('+', "%2B");
    let pair = STANDARD.encode(format!("{}:{secret}", config.client_id));
    let mut request = TokenRequest::new(config).without("client_id").without("client_secret");
    request.headers = format!("Authorization: Basic {pair}\r\n");
    let (status, answer) = request.send(&sandbox).await;
    assert_eq!(status, 200, "{answer}");
}
// --- the submission service

#[tokio::test]
async fn a_message_goes_through_as_at_office_365() {
    let sandbox = start(Config { keep_mail_data: true, ..Config::default() }).await;
    let token = token(&sandbox).await;
    let mut events = sandbox.subscribe();

    let stream = TcpStream::connect(sandbox.smtp_address()).await.unwrap();
    let mut smtp = Smtp { stream, unread: Vec::new() };
    let greeting = smtp.reply().await;
    assert!(greeting.contains(" Microsoft ESMTP MAIL Service ready at "), "{greeting}");
    let id = greeting.rsplit_once(" [").unwrap().1.strip_suffix(']').unwrap();
    assert!(id.len() == 16 && id.bytes().all(|octet| octet.is_ascii_hexdigit()), "{greeting}");
    let offers = |door| {
        format!(
            " Hello [127.0.0.1]/250-SIZE 157286400/250-PIPELINING/250-DSN/\
             250-ENHANCEDSTATUSCODES/250-{door}/250-8BITMIME/250 SMTPUTF8"
        )
    };
    let hello = smtp.say("EHLO client.example").await;
    assert!(hello.ends_with(&offers("STARTTLS")), "{hello}");
    assert_eq!(smtp.say("STARTTLS").await, "220 2.0.0 SMTP server ready");

    let stream: Box<dyn Stream> = Box::new(tls(&sandbox, smtp.stream).await);
    let mut smtp = Smtp { stream, unread: Vec::new() };
    let hello = smtp.say("EHLO client.example").await;
    assert!(hello.ends_with(&offers("AUTH LOGIN XOAUTH2")), "{hello}");
    assert_eq!(smtp.say("AUTH XOAUTH2").await, "334 ");
    let response = xoauth2("Relay@Sandbox.Example", &token);
    assert_eq!(smtp.say(&response).await, "235 2.7.0 Authentication successful");

    smtp.expect("MAIL FROM:<boss@corp.example> SIZE=99 BODY=8BITMIME", "250 2.1.0").await;
    smtp.expect("RCPT TO:<a@b.example> NOTIFY=NEVER", "250 2.1.5").await;
    smtp.expect("RCPT TO:<c@d.example>", "250 2.1.5").await;
    smtp.expect("DATA", "354 ").await;
    let reply = smtp.say(&format!("{MAIL}.")).await;
    assert!(reply.starts_with("250 2.0.0 OK <1@client.example> [Hostname="), "{reply}");
    assert_eq!(smtp.say("QUIT").await, "221 2.0.0 Service closing transmission channel");
    assert_eq!(smtp.reply().await, "");

    assert_eq!(sandbox.arrivals(), 1);
    assert!(matches!(events.try_recv(), Ok(Event::Connected { secured: true, .. })));
    assert!(matches!(
        events.try_recv(),
        Ok(Event::Authenticated { mailbox }) if mailbox == "relay@sandbox.example"
    ));
    let Ok(Event::Arrived { arrival, reply: told }) = events.try_recv() else {
        panic!("no arrival")
    };
    assert_eq!(told, reply);
    assert_eq!((arrival.number, arrival.helo.as_str()), (1, "client.example"));
    assert_eq!(arrival.authenticated_as, "relay@sandbox.example");
    assert_eq!(arrival.reverse_path, "boss@corp.example");
    assert_eq!(arrival.mail_parameters, ["SIZE=99", "BODY=8BITMIME"]);
    let paths: Vec<_> = arrival.forward_paths.iter().map(|path| path.address.as_str()).collect();
    assert_eq!(paths, ["a@b.example", "c@d.example"]);
    assert_eq!(arrival.forward_paths[0].parameters, ["NOTIFY=NEVER"]);
    assert_eq!(arrival.mail_data.as_deref(), Some(MAIL.as_bytes()));
    assert_eq!(arrival.size, MAIL.len() as u64);
    assert_eq!(arrival.subject.as_deref(), Some("hello"));
    assert!(events.try_recv().is_err(), "nothing was refused");
}

#[tokio::test]
async fn a_pipelined_group_and_a_second_message_are_answered_in_order() {
    let sandbox = start(Config::default()).await;
    let mut smtp = ready(&sandbox).await;
    for number in 1..=2 {
        smtp.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<root>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
            .await;
        for start in ["250 2.1.0 ", "501 5.1.3 ", "250 2.1.5 ", "354 "] {
            let reply = smtp.reply().await;
            assert!(reply.starts_with(start), "{reply}");
        }
        // The end of the message may come together with the next commands.
        smtp.send(format!("{MAIL}.\r\nNOOP\r\n")).await;
        assert!(smtp.reply().await.starts_with("250 2.0.0 OK <1@client.example>"));
        assert_eq!(smtp.reply().await, "250 2.0.0 OK");
        assert_eq!(sandbox.arrivals(), number);
    }
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let sandbox = start(Config::default()).await;
    let mut smtp = plain(&sandbox).await;
    smtp.expect("MAIL FROM:<a@b.example>", "503 5.5.2 ").await;
    smtp.expect("STARTTLS", "503 5.5.2 ").await;
    smtp.expect("EHLO client.example", "250-").await;
    smtp.expect("AUTH XOAUTH2", "530 5.7.0 Must issue a STARTTLS command first").await;
    smtp.expect("MAIL FROM:<a@b.example>", "530 5.7.57 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "503 5.5.2 ").await;
    smtp.expect("DATA", "503 5.5.2 ").await;
    smtp.expect("BDAT 1 LAST", "500 5.3.3 ").await;
    smtp.expect("HELO client.example", "250 ").await;
    smtp.expect("STARTTLS", "503 5.5.2 ").await;

    let mut smtp = secured(&sandbox).await;
    smtp.expect("MAIL FROM:<a@b.example>", "530 5.7.57 Client not authenticated").await;
    smtp.expect("STARTTLS", "503 5.5.2 ").await;

    let mut smtp = ready(&sandbox).await;
    smtp.expect("AUTH XOAUTH2", "503 5.5.1 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "503 5.5.2 ").await;
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("MAIL FROM:<a@b.example>", "503 5.5.2 ").await;
    smtp.expect("DATA", "503 5.5.2 ").await;
    smtp.expect("RSET", "250 2.0.0 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "503 5.5.2 ").await;
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("EHLO client.example", "250-").await;
    smtp.expect("RCPT TO:<a@b.example>", "503 5.5.2 ").await;
}

#[tokio::test]
async fn nothing_from_before_the_handshake_counts_after_it() {
    let sandbox = start(Config::default()).await;
    let mut smtp = plain(&sandbox).await;
    smtp.expect("EHLO client.example", "250-").await;
    smtp.expect("STARTTLS", "220 ").await;
    let stream: Box<dyn Stream> = Box::new(tls(&sandbox, smtp.stream).await);
    let mut smtp = Smtp { stream, unread: Vec::new() };
    smtp.expect("AUTH XOAUTH2", "503 5.5.2 Send hello first").await;
}

#[tokio::test]
async fn malformed_commands_are_refused_and_traceable() {
    let sandbox = start(Config { max_message_size: 1_000, ..Config::default() }).await;
    let mut smtp = ready(&sandbox).await;
    let mut events = sandbox.subscribe();
    for (line, reply) in [
        ("EHLO", "501 5.5.4 Invalid domain name"),
        ("EHLO my_host", "501 5.5.4 Invalid domain name"),
        ("MAIL FROM: <a@b.example>", "501 5.1.7 "),
        ("MAIL FROM:<>", "501 5.1.7 "),
        ("MAIL FROM:<a@b.example> SIZE=1001", "552 5.3.4 "),
        ("MAIL FROM:<a@b.example> X=1", "501 5.5.4 "),
        ("MAIL FROM:<ä@b.example>", "553 5.6.7 "),
        ("NOOP a\rb", "500 5.5.2 "),
        ("DATA now", "501 5.5.4 "),
        ("QUIT now", "501 5.5.4 "),
        ("AUTH PLAIN", "503 5.5.1 "),
    ] {
        let told = smtp.expect(line, reply).await;
        let (_, tail) = told.rsplit_once(" [").expect("a tail");
        let parts: Vec<&str> = tail.trim_end_matches(']').split(' ').collect();
        assert!(parts.len() == 3 && parts[1].ends_with('Z') && parts[2].len() == 16, "{told}");
        match events.try_recv() {
            Ok(Event::Refused { reply, .. }) => assert_eq!(reply, told),
            other => panic!("{line}: {other:?}"),
        }
    }
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<ä@b.example>", "553 5.6.7 ").await;
    smtp.expect("RCPT TO:<a@b.example> X=1", "501 5.5.4 ").await;
}

#[tokio::test]
async fn lines_end_in_crlf_and_have_limits() {
    let sandbox = start(Config::default()).await;
    let mut smtp = secured(&sandbox).await;
    let noop = |octets: usize| format!("NOOP {}", "x".repeat(octets - "NOOP \r\n".len()));
    smtp.expect(&noop(2_048), "250 ").await;
    smtp.expect(&noop(2_049), "500 5.5.2 Command too long").await;
    smtp.expect(&noop(100_000), "500 5.5.2 ").await;
    smtp.expect("AUTH XOAUTH2", "334 ").await;
    smtp.expect(&"x".repeat(12_286), "535 5.7.3 ").await;
    smtp.expect("AUTH XOAUTH2", "334 ").await;
    smtp.expect(&"x".repeat(12_287), "500 5.5.2 ").await;
    smtp.expect(&format!("AUTH XOAUTH2 {}", "x".repeat(4_000)), "535 5.7.3 ").await;
    smtp.expect("NOOP", "250 ").await; // still in step

    smtp.send("NOOP\nQUIT\r\n").await;
    assert!(smtp.reply().await.starts_with("500 5.5.2 "));
    assert_eq!(smtp.reply().await, "", "the connection is closed");
}

#[tokio::test]
async fn only_a_good_token_for_a_known_mailbox_logs_in() {
    let sandbox = start(Config::default()).await;
    let token = token(&sandbox).await;
    let graph = TokenRequest::new(sandbox.config())
        .with("scope", "https://graph.microsoft.com/.default")
        .send(&sandbox)
        .await
        .1;
    let graph = graph["access_token"].as_str().unwrap();
    let mailbox = "relay@sandbox.example";
    let mut events = sandbox.subscribe();
    let mut smtp = secured(&sandbox).await;
    let form = |text: String| STANDARD.encode(text);
    for response in [
        xoauth2(mailbox, "made.up.token"),
        xoauth2(mailbox, graph),
        xoauth2("other@sandbox.example", &token),
        form(format!("user={mailbox}\u{1}auth=Bearer {token}\u{1}")),
        form(format!("user={mailbox}\u{1}auth=bearer {token}\u{1}\u{1}")),
        form(format!("user={mailbox} auth=Bearer {token}\u{1}\u{1}")),
        "*".into(),
        "=".into(),
        "not base64".into(),
    ] {
        assert_eq!(smtp.say("AUTH XOAUTH2").await, "334 ");
        smtp.expect(&response, "535 5.7.3 Authentication unsuccessful [").await;
        smtp.expect(&format!("AUTH XOAUTH2 {response}"), "535 5.7.3 ").await;
    }
    smtp.expect("AUTH", "501 5.5.4 ").await;
    smtp.expect("AUTH PLAIN AGEAYg==", "504 5.7.4 Unrecognized authentication type").await;
    smtp.expect("AUTH LOGIN", "334 VXNlcm5hbWU6").await;
    smtp.expect("YQ==", "334 UGFzc3dvcmQ6").await;
    smtp.expect("Yg==", "535 5.7.139 ").await;
    smtp.expect("MAIL FROM:<a@b.example>", "530 5.7.57 ").await;
    smtp.expect(&token, "500 5.3.3 ").await;
    let inline = format!("auth xoauth2 {}", xoauth2(mailbox, &token));
    smtp.expect(&inline, "235 2.7.0 ").await;

    let mut seen = 0;
    while let Ok(event) = events.try_recv() {
        let text = format!("{event:?}");
        assert!(!text.contains(&token) && !text.contains("dXNlcj"), "{text}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} events");
}

#[tokio::test]
async fn an_expired_token_does_not_log_in() {
    let sandbox = start(Config { token_lifetime: Duration::ZERO, ..Config::default() }).await;
    let token = token(&sandbox).await;
    let mut smtp = secured(&sandbox).await;
    smtp.expect("AUTH XOAUTH2", "334 ").await;
    smtp.expect(&xoauth2("relay@sandbox.example", &token), "535 5.7.3 ").await;
}

#[tokio::test]
async fn input_that_did_not_wait_for_its_reply_is_an_error() {
    let sandbox = start(Config::default()).await;
    let mut events = sandbox.subscribe();
    let mut smtp = plain(&sandbox).await;
    smtp.expect("EHLO client.example", "250-").await;
    smtp.send("STARTTLS\r\nEHLO injected.example\r\n").await;
    assert!(smtp.reply().await.starts_with("503 5.5.0 "));
    assert_eq!(smtp.reply().await, "");
    assert!(matches!(
        events.try_recv(),
        Ok(Event::Refused { command, .. }) if command == "STARTTLS"
    ));

    let mut smtp = ready(&sandbox).await;
    smtp.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nFrom: x\r\n").await;
    for start in ["250 ", "250 ", "503 5.5.0 "] {
        let reply = smtp.reply().await;
        assert!(reply.starts_with(start), "{reply}");
    }
    assert_eq!(smtp.reply().await, "");
}

#[tokio::test]
async fn a_handshake_that_fails_is_told() {
    let sandbox = start(Config::default()).await;
    let mut events = sandbox.subscribe();
    let mut smtp = plain(&sandbox).await;
    smtp.expect("EHLO client.example", "250-").await;
    smtp.expect("STARTTLS", "220 ").await;
    smtp.send("EHLO in.the.clear\r\n").await;
    match events.recv().await {
        Ok(Event::Refused { command, reply }) => {
            assert_eq!(command, "STARTTLS");
            assert!(reply.starts_with("TLS handshake failed: "), "{reply}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_broken_off_is_told_and_not_taken() {
    let sandbox = start(Config::default()).await;
    let mut smtp = ready(&sandbox).await;
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "250 ").await;
    smtp.expect("DATA", "354 ").await;
    smtp.send(MAIL).await;
    let mut events = sandbox.subscribe();
    drop(smtp);
    match events.recv().await {
        Ok(Event::Refused { command, .. }) => assert_eq!(command, "mail data"),
        other => panic!("{other:?}"),
    }
    assert_eq!(sandbox.arrivals(), 0);
}

#[tokio::test]
async fn mail_data_arrives_without_its_stuffed_dots() {
    let sandbox = start(Config { keep_mail_data: true, ..Config::default() }).await;
    let mut events = sandbox.subscribe();
    let mut smtp = ready(&sandbox).await;
    let wire = format!("{MAIL}..\r\n...a\r\n.\r\n");
    assert!(submit(&mut smtp, &wire).await.starts_with("250 2.0.0 OK "));
    let expected = format!("{MAIL}.\r\n..a\r\n");
    let arrived = arrival(&mut events).unwrap();
    assert_eq!(arrived.mail_data.as_deref(), Some(expected.as_bytes()));

    // Not ASCII, and cut in the worst places.
    let wire =
        [MAIL.as_bytes(), &[0, 0xff, b'\r', b'\n', b'.', b'.', b'\r', b'\n'], b".\r\n"].concat();
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "250 ").await;
    smtp.expect("DATA", "354 ").await;
    for octet in &wire {
        smtp.send([*octet]).await;
    }
    assert!(smtp.reply().await.starts_with("250 2.0.0 OK "));
    let expected = [MAIL.as_bytes(), &[0, 0xff, b'\r', b'\n', b'.', b'\r', b'\n']].concat();
    assert_eq!(arrival(&mut events).unwrap().mail_data, Some(expected));
}

#[tokio::test]
async fn bare_line_ends_neither_end_a_message_nor_pass() {
    let sandbox = start(Config::default()).await;
    let mut smtp = ready(&sandbox).await;
    for body in ["a\nb", "a\rb", "a\r\r", "\n.\n", "\n.\r\nMAIL FROM:<x@y.example>", "\r\n.\nQUIT"]
    {
        let reply = submit(&mut smtp, format!("{MAIL}{body}\r\n.\r\n")).await;
        assert!(reply.starts_with("550 5.6.11 "), "{body:?}: {reply}");
    }
    assert_eq!(sandbox.arrivals(), 0);
    assert!(submit(&mut smtp, format!("{MAIL}.\r\n")).await.starts_with("250 "), "still in step");
}

#[tokio::test]
async fn messages_exchange_would_not_take_are_refused_after_their_end() {
    let sandbox = start(Config { max_message_size: 200, ..Config::default() }).await;
    let mut smtp = ready(&sandbox).await;
    for (message, reply) in [
        (format!("{MAIL}{}\r\n", "x".repeat(200)), "552 5.3.4 "),
        ("Subject: no author\r\n\r\ntext\r\n".into(), "550 5.7.512 "),
        ("From: a@b.example, c@d.example\r\n\r\n".into(), "550 5.7.512 "),
        (String::new(), "550 5.7.512 "),
        ("From: a@b.example\r\n".into(), "250 2.0.0 OK <"),
    ] {
        let told = submit(&mut smtp, format!("{message}.\r\n")).await;
        assert!(told.starts_with(reply), "{message:?}: {told}");
    }
    assert_eq!(sandbox.arrivals(), 1);
}

#[tokio::test]
async fn recipients_over_the_limit_are_put_off() {
    let sandbox = start(Config { max_recipients: 2, ..Config::default() }).await;
    let mut events = sandbox.subscribe();
    let mut smtp = ready(&sandbox).await;
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<1@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<2@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<3@b.example>", "452 4.5.3 Too many recipients").await;
    smtp.expect("DATA", "354 ").await;
    smtp.send(format!("{MAIL}.\r\n")).await;
    assert!(smtp.reply().await.starts_with("250 "));
    assert_eq!(arrival(&mut events).unwrap().forward_paths.len(), 2);
}

#[tokio::test]
async fn a_fourth_connection_of_a_mailbox_may_not_submit() {
    let sandbox = start(Config::default()).await;
    let token = token(&sandbox).await;
    let mut first = logged_in(&sandbox, &token).await;
    let _second = logged_in(&sandbox, &token).await;
    let _third = logged_in(&sandbox, &token).await;
    let mut fourth = logged_in(&sandbox, &token).await;
    fourth.expect("MAIL FROM:<a@b.example>", "250 ").await;
    fourth.expect("RCPT TO:<a@b.example>", "250 ").await;
    fourth.expect("DATA", "432 4.3.2 Concurrent connections limit exceeded").await;
    first.expect("QUIT", "221 ").await;
    assert!(submit(&mut fourth, format!("{MAIL}.\r\n")).await.starts_with("250 2.0.0 OK "));
}

#[tokio::test]
async fn sending_as_somebody_else_is_refused_after_the_message() {
    let send_as = SendAs::Listed(vec!["boss@sandbox.example".into()]);
    let sandbox = start(Config { send_as, ..Config::default() }).await;
    let mut smtp = ready(&sandbox).await;
    for (reverse_path, from, allowed) in [
        ("Relay@sandbox.example", "boss@SANDBOX.example", true),
        ("relay@sandbox.example", "cron@host.example", false),
        ("cron@host.example", "relay@sandbox.example", false),
    ] {
        smtp.expect(&format!("MAIL FROM:<{reverse_path}>"), "250 ").await;
        smtp.expect("RCPT TO:<a@b.example>", "250 ").await;
        smtp.expect("DATA", "354 ").await;
        smtp.send(format!("From: {from}\r\n\r\n.\r\n")).await;
        let reply = smtp.reply().await;
        let denied = "554 5.2.252 SendAsDenied; relay@sandbox.example not allowed to send as \
                      cron@host.example; STOREDRV.Submission.Exception:SendAsDeniedException";
        assert!(reply.starts_with(if allowed { "250 " } else { denied }), "{reply}");
    }
}

#[tokio::test]
async fn accepted_messages_are_saved_with_their_envelope() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("arrivals");
    let sandbox = start(Config { save_to: Some(path.clone()), ..Config::default() }).await;
    let mut events = sandbox.subscribe();
    let mut smtp = ready(&sandbox).await;
    let wire = format!("{MAIL}..dot\r\n.\r\n");
    assert!(submit(&mut smtp, wire).await.starts_with("250 "));
    assert!(submit(&mut smtp, "Subject: refused\r\n\r\n.\r\n").await.starts_with("550 "));
    let saved = std::fs::read_to_string(path.join("000001.eml")).unwrap();
    assert_eq!(saved, format!("{MAIL}.dot\r\n"));
    let facts = std::fs::read(path.join("000001.json")).unwrap();
    let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
    assert_eq!(facts["reverse_path"], "relay@sandbox.example");
    assert_eq!(facts["forward_paths"][0]["address"], "a@b.example");
    assert_eq!(facts["size"], saved.len());
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 2);
    assert_eq!(arrival(&mut events).unwrap().mail_data, None);
}

#[tokio::test]
async fn a_message_that_cannot_be_saved_is_not_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("arrivals");
    let sandbox = start(Config { save_to: Some(path.clone()), ..Config::default() }).await;
    let mut smtp = ready(&sandbox).await;
    std::fs::remove_dir_all(&path).unwrap();
    let reply = submit(&mut smtp, format!("{MAIL}.\r\n")).await;
    assert!(reply.starts_with("451 4.7.0 "), "{reply}");
    assert_eq!(sandbox.arrivals(), 0);
}

// --- the whole

#[tokio::test]
async fn the_relay_section_is_toml_and_nothing_else_shows_the_secret() {
    let sandbox = start(Config::default()).await;
    let text = sandbox.relay_config(Path::new("/tmp/a \"quoted\" ca.pem"));
    let section: toml::Table = text.parse().unwrap();
    let section = &section["office365"];
    let config = sandbox.config();
    let secret = config.client_secret.expose_secret();
    let expected = [
        ("tenant_id", config.tenant_id.as_str()),
        ("client_id", config.client_id.as_str()),
        ("client_secret", secret),
        ("mailbox", "relay@sandbox.example"),
        ("login_url", &sandbox.login_url()),
        ("scope", SCOPE),
        ("smtp_host", "localhost"),
        ("ca_file", "/tmp/a \"quoted\" ca.pem"),
    ];
    for (key, value) in expected {
        assert_eq!(section[key].as_str(), Some(value), "{key}");
    }
    assert_eq!(section["smtp_port"].as_integer(), Some(sandbox.smtp_address().port().into()));
    assert!(!format!("{sandbox:?} {config:?}").contains(secret));
    assert!(sandbox.ca_pem().starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn shutting_down_closes_listeners_and_connections() {
    let sandbox = start(Config::default()).await;
    let address = sandbox.smtp_address();
    let mut smtp = ready(&sandbox).await;
    sandbox.shutdown().await;
    assert_eq!(smtp.reply().await, "");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let sandbox = start(Config::default()).await;
    let taken = sandbox.smtp_address();
    let error = Sandbox::start(Config { smtp_address: taken, ..Config::default() }).await;
    let error: SandboxError = error.map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&taken.to_string()) && text.contains("submission service"), "{text}");
}
