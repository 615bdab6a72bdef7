//! Plays the dialogue files: each against the bare machine, in three ways of cutting its input,
//! and over a socket against a listener with a real store.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "dialogues/bare.rs"]
mod bare;
#[path = "dialogues/script.rs"]
mod script;
mod served;

use std::{collections::VecDeque, fs, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use o365_relay::{
    listener::{self, Auth, Tls, UserSource, Users, hash_password},
    smtp::{
        auth::Credentials,
        envelope::{Body, MailParameters, RcptParameters},
        mail_data::BareLineFeed,
        path::{ForwardPath, ReversePath},
        peer::Origin,
    },
};

use bare::Bare;
use script::{Expected, Reply, Script, Stored};
use served::{Relay, tls::Certificate};

/// A message as it was queued.
pub struct Message {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<(ForwardPath, RcptParameters)>,
    octets: Vec<u8>,
}

/// How the input reaches the bare machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nowhere,
    EachOctet,
    /// Where the file expects replies; then none may come early or late.
    EachExchange,
}

#[tokio::test]
async fn dialogues_go_as_written() {
    let mut files = files("tests/dialogues");
    files.extend(self::files("tests/dialogues/commands"));
    assert!(files.len() >= 150, "the dialogues are gone");
    // Side by side: most of the time goes to waiting for syncs.
    let runs: Vec<_> = files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            (file, tokio::spawn(async move { play(&text).await }))
        })
        .collect();
    let mut faults = Vec::new();
    for (file, run) in runs {
        let file = file.display();
        match run.await {
            Ok(found) => faults.extend(found.into_iter().map(|fault| format!("{file}:{fault}"))),
            Err(error) => faults.push(format!("{file}: {error}")),
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

/// Every command that RFC 5321, 3030, 3207 and 4954 know, and one that nobody does, in every state
/// of a session.
#[test]
fn every_command_is_tried_in_every_state() {
    const STATES: [&str; 8] =
        ["greeting", "helo", "ehlo", "mail", "rcpt", "chunk", "login_due", "logged_in"];
    const COMMANDS: [&str; 15] = [
        "ehlo", "helo", "mail", "rcpt", "data", "bdat", "rset", "noop", "quit", "vrfy", "expn",
        "help", "auth", "starttls", "unknown",
    ];
    for (command, state) in COMMANDS.iter().flat_map(|c| STATES.iter().map(move |s| (c, s))) {
        let path = format!("tests/dialogues/commands/{command}_{state}.txt");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let verb = if *command == "unknown" { "XYZZY".into() } else { command.to_uppercase() };
        assert!(text.contains(&format!("\nC: {verb}")), "{path} has no {verb}");
    }
}

/// Plays one dialogue in all four ways; each fault begins with a line number.
async fn play(text: &str) -> Vec<String> {
    let script = match script::parse(text) {
        Ok(script) => script,
        Err(fault) => return vec![fault],
    };
    let mut faults: Vec<_> = [Cut::Nowhere, Cut::EachOctet, Cut::EachExchange]
        .into_iter()
        .filter_map(|cut| {
            against_machine(&script, cut).err().map(|fault| format!("{fault} (cut: {cut:?})"))
        })
        .collect();
    if let Err(fault) = over_socket(&script).await {
        faults.push(format!("{fault} (over a socket)"));
    }
    faults
}

fn against_machine(script: &Script, cut: Cut) -> Result<(), String> {
    let Setup { config, users, from } = setup(script)?;
    let origin = if from.is_some() { Origin::Network } else { Origin::Loopback };
    let mut bare = Bare::new(config, users, origin);
    let input = script.exchanges.iter().flat_map(|exchange| exchange.input.iter().copied());
    match cut {
        Cut::Nowhere => bare.feed(&input.collect::<Vec<_>>()),
        Cut::EachOctet => input.for_each(|octet| bare.feed(&[octet])),
        Cut::EachExchange => {}
    }
    let mut expects_close = false;
    for exchange in &script.exchanges {
        if cut == Cut::EachExchange {
            bare.feed(&exchange.input);
        }
        for reply in &exchange.replies {
            expects_close |= reply.expected == Expected::Closed;
            let got = match reply.expected {
                Expected::Closed if bare.lines.is_empty() && bare.closed => continue,
                Expected::Whole(_) => whole_reply(&mut bare.lines),
                _ => bare.lines.pop_front().into_iter().collect(),
            };
            check_reply(reply, &got)?;
        }
        if let (Cut::EachExchange, Some(line)) = (cut, bare.lines.front()) {
            return Err(format!("{}: a reply too many: {line:?}", last_line(script)));
        }
    }
    if let Some(line) = bare.lines.front() {
        return Err(format!("{}: a reply too many: {line:?}", last_line(script)));
    }
    if bare.closed != expects_close {
        return Err(format!("{}: closed: {}", last_line(script), bare.closed));
    }
    check_messages(&script.stored, &bare.messages)
}

fn whole_reply(lines: &mut VecDeque<String>) -> Vec<String> {
    let last = lines.iter().position(|line| line.as_bytes().get(3) != Some(&b'-'));
    lines.drain(..last.map_or(lines.len(), |last| last + 1)).collect()
}

async fn over_socket(script: &Script) -> Result<(), String> {
    let Setup { config, from, .. } = setup(script)?;
    let relay = Relay::start(config);
    let mut client = relay.connect().await;
    if let Some(from) = from {
        client.send(format!("PROXY TCP4 {from} 127.0.0.1 1025 25\r\n").as_bytes()).await;
    }
    let mut ids = Vec::new();
    for exchange in &script.exchanges {
        if !exchange.input.is_empty() {
            client.send(&exchange.input).await;
        }
        for reply in &exchange.replies {
            let mut got = Vec::new();
            while let Some(line) = client.line().await {
                ids.extend(line.strip_prefix("250 2.0.0 queued as ").map(str::to_owned));
                let more = line.as_bytes().get(3) == Some(&b'-');
                got.push(line);
                if !more || !matches!(reply.expected, Expected::Whole(_)) {
                    break;
                }
            }
            check_reply(reply, &got)?;
        }
    }
    client.finish_sending().await;
    if let Some(line) = client.line().await {
        return Err(format!("{}: a reply too many: {line:?}", last_line(script)));
    }
    let messages = stored_messages(&relay, &ids).await?;
    relay.stop().await;
    check_messages(&script.stored, &messages)
}

/// What the store has, in the order of the replies.
async fn stored_messages(relay: &Relay, ids: &[String]) -> Result<Vec<Message>, String> {
    let entries = relay.entries().await;
    if entries.len() != ids.len() {
        return Err(format!("1: {} messages stored, {} acknowledged", entries.len(), ids.len()));
    }
    let mut messages = Vec::new();
    for id in ids {
        let entry = entries.iter().find(|entry| entry.id.as_str() == id);
        let entry = entry.ok_or_else(|| format!("1: {id} was acknowledged and is not stored"))?;
        let recipients = entry.recipients.iter();
        messages.push(Message {
            reverse_path: entry.reverse_path.clone(),
            parameters: entry.parameters.clone(),
            recipients: recipients
                .map(|r| (r.forward_path.clone(), r.parameters.clone()))
                .collect(),
            octets: relay.octets(entry).await,
        });
    }
    Ok(messages)
}

fn last_line(script: &Script) -> usize {
    let replies = script.exchanges.iter().flat_map(|exchange| &exchange.replies);
    replies.last().map_or(1, |reply| reply.line)
}

/// What a dialogue is played against.
struct Setup {
    config: listener::Config,
    users: Vec<Credentials>,
    /// The client's address, if it is none of this host's.
    from: Option<IpAddr>,
}

fn setup(script: &Script) -> Result<Setup, String> {
    let mut config = served::listener_config();
    let mut users = Vec::new();
    let mut from = None;
    for setting in &script.settings {
        let words: Vec<_> = setting.iter().map(String::as_str).collect();
        let fault = || format!("1: no such setting: {words:?}");
        match words[..] {
            ["limit", key, number] => {
                let number: u32 = number.parse().map_err(|_| fault())?;
                match key {
                    "max_message_size" => config.max_message_size = number.into(),
                    "max_recipients" => config.max_recipients = number as usize,
                    "max_faults" => config.max_faults = number,
                    _ => return Err(fault()),
                }
            }
            ["sender", address] => config.sender = Some(address.parse().map_err(|_| fault())?),
            ["default_domain", domain] => config.default_domain = Some(domain.into()),
            ["sender_allow", ..] => {
                let patterns = words[1..].iter().map(|pattern| pattern.parse());
                config.sender_allow = patterns.collect::<Result<_, _>>()?;
            }
            ["bare_line_feed", "reject"] => config.bare_line_feed = BareLineFeed::Reject,
            ["auth", "any"] => config.auth = Auth::Any,
            ["user", name, password] => users.push(Credentials::new(name, password)),
            ["tls", mode @ ("starttls" | "required")] => {
                config.tls = Tls::StartTls(Certificate::make().server());
                config.tls_required = mode == "required";
            }
            ["auth_without_tls", "true"] => config.auth_without_tls = true,
            ["from", address] => {
                from = Some(address.parse().map_err(|_| fault())?);
                config.allow.extend(from.map(IpNet::from));
                config.proxy_protocol.push(IpNet::from(IpAddr::from([127, 0, 0, 1])));
            }
            _ => return Err(fault()),
        }
    }
    if !users.is_empty() {
        config.auth = Auth::Users(UserSource::List(hashed(&users)?));
    }
    Ok(Setup { config, users, from })
}

fn hashed(users: &[Credentials]) -> Result<Users, String> {
    let line = |user: &Credentials| {
        let hash = hash_password(user.expose_password()).map_err(|error| error.to_string())?;
        Ok(format!("{}:{hash}\n", user.name))
    };
    let lines = users.iter().map(line).collect::<Result<String, String>>()?;
    Users::parse(&lines).map_err(|fault| fault.to_string())
}

fn check_reply(reply: &Reply, got: &[String]) -> Result<(), String> {
    let fault = || Err(format!("{}: expected {:?}, got {got:?}", reply.line, reply.expected));
    let Some(first) = got.first() else {
        return if reply.expected == Expected::Closed { Ok(()) } else { fault() };
    };
    match &reply.expected {
        Expected::Line(start) if first.starts_with(start.as_str()) => Ok(()),
        Expected::Whole(start) => {
            let (code, text) = start.split_at(start.len().min(3));
            let begins = first.get(4..).is_some_and(|rest| rest.starts_with(text.trim_start()));
            let codes = got.iter().all(|line| line.starts_with(code));
            if begins && codes { Ok(()) } else { fault() }
        }
        _ => fault(),
    }
}

fn check_messages(expected: &[Stored], got: &[Message]) -> Result<(), String> {
    for (expected, got) in expected.iter().zip(got) {
        check_message(expected, got).map_err(|fault| format!("{}: {fault}", expected.line))?;
    }
    match expected.get(got.len()) {
        Some(missing) => Err(format!("{}: not stored", missing.line)),
        None if expected.len() < got.len() => {
            Err(format!("1: {} messages stored, {} told of", got.len(), expected.len()))
        }
        None => Ok(()),
    }
}

fn check_message(expected: &Stored, got: &Message) -> Result<(), String> {
    let text = String::from_utf8_lossy(&got.octets);
    let trace = Trace::read(&text).ok_or_else(|| format!("no Received field on top: {text}"))?;
    for (key, wanted) in &expected.facts {
        let found = fact(key, got, &trace).ok_or_else(|| format!("unknown key {key}"))?;
        if *wanted != found {
            return Err(format!("{key} is {found}, not {wanted}"));
        }
    }
    let Some(data) = &expected.data else { return Ok(()) };
    let wanted = replace(&replace(data, "(id)", trace.id), "(date)", trace.date);
    let found = &got.octets[trace.length..];
    if wanted == found {
        return Ok(());
    }
    let at = wanted.iter().zip(found).take_while(|(a, b)| a == b).count();
    let show = |octets: &[u8]| {
        let (from, to) = (at.saturating_sub(60).min(octets.len()), octets.len().min(at + 200));
        octets[from..to].escape_ascii().to_string()
    };
    Err(format!("mail data differs at octet {at}:\n    {}\n not {}", show(found), show(&wanted)))
}

/// Our Received field.
struct Trace<'a> {
    helo: &'a str,
    with: &'a str,
    id: &'a str,
    date: &'a str,
    length: usize,
}

impl<'a> Trace<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("Received: from ")?;
        let (helo, rest) =
            rest.split_once(" ([127.0.0.1])\r\n\tby relay.example (o365-relay) with ")?;
        let (with, rest) = rest.split_once(" id ")?;
        let (id, rest) = rest.split_once(";\r\n\t")?;
        let (date, rest) = rest.split_once("\r\n")?;
        (date.ends_with(" +0000") && id.len() == 18).then_some(())?;
        Some(Self { helo, with, id, date, length: text.len() - rest.len() })
    }
}

fn fact(key: &str, message: &Message, trace: &Trace<'_>) -> Option<String> {
    let parameters = &message.parameters;
    let (_, recipient) = message.recipients.first()?;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
    Some(match key {
        "reverse-path" => match &message.reverse_path {
            ReversePath::Null => "<>".into(),
            ReversePath::Address(address) => address.to_string(),
        },
        "forward-paths" => {
            let paths: Vec<_> = message.recipients.iter().map(|(path, _)| path.as_str()).collect();
            paths.join(",")
        }
        "body" if parameters.body == Body::EightBitMime => "8BITMIME".into(),
        "body" => "7BIT".into(),
        "smtputf8" => if parameters.smtputf8 { "yes" } else { "no" }.into(),
        "ret" => parameters.ret.map_or("none", |ret| ret.as_str()).into(),
        "envid" => text(&parameters.envid),
        "notify" => text(&recipient.notify),
        "orcpt" => text(&recipient.orcpt),
        "with" => trace.with.into(),
        "helo" => trace.helo.into(),
        _ => return None,
    })
}

fn replace(octets: &[u8], placeholder: &str, value: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = octets;
    while let Some(octet) = rest.first() {
        if let Some(after) = rest.strip_prefix(placeholder.as_bytes()) {
            out.extend_from_slice(value.as_bytes());
            rest = after;
        } else {
            out.push(*octet);
            rest = &rest[1..];
        }
    }
    out
}

/// A dialogue with a mistake in it must fail, in each way it is played.
mod the_check_itself {
    use super::*;

    const GOOD: &str = "S: 220 relay.example\nC: HELO client\nS: 250\nC: MAIL FROM:<a@b>\n\
        C: RCPT TO:<c@d>\nC: DATA\nS: 250 2.1.0\nS: 250 2.1.5\nS: 354\nC: From: x@y\nC: Date: d\n\
        C: Message-ID: <m@y>\nC: \nC: text\nC: .\nS: 250 2.0.0 queued as\n\
        STORED reverse-path=a@b forward-paths=c@d with=SMTP helo=client body=7BIT\n\
        STORED-DATA: From: x@y\nSTORED-DATA: Date: d\nSTORED-DATA: Message-ID: <m@y>\n\
        STORED-DATA:\nSTORED-DATA: text\nC: QUIT\nS: 221\nS: (closed)\n";

    #[tokio::test]
    async fn a_good_dialogue_passes_and_each_mistake_is_found() {
        assert_eq!(play(GOOD).await, [""; 0]);
        for (right, wrong, ways) in [
            ("S: 250\n", "S: 251\n", 4),
            ("S: 250\n", "S: 250-\n", 4),
            ("S: 354\n", "", 4),
            ("S: 221\n", "", 4),
            ("S: (closed)\n", "S: 500\n", 4),
            ("C: QUIT\nS: 221\nS: (closed)\n", "C: QUIT\nS: 221\n", 3),
            ("reverse-path=a@b", "reverse-path=<>", 4),
            ("forward-paths=c@d", "forward-paths=c@d,e@f", 4),
            ("with=SMTP", "with=ESMTP", 4),
            ("STORED-DATA: text", "STORED-DATA: other text", 4),
            ("STORED-DATA: text", "STORED-DATA*2: text", 4),
            ("C: text", "C: \\x00", 4),
            ("C: Date: d\n", "", 4),
            // Replies that come in another order than commands were sent.
            ("S: 250 2.1.0\nS: 250 2.1.5\n", "S: 250 2.1.5\nS: 250 2.1.0\n", 4),
        ] {
            let text = GOOD.replace(right, wrong);
            assert_ne!(text, GOOD, "{right}");
            assert_eq!(play(&text).await.len(), ways, "{right:?} -> {wrong:?}");
        }
    }

    #[test]
    fn a_reply_at_the_wrong_time_is_found() {
        let early =
            GOOD.replace("C: .\nS: 250 2.0.0 queued as\n", "S: 250 2.0.0 queued as\nC: .\n");
        let script = script::parse(&early).unwrap();
        assert!(against_machine(&script, Cut::EachExchange).unwrap_err().starts_with("15: "));
        let endless = script::parse(&GOOD.replace("C: .\n", "C: ..\n")).unwrap();
        assert!(against_machine(&endless, Cut::Nowhere).unwrap_err().starts_with("16: "));
    }

    #[test]
    fn a_message_that_nobody_told_of_is_found() {
        let end = GOOD.find("STORED ").unwrap();
        let script = script::parse(&GOOD[..end]).unwrap();
        let fault = against_machine(&script, Cut::Nowhere).unwrap_err();
        assert_eq!(fault, "1: 1 messages stored, 0 told of");
    }

    #[test]
    fn bad_lines_are_refused() {
        for text in [
            "X: y",
            "S 220",
            "C: \\q\nS: 220",
            "C*x: y\nS: 220",
            "C+: y\nS: 220",
            "S: 220\nlimit max_recipients 1",
            "STORED forward-paths=c@d",
            "STORED-DATA: x",
            "# nothing",
        ] {
            assert!(script::parse(text).is_err(), "{text}");
        }
        let script = script::parse("limit max_cakes 1\nS: 220").unwrap();
        assert!(setup(&script).is_err());
    }
}
