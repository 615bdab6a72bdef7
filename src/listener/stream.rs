//! What a session reads from and writes to, whatever kind of socket it is.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, Empty, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use crate::tls::server::ServerTls;

/// A client's stream. A session that changes its transport midway puts another variant in place.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Another one, under TLS.
    Tls(Box<TlsStream<Stream>>),
    /// None: a handshake has taken it, and failed.
    Gone(Empty),
}

impl Stream {
    /// Takes the server's part in a TLS handshake; from then on everything goes through TLS. If it
    /// fails nothing more can be read or written.
    pub async fn secure(&mut self, tls: &ServerTls) -> io::Result<()> {
        let plain = std::mem::replace(self, Self::Gone(tokio::io::empty()));
        *self = Self::Tls(Box::new(tls.accept(plain).await?));
        Ok(())
    }

    /// Completes when the client has closed its side. As long as octets of it wait to be read
    /// nobody can tell, so then it never does.
    pub async fn hung_up(&mut self) {
        let waiting = match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(&*stream)).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(&*stream)).await,
            // Its octets are decrypted ahead; they stay where the session will read them.
            Self::Tls(stream) => stream.fill_buf().await.map(<[u8]>::len),
            Self::Gone(_) => return,
        };
        if waiting.is_ok_and(|octets| octets > 0) {
            std::future::pending::<()>().await;
        }
    }

    /// Writes what goes into the socket's buffer at once. It is for the one line to a client that
    /// is not let in: nobody waits for it to read.
    pub fn try_write(&self, octets: &[u8]) {
        let _ = match self {
            Self::Tcp(stream) => stream.try_write(octets),
            Self::Unix(stream) => stream.try_write(octets),
            Self::Tls(_) | Self::Gone(_) => return,
        };
    }

    fn octets(self: Pin<&mut Self>) -> Pin<&mut dyn Octets> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream as &mut dyn Octets),
            Self::Unix(stream) => Pin::new(stream as &mut dyn Octets),
            Self::Tls(stream) => Pin::new(stream.as_mut() as &mut dyn Octets),
            Self::Gone(stream) => Pin::new(stream as &mut dyn Octets),
        }
    }
}

/// Octets that wait, without taking them; none at the end of the stream.
fn peek(socket: impl AsFd) -> io::Result<usize> {
    let mut octet = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    Ok(rustix::net::recv(socket, &mut octet, flags)?.0)
}

/// What every variant can do.
trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.octets().poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.octets().poll_write(context, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.octets().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.octets().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rustls::{ClientConfig, RootCertStore, crypto::ring};
    use rustls_pki_types::ServerName;
    use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};
    use tokio_rustls::TlsConnector;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    /// Streams of each kind with their other ends.
    async fn pairs() -> Vec<(Stream, Box<dyn Octets>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        vec![
            (server.into(), Box::new(client)),
            (one.into(), Box::new(other)),
            under_tls(UnixStream::pair().unwrap()).await,
        ]
    }

    async fn under_tls((server, client): (UnixStream, UnixStream)) -> (Stream, Box<dyn Octets>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("cert"), made.cert.pem()).unwrap();
        std::fs::write(path("key"), made.signing_key.serialize_pem()).unwrap();
        let tls = ServerTls::load(path("cert"), path("key")).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let mut server = Stream::from(server);
        let (secured, client) = tokio::join!(server.secure(&tls), connector.connect(name, client));
        secured.unwrap();
        (server, Box::new(client.unwrap()))
    }

    #[tokio::test]
    async fn a_client_that_closes_has_hung_up_and_one_that_waits_has_not() {
        for (mut server, client) in pairs().await {
            assert!(timeout(MOMENT, server.hung_up()).await.is_err());
            drop(client);
            server.hung_up().await;
        }
    }

    #[tokio::test]
    async fn a_client_that_says_goodbye_under_tls_has_hung_up() {
        let (mut server, mut client) = under_tls(UnixStream::pair().unwrap()).await;
        client.shutdown().await.unwrap();
        server.hung_up().await;
    }

    #[tokio::test]
    async fn what_was_sent_ahead_is_left_for_the_session() {
        for (mut server, mut client) in pairs().await {
            client.write_all(b"QUIT\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            assert!(timeout(MOMENT, server.hung_up()).await.is_err());
            let mut octets = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut server, &mut octets).await.unwrap();
            assert_eq!(octets, b"QUIT\r\n");
        }
    }
}
