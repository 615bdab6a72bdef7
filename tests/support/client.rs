//! The plainest of clients: SMTP without TLS as a device speaks it, and HTTP for one GET.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::wait::PATIENCE;

/// A session with the relay.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects and says EHLO.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the relay listens");
        let mut client = Self { stream: BufReader::new(stream) };
        assert!(client.reply().await.starts_with("220 "));
        assert!(client.say("EHLO printer.example").await.starts_with("250"));
        client
    }

    /// Sends a line and returns the reply, its lines joined by LF.
    pub async fn say(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends octets.
    pub async fn write(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).await.expect("the relay reads");
    }

    /// The next reply.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let read = timeout(PATIENCE, self.stream.read_line(&mut reply)).await;
            let length = read.expect("a reply in time").expect("a reply in text");
            assert!(length > 0, "the relay closed the connection after {reply:?}");
            let last = &reply[reply.len() - length..];
            if last.as_bytes().get(3) != Some(&b'-') {
                return reply.trim_end().replace("\r\n", "\n");
            }
        }
    }

    /// One mail transaction; `mail_data` is sent as it is, so it must need no dot-stuffing and
    /// end in CRLF. Returns the queue id.
    pub async fn send(&mut self, from: &str, to: &[impl AsRef<str>], mail_data: &str) -> String {
        self.envelope(from, to).await;
        assert!(self.say("DATA").await.starts_with("354"));
        let reply = self.say(&format!("{mail_data}.")).await;
        queue_id(&reply)
    }

    /// MAIL and RCPT.
    pub async fn envelope(&mut self, from: &str, to: &[impl AsRef<str>]) {
        let reply = self.say(&format!("MAIL FROM:<{from}>")).await;
        assert!(reply.starts_with("250"), "{reply}");
        for to in to {
            let reply = self.say(&format!("RCPT TO:<{}>", to.as_ref())).await;
            assert!(reply.starts_with("250"), "{reply}");
        }
    }
}

/// The id in `250 2.0.0 queued as ID`.
pub fn queue_id(reply: &str) -> String {
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    reply.rsplit(' ').next().expect("an id").to_owned()
}

/// One GET: the status code and the body.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("http is served");
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the request goes out");
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
    read.expect("an answer in time").expect("an answer in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status code"), body.to_owned())
}
