//! What a session reads from and writes to, whatever kind of socket it is.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
};

use rustix::net::RecvFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A client's stream. A session that changes its transport midway puts another variant in place.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Completes when the client has closed its side. As long as octets of it wait to be read
    /// nobody can tell, so then it never does.
    pub async fn hung_up(&self) {
        let waiting = match self {
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
            Self::Unix(stream) => stream.async_io(Interest::READABLE, || peek(stream)).await,
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
        };
    }

    fn octets(self: Pin<&mut Self>) -> Pin<&mut dyn Octets> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream as &mut dyn Octets),
            Self::Unix(stream) => Pin::new(stream as &mut dyn Octets),
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
    use std::time::Duration;

    use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    /// Streams of each kind with their other ends.
    async fn pairs() -> Vec<(Stream, Stream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        vec![(server.into(), client.into()), (one.into(), other.into())]
    }

    #[tokio::test]
    async fn a_client_that_closes_has_hung_up_and_one_that_waits_has_not() {
        for (server, client) in pairs().await {
            assert!(timeout(MOMENT, server.hung_up()).await.is_err());
            drop(client);
            server.hung_up().await;
        }
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
