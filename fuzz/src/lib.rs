//! What several targets use.

/// The first four octets of an input, as a number that decides by chance what the rest does not
/// say: where reads break, which settings hold. They stay readable in a seed: `0000`.
#[must_use]
pub fn dice(input: &[u8]) -> (fastrand::Rng, &[u8]) {
    let (first, rest) = input.split_at(input.len().min(4));
    let mut number = [0; 4];
    number[..first.len()].copy_from_slice(first);
    (fastrand::Rng::with_seed(u32::from_le_bytes(number).into()), rest)
}

/// The input as a whole, octet by octet, and in random pieces.
#[must_use]
pub fn splits<'a>(dice: &mut fastrand::Rng, data: &'a [u8]) -> [Vec<&'a [u8]>; 3] {
    let longest = dice.usize(1..64);
    let mut pieces = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(dice.usize(1..=longest).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    [vec![data], data.chunks(1).collect(), pieces]
}

/// Whether a CR without LF or an LF without CR is in it.
#[must_use]
pub fn has_bare_line_end(octets: &[u8]) -> bool {
    octets.iter().enumerate().any(|(at, octet)| match octet {
        b'\r' => octets.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || octets[at - 1] != b'\r',
        _ => false,
    })
}

/// Every line end a CRLF.
#[must_use]
pub fn normalized(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, octet) in octets.iter().enumerate() {
        match octet {
            b'\r' if octets.get(at + 1) == Some(&b'\n') => {}
            b'\r' | b'\n' => out.extend_from_slice(b"\r\n"),
            octet => out.push(*octet),
        }
    }
    out
}

/// Text that may stand on one line of a log or a terminal.
#[must_use]
pub fn is_one_printable_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
