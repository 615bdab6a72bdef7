//! The codec of mail data: the decoder agrees with a description of whole messages, however the
//! octets are cut; nothing with a bare CR or LF comes out; what a client stuffs comes back as it
//! was; and the encoder stuffs as such a client does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use o365_relay::smtp::mail_data::{Decoder, Encoder};
use o365_relay_fuzz::{dice, has_bare_line_end, normalized, splits};

fuzz_target!(|input: &[u8]| {
    let (mut dice, octets) = dice(input);
    // What is held back, because it might be an end, comes out with one more octet.
    let octets = [octets, b"x"].concat();
    let expected = expected(&octets);
    for chunks in splits(&mut dice, &octets) {
        let found = decoded(&chunks);
        assert_eq!(found, expected);
        assert!(!has_bare_line_end(&found.0));
    }
    let message = normalized(&[&octets, &b"\r\n"[..]].concat());
    let stuffed = stuffed(&message);
    for chunks in splits(&mut dice, &stuffed) {
        assert_eq!(decoded(&chunks), (message.clone(), false, Some(stuffed.len())));
    }
    for chunks in splits(&mut dice, &message) {
        assert_eq!(encoded(&chunks), stuffed);
    }
});

fn encoded(chunks: &[&[u8]]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut sent: Vec<u8> = chunks.iter().flat_map(|one| encoder.encode(one.to_vec())).collect();
    sent.extend_from_slice(b".\r\n");
    sent
}

/// What is stored, whether a bare CR or LF was met, and where the mail data ended.
type Decoded = (Vec<u8>, bool, Option<usize>);

fn decoded(chunks: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::default();
    let (mut stored, mut consumed) = (Vec::new(), 0);
    for chunk in chunks {
        let mut input = *chunk;
        let ended = decoder.decode(&mut input, &mut stored);
        consumed += chunk.len() - input.len();
        if ended {
            return (stored, decoder.met_bare_line_end(), Some(consumed));
        }
        assert!(input.is_empty());
    }
    (stored, decoder.met_bare_line_end(), None)
}

/// RFC 5321 section 4.5.2 and our normalisation, over whole lines.
fn expected(octets: &[u8]) -> Decoded {
    let (mut stored, mut bare) = (Vec::new(), false);
    let mut rest = octets;
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n");
        let line = &rest[..end.unwrap_or(rest.len())];
        if line == b"." && end.is_some() {
            return (stored, bare, Some(octets.len() - rest.len() + 3));
        }
        bare |= has_bare_line_end(line);
        let text = match line {
            [b'.', b'\r' | b'\n', ..] | [b'.'] => line,
            [b'.', rest @ ..] => rest,
            line => line,
        };
        stored.extend(normalized(text));
        let Some(end) = end else { return (stored, bare, None) };
        stored.extend_from_slice(b"\r\n");
        rest = &rest[end + 2..];
    }
}

fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}
