//! TLS. Here is what we trust as a client: the system's roots (`SSL_CERT_FILE` is honoured) and,
//! for networks with their own authority, those of `office365.ca_file`. What we show as a server
//! is in [`server`].

pub mod server;

mod witness;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, client::danger::ServerCertVerifier,
    crypto::ring,
};
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject},
};

pub use witness::{Shown, Witness};

/// Why no TLS client could be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The extra roots could not be read.
    #[error(
        "could not read CA certificates from {}: {detail}; \
         name a file with the authority's certificate as PEM text",
        path.display()
    )]
    CaFile {
        /// The file that was asked for.
        path: PathBuf,
        /// What was wrong with it.
        detail: String,
    },
    /// No root at all: every handshake would fail.
    #[error(
        "no trusted CA certificates found on this system ({detail}); \
         install the ca-certificates package or set office365.ca_file"
    )]
    NoRoots {
        /// What the search for the system's roots met.
        detail: String,
    },
}

/// What the text of an error of the TLS library means to an operator, who has no use for the
/// library's manual.
#[must_use]
pub fn plain(text: &str) -> &str {
    match text.contains("without sending TLS close_notify") {
        true => "the server closed the connection",
        false => text,
    }
}

/// Builds the client side of TLS 1.2 and 1.3 with the system's roots and those in `ca_file`.
///
/// # Errors
/// [`TlsError`] when `ca_file` holds no certificate, or when there is nothing to trust.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    trusted_roots(ca_file).map(client_config_with_roots)
}

/// As [`client_config`], with a witness that keeps what the server shows. With `admit_all` the
/// handshake goes on whatever that is: only for questions that carry no secret, whose answers
/// nobody has to believe.
///
/// # Errors
/// As [`client_config`].
pub fn client_config_with_witness(
    ca_file: Option<&Path>,
    admit_all: bool,
) -> Result<(Arc<ClientConfig>, Arc<Witness>), TlsError> {
    let roots = Arc::new(trusted_roots(ca_file)?);
    let witness = Witness::new(roots, admit_all)
        .map_err(|error| TlsError::NoRoots { detail: error.to_string() })?;
    let witness = Arc::new(witness);
    let verifier = Arc::clone(&witness) as Arc<dyn ServerCertVerifier>;
    let config = builder().dangerous().with_custom_certificate_verifier(verifier);
    Ok((Arc::new(config.with_no_client_auth()), witness))
}

fn trusted_roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        let detail = native.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        return Err(TlsError::NoRoots { detail });
    }
    Ok(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let fault = |detail: String| TlsError::CaFile { path: path.to_path_buf(), detail };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| match error {
            pem::Error::Io(error) => fault(error.to_string()),
            error => fault(error.to_string()),
        })?;
    if certificates.is_empty() {
        return Err(fault("the file holds no PEM certificate".into()));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    Ok(())
}

/// As [`client_config`], with exactly these roots.
#[must_use]
pub fn client_config_with_roots(roots: RootCertStore) -> Arc<ClientConfig> {
    Arc::new(builder().with_root_certificates(roots).with_no_client_auth())
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring implements the default protocol versions")
}
