//! The PROXY protocol of haproxy, versions 1 and 2: a header before everything else, in which a
//! balancer says whose connection it passes on.
//!
//! No octet behind the header is read here. A header that is not exactly as it should be is worth
//! a closed connection and nothing more.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{io::AsyncReadExt, time::timeout};

use super::stream::Stream;

/// How long a balancer may take for its header. It sends it at once; a lost packet comes again
/// within 3 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest header of version 1, with its CRLF.
const MAX_V1: usize = 107;

/// Longest header of version 2 that we take. Addresses need 232 octets, the rest are TLVs.
const MAX_V2: usize = 2048;

const V1: &[u8] = b"PROXY ";
const V2: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Octets of a version 2 header up to its addresses.
const V2_START: usize = 16;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A client's.
    Client(IpAddr),
    /// The balancer's own, such as a health check, or one whose client it cannot name.
    Balancer,
}

/// Why there was no header that we take.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderFault {
    #[error("no PROXY header")]
    Missing,
    #[error("bad PROXY header: {0}")]
    Bad(&'static str),
    #[error("no whole PROXY header within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("connection lost within the PROXY header: {0}")]
    Lost(#[from] io::Error),
}

/// Reads the header and not one octet more.
pub(super) async fn read_header(stream: &mut Stream) -> Result<Source, HeaderFault> {
    let read = async {
        let mut header = Vec::new();
        loop {
            match progress(&header)? {
                Progress::Done(source) => return Ok(source),
                Progress::Needs(more) => {
                    let mut rest = (&mut *stream).take(more as u64);
                    if rest.read_buf(&mut header).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
    };
    timeout(PATIENCE, read).await.unwrap_or(Err(HeaderFault::Timeout))
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// The header has this many octets more, at least.
    Needs(usize),
    Done(Source),
}

fn progress(header: &[u8]) -> Result<Progress, HeaderFault> {
    let begins = |start: &[u8]| header.iter().zip(start).all(|(one, other)| one == other);
    if begins(V2) {
        version_2(header)
    } else if begins(V1) {
        version_1(header)
    } else {
        Err(HeaderFault::Missing)
    }
}

/// `PROXY TCP4 192.0.2.7 10.0.0.1 40000 25` and CRLF; `PROXY UNKNOWN`, whatever follows.
fn version_1(header: &[u8]) -> Result<Progress, HeaderFault> {
    const SHORTEST: usize = "PROXY UNKNOWN\r\n".len();
    if header.len() < SHORTEST {
        return Ok(Progress::Needs(SHORTEST - header.len()));
    }
    let Some(line) = header.strip_suffix(b"\r\n") else {
        if header.len() >= MAX_V1 {
            return Err(HeaderFault::Bad("longer than 107 octets"));
        }
        // No more at a time than is missing for sure: what follows CRLF is no longer ours.
        let missing = if header.ends_with(b"\r") { 1 } else { 2 };
        return Ok(Progress::Needs(missing.min(MAX_V1 - header.len())));
    };
    let line =
        std::str::from_utf8(line).map_err(|_| HeaderFault::Bad("octets that are no ASCII"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => Source::Balancer,
        ["PROXY", "TCP4", source, target, from, to] => {
            let (source, _) = (parsed::<Ipv4Addr>(source)?, parsed::<Ipv4Addr>(target)?);
            ports(from, to)?;
            Source::Client(source.into())
        }
        ["PROXY", "TCP6", source, target, from, to] => {
            let (source, _) = (parsed::<Ipv6Addr>(source)?, parsed::<Ipv6Addr>(target)?);
            ports(from, to)?;
            Source::Client(source.into())
        }
        _ => {
            return Err(HeaderFault::Bad("neither TCP4, TCP6 nor UNKNOWN with what belongs to it"));
        }
    };
    Ok(Progress::Done(source))
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, HeaderFault> {
    text.parse().map_err(|_| HeaderFault::Bad("an address of another family or none"))
}

fn ports(from: &str, to: &str) -> Result<(), HeaderFault> {
    let is_port = |text: &str| {
        let plain = text == "0" || !text.starts_with(['0', '+']);
        plain && text.parse::<u16>().is_ok()
    };
    match is_port(from) && is_port(to) {
        true => Ok(()),
        false => Err(HeaderFault::Bad("a port that is none")),
    }
}

/// Signature, version and command, family and protocol, length, addresses, TLVs.
fn version_2(header: &[u8]) -> Result<Progress, HeaderFault> {
    let Some((start, rest)) = header.split_first_chunk::<V2_START>() else {
        // As long as it is empty it may become a shorter one of version 1.
        let certain = if header.is_empty() { V2.len() } else { V2_START };
        return Ok(Progress::Needs(certain - header.len()));
    };
    let [.., command, family, high, low] = *start;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_START + length > MAX_V2 {
        return Err(HeaderFault::Bad("longer than 2048 octets"));
    }
    if rest.len() < length {
        return Ok(Progress::Needs(length - rest.len()));
    }
    let short = || HeaderFault::Bad("too short for its addresses");
    let source = match (command, family) {
        (0x20, _) => Source::Balancer, // LOCAL
        (0x21, 0x11) => {
            let (octets, _) = rest.split_first_chunk::<12>().ok_or_else(short)?;
            let [a, b, c, d, ..] = *octets;
            Source::Client(Ipv4Addr::new(a, b, c, d).into())
        }
        (0x21, 0x21) => {
            let (octets, _) = rest.split_first_chunk::<36>().ok_or_else(short)?;
            let (source, _) = octets.split_first_chunk::<16>().ok_or_else(short)?;
            Source::Client(Ipv6Addr::from(*source).into())
        }
        // Unspecified, or a Unix socket of the balancer's host.
        (0x21, 0x00 | 0x31) => Source::Balancer,
        (0x21, _) => return Err(HeaderFault::Bad("a protocol other than TCP")),
        _ => return Err(HeaderFault::Bad("an unknown version or command")),
    };
    Ok(Progress::Done(source))
}

/// Watches the first octets of a session for a header from somebody who may not send one. To take
/// what follows under the sender's own address would let in everybody who reaches that balancer.
#[derive(Debug, Default)]
pub(super) struct Uninvited {
    seen: usize,
    ruled_out: [bool; 2],
}

impl Uninvited {
    /// Whether the session begins with a header, once that is certain.
    pub fn is_header(&mut self, octets: &[u8]) -> bool {
        if self.ruled_out == [true; 2] {
            return false;
        }
        for octet in octets {
            for (start, out) in [V1, V2.as_slice()].into_iter().zip(&mut self.ruled_out) {
                *out |= start.get(self.seen) != Some(octet);
                if !*out && self.seen + 1 == start.len() {
                    return true;
                }
            }
            if self.ruled_out == [true; 2] {
                return false;
            }
            self.seen += 1;
        }
        false
    }
}

#[cfg(test)]
mod tests;
