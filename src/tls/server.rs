//! The server side of TLS 1.2 and 1.3: a certificate with its key, read anew when the files change,
//! so that whatever renews certificates need not know of us.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_cert::{Certificate, der::Decode, time::Time};

use crate::clock::UnixMillis;

/// The files are looked at no more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Which of the two files is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairFile {
    /// That of the certificate.
    Certificate,
    /// That of the private key.
    Key,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("could not use {}: {reason}", path.display())]
pub struct PairError {
    /// Which file.
    pub file: PairFile,
    path: PathBuf,
    reason: String,
}

/// The server side of TLS. Clones share the certificate.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    pair: Arc<Pair>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Files { certificate, key } = &self.pair.files;
        f.debug_struct("ServerTls")
            .field("certificate", certificate)
            .field("key", key)
            .finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads both files, PEM: the server's own certificate first, then those that lead to its
    /// authority; the key as PKCS#8, PKCS#1 or SEC1, not encrypted.
    ///
    /// # Errors
    /// [`PairError`] names the file, what is wrong with it and the cure.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, PairError> {
        let files = Files { certificate, key };
        let seen = files.looks();
        let in_use = RwLock::new(Arc::new(files.read()?));
        let watch = Mutex::new(Watch { seen, next: None });
        let pair = Arc::new(Pair { files, in_use, watch });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring implements the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&pair) as Arc<dyn ResolvesServerCert>);
        // libesmtp waits for ever when a ticket comes where it looks for room to write.
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), pair })
    }

    /// When the certificate begins to be valid and when it ends. `None` if it does not say so in a
    /// way that we can read.
    #[must_use]
    pub fn validity(&self) -> Option<(UnixMillis, UnixMillis)> {
        validity(&self.pair.current())
    }

    /// The handshake, with the certificate as it is now. It has no deadline of its own.
    ///
    /// # Errors
    /// Whatever the client, the network or TLS itself came up with.
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.pair.is_due() {
            let pair = Arc::clone(&self.pair);
            // A disk that hangs holds up this handshake and no other.
            let _ = spawn_blocking(move || pair.look()).await;
        }
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await
    }
}

/// The pair in use, and the files that it came from.
struct Pair {
    files: Files,
    in_use: RwLock<Arc<CertifiedKey>>,
    watch: Mutex<Watch>,
}

struct Watch {
    /// What the files looked like when they were last read, for better or worse.
    seen: [Option<Look>; 2],
    next: Option<Instant>,
}

/// Changes when a file does: inode, size, time of its last change.
type Look = (u64, u64, i64, i64);

impl Pair {
    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_due(&self) -> bool {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = watch.next.is_none_or(|next| next <= now);
        if due {
            watch.next = Some(now + LOOK_AGAIN);
        }
        due
    }

    /// Reads the files anew if they have changed. The old pair stays while the new one is bad:
    /// the two files may well be replaced one after the other.
    fn look(&self) {
        let looks = self.files.looks();
        {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            if watch.seen == looks {
                return;
            }
            watch.seen = looks;
        }
        let certificate = self.files.certificate.display();
        match self.files.read() {
            Ok(pair) => {
                let expires = validity(&pair).map(|(_, end)| end.rfc3339());
                *self.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
                tracing::info!(%certificate, expires, "certificate read anew");
            }
            Err(error) => tracing::warn!(%error, "new certificate not used, the old one stays"),
        }
    }
}

impl ResolvesServerCert for Pair {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// Not before, and not after.
fn validity(pair: &CertifiedKey) -> Option<(UnixMillis, UnixMillis)> {
    let parsed = Certificate::from_der(pair.end_entity_cert().ok()?).ok()?;
    let millis = |time: Time| {
        let millis = i64::try_from(time.to_unix_duration().as_millis());
        UnixMillis(millis.unwrap_or(i64::MAX))
    };
    let validity = parsed.tbs_certificate().validity();
    Some((millis(validity.not_before), millis(validity.not_after)))
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn looks(&self) -> [Option<Look>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let data = fs::metadata(path).ok()?;
            Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
        })
    }

    fn read(&self) -> Result<CertifiedKey, PairError> {
        let chain = self.chain()?;
        let key = self.private_key()?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => self.fault(
                PairFile::Key,
                format!(
                    "it is not the key of the first certificate in {}; name the two files that \
                     were made together, the server's own certificate coming first",
                    self.certificate.display()
                ),
            ),
            rustls::Error::InvalidCertificate(_) => self.fault(
                PairFile::Certificate,
                format!("its first certificate cannot be read ({error}); ask for a new one"),
            ),
            error => self.fault(
                PairFile::Key,
                format!("{error}; make an RSA key of 2048 bits or more, ECDSA P-256 or Ed25519"),
            ),
        })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, PairError> {
        let text = self.text(PairFile::Certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
        let reason = match chain {
            Ok(chain) if !chain.is_empty() => return Ok(chain),
            Ok(_) => "it holds no PEM certificate (-----BEGIN CERTIFICATE-----)".into(),
            Err(error) => format!("it is no PEM text: {error}"),
        };
        Err(self.fault(PairFile::Certificate, reason))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, PairError> {
        let text = self.text(PairFile::Key)?;
        let holds = |mark: &[u8]| memchr::memmem::find(&text, mark).is_some();
        let reason = if holds(b"-----BEGIN ENCRYPTED PRIVATE KEY")
            || holds(b"Proc-Type: 4,ENCRYPTED")
        {
            "the key is encrypted, and nobody is there to type its passphrase; write it without, \
             such as with `openssl pkey -in OLD -out NEW`, with mode 0600"
                .into()
        } else {
            match PrivateKeyDer::from_pem_slice(&text) {
                Ok(key) => return Ok(key),
                Err(pem::Error::NoItemsFound) => {
                    "it holds no PEM private key (-----BEGIN PRIVATE KEY-----)".into()
                }
                Err(error) => format!("it is no PEM text: {error}"),
            }
        };
        Err(self.fault(PairFile::Key, reason))
    }

    fn text(&self, file: PairFile) -> Result<secrecy::zeroize::Zeroizing<Vec<u8>>, PairError> {
        fs::read(self.path(file)).map(Into::into).map_err(|error| {
            let cure = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; let the user of the service read it, such as with `chgrp o365-relay` and \
                     `chmod 0640`"
                }
                io::ErrorKind::NotFound => "; name a file in PEM",
                _ => "",
            };
            self.fault(file, format!("{error}{cure}"))
        })
    }

    fn path(&self, file: PairFile) -> &Path {
        match file {
            PairFile::Certificate => &self.certificate,
            PairFile::Key => &self.key,
        }
    }

    fn fault(&self, file: PairFile, reason: String) -> PairError {
        PairError { file, path: self.path(file).to_path_buf(), reason }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use rcgen::{CertifiedKey as Made, KeyPair, PKCS_ED25519, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    struct Bench {
        directory: TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self { directory: TempDir::new().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// As tools do it: a new file in place of the old one.
        fn write(&self, name: &str, text: &str) {
            fs::write(self.path("new"), text).unwrap();
            fs::rename(self.path("new"), self.path(name)).unwrap();
        }

        fn load(&self) -> Result<ServerTls, PairError> {
            ServerTls::load(self.path("cert"), self.path("key"))
        }

        fn fault(&self) -> (PairFile, String) {
            let error = self.load().unwrap_err();
            let text = error.to_string();
            (error.file, text.replace(&format!("{}/", self.directory.path().display()), ""))
        }
    }

    fn make() -> Made<KeyPair> {
        generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_file_and_its_cure() {
        let bench = Bench::new();
        let (made, other) = (make(), make());
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert_eq!(bench.fault().0, PairFile::Certificate);
        assert!(bench.fault().1.contains("could not use cert: No such file"));
        let check = |cert: &str, key: &str, file: PairFile, expected: &str| {
            bench.write("cert", cert);
            bench.write("key", key);
            let (at, text) = bench.fault();
            assert_eq!(at, file, "{text}");
            assert!(text.contains(expected), "{text}");
        };
        check(&key, &key, PairFile::Certificate, "holds no PEM certificate");
        check(&cert, &cert, PairFile::Key, "key: it holds no PEM private key");
        let stranger = other.signing_key.serialize_pem();
        check(&cert, &stranger, PairFile::Key, "it is not the key of the first certificate in");
        let reversed = format!("{}{cert}", other.cert.pem());
        check(&reversed, &key, PairFile::Key, "it is not the key of the first certificate in");
        let pkcs8 = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        check(&cert, &pkcs8, PairFile::Key, "`openssl pkey -in OLD -out NEW`");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n\
                   -----END RSA PRIVATE KEY-----\n";
        check(&cert, old, PairFile::Key, "the key is encrypted");
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        check(nonsense, &key, PairFile::Certificate, "cannot be read");
        let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        check(&cert, nonsense, PairFile::Key, "make an RSA key");
    }

    #[test]
    fn one_file_may_hold_both_and_the_chain() {
        let bench = Bench::new();
        let (made, other) = (make(), make());
        let key = made.signing_key.serialize_pem();
        bench.write("cert", &format!("{key}{}{}", made.cert.pem(), other.cert.pem()));
        let tls = ServerTls::load(bench.path("cert"), bench.path("cert")).unwrap();
        assert_eq!(tls.pair.current().cert.len(), 2);
        let shown = format!("{tls:?}");
        assert!(shown.starts_with("ServerTls { certificate: "), "{shown}");
        assert!(!shown.contains("BEGIN"), "{shown}");
    }

    #[test]
    fn keys_of_each_kind_are_taken() {
        let bench = Bench::new();
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let cert = rcgen::CertificateParams::new(["localhost".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        bench.write("cert", &cert.pem());
        bench.write("key", &key.serialize_pem());
        bench.load().unwrap();

        // The old form of an ECDSA key (SEC1) is what PKCS#8 has inside.
        let made = make();
        let der = made.signing_key.serialize_der();
        let inner = memchr::memmem::find(&der, &[0x02, 0x01, 0x01, 0x04, 0x20]).unwrap() - 2;
        let text = base64::engine::general_purpose::STANDARD.encode(&der[inner..]);
        bench.write("cert", &made.cert.pem());
        bench.write(
            "key",
            &format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n"),
        );
        bench.load().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_pair_is_used_and_a_bad_one_is_not() {
        let bench = Bench::new();
        let (first, second) = (make(), make());
        bench.write("cert", &first.cert.pem());
        bench.write("key", &first.signing_key.serialize_pem());
        let tls = bench.load().unwrap();
        let shown = || {
            if tls.pair.is_due() {
                tls.pair.look();
            }
            tls.pair.current().cert[0].clone()
        };
        let pass = || tokio::time::advance(LOOK_AGAIN);
        assert_eq!(shown(), *first.cert.der());
        bench.write("cert", &second.cert.pem());
        assert_eq!(shown(), *first.cert.der(), "not looked at again within a second");
        pass().await;
        assert_eq!(shown(), *first.cert.der(), "its key is still that of the first one");
        bench.write("key", &second.signing_key.serialize_pem());
        pass().await;
        assert_eq!(shown(), *second.cert.der());
        fs::remove_file(bench.path("cert")).unwrap();
        pass().await;
        assert_eq!(shown(), *second.cert.der());
    }
}
