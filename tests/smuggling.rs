//! SMTP smuggling: whatever a client puts around a dot, mail data ends at CRLF.CRLF (or at .CRLF
//! as its first line) and nowhere else, wherever the reads break; what follows is a command only
//! behind a real end; and no bare CR or LF and no early end leaves for upstream.
//!
//! The strings are not chosen: every string up to a length over the octets that matter is tried.
//! What ought to happen is said by [`Expected`], which looks at whole messages at once and shares
//! nothing with the octet by octet decoder. `tests/smuggling/run` goes on with random ones and a
//! receiving side that is not ours.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "dialogues/bare.rs"]
mod bare;
mod served;
mod support;

use std::collections::BTreeSet;

use o365_relay::{
    clock::Clock,
    delivery::smarthost::{Share, Smarthost, Verdict},
    smtp::{
        envelope::{MailParameters, RcptParameters},
        mail_data::{BareLineFeed, Decoder},
        path::{ForwardPath, ReversePath},
        peer::Origin,
    },
    store::Transit,
};

use bare::Bare;
use support::{
    dialogue::{MAILBOX, config, login, token},
    message::{BODY, Mail, Queue},
    relay::Place,
    upstream::Upstream,
};

/// A message as the bare machine took it.
#[expect(dead_code, reason = "its envelope is of no interest here")]
pub struct Message {
    reverse_path: ReversePath,
    parameters: MailParameters,
    recipients: Vec<(ForwardPath, RcptParameters)>,
    octets: Vec<u8>,
}

/// Octets that matter to the framing, one that does not, and NUL, which some take for an end.
const OCTETS: &[u8] = b"\r\n.x\0";

/// A second transaction: what a smuggler wants to be read as commands.
const SMUGGLED: &[u8] = b"MAIL FROM:<smuggler@evil.example>\r\nRCPT TO:<victim@corp.example>\r\n\
    DATA\r\nFrom: a@corp.example\r\nDate: Mon, 23 Nov 2026 06:24:10 +0000\r\n\
    Message-ID: <2@corp.example>\r\n\r\nsmuggled";

/// A header section that the relay has nothing to add to.
const HEADER: &[u8] = b"From: a@corp.example\r\nDate: Mon, 23 Nov 2026 06:24:10 +0000\r\n\
    Message-ID: <1@corp.example>\r\n\r\n";

const END: &[u8] = b"\r\n.\r\n";

/// All strings over [`OCTETS`] up to this length.
fn strings(longest: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..=longest).flat_map(|length| {
        let count = OCTETS.len().pow(u32::try_from(length).unwrap());
        (0..count).map(move |number| {
            let mut rest = number;
            let octet = |_| {
                let octet = OCTETS[rest % OCTETS.len()];
                rest /= OCTETS.len();
                octet
            };
            (0..length).map(octet).collect()
        })
    })
}

/// The forms that got past known servers, and the honest ones beside them.
fn forms() -> Vec<Vec<u8>> {
    let ends: &[&[u8]] = &[b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b"\r\0\n", b""];
    let dots: &[&[u8]] = &[b".", b"..", b".x", b". ", b"\0.", b".\0", b"x."];
    let mut forms = Vec::new();
    for before in ends {
        for dot in dots {
            forms.extend(ends.iter().map(|after| [before, *dot, after].concat()));
        }
    }
    forms
}

// --- what ought to happen

/// What RFC 5321 and our normalisation make of the octets after 354.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    /// What is stored, as far as it came.
    stored: Vec<u8>,
    bare: bool,
    /// Where the mail data ends, behind the final dot's CRLF.
    end: Option<usize>,
}

impl Expected {
    fn of(octets: &[u8]) -> Self {
        // The CRLF behind DATA counts as the one before the first line.
        let all = [b"\r\n", octets].concat();
        let end = find(&all, END);
        let data = &octets[..end.unwrap_or(octets.len())];
        let mut stored = Vec::new();
        let mut bare = false;
        let mut lines = split(data, b"\r\n").into_iter().peekable();
        while let Some(line) = lines.next() {
            // A dot goes if something stands behind it that is no line end of any kind: no client
            // that stuffs would have put it there.
            let line = match line {
                [b'.', b'\r' | b'\n', ..] => line,
                [b'.', rest @ ..] if !rest.is_empty() => rest,
                line => line,
            };
            bare |= line.contains(&b'\r') || line.contains(&b'\n');
            for octet in line {
                match octet {
                    b'\r' | b'\n' => stored.extend_from_slice(b"\r\n"),
                    octet => stored.push(*octet),
                }
            }
            if lines.peek().is_some() {
                stored.extend_from_slice(b"\r\n");
            }
        }
        Self { stored, bare, end: end.map(|end| end + END.len() - 2) }
    }
}

fn find(octets: &[u8], wanted: &[u8]) -> Option<usize> {
    octets.windows(wanted.len()).position(|window| window == wanted)
}

fn split<'a>(mut octets: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = find(octets, separator) {
        pieces.push(&octets[..at]);
        octets = &octets[at + separator.len()..];
    }
    pieces.push(octets);
    pieces
}

/// Without our Received field, which stands on top.
fn without_trace(stored: &[u8]) -> &[u8] {
    &stored[find(stored, b"From: ").unwrap_or(0)..]
}

fn has_bare_line_end(octets: &[u8]) -> bool {
    split(octets, b"\r\n").iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n'))
}

/// Each way to cut `octets` in two, the whole, and octet by octet.
fn cuts(octets: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut cuts: Vec<Vec<&[u8]>> =
        (0..octets.len()).map(|at| octets.split_at(at)).map(|(a, b)| vec![a, b]).collect();
    cuts.push(octets.chunks(1).collect());
    cuts
}

// --- the codec

#[test]
fn no_string_ends_mail_data_but_the_real_end_wherever_it_is_cut() {
    let (mut tried, mut ends) = (0, 0);
    for mut string in strings(7).chain(forms()) {
        string.push(b'x'); // what was held back, because it might have been an end, comes out
        let expected = Expected::of(&string);
        ends += usize::from(expected.end.is_some());
        for chunks in cuts(&string) {
            tried += 1;
            assert_eq!(decoded(&chunks), expected, "{}", shown(&chunks));
        }
    }
    assert!(tried > 800_000 && ends > 800, "{tried} cuts, {ends} real ends");
}

fn decoded(chunks: &[&[u8]]) -> Expected {
    let mut decoder = Decoder::default();
    let mut stored = Vec::new();
    let mut consumed = 0;
    for chunk in chunks {
        let mut input = *chunk;
        let ended = decoder.decode(&mut input, &mut stored);
        consumed += chunk.len() - input.len();
        if ended {
            return Expected { stored, bare: decoder.met_bare_line_end(), end: Some(consumed) };
        }
    }
    Expected { stored, bare: decoder.met_bare_line_end(), end: None }
}

fn shown(chunks: &[&[u8]]) -> String {
    let chunks: Vec<_> = chunks.iter().map(|chunk| chunk.escape_ascii().to_string()).collect();
    chunks.join(" | ")
}

// --- a whole session

/// The octets of a session, with what has to come of it.
struct Session {
    octets: Vec<u8>,
    /// Where the string and what follows it stand: cuts elsewhere change nothing.
    matters: std::ops::Range<usize>,
    /// Reply codes from 354 on.
    codes: Vec<&'static str>,
    /// What is stored of each message, without our Received field.
    messages: Vec<Vec<u8>>,
}

const OPENING: &[u8] =
    b"EHLO a\r\nMAIL FROM:<a@corp.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n";
const OPENING_CODES: usize = 1 + 9 + 2; // greeting, EHLO's lines, MAIL, RCPT

impl Session {
    /// A message, the string in the place where a smuggler wants an end, his transaction, an end.
    fn with_smuggler(string: &[u8], rule: BareLineFeed) -> Self {
        let sent = [HEADER, b"first", string, SMUGGLED, END].concat();
        let expected = Expected::of(&sent);
        let end = expected.end.unwrap();
        let mut codes = vec!["354", verdict(&expected, rule)];
        let mut messages = vec![expected];
        // If that was a real end, his transaction is an honest second one.
        commands(&sent[end..], rule, &mut codes, &mut messages);
        Self::new(string, &sent, codes, messages, rule)
    }

    /// A message with a real end and the string behind it, which is nothing but commands.
    fn with_tail(string: &[u8], rule: BareLineFeed) -> Self {
        let sent = [HEADER, b"first", END, string, b"\r\n"].concat();
        let expected = Expected::of(&sent);
        let mut codes = vec!["354", verdict(&expected, rule)];
        let tail = &sent[expected.end.unwrap()..];
        codes.extend(tail.split_inclusive(|octet| *octet == b'\n').map(|_| "500"));
        Self::new(string, &sent, codes, vec![expected], rule)
    }

    fn new(
        string: &[u8],
        sent: &[u8],
        codes: Vec<&'static str>,
        messages: Vec<Expected>,
        rule: BareLineFeed,
    ) -> Self {
        let taken = messages.into_iter().filter(|message| verdict(message, rule) == "250");
        let start = OPENING.len() + HEADER.len() + 5;
        Self {
            octets: [OPENING, sent, b"NOOP\r\n"].concat(),
            matters: start..start + string.len() + END.len() + 2,
            codes: [codes, vec!["250"]].concat(),
            messages: taken.map(|message| message.stored).collect(),
        }
    }

    fn check(&self, chunks: &[&[u8]], rule: BareLineFeed) {
        let mut listener = served::listener_config();
        listener.bare_line_feed = rule;
        listener.max_faults = 1_000;
        let mut bare = Bare::new(listener, Vec::new(), Origin::Loopback);
        for chunk in chunks {
            bare.feed(chunk);
        }
        let codes: Vec<_> = bare.lines.iter().skip(OPENING_CODES).map(|line| &line[..3]).collect();
        assert_eq!(codes, self.codes, "{rule:?}: {}", shown(chunks));
        assert_eq!(bare.messages.len(), self.messages.len(), "{rule:?}: {}", shown(chunks));
        for (message, expected) in bare.messages.iter().zip(&self.messages) {
            let stored = message.octets.escape_ascii();
            assert_eq!(without_trace(&message.octets), expected, "{stored} for {}", shown(chunks));
            assert!(!has_bare_line_end(&message.octets), "{stored} for {}", shown(chunks));
        }
    }

    /// Cut in two at each place that matters, and octet by octet.
    fn check_cuts(&self, rule: BareLineFeed) -> usize {
        let places = self.matters.clone();
        for at in places.clone() {
            let (a, b) = self.octets.split_at(at);
            self.check(&[a, b], rule);
        }
        self.check(&self.octets.chunks(1).collect::<Vec<_>>(), rule);
        places.len() + 1
    }
}

fn verdict(message: &Expected, rule: BareLineFeed) -> &'static str {
    if message.bare && rule == BareLineFeed::Reject { "550" } else { "250" }
}

/// What comes of the octets behind a real end: commands, and perhaps a second message.
fn commands(
    mut octets: &[u8],
    rule: BareLineFeed,
    codes: &mut Vec<&'static str>,
    messages: &mut Vec<Expected>,
) {
    let (mut mail, mut rcpt) = (false, false);
    while let Some(end) = find(octets, b"\n") {
        let line = &octets[..=end];
        octets = &octets[end + 1..];
        codes.push(match line {
            b"DATA\r\n" if rcpt => {
                let message = Expected::of(octets);
                octets = &octets[message.end.unwrap()..];
                codes.extend(["354", verdict(&message, rule)]);
                messages.push(message);
                (mail, rcpt) = (false, false);
                continue;
            }
            line if line.starts_with(b"MAIL FROM:") => {
                mail = true;
                "250"
            }
            line if line.starts_with(b"RCPT TO:") && mail => {
                rcpt = true;
                "250"
            }
            line if line.starts_with(b"RCPT TO:") || line == b"DATA\r\n" => "503",
            _ => "500",
        });
    }
}

#[test]
fn a_smuggled_transaction_is_text_unless_the_end_before_it_was_real() {
    let mut tried = 0;
    for rule in [BareLineFeed::Normalize, BareLineFeed::Reject] {
        for string in strings(5).chain(forms()) {
            tried += Session::with_smuggler(&string, rule).check_cuts(rule);
        }
    }
    assert!(tried > 50_000, "{tried} cuts");
}

#[test]
fn what_stands_behind_a_real_end_is_read_as_commands_and_is_no_part_of_the_message() {
    let mut tried = 0;
    for rule in [BareLineFeed::Normalize, BareLineFeed::Reject] {
        for string in strings(4).chain(forms()) {
            tried += Session::with_tail(&string, rule).check_cuts(rule);
        }
    }
    assert!(tried > 10_000, "{tried} cuts");
}

// --- the way out

/// What the relay queues for each string, in its header section and in its body.
fn queued() -> BTreeSet<Vec<u8>> {
    let mut queued = BTreeSet::new();
    for string in strings(4).chain(forms()) {
        for before in [&b""[..], HEADER, &[HEADER, b"x"].concat()] {
            let mut bare = Bare::new(served::listener_config(), Vec::new(), Origin::Loopback);
            bare.feed(&[OPENING, before, &string, b"x", &string, END].concat());
            // The first of several: behind a real end the rest was read as commands.
            queued.insert(bare.messages.swap_remove(0).octets);
        }
    }
    queued
}

/// The fake smarthost reads mail data up to the first CRLF.CRLF: were there an early one, or none,
/// the client would not follow the script.
fn script(messages: usize) -> String {
    let transaction = "C: MAIL FROM:*\nS: 250 OK\nC: RCPT TO:*\nS: 250 OK\nC: DATA\nS: 354 go\n\
                       DATA\nS: 250 OK\n";
    format!("{}{}", login(), transaction.repeat(messages))
}

/// Sends the bodies over one connection and returns what came over the wire, dots and all.
async fn delivered(queued: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let upstream = Upstream::start(&[script(queued.len())]);
    let spool = tempfile::tempdir().unwrap();
    let transit = Transit::open(spool.path().to_owned(), Clock::system()).unwrap();
    let queue = Queue::new();
    let entry = queue.entry(Mail::default()).await;
    let mut config = config(upstream.port, upstream.tls());
    config.max_messages_per_connection = u32::MAX;
    let mut connection = Smarthost::new(config).connect(MAILBOX, &token()).await.unwrap();
    for octets in queued {
        let mut draft = transit.draft();
        draft.append(octets).await.unwrap();
        let body = draft.into_passing().await.unwrap().open().unwrap();
        let verdicts = connection.send(&entry, body, Share::Accepted).await.unwrap();
        assert!(matches!(verdicts[..], [(0, Verdict::Relayed(_))]), "{verdicts:?}");
    }
    drop(connection);
    upstream.finish().await
}

fn check_wire(wire: &[u8], queued: &[u8]) {
    let shown = wire.escape_ascii();
    assert!(!has_bare_line_end(wire), "{shown}");
    // A receiver that does not ask for the CR finds no early end either.
    let lax: Vec<u8> = wire.iter().copied().filter(|octet| *octet != b'\r').collect();
    assert_eq!(find(&lax, b"\n.\n"), Some(lax.len() - 3), "{shown}");
    let Expected { stored, end, .. } = Expected::of(wire);
    assert_eq!((stored.as_slice(), end), (queued, Some(wire.len())), "{shown}");
}

#[tokio::test]
async fn nothing_that_was_queued_leaves_with_an_early_end_or_a_bare_cr_or_lf() {
    let queued = queued();
    assert!(queued.len() > 500, "{} messages", queued.len());
    let queued: Vec<_> = queued.into_iter().collect();
    let wires = delivered(&queued).await;
    assert_eq!(wires.len(), queued.len());
    for (wire, queued) in wires.iter().zip(&queued) {
        check_wire(wire, queued);
    }
}

/// Large bodies come from their file in pieces of 64 KiB.
#[tokio::test]
async fn where_the_pieces_of_a_large_body_break_does_not_matter() {
    const PIECE: usize = 64 * 1024;
    let dots = b"x\r\n.\r\n..\r\n\r\n.x\r\n";
    let line = [[b'y'; 998].as_slice(), b"\r\n"].concat();
    let queued: Vec<_> = (0..=dots.len())
        .map(|before| {
            let mut octets = [BODY, &line.repeat(PIECE / line.len() + 1)].concat();
            octets.truncate(PIECE - before);
            octets.extend_from_slice(dots);
            octets
        })
        .collect();
    let wires = delivered(&queued).await;
    for (wire, queued) in wires.iter().zip(&queued) {
        check_wire(wire, queued);
    }
}

// --- all of it over sockets

/// A sample through the whole relay into the sandbox, each message in two writes.
#[tokio::test]
async fn through_the_relay_each_message_arrives_once_and_no_smuggled_one() {
    let mut place = Place::new().await;
    place.set("listener.max_faults=1000");
    let relay = place.relay().await;
    let mut expected = Vec::new();
    let mut sessions = Vec::new();
    for (number, string) in forms().into_iter().step_by(7).enumerate() {
        let session = Session::with_smuggler(&string, BareLineFeed::Normalize);
        let at = session.matters.start + number % session.matters.len();
        let mut client =
            served::Client::new(tokio::net::TcpStream::connect(relay.smtp()).await.unwrap());
        client.send(&session.octets[..at]).await;
        client.send(&session.octets[at..]).await;
        expected.extend(session.messages);
        sessions.push((string, client, session.codes));
    }
    for (string, mut client, codes) in sessions {
        client.finish_sending().await;
        let mut got = Vec::new();
        while let Some(line) = client.line().await {
            got.push(line[..3].to_owned());
        }
        assert_eq!(got[OPENING_CODES..], codes, "{}", string.escape_ascii());
    }
    let arrivals = place.arrivals(expected.len()).await;
    relay.settled(expected.len()).await;
    assert!(place.seen().is_empty(), "more arrived than was sent");
    let octets = arrivals.iter().map(|arrival| arrival.mail_data.as_deref().unwrap());
    let mut arrived: Vec<_> = octets.map(without_trace).collect();
    arrived.sort_unstable();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
    relay.stop().await;
}
