//! Every limit of the SMTP server, met once: the client hears of it, and the metric says which limit
//! it was. A listener for each limit, so that each has its own series.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{net::SocketAddr, time::Duration};

use o365_relay::listener::Address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use self::support::{
    client::get,
    relay::{Place, Relay},
    wait::{PATIENCE, until},
};

/// One limit, and how it is met.
struct Limit {
    /// The listener with it, by which its series are known.
    name: &'static str,
    /// Its keys.
    keys: &'static [&'static str],
    how: How,
    /// How the last reply begins.
    hears: &'static str,
    /// The metrics that count it once, with their cause.
    counted: &'static [(&'static str, &'static str)],
}

enum How {
    /// The client says these lines and reads until the reply.
    Says(&'static [&'static str]),
    /// As `Says`, and then goes on with an octet now and then.
    Trickles(&'static [&'static str]),
    /// The second connection is one too many.
    SecondConnection,
    /// A line of so many octets.
    Line(usize),
    /// It goes on talking.
    Chatters,
    /// So many connections guess a password side by side, and then another one does.
    Guesses(usize),
}

const REFUSED: &str = "client_refusals_total";
const CUT: &str = "sessions_cut_total";
const TRANSACTION: [&str; 2] = ["MAIL FROM:<relay@sandbox.example>", "RCPT TO:<a@b.example>"];
const LOGIN: &str = "AUTH PLAIN AHNjYW5uZXIAZ3Vlc3M=";
/// Of a password that nobody guesses here.
const USER: &str = "users = [\"scanner:$argon2id$v=19$m=8,t=1,p=1$c2FsdCBmb3Igbm90aGluZw$dGhpcyBpcyBubyBoYXNoLCBtYWtlIGEgbmV3IG9uZSE\"]";

const LIMITS: &[Limit] = &[
    Limit {
        name: "connections",
        keys: &["max_connections = 1"],
        how: How::SecondConnection,
        hears: "421 4.3.2 ",
        counted: &[("connections_refused_total", "max_connections")],
    },
    Limit {
        name: "share",
        keys: &["max_connections_per_client = 1"],
        how: How::SecondConnection,
        hears: "421 4.3.2 ",
        counted: &[("connections_refused_total", "max_connections_per_client")],
    },
    Limit {
        name: "networks",
        keys: &["allow = [\"10.0.0.0/8\"]"],
        how: How::Says(&[]),
        hears: "550 5.7.1 ",
        counted: &[("connections_refused_total", "not_allowed")],
    },
    Limit {
        name: "recipients",
        keys: &["max_recipients = 1"],
        how: How::Says(&[TRANSACTION[0], TRANSACTION[1], "RCPT TO:<c@d.example>"]),
        hears: "452 4.5.3 ",
        counted: &[(REFUSED, "recipients")],
    },
    Limit {
        name: "size",
        keys: &["max_message_size = \"1KiB\""],
        how: How::Says(&["MAIL FROM:<relay@sandbox.example> SIZE=1025"]),
        hears: "552 5.3.4 ",
        counted: &[(REFUSED, "size")],
    },
    Limit {
        name: "line",
        keys: &[],
        how: How::Line(5_000),
        hears: "500 5.5.2 ",
        counted: &[(REFUSED, "line_too_long")],
    },
    Limit {
        name: "response",
        keys: &["auth = \"any\""],
        how: How::Line(13_000),
        hears: "500 5.5.6 ",
        counted: &[(REFUSED, "line_too_long")],
    },
    Limit {
        name: "faults",
        keys: &["max_faults = 2"],
        how: How::Says(&["WHAT", "EVER"]),
        hears: "421 4.7.0 too many errors",
        counted: &[(REFUSED, "too_many_faults"), (CUT, "too_many_faults")],
    },
    Limit {
        name: "logins",
        keys: &["auth = \"users\"", USER, "max_faults = 100"],
        how: How::Guesses(12),
        hears: "421 4.7.0 too many failed logins",
        counted: &[(REFUSED, "too_many_failed_logins"), (CUT, "too_many_failed_logins")],
    },
    Limit {
        name: "silence",
        keys: &["command_timeout = \"1s\""],
        how: How::Says(&[]),
        hears: "421 4.4.2 timeout",
        counted: &[(REFUSED, "timeout"), (CUT, "command_timeout")],
    },
    Limit {
        name: "data",
        keys: &["data_timeout = \"1s\""],
        how: How::Says(&[TRANSACTION[0], TRANSACTION[1], "DATA"]),
        hears: "421 4.4.2 timeout",
        counted: &[(REFUSED, "timeout"), (CUT, "data_timeout")],
    },
    Limit {
        name: "session",
        keys: &["session_timeout = \"1s\""],
        how: How::Chatters,
        hears: "421 4.4.2 timeout",
        counted: &[(REFUSED, "timeout"), (CUT, "session_timeout")],
    },
    Limit {
        name: "slow",
        keys: &["data_timeout = \"1s\"", "min_data_rate = \"1MiB\""],
        how: How::Trickles(&[TRANSACTION[0], TRANSACTION[1], "DATA"]),
        hears: "421 4.4.2 mail data comes too slowly",
        counted: &[(REFUSED, "timeout"), (CUT, "too_slow")],
    },
    Limit {
        name: "line-ends",
        keys: &["bare_line_feed = \"reject\""],
        how: How::Says(&[TRANSACTION[0], TRANSACTION[1], "DATA", "a\nb\r\n."]),
        hears: "550 5.6.11 ",
        counted: &[(REFUSED, "line_end")],
    },
    Limit {
        name: "framing",
        keys: &[],
        how: How::Says(&[TRANSACTION[0], TRANSACTION[1], "BDAT 18446744073709551616"]),
        hears: "501 ",
        counted: &[(REFUSED, "command"), (CUT, "protocol")],
    },
];

/// A client that reads replies until one begins as expected.
struct Client {
    stream: TcpStream,
    heard: String,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), heard: String::new() }
    }

    async fn send(&mut self, octets: &[u8]) {
        // The other side may have closed: what it said before is what counts.
        let _ = self.stream.write_all(octets).await;
    }

    fn has_heard(&self, start: &str) -> bool {
        self.heard.lines().any(|line| line.starts_with(start))
    }

    /// Reads once; false at the end.
    async fn read(&mut self) -> bool {
        let mut octets = [0; 4096];
        let length = self.stream.read(&mut octets).await.unwrap_or_default();
        self.heard += &String::from_utf8_lossy(&octets[..length]);
        length > 0
    }

    async fn hears(&mut self, start: &str) {
        let wait = async { while !self.has_heard(start) && self.read().await {} };
        let _ = timeout(PATIENCE, wait).await;
        assert!(self.has_heard(start), "no {start:?} in {:?}", self.heard);
    }
}

async fn meet(limit: &'static Limit, address: SocketAddr) {
    let mut client = Client::connect(address).await;
    match &limit.how {
        How::SecondConnection => {
            client.hears("220 ").await;
            let mut second = Client::connect(address).await;
            second.hears(limit.hears).await;
            client.send(b"QUIT\r\n").await;
            client.hears("221").await;
        }
        How::Says(lines) => {
            for line in *lines {
                client.send(format!("{line}\r\n").as_bytes()).await;
            }
            client.hears(limit.hears).await;
        }
        How::Trickles(lines) => {
            for line in *lines {
                client.send(format!("{line}\r\n").as_bytes()).await;
            }
            client.hears("354").await;
            while !client.has_heard(limit.hears) {
                client.send(b"x").await;
                let _ = timeout(Duration::from_millis(50), client.read()).await;
            }
        }
        How::Line(length) => {
            if *length > 12_288 {
                client.send(b"AUTH PLAIN\r\n").await;
                client.hears("334").await;
            }
            client.send(format!("{}\r\n", "x".repeat(*length)).as_bytes()).await;
            client.hears(limit.hears).await;
        }
        How::Guesses(count) => {
            let mut guesses = JoinSet::new();
            for _ in 0..*count {
                guesses.spawn(async move {
                    let mut client = Client::connect(address).await;
                    client.send(format!("{LOGIN}\r\n").as_bytes()).await;
                    let answers = async {
                        while !client.has_heard("535") && !client.has_heard("421") {
                            assert!(client.read().await, "{}", client.heard);
                        }
                    };
                    timeout(PATIENCE, answers).await.expect("an answer");
                });
            }
            while let Some(guess) = guesses.join_next().await {
                guess.unwrap();
            }
            client.send(format!("{LOGIN}\r\n").as_bytes()).await;
            client.hears(limit.hears).await;
        }
        How::Chatters => {
            while !client.has_heard(limit.hears) {
                client.send(b"NOOP\r\n").await;
                assert!(client.read().await, "{}", client.heard);
            }
        }
    }
}

fn value(page: &str, metric: &str, listener: &str, cause: &str) -> f64 {
    let series = format!("o365_relay_{metric}{{listener=\"{listener}\",cause=\"{cause}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
}

fn address(relay: &Relay, name: &str) -> SocketAddr {
    let listening = relay.daemon.listening().iter().find(|one| one.name == name).unwrap();
    match listening.addresses[0] {
        Address::Tcp(address) => address,
        _ => unreachable!("all of them are ports"),
    }
}

#[tokio::test]
async fn each_limit_is_counted_by_its_own_name_once() {
    let mut place = Place::new().await;
    place.set.retain(|setting| !setting.starts_with("listener."));
    let config = place.directory.path().join("config.toml");
    let mut text = std::fs::read_to_string(config).unwrap();
    for Limit { name, keys, .. } in LIMITS {
        let keys = keys.join("\n");
        let address = "\naddresses = [\"127.0.0.1:0\"]\n";
        text += &["\n[[listener]]\nname = \"", name, "\"", address, &keys, "\n"].concat();
    }
    place.write("config.toml", &text);
    let relay = place.relay().await;
    let mut meetings = JoinSet::new();
    for limit in LIMITS {
        meetings.spawn(meet(limit, address(&relay, limit.name)));
    }
    while let Some(met) = meetings.join_next().await {
        met.unwrap();
    }
    for limit in LIMITS {
        for (metric, cause) in limit.counted {
            let name = limit.name;
            until(&format!("{name}: {cause}"), async || {
                let page = get(relay.http(), "/metrics").await.1;
                (value(&page, metric, name, cause) >= 1.0).then_some(())
            })
            .await;
        }
        // Nothing else is said to be the reason.
        let page = get(relay.http(), "/metrics").await.1;
        let of_listener = format!("listener=\"{}\"", limit.name);
        let counted = page.lines().filter(|line| {
            let kinds = ["connections_refused_total", REFUSED, CUT];
            line.contains(&of_listener) && kinds.iter().any(|kind| line.contains(kind))
        });
        for line in counted.filter(|line| !line.ends_with(" 0") && !line.ends_with(" 0.0")) {
            let is_expected =
                limit.counted.iter().any(|(_, cause)| line.contains(&format!("\"{cause}\"")));
            // The way there: words that are no command, passwords that are wrong, a client that
            // has heard enough and goes.
            let is_way =
                ["\"command\"", "\"login\"", "\"disconnected"].iter().any(|way| line.contains(way));
            assert!(is_expected || is_way, "{}: {line}", limit.name);
        }
    }
    relay.stop().await;
}
