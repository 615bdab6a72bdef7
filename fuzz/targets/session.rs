//! A whole session: arbitrary octets, however they are cut.
//!
//! - Nothing panics, and what is done does not depend on where the reads break.
//! - Each reply is one that a client can read.
//! - Mail data, in lines or in chunks, is only taken for an envelope with a recipient, made by MAIL
//!   and RCPT that had 250.
//! - Where a login is asked for, there is no envelope before one was accepted.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use o365_relay::smtp::{
    auth::Verdict,
    envelope::Envelope,
    mail_data::BareLineFeed,
    path::{Address, ReversePath},
    peer::{Channel, Origin},
    reply::Reply,
    sender::SenderMap,
    server::{Server, Step},
    session::{Login, Rules},
};
use o365_relay_fuzz::{dice, has_bare_line_end, splits};

/// What the listener would do, with mail data put together.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    Reply(Vec<u8>),
    Begin(Box<Envelope>),
    Take(Vec<u8>),
    Login,
    Drop,
    Close,
}

fuzz_target!(|input: &[u8]| {
    let (mut dice, octets) = dice(input);
    let rules = Arc::new(Rules {
        hostname: "relay.example".into(),
        max_message_size: [50, 1_000_000][dice.usize(..2)],
        max_recipients: [1, 3, 100][dice.usize(..3)],
        default_domain: dice.bool().then(|| "corp.example".into()),
        sender_allow: match dice.u8(..4) {
            0 => vec!["*@corp.example".parse().expect("a pattern")],
            _ => Vec::new(),
        },
        sender_map: Arc::new(SenderMap::new(vec![
            "*@old.example -> fixed@corp.example".parse().expect("a mapping"),
        ])),
        max_faults: [3, 1000][dice.usize(..2)],
        bare_line_feed: [BareLineFeed::Normalize, BareLineFeed::Reject][dice.usize(..2)],
        sender: (dice.u8(..4) == 0).then(|| "fixed@corp.example".parse().expect("an address")),
        login: [Login::No, Login::Optional, Login::Required][dice.usize(..3)],
        auth_without_tls: dice.bool(),
        starttls: dice.bool(),
        tls_required: dice.u8(..8) == 0,
    });
    let origin = [Origin::Loopback, Origin::Network, Origin::Socket][dice.usize(..3)];
    let channel = Channel { origin, tls: dice.bool() };
    let [whole, single, random] =
        splits(&mut dice, octets).map(|chunks| run(&rules, channel, &chunks));
    assert_eq!(whole, single, "octet by octet");
    assert_eq!(whole, random, "in random pieces");
    check_order(&whole, &rules);
});

fn run(rules: &Arc<Rules>, channel: Channel, chunks: &[&[u8]]) -> Vec<Act> {
    let mut server = Server::new(Arc::clone(rules), channel);
    let mut acts = vec![wire(&server.greeting())];
    let mut data = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            let left = input.len();
            let receiving = server.is_receiving();
            match server.advance(&mut input, &mut data, || None) {
                Step::NeedInput => {
                    assert!(input.is_empty(), "input is left and more is asked for");
                    break;
                }
                Step::Reply(reply) => {
                    acts.push(wire(&reply));
                    if input.len() == left {
                        continue; // what a login has left to say
                    }
                }
                // Whether octets came along with STARTTLS depends on the reads, and must.
                Step::StartTls(_) => {
                    assert!(input.is_empty() && !server.is_receiving());
                    acts.push(Act::Close);
                    return acts;
                }
                Step::Close(reply) if reply.to_string().contains("octets behind STARTTLS") => {
                    acts.push(Act::Close);
                    return acts;
                }
                Step::Close(reply) => {
                    acts.extend([wire(&reply), Act::Close]);
                    return acts;
                }
                Step::BeginMailData(envelope) => {
                    assert!(server.is_receiving());
                    acts.push(Act::Begin(envelope));
                    acts.push(wire(&Server::start_mail_input()));
                }
                Step::BeginChunks(envelope) => {
                    assert!(server.is_receiving());
                    acts.push(Act::Begin(envelope));
                }
                Step::Authenticate(credentials) => {
                    let right = credentials.name.len() % 2 == 1;
                    server.resume(if right { Verdict::Accepted } else { Verdict::Refused });
                    if right {
                        acts.push(Act::Login);
                    }
                }
                Step::MailData => assert!(server.is_receiving()),
                Step::EndOfChunk(reply) => {
                    assert!(!server.is_receiving());
                    acts.push(wire(&reply));
                }
                Step::EndOfMailData => {
                    assert!(!server.is_receiving());
                    acts.push(Act::Take(std::mem::take(&mut data)));
                }
                Step::RefusedMailData(reply) => {
                    assert!(!server.is_receiving());
                    // How much came before the limit depends on the reads; it is dropped.
                    data.clear();
                    acts.extend([Act::Drop, wire(&reply)]);
                }
            }
            assert!(input.len() < left || receiving, "a step without progress");
        }
        assert!(data.len() as u64 <= rules.max_message_size, "over the limit and passed on");
    }
    acts
}

fn wire(reply: &Reply) -> Act {
    let mut octets = Vec::new();
    reply.write_to(&mut octets);
    assert!(octets.ends_with(b"\r\n") && !has_bare_line_end(&octets));
    let text = std::str::from_utf8(&octets).expect("ASCII");
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    for (at, line) in lines.iter().enumerate() {
        let (code, rest) = line.split_at(3);
        assert_eq!(code, lines[0].split_at(3).0, "{text:?}");
        assert!(matches!(code.as_bytes(), [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']), "{text:?}");
        assert!(rest.starts_with(if at + 1 == lines.len() { ' ' } else { '-' }), "{text:?}");
        assert!(line.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text:?}");
    }
    Act::Reply(octets)
}

/// Mail data has an envelope before it, and an envelope has had its 250s.
fn check_order(acts: &[Act], rules: &Rules) {
    let mut begun = false;
    let mut accepted = 0;
    let mut logged_in = rules.login != Login::Required;
    for act in acts {
        match act {
            Act::Reply(octets) if octets.starts_with(b"250 2.1.") => accepted += 1,
            Act::Reply(_) => {}
            Act::Begin(envelope) => {
                assert!(!begun && logged_in);
                begun = true;
                let recipients = envelope.recipients.len();
                assert!((1..=rules.max_recipients).contains(&recipients), "{envelope:?}");
                assert!(accepted > recipients, "{accepted} replies 250 for {envelope:?}");
                accepted = 0;
                check_envelope(envelope);
            }
            Act::Take(octets) => {
                assert!(std::mem::take(&mut begun), "mail data without an envelope");
                assert!(!has_bare_line_end(octets));
            }
            Act::Login => logged_in = true,
            Act::Drop => begun = false, // a chunk that nobody had asked for may be dropped as well
            Act::Close => {}
        }
    }
}

/// The store must be able to read back what was taken.
fn check_envelope(envelope: &Envelope) {
    let forward_paths = envelope.recipients.iter().map(|recipient| &recipient.forward_path.0);
    let reverse_path = match &envelope.reverse_path {
        ReversePath::Null => None,
        ReversePath::Address(address) => Some(address),
    };
    for address in forward_paths.chain(reverse_path) {
        assert_eq!(address.as_str().parse::<Address>().as_ref(), Ok(address));
    }
}
