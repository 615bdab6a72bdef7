//! What a relay has to be told to find the sandbox.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::Sandbox;

/// How a relay proves itself to the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayCredential {
    /// By the secret, written into the configuration.
    Secret,
    /// By a certificate in these files.
    Certificate {
        /// `certificate_file`
        certificate: PathBuf,
        /// `private_key_file`
        private_key: PathBuf,
    },
    /// By the token in this file.
    FederatedToken(PathBuf),
    /// By the host that it runs on, which [`Sandbox::identity_environment`] describes.
    ManagedIdentity,
}

impl Sandbox {
    /// The `[office365]` section that points a relay here, secret included. `ca_file` is where
    /// the caller has put [`Sandbox::ca_pem`].
    #[must_use]
    pub fn relay_config(&self, ca_file: &Path) -> String {
        self.relay_config_with(ca_file, &RelayCredential::Secret)
    }

    /// The same with this credential.
    #[must_use]
    pub fn relay_config_with(&self, ca_file: &Path, credential: &RelayCredential) -> String {
        let config = self.config();
        let text = |value: &str| toml::Value::String(value.to_owned());
        let file = |path: &Path| text(&path.to_string_lossy());
        let mailbox = config.mailboxes.first().map_or("", String::as_str);
        let mut keys = vec![("tenant_id", text(&config.tenant_id))];
        keys.push(("client_id", text(&config.client_id)));
        match credential {
            RelayCredential::Secret => {
                keys.push(("client_secret", text(config.client_secret.expose_secret())));
            }
            RelayCredential::Certificate { certificate, private_key } => {
                keys.push(("certificate_file", file(certificate)));
                keys.push(("private_key_file", file(private_key)));
            }
            RelayCredential::FederatedToken(path) => {
                keys.push(("federated_token_file", file(path)));
            }
            RelayCredential::ManagedIdentity => {
                keys.clear(); // the host knows its tenant and who it is
                let identity = config.identity_client_id.as_deref().unwrap_or("system");
                keys.push(("managed_identity", text(identity)));
            }
        }
        keys.extend([
            ("mailbox", text(mailbox)),
            ("login_url", text(&self.login_url())),
            ("scope", text("https://outlook.office365.com/.default")),
            ("smtp_host", text("localhost")),
            ("smtp_port", toml::Value::Integer(self.smtp_address().port().into())),
            ("ca_file", file(ca_file)),
        ]);
        let lines = keys.into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        format!("[office365]\n{}", lines.collect::<String>())
    }
}
