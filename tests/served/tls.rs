//! Certificates for a listener, and clients that trust them.

use std::{fs, io, sync::Arc};

use o365_relay::tls::server::ServerTls;
use rcgen::generate_simple_self_signed;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Client, Stream};

/// A certificate for `localhost` in a directory of its own.
pub struct Certificate {
    directory: TempDir,
    pub der: CertificateDer<'static>,
}

impl Certificate {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let der = write(&directory);
        Self { directory, der }
    }

    /// Puts another one in its place.
    pub fn renew(&mut self) {
        self.der = write(&self.directory);
    }

    /// Where `cert` or `key` is.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub fn server(&self) -> ServerTls {
        ServerTls::load(self.path("cert").into(), self.path("key").into()).unwrap()
    }

    /// A client that trusts it and nothing else.
    pub fn connector(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

fn write(directory: &TempDir) -> CertificateDer<'static> {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    for (name, text) in [("cert", made.cert.pem()), ("key", key)] {
        let new = directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, directory.path().join(name)).unwrap();
    }
    made.cert.der().clone()
}

impl Client {
    /// The client's part in a handshake.
    pub async fn handshake(
        self,
        connector: &TlsConnector,
    ) -> io::Result<TlsStream<Box<dyn Stream>>> {
        assert!(self.read.is_empty(), "the server speaks before the handshake: {:?}", self.read);
        connector.connect(ServerName::try_from("localhost").unwrap(), self.stream).await
    }

    /// The same client under TLS.
    pub async fn secure(self, connector: &TlsConnector) -> Self {
        let stream = self.handshake(connector).await.unwrap();
        Self { stream: Box::new(stream), read: Vec::new() }
    }

    /// STARTTLS, up to the end of the handshake.
    pub async fn start_tls(mut self, connector: &TlsConnector) -> Self {
        self.say("STARTTLS", "220 2.0.0 ").await;
        self.secure(connector).await
    }
}
