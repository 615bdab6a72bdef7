use tokio::{io::AsyncWriteExt, net::UnixStream};

use super::*;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2.as_slice(), &[command, family], &length, body].concat()
}

/// What becomes of these octets, and what of them is left.
async fn read(octets: &[u8]) -> (Result<Source, String>, Vec<u8>) {
    let (mut balancer, ours) = UnixStream::pair().unwrap();
    balancer.write_all(octets).await.unwrap();
    drop(balancer);
    let mut stream = Stream::from(ours);
    let source = read_header(&mut stream).await.map_err(|fault| fault.to_string());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    (source, rest)
}

async fn source(octets: impl AsRef<[u8]>) -> Result<Source, String> {
    read(octets.as_ref()).await.0
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with what was found")]
fn client(address: &str) -> Result<Source, String> {
    Ok(Source::Client(address.parse().unwrap()))
}

#[tokio::test]
async fn a_header_names_the_client_and_what_follows_stays_unread() {
    let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 25];
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[1, 2, 0, 25]].concat();
    let cases: [(Vec<u8>, _); 11] = [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n".into(), client("192.0.2.7")),
        (b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n".into(), client("2001:db8::7")),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 25\r\n".into(), client("::ffff:192.0.2.7")),
        (b"PROXY UNKNOWN\r\n".into(), Ok(Source::Balancer)),
        (b"PROXY UNKNOWN \xc3\xa4 b 1 2\r\n".into(), Ok(Source::Balancer)),
        (v2(PROXY, TCP4, &v4), client("192.0.2.7")),
        (v2(PROXY, TCP4, &[&v4[..], &[4, 0, 1, 9]].concat()), client("192.0.2.7")),
        (v2(PROXY, TCP6, &v6), client("2001:db8::7")),
        (v2(LOCAL, 0, b""), Ok(Source::Balancer)),
        (v2(LOCAL, TCP4, &v4), Ok(Source::Balancer)),
        (v2(PROXY, 0, b""), Ok(Source::Balancer)),
    ];
    for (header, expected) in cases {
        let (found, rest) = read(&[&header[..], b"EHLO printer\r\n"].concat()).await;
        assert_eq!((found, rest.as_slice()), (expected, &b"EHLO printer\r\n"[..]), "{header:?}");
    }
}

#[tokio::test]
async fn whatever_is_not_exactly_a_header_is_none() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let bad: [&[u8]; 13] = [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\n\n\n\n",
        b"PROXY TCP4 192.0.2.07 10.0.0.1 40000 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 040 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 +40 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
        b"PROXY TCP4 192.0.2.7  10.0.0.1 1 2\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 1 25\r\n",
        b"PROXY TCP6 192.0.2.7 10.0.0.1 1 25\r\n",
        b"PROXY UDP4 192.0.2.7 10.0.0.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.7\r 10.0.0.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.\xff 10.0.0.1 1 25\r\n",
        long.as_bytes(),
    ];
    for octets in bad {
        let fault = source(octets).await.unwrap_err();
        let lost = octets.ends_with(b"\n\n") && fault.contains("lost");
        assert!(fault.starts_with("bad PROXY header: ") || lost, "{octets:?}: {fault}");
    }
    for octets in
        [&b"EHLO printer.example\r\n"[..], b"proxy TCP4 ", b"PROXZ", b"\r\n\r\nEHLO x\r\n"]
    {
        assert_eq!(source(octets).await.unwrap_err(), "no PROXY header", "{octets:?}");
    }
    let bad = [
        v2(0x11, TCP4, &[0; 12]),
        v2(0x22, TCP4, &[0; 12]),
        v2(PROXY, 0x12, &[0; 12]),
        v2(PROXY, TCP4, &[0; 11]),
        v2(PROXY, TCP6, &[0; 35]),
        v2(PROXY, TCP4, &vec![0; 2033]),
    ];
    for octets in bad {
        let fault = source(&octets).await.unwrap_err();
        assert!(fault.starts_with("bad PROXY header: "), "{octets:?}: {fault}");
    }
    source(v2(PROXY, TCP4, &[0; 2032])).await.unwrap();
}

#[tokio::test]
async fn a_header_may_come_in_any_pieces_and_is_lost_at_any_end() {
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n".to_vec();
    let v2 = v2(PROXY, TCP4, &[192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0x40, 0, 25]);
    for header in [v1, v2] {
        for at in 0..header.len() {
            let lost = source(&header[..at]).await.unwrap_err();
            assert!(lost.starts_with("connection lost within"), "{at}: {lost}");
            let (mut balancer, ours) = UnixStream::pair().unwrap();
            let reader = tokio::spawn(async move { read_header(&mut ours.into()).await });
            balancer.write_all(&header[..at]).await.unwrap();
            tokio::task::yield_now().await;
            balancer.write_all(&header[at..]).await.unwrap();
            let found = reader.await.unwrap().map_err(|fault| fault.to_string());
            assert_eq!(found, client("192.0.2.7"), "{at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_header() {
    let (_balancer, ours) = UnixStream::pair().unwrap();
    let fault = read_header(&mut ours.into()).await.unwrap_err();
    assert_eq!(fault.to_string(), "no whole PROXY header within 5 s");
}

#[test]
fn an_uninvited_header_is_seen_in_any_pieces() {
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 25\r\n".as_slice();
    for (header, certain) in [(v1, 6), (V2.as_slice(), 12)] {
        for at in 0..header.len() {
            let mut watch = Uninvited::default();
            assert_eq!(watch.is_header(&header[..at]), at >= certain, "{at}");
            assert!(at >= certain || watch.is_header(&header[at..]), "{at}");
        }
    }
    let mut watch = Uninvited::default();
    assert!(!watch.is_header(b"\r\n\r\nPROXY ") && !watch.is_header(b"PROXY "));
}
