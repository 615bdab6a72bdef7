//! Each fault of the sandbox over real sockets, and the ways to set them.

#[path = "support/sandbox_client.rs"]
mod sandbox_client;

use std::{collections::BTreeSet, time::Duration};

use o365_relay::sandbox::{
    Config, Event, Fault, FaultKind, FederatedClaims, IdentityHost, Sandbox, fault_kinds,
};
use tokio::{net::TcpStream, time::Instant};

use self::sandbox_client::*;

fn fault(text: &str) -> Fault {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

async fn with_faults(texts: &[&str]) -> Sandbox {
    let faults = texts.iter().map(|text| fault(text)).collect();
    start(Config { faults, ..Config::default() }).await
}

/// One message as a client sends it that stops at the first thing it does not like: what that
/// was, or the final reply.
async fn attempt(sandbox: &Sandbox) -> String {
    match new_token(sandbox).await {
        Ok(token) => submit_with(sandbox, &token).await.unwrap_or_else(|stop| stop),
        Err(stop) => stop,
    }
}

async fn new_token(sandbox: &Sandbox) -> Result<String, String> {
    let answer = TokenRequest::new(sandbox.config()).exchange(sandbox).await;
    let answer = answer.map_err(|error| format!("token: {error}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err("token: no answer".into());
    };
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    match json["access_token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => Err(format!("token: {} {}", &head[9..12], json["error_codes"][0])),
    }
}

async fn submit_with(sandbox: &Sandbox, token: &str) -> Result<String, String> {
    let stream = TcpStream::connect(sandbox.smtp_address()).await.expect("a connection");
    let mut smtp = Smtp { stream, unread: Vec::new() };
    wanted(smtp.reply().await, "220 ")?;
    let offers = wanted(smtp.say("EHLO client.example").await, "250-")?;
    if !offers.contains("STARTTLS") {
        assert!(smtp.say("STARTTLS").await.starts_with("500 5.3.3 "));
        return Err("no STARTTLS".into());
    }
    wanted(smtp.say("STARTTLS").await, "220 ")?;
    let stream = try_tls(sandbox, smtp.stream).await.map_err(|error| error.to_string())?;
    let mut smtp = Smtp { stream, unread: Vec::new() };
    wanted(smtp.say("EHLO client.example").await, "250-")?;
    wanted(smtp.say("AUTH XOAUTH2").await, "334 ")?;
    let reply = smtp.say(&xoauth2("relay@sandbox.example", token)).await;
    if reply.starts_with("334 ") {
        return Err(format!("{reply}/{}", smtp.say("").await));
    }
    wanted(reply, "235 ")?;
    wanted(smtp.say("MAIL FROM:<relay@sandbox.example>").await, "250 ")?;
    wanted(smtp.say("RCPT TO:<a@b.example>").await, "250 ")?;
    wanted(smtp.say("DATA").await, "354 ")?;
    smtp.send(format!("{MAIL}.\r\n")).await;
    Ok(smtp.reply().await)
}

fn wanted(reply: String, start: &str) -> Result<String, String> {
    if reply.starts_with(start) { Ok(reply) } else { Err(reply) }
}

/// What a client sees of each fault, and how many messages were taken in spite of it.
const SEEN: &[(&str, &str, u64)] = &[
    ("token-wrong-certificate", "not valid for name", 0),
    ("token-wrong-certificate=authority", "UnknownIssuer", 0),
    ("token-wrong-certificate=expired", "expired", 0),
    ("token-hang=1ms", "token: no answer", 0),
    ("token-429", "token: 429 90055", 0),
    ("token-5xx", "token: 503 90033", 0),
    ("token-5xx=500", "token: 500 90033", 0),
    ("token-garbage", "token: 200 null", 0),
    ("bad-secret", "token: 401 7000215", 0),
    ("token-refused", "token: 400 53003", 0),
    ("token-refused=expired-secret", "token: 401 7000222", 0),
    ("token-refused=security-defaults", "token: 400 530035", 0),
    ("token-refused=disabled", "token: 400 7000112", 0),
    ("token-refused=no-service-principal", "token: 401 7000229", 0),
    ("token-refused=other-cloud", "token: 400 900432", 0),
    ("token-content", "535 5.7.3 Authentication unsuccessful [", 0),
    ("token-content=no-roles", "250 2.0.0 OK ", 1),
    ("token-content=other-roles", "250 2.0.0 OK ", 1),
    ("token-content=other-audience", "535 5.7.3 Authentication unsuccessful [", 0),
    ("login-clock", "250 2.0.0 OK ", 1),
    ("token-short", "250 2.0.0 OK ", 1),
    ("greeting-421", "421 4.3.2 Service not available [", 0),
    ("hide-starttls", "no STARTTLS", 0),
    ("hide-xoauth2", "504 5.7.4 Unrecognized authentication type", 0),
    ("refuse-tls", "454 4.7.0 TLS not available", 0),
    ("wrong-certificate=name", "not valid for name", 0),
    ("wrong-certificate=authority", "UnknownIssuer", 0),
    ("wrong-certificate=expired", "expired", 0),
    ("auth-disabled", "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication", 0),
    ("auth-disabled=mailbox", "is disabled for the Mailbox. Visit https://aka.ms/smtp_auth", 0),
    ("auth-policy", "535 5.7.139 Authentication unsuccessful, user is locked by your ", 0),
    ("auth-policy=conditional-access", "the request did not meet the criteria to be auth", 0),
    ("auth-policy=organization", "the organization configuration doesn't allow this auth", 0),
    ("auth-535", "535 5.7.3 Authentication unsuccessful [", 0),
    ("auth-535-challenge", "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiQmVhcmVyIn0=/535 5.7.3 ", 0),
    ("auth-454", "454 4.7.0 Temporary authentication failure [", 0),
    ("token-expired", "535 5.7.3 Authentication unsuccessful [", 0),
    ("rate", "421 4.4.2 Message submission rate for this client has exceeded the ", 0),
    ("unknown-recipient", "550 5.1.1 ", 0),
    ("unknown-recipient=A@b.example", "550 5.1.1 ", 0),
    ("throttle", "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/", 0),
    ("data-421", "421 4.3.2 Service not available [", 0),
    ("drop-before-dot", "", 0),
    ("throttle-dot", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded [", 0),
    ("deny-sender", "554 5.2.252 SendAsDenied; relay@sandbox.example not allowed to send as", 0),
    ("deny-sender=*@sandbox.example", "554 5.2.252 SendAsDenied; ", 0),
    ("blocked", "550 5.2.252 Sender throttled due to continuous ", 0),
    ("blocked=5.2.255", "550 5.2.255 Sender throttled due to continuous ", 0),
    ("quota", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", 0),
    ("mailbox-full", "554 5.2.2 STOREDRV.Submission.Exception:QuotaExceededException", 0),
    ("busy", "451 4.7.0 Temporary server error", 0),
    ("invalid-content", "554 5.6.0 ", 0),
    ("drop-at-dot", "", 0),
    ("drop-after-dot", "", 1),
    ("slow-dot=1ms", "250 2.0.0 OK ", 1),
];

#[tokio::test]
async fn each_fault_strikes_once_is_told_and_heals() {
    for (text, seen, arrivals) in SEEN {
        let sandbox = with_faults(&[&format!("{text}*1")]).await;
        let mut events = sandbox.subscribe();
        let told = attempt(&sandbox).await;
        let fits = if seen.is_empty() { told.is_empty() } else { told.contains(seen) };
        assert!(fits, "{text}: {told:?}");
        assert_eq!(sandbox.arrivals(), *arrivals, "{text}");
        let name = fault(text).name();
        let struck = std::iter::from_fn(|| events.try_recv().ok())
            .filter(|event| matches!(event, Event::FaultStruck { name: who, .. } if *who == name));
        assert_eq!(struck.count(), 1, "{text}");
        let states = sandbox.faults();
        assert!(states[0].is_healed() && states[0].struck == 1, "{text}: {states:?}");

        let healed = attempt(&sandbox).await;
        assert!(healed.starts_with("250 2.0.0 OK "), "{text} does not heal: {healed}");
        assert_eq!(sandbox.arrivals(), arrivals + 1, "{text}");
    }
    let texts = SEEN.iter().map(|(text, ..)| text);
    let texts =
        texts.chain(SEEN_WITH_A_TOKEN_FILE).chain(SEEN_BY_A_HOST.iter().map(|(text, _)| text));
    let texts = texts.chain(SEEN_BY_AN_ADMIN.iter().map(|(text, _)| text));
    let tested: BTreeSet<_> =
        texts.map(|text| fault(text.split(' ').next().unwrap()).name()).collect();
    let known: BTreeSet<_> = fault_kinds().iter().map(FaultKind::name).collect();
    assert_eq!(tested, known);
}

/// What a client sees that proves itself by a federated token.
const SEEN_WITH_A_TOKEN_FILE: &[&str] = &[
    "bad-assertion 401 700211",
    "bad-assertion=audience 401 700212",
    "bad-assertion=clock 401 700024",
    "bad-assertion=subject 401 700213",
];

#[tokio::test]
async fn a_client_with_an_assertion_meets_the_faults_of_assertions_only() {
    let sandbox = with_faults(&["bad-secret"]).await;
    let assertion = sandbox.federated_token(&FederatedClaims::default()).unwrap();
    let attempt = async || {
        let request = TokenRequest::new(sandbox.config())
            .without("client_secret")
            .with("client_assertion_type", ASSERTION_TYPE)
            .with("client_assertion", &assertion);
        let (status, answer) = request.send(&sandbox).await;
        format!("{status} {}", answer["error_codes"][0])
    };
    for text in SEEN_WITH_A_TOKEN_FILE {
        let (text, seen) = text.split_once(' ').unwrap();
        sandbox.set_fault(fault(&format!("{text}*1")));
        assert_eq!(attempt().await, seen, "{text}");
        assert_eq!(attempt().await, "200 null", "{text} does not heal");
    }
    sandbox.clear_fault("bad-secret");
    sandbox.set_fault(fault("bad-assertion"));
    assert_eq!(new_token(&sandbox).await.map(drop), Ok(()), "one with a secret does not");
}

/// What an admin's set-up sees.
const SEEN_BY_AN_ADMIN: &[(&str, &str)] = &[
    ("device-code", "400 authorization_declined"),
    ("device-code=expired", "400 expired_token"),
    ("device-code=slow-down", "400 slow_down"),
    ("device-code=pending", "400 authorization_pending"),
    ("device-code=blocked", "400 invalid_grant"),
    ("graph-refuses", "403 Authorization_RequestDenied"),
    ("graph-refuses=429", "429 TooManyRequests"),
    ("graph-refuses=503", "503 ServiceUnavailable"),
    ("graph-lag", "404 Request_ResourceNotFound"),
];

#[tokio::test]
async fn an_admin_meets_the_faults_of_signing_in_and_of_graph() {
    let sandbox = start(Config { device_interval: Duration::ZERO, ..Config::default() }).await;
    let body = r#"{"displayName":"x","signInAudience":"AzureADMyOrg"}"#;
    let attempt = async || {
        let code = device_code(&sandbox, &["Application.ReadWrite.All"]).await;
        let mut polled = poll(&sandbox, &code).await;
        if polled.1["error_codes"][0] == 70_016 && sandbox.faults()[0].struck == 0 {
            polled = poll(&sandbox, &code).await;
        }
        let (status, answer) = polled;
        let Some(token) = answer["access_token"].as_str() else {
            return format!("{status} {}", answer["error"].as_str().unwrap());
        };
        let (status, made) = graph(&sandbox, token, "POST applications", body).await;
        if status != 201 {
            return format!("{status} {}", made["error"]["code"].as_str().unwrap());
        }
        let path = format!("GET applications/{}", made["id"].as_str().unwrap());
        let (status, answer) = graph(&sandbox, token, &path, "").await;
        format!("{status} {}", answer["error"]["code"].as_str().unwrap_or("fine"))
    };
    for (text, seen) in SEEN_BY_AN_ADMIN {
        // Asked before the admin can have signed in, those of the first kind strike at once.
        sandbox.set_fault(fault(&format!("{text}*1")));
        assert_eq!(attempt().await, *seen, "{text}");
        assert!(sandbox.faults()[0].is_healed(), "{text}");
        sandbox.clear_faults();
    }
}

/// What a program on a host sees.
const SEEN_BY_A_HOST: &[(&str, &str)] = &[
    ("identity-absent", ""),
    ("identity-refuses", "HTTP/1.1 429 "),
    ("identity-refuses=410", "HTTP/1.1 410 "),
    ("identity-refuses=404", "HTTP/1.1 404 "),
    ("identity-refuses=500", "HTTP/1.1 500 "),
    ("identity-refuses=no-identity", "HTTP/1.1 400 "),
];

#[tokio::test]
async fn a_host_meets_the_faults_of_managed_identities() {
    let identity = Some((IdentityHost::Imds, "127.0.0.1:0".parse().unwrap()));
    let sandbox = start(Config { identity, ..Config::default() }).await;
    for (text, seen) in SEEN_BY_A_HOST {
        sandbox.set_fault(fault(&format!("{text}*1")));
        let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=\
                    https%3A%2F%2Foutlook.office365.com";
        let answer = identity_request(&sandbox, path, "Metadata: true\r\n").await;
        assert!(answer.starts_with(seen) && (answer.is_empty() == seen.is_empty()), "{answer}");
        let healed = identity_request(&sandbox, path, "Metadata: true\r\n").await;
        assert!(healed.starts_with("HTTP/1.1 200 "), "{text} does not heal: {healed}");
    }
}

#[tokio::test]
async fn faults_are_set_and_cleared_while_the_sandbox_runs() {
    let sandbox = with_faults(&[]).await;
    assert!(attempt(&sandbox).await.starts_with("250 "));
    sandbox.set_fault(fault("busy"));
    for _ in 0..2 {
        assert!(attempt(&sandbox).await.starts_with("451 4.7.0 "));
    }
    sandbox.set_fault(fault("auth-535"));
    assert!(attempt(&sandbox).await.starts_with("535 "), "what comes first strikes first");
    assert!(sandbox.clear_fault("auth-535") && !sandbox.clear_fault("auth-535"));
    assert!(attempt(&sandbox).await.starts_with("451 "));
    let struck: Vec<_> =
        sandbox.faults().iter().map(|state| (state.fault.name(), state.struck)).collect();
    assert_eq!(struck, [("busy", 3)]);
    sandbox.clear_faults();
    assert!(sandbox.faults().is_empty());
    assert!(attempt(&sandbox).await.starts_with("250 "));
}

#[tokio::test]
async fn a_client_that_is_wrong_anyway_uses_up_no_fault() {
    let sandbox = with_faults(&["bad-secret*1", "auth-535*1", "rate*1", "busy*1"]).await;
    let wrong = TokenRequest::new(sandbox.config()).with("client_secret", "wrong");
    assert_eq!(wrong.send(&sandbox).await.0, 401);
    let mut smtp = secured(&sandbox).await;
    smtp.expect("AUTH XOAUTH2", "334 ").await;
    smtp.expect(&xoauth2("relay@sandbox.example", "made.up.token"), "535 ").await;
    smtp.expect("MAIL FROM:<a@b.example>", "530 5.7.57 ").await;
    assert!(sandbox.faults().iter().all(|state| state.struck == 0), "{:?}", sandbox.faults());
}

#[tokio::test]
async fn only_the_addresses_named_are_struck() {
    let sandbox = with_faults(&["deny-sender=erp@corp.example", "unknown-recipient=*@b.example"]);
    let sandbox = sandbox.await;
    let mut smtp = ready(&sandbox).await;
    for (reverse_path, from, denied) in [
        ("relay@sandbox.example", "cron@corp.example", false),
        ("relay@sandbox.example", "ERP@corp.example", true),
        ("erp@corp.example", "relay@sandbox.example", true),
    ] {
        smtp.expect(&format!("MAIL FROM:<{reverse_path}>"), "250 ").await;
        smtp.expect("RCPT TO:<x@b.example>", "550 5.1.1 ").await;
        smtp.expect("RCPT TO:<x@c.example>", "250 ").await;
        smtp.expect("DATA", "354 ").await;
        smtp.send(format!("From: {from}\r\n\r\n.\r\n")).await;
        let reply = smtp.reply().await;
        let start = if denied { "554 5.2.252 SendAsDenied; " } else { "250 " };
        assert!(reply.starts_with(start), "{reply}");
    }
    assert_eq!(sandbox.arrivals(), 1);
}

#[tokio::test]
async fn a_void_token_stays_void_and_a_new_one_is_good() {
    let sandbox = with_faults(&["token-expired*1"]).await;
    let old = token(&sandbox).await;
    for _ in 0..2 {
        assert!(submit_with(&sandbox, &old).await.unwrap_err().starts_with("535 5.7.3 "));
    }
    let new = token(&sandbox).await;
    assert!(submit_with(&sandbox, &new).await.unwrap().starts_with("250 "));
}

#[tokio::test]
async fn the_token_endpoint_says_what_its_faults_have_for_parameters() {
    let sandbox = with_faults(&["token-429=7s*1", "token-garbage*1", "token-short=90s*1"]).await;
    let ask = || TokenRequest::new(sandbox.config()).exchange(&sandbox);
    let answer = ask().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 7\r\n"));
    assert!(answer.contains(r#""error":"temporarily_unavailable""#), "{answer}");
    let answer = ask().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-type: text/html"));
    let answer = ask().await.unwrap();
    assert!(answer.contains(r#""expires_in":90,"#), "{answer}");
}

#[tokio::test]
async fn a_token_request_that_hangs_is_not_answered() {
    let sandbox = with_faults(&["token-hang"]).await;
    let mut events = sandbox.subscribe();
    let asking = TokenRequest::new(sandbox.config()).exchange(&sandbox);
    tokio::select! {
        answer = asking => panic!("{answer:?}"),
        event = events.recv() => {
            assert!(matches!(event, Ok(Event::FaultStruck { name: "token-hang", .. })));
        }
    }
}

#[tokio::test]
async fn a_slow_dot_is_slow_also_for_a_refusal() {
    let sandbox = with_faults(&["slow-dot=300ms", "quota*1"]).await;
    for start in ["554 5.2.0 ", "250 "] {
        let mut smtp = ready(&sandbox).await;
        let begun = Instant::now();
        assert!(submit(&mut smtp, format!("{MAIL}.\r\n")).await.starts_with(start));
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

#[tokio::test]
async fn a_421_closes_the_connection_and_other_refusals_leave_it_open() {
    let sandbox = with_faults(&["busy*1", "throttle*1", "unknown-recipient*1", "data-421*1"]).await;
    let mut smtp = ready(&sandbox).await;
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "550 5.1.1 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "250 ").await;
    smtp.expect("DATA", "432 4.3.2 ").await;
    smtp.expect("MAIL FROM:<a@b.example>", "250 ").await;
    smtp.expect("RCPT TO:<a@b.example>", "250 ").await;
    smtp.expect("DATA", "421 4.3.2 ").await;
    assert_eq!(smtp.reply().await, "");
    let mut smtp = ready(&sandbox).await;
    assert!(submit(&mut smtp, format!("{MAIL}.\r\n")).await.starts_with("451 "));
    assert!(submit(&mut smtp, format!("{MAIL}.\r\n")).await.starts_with("250 "));
}

#[tokio::test]
async fn no_event_of_a_fault_holds_a_token() {
    let sandbox = with_faults(&["token-expired*1", "auth-535-challenge*1", "auth-535*1"]).await;
    let mut events = sandbox.subscribe();
    for _ in 0..3 {
        let token = new_token(&sandbox).await.unwrap();
        assert!(submit_with(&sandbox, &token).await.is_err());
        while let Ok(event) = events.try_recv() {
            assert!(!format!("{event:?}").contains(&token));
        }
    }
}

// --- the control endpoint

async fn controlled() -> Sandbox {
    let control_address = Some(([127, 0, 0, 1], 0).into());
    start(Config { control_address, keep_mail_data: true, ..Config::default() }).await
}

#[tokio::test]
async fn faults_can_be_set_watched_and_cleared_over_http() {
    let sandbox = controlled().await;
    let (status, answer) = control(&sandbox, "PUT /faults/token-429", "7s*1").await;
    assert_eq!((status, &answer["set"]), (200, &"token-429=7s*1".into()));
    assert_eq!(control(&sandbox, "PUT /faults/deny-sender", "*@sandbox.example\n").await.0, 200);
    assert_eq!(control(&sandbox, "PUT /faults/busy", "").await.0, 200);
    assert_eq!(attempt(&sandbox).await, "token: 429 90055");
    assert!(attempt(&sandbox).await.starts_with("554 5.2.252 "));

    let (status, answer) = control(&sandbox, "GET /faults", "").await;
    assert_eq!((status, &answer["seed"]), (200, &0.into()));
    let expected = serde_json::json!([
        {
            "name": "token-429", "text": "token-429=7s*1", "stage": "token request",
            "parameter": "7s", "times": 1, "percent": null, "struck": 1, "left": 0,
        },
        {
            "name": "deny-sender", "text": "deny-sender=*@sandbox.example", "stage": "final dot",
            "parameter": "*@sandbox.example", "times": null, "percent": null, "struck": 1,
            "left": null,
        },
        {
            "name": "busy", "text": "busy", "stage": "final dot", "parameter": null,
            "times": null, "percent": null, "struck": 0, "left": null,
        },
    ]);
    assert_eq!(answer["faults"], expected);

    assert_eq!(control(&sandbox, "DELETE /faults/deny-sender", "").await.0, 204);
    assert_eq!(control(&sandbox, "DELETE /faults/deny-sender", "").await.0, 204, "once more");
    assert!(attempt(&sandbox).await.starts_with("451 "));
    assert_eq!(control(&sandbox, "DELETE /faults", "").await.0, 204);
    assert!(attempt(&sandbox).await.starts_with("250 "));
    assert_eq!(control(&sandbox, "GET /faults", "").await.1["faults"], serde_json::json!([]));
}

#[tokio::test]
async fn arrivals_are_told_over_http_without_their_mail_data() {
    let sandbox = controlled().await;
    assert!(attempt(&sandbox).await.starts_with("250 "));
    let (status, answer) = control(&sandbox, "GET /arrivals", "").await;
    assert_eq!((status, &answer["count"]), (200, &1.into()));
    let last = &answer["last"][0];
    assert_eq!((&last["number"], &last["subject"]), (&1.into(), &"hello".into()));
    assert_eq!(last["forward_paths"][0]["address"], "a@b.example");
    assert!(last.get("mail_data").is_none() && !answer.to_string().contains("Text"), "{answer}");
}

#[tokio::test]
async fn the_control_endpoint_is_strict() {
    let sandbox = controlled().await;
    let long = "x".repeat(5_000);
    for (request, body, status, part) in [
        ("GET /", "", 404, "/arrivals"),
        ("GET /faults/", "", 404, "--list-faults"),
        ("PUT /faults/nonsense", "", 404, "--list-faults"),
        ("GET /faults/busy", "", 405, "only PUT, DELETE"),
        ("POST /faults", "busy", 405, "only GET, DELETE"),
        ("DELETE /arrivals", "", 405, "only GET"),
        ("GET /faults?a=1", "", 400, "query"),
        ("PUT /faults/busy", "3", 400, "busy takes no parameter"),
        ("PUT /faults/slow-dot", "5", 400, "slow-dot takes a time such as 5s"),
        ("PUT /faults/busy", "*0", 400, "is not how often"),
        ("PUT /faults/busy", &long, 413, "longer than 4096 octets"),
    ] {
        let (was, answer) = control(&sandbox, request, body).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(was == status && error.contains(part), "{request}: {was} {answer}");
    }
    assert!(sandbox.faults().is_empty());
}

#[tokio::test]
async fn without_an_address_there_is_no_control_endpoint() {
    assert_eq!(with_faults(&[]).await.control_address(), None);
}

// --- the guide

/// The faults as docs/sandbox.md has them.
fn table() -> String {
    let escape = |text: &str| text.replace('*', "\\*");
    let rows = fault_kinds().iter().map(|kind| {
        let equals = kind.default_parameter().map(|default| format!("={default}"));
        let reply = kind.reply().map(|reply| format!(": `{reply}`"));
        format!(
            "| `{}{}` | {} | {}{} | {} |\n",
            kind.name(),
            equals.unwrap_or_default(),
            kind.stage(),
            escape(kind.meaning()),
            reply.unwrap_or_default(),
            escape(&kind.parameter().unwrap_or_default()),
        )
    });
    let head = "| Fault | Strikes at | What happens | Parameter |\n|---|---|---|---|\n";
    [head.to_owned()].into_iter().chain(rows).collect()
}

#[test]
fn the_guide_lists_the_faults_as_they_are() {
    let guide = include_str!("../docs/sandbox.md");
    let (_, rest) = guide.split_once("<!-- table of faults -->\n").expect("where it begins");
    let (listed, _) = rest.split_once("<!-- end of table -->").expect("where it ends");
    assert!(listed == table(), "docs/sandbox.md should say:\n{}", table());
}
