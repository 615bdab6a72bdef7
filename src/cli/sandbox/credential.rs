//! What a client of the sandbox proves itself with.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use crate::sandbox::{
    ClientCertificate, FederatedClaims, IdentityHost, RelayCredential, Sandbox, SandboxError,
};

/// The kinds of credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum CredentialKind {
    /// A client secret, in the configuration that is written
    #[default]
    Secret,
    /// A certificate with its key, two files
    Certificate,
    /// A file with a token of another issuer, as workload identity has it
    FederatedToken,
    /// A managed identity, as an Azure VM has it
    Imds,
    /// A managed identity, as App Service and Container Apps have it
    AppService,
}

/// Files to be written, with their content.
type Files = Vec<(PathBuf, String)>;

impl CredentialKind {
    /// The host that the sandbox has to play.
    pub fn identity(self) -> Option<(IdentityHost, SocketAddr)> {
        let host = match self {
            Self::Imds => IdentityHost::Imds,
            Self::AppService => IdentityHost::AppService,
            Self::Secret | Self::Certificate | Self::FederatedToken => return None,
        };
        Some((host, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))
    }

    /// Makes what it needs, to be written into `directory`, and registers it.
    pub fn make(
        self,
        sandbox: &Sandbox,
        directory: &Path,
    ) -> Result<(RelayCredential, Files), SandboxError> {
        Ok(match self {
            Self::Secret => (RelayCredential::Secret, Vec::new()),
            Self::Certificate => {
                let made = ClientCertificate::new(VALID_DAYS)?;
                sandbox.register(&made);
                let certificate = directory.join("certificate.pem");
                let private_key = directory.join("private_key.pem");
                let files = vec![
                    (certificate.clone(), made.certificate_pem()),
                    (private_key.clone(), made.private_key_pem()),
                ];
                (RelayCredential::Certificate { certificate, private_key }, files)
            }
            Self::FederatedToken => {
                let path = directory.join("federated_token");
                let token = sandbox.federated_token(&FederatedClaims::default())?;
                (RelayCredential::FederatedToken(path.clone()), vec![(path, token)])
            }
            Self::Imds | Self::AppService => (RelayCredential::ManagedIdentity, Vec::new()),
        })
    }
}

const VALID_DAYS: u16 = 365;
