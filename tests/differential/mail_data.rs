//! Mail data: what is stored, where it ends.

use o365_relay::smtp::mail_data::Decoder;
use smtp_proto::request::receiver::DataReceiver;

use super::{Known, pick, sort_into};

const CASES: usize = 50_000;
const SEED: u64 = 1;

const PIECES: &[&[u8]] =
    &[b"a", b"b", b"\r\n", b"\r\n", b".", b"..", b"\r", b"\n", b"\0", b"\r\n.", b"\r\n..", b"\xfc"];

/// Behind each case, so that both find an end somewhere.
const END: &[u8] = b"z\r\n.\r\n";

#[derive(Debug)]
struct Case {
    octets: Vec<u8>,
    #[expect(dead_code, reason = "shown when the test fails")]
    ours: Reading,
    #[expect(dead_code, reason = "shown when the test fails")]
    theirs: Reading,
}

#[derive(Debug, PartialEq, Eq)]
struct Reading {
    stored: String,
    /// Octets up to and with the final dot's CRLF.
    end: Option<usize>,
}

const ROWS: &[Known<Case>] = &[
    Known {
        reason: "no CRLF before the first line: it neither ends mail data nor loses its stuffed \
                 dot (RFC 5321 section 4.5.2 counts the CRLF of DATA)",
        applies: |case| case.octets.starts_with(b"."),
    },
    Known {
        reason: "CRLF dot CR CR LF is taken for an end: a way to smuggle",
        applies: |case| case.has(b"\r\n.\r\r"),
    },
    Known {
        reason: "a dot before a bare CR or LF is taken for a stuffed one; no client that stuffs \
                 leaves it so, and we keep it",
        applies: |case| case.has(b"\r\n.\n") || case.has(b"\r\n.\r"),
    },
];

impl Case {
    fn has(&self, octets: &[u8]) -> bool {
        self.octets.windows(octets.len()).any(|window| window == octets)
    }
}

#[test]
fn mail_data_is_read_alike_but_for_the_known_differences() {
    let mut dice = fastrand::Rng::with_seed(SEED);
    let mut differing = Vec::new();
    for _ in 0..CASES {
        let count = dice.usize(0..10);
        let mut octets: Vec<u8> =
            (0..count).flat_map(|_| pick(&mut dice, PIECES).iter().copied()).collect();
        octets.extend_from_slice(END);
        let size = dice.usize(1..=octets.len());
        let chunks: Vec<&[u8]> = octets.chunks(size).collect();
        let (ours, theirs) = (ours(&chunks), theirs(&chunks));
        if ours != theirs {
            differing.push(Case { octets, ours, theirs });
        }
    }
    sort_into(ROWS, &differing, CASES);
}

fn ours(chunks: &[&[u8]]) -> Reading {
    let mut decoder = Decoder::default();
    let mut stored = Vec::new();
    let mut consumed = 0;
    for chunk in chunks {
        let mut input = *chunk;
        let ended = decoder.decode(&mut input, &mut stored);
        consumed += chunk.len() - input.len();
        if ended {
            return Reading { stored: stored.escape_ascii().to_string(), end: Some(consumed) };
        }
    }
    Reading { stored: stored.escape_ascii().to_string(), end: None }
}

fn theirs(chunks: &[&[u8]]) -> Reading {
    let mut receiver = DataReceiver::new();
    let mut stored = Vec::new();
    let mut consumed = 0;
    for chunk in chunks {
        let mut input = chunk.iter();
        let ended = receiver.ingest(&mut input, &mut stored);
        consumed += chunk.len() - input.len();
        if ended {
            return Reading { stored: normalised(&stored), end: Some(consumed) };
        }
    }
    Reading { stored: normalised(&stored), end: None }
}

/// smtp-proto passes bare line ends; ours become CRLF.
fn normalised(octets: &[u8]) -> String {
    let mut out = Vec::new();
    for (at, octet) in octets.iter().enumerate() {
        match octet {
            b'\r' if octets.get(at + 1) == Some(&b'\n') => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            octet => out.push(*octet),
        }
    }
    out.escape_ascii().to_string()
}
