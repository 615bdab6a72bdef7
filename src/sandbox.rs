//! A fake Microsoft tenant: the token endpoint and the submission service of Office 365 on this
//! host, with their own certificate authority. Newcomers watch mail go through without a real
//! tenant, and tests (ours and anybody's) have a server that is strict about what it accepts.
//!
//! It shares no protocol code with the rest of the crate, which it is there to check.

mod access_token;
mod address;
mod admin;
mod arrivals;
mod assertion;
mod certificates;
mod command;
mod config;
mod control;
mod credentials;
mod entra;
mod event;
mod exchange;
mod faults;
mod form;
mod graph;
mod header;
mod identity;
mod login;
mod mail_data;
mod random;
mod registry;
mod relay_config;
mod rsa_key;
mod session;
mod submission;
mod tenant;
mod verdict;
mod wire;

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;
use secrecy::SecretString;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::broadcast,
};

pub use self::{
    arrivals::{Arrival, ForwardPath},
    config::{Config, SendAs},
    credentials::{ClientCertificate, FederatedClaims},
    event::Event,
    exchange::{ExchangeAdmin, ScriptFault},
    faults::{Fault, FaultError, FaultKind, FaultState, fault_kinds},
    identity::IdentityHost,
    relay_config::RelayCredential,
};
use self::{certificates::Certificates, credentials::Secret, tenant::Tenant};
use crate::{
    clock::{Clock, UnixMillis},
    drain::Drain,
};

/// Why no sandbox could be started.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// An address could not be listened on.
    #[error(
        "could not listen on {address} for the sandbox's {service}: {source}; \
         choose another address, or port 0 for any free port"
    )]
    Listen {
        /// Which of the services.
        service: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The directory for arrivals cannot be used.
    #[error(
        "could not use {} for the sandbox's arrivals: {source}; \
         name a directory that this user may write to", path.display()
    )]
    SaveTo {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate could be made.
    #[error("could not make the sandbox's certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The new private key could not be used.
    #[error("could not use the sandbox's new private key: {reason}")]
    PrivateKey {
        /// What was wrong with it.
        reason: &'static str,
    },
    /// TLS could not be set up with the certificate.
    #[error("could not set up TLS for the sandbox: {0}")]
    Tls(#[from] rustls::Error),
}

/// A running fake tenant. Dropping it ends it as [`Sandbox::shutdown`] does, without waiting.
#[derive(Debug)]
pub struct Sandbox {
    tenant: Arc<Tenant>,
    ca: CertificateDer<'static>,
    ca_pem: String,
    login_address: SocketAddr,
    smtp_address: SocketAddr,
    control_address: Option<SocketAddr>,
    /// The host that is played, where, and its `IDENTITY_HEADER`.
    identity: Option<(IdentityHost, SocketAddr, String)>,
    drain: Drain,
}

impl Sandbox {
    /// Starts both services, and the control endpoint if it is wanted.
    ///
    /// # Errors
    /// [`SandboxError`] if an address is taken or the directory for arrivals cannot be used.
    pub async fn start(config: Config) -> Result<Self, SandboxError> {
        let clock = Clock::system();
        let Certificates { ca, ca_pem, acceptors } = certificates::issue(clock.now())?;
        let (login, login_address) = listen("token endpoint", config.login_address).await?;
        let (smtp, smtp_address) = listen("submission service", config.smtp_address).await?;
        let control = match config.control_address {
            Some(address) => Some(listen("control endpoint", address).await?),
            None => None,
        };
        let save_to = config.save_to.clone().unwrap_or_default();
        let identity = match config.identity.clone() {
            Some((host, address)) => {
                let (listener, address) = listen("identity endpoint", address).await?;
                Some((listener, (host, address, random::unguessable::<24>())))
            }
            None => None,
        };
        let login_url = login_url(login_address);
        let tenant = Tenant::new(config, login_url, clock)
            .map_err(|source| SandboxError::SaveTo { path: save_to, source })?;
        let tenant = Arc::new(tenant);
        let drain = Drain::new();
        drain.spawn(login::serve(login, acceptors.clone(), Arc::clone(&tenant), drain.clone()));
        drain.spawn(submission::serve(smtp, acceptors, Arc::clone(&tenant), drain.clone()));
        let control_address = control.map(|(listener, address)| {
            drain.spawn(control::serve(listener, Arc::clone(&tenant), drain.clone()));
            address
        });
        let identity = identity.map(|(listener, identity)| {
            let (host, _, header) = identity.clone();
            let tenant = Arc::clone(&tenant);
            drain.spawn(identity::serve(listener, host, header, tenant, drain.clone()));
            identity
        });
        Ok(Self {
            tenant,
            ca,
            ca_pem,
            login_address,
            smtp_address,
            control_address,
            identity,
            drain,
        })
    }

    /// The certificate authority as PEM, for a `ca_file`.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The certificate authority, for a root store.
    #[must_use]
    pub fn ca_certificate(&self) -> CertificateDer<'static> {
        self.ca.clone()
    }

    /// What stands in for `https://login.microsoftonline.com`.
    #[must_use]
    pub fn login_url(&self) -> String {
        login_url(self.login_address)
    }

    /// Where the submission service listens; its certificate is for `localhost`.
    #[must_use]
    pub fn smtp_address(&self) -> SocketAddr {
        self.smtp_address
    }

    /// Where the control endpoint listens, if it does.
    #[must_use]
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// The Object ID of the enterprise application.
    #[must_use]
    pub fn object_id(&self) -> &str {
        self.tenant.object_id()
    }

    /// What the tenant looks like, with the secret that was made up for it.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.tenant.config
    }

    /// The events from now on. Who falls more than 4,096 behind misses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.tenant.subscribe()
    }

    /// How many messages have been accepted since the start.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.tenant.arrivals.count()
    }

    /// Sets a fault; another of the same name goes. It strikes from now on.
    pub fn set_fault(&self, fault: Fault) {
        self.tenant.faults.set(fault);
    }

    /// Takes back the fault of this name, and says whether there was one.
    #[expect(clippy::must_use_candidate, reason = "that it is gone is what most want")]
    pub fn clear_fault(&self, name: &str) -> bool {
        self.tenant.faults.clear(name)
    }

    /// Takes back all faults.
    pub fn clear_faults(&self) {
        self.tenant.faults.clear_all();
    }

    /// The faults that were set, healed ones included, with how often each has struck.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultState> {
        self.tenant.faults.states()
    }

    /// From now on these client secrets are right, and no others.
    pub fn set_client_secrets(&self, secrets: impl IntoIterator<Item = SecretString>) {
        let endless = |secret| Secret::new(secret, None);
        self.tenant.credentials.set_secrets(secrets.into_iter().map(endless).collect());
    }

    /// The same with their ends, which Graph shows; what has ended is refused.
    pub fn set_client_secrets_until(
        &self,
        secrets: impl IntoIterator<Item = (SecretString, UnixMillis)>,
    ) {
        let ending = |(secret, end)| Secret::new(secret, Some(end));
        self.tenant.credentials.set_secrets(secrets.into_iter().map(ending).collect());
    }

    /// Uploads a certificate to the app registration.
    pub fn register(&self, certificate: &ClientCertificate) {
        self.tenant.credentials.register(certificate);
    }

    /// Deletes a certificate from the app registration.
    pub fn unregister(&self, certificate: &ClientCertificate) {
        self.tenant.credentials.unregister(certificate);
    }

    /// A token of the issuer that the app registration trusts, as a platform would put it into
    /// a file. Only [`FederatedClaims::default`] is accepted.
    ///
    /// # Errors
    /// [`SandboxError`] if no key can be made here.
    pub fn federated_token(&self, claims: &FederatedClaims) -> Result<String, SandboxError> {
        self.tenant.credentials.federated_token(claims, self.tenant.now())
    }

    /// An admin runs `script` in Exchange Online PowerShell; what its commands show comes back.
    ///
    /// # Errors
    /// [`ScriptFault`] with the line that failed; nothing of the script counts then.
    pub fn run_exchange_script(&self, script: &str) -> Result<Vec<String>, ScriptFault> {
        self.tenant.run_exchange_script(script)
    }

    /// What was registered through Graph, deleted objects included, and what Exchange was told
    /// of it, one line for each thing; empty at the start and when all is undone.
    #[must_use]
    pub fn directory(&self) -> Vec<String> {
        let mut lines = self.tenant.registry.contents();
        lines.extend(self.tenant.exchange.rights());
        lines
    }

    /// Somebody makes a client secret in the portal, for the first application that was
    /// registered: its id. For tests.
    #[must_use]
    pub fn add_secret_in_portal(&self, name: &str) -> Option<String> {
        let mut state = self.tenant.registry.lock();
        let application = state.applications.first_mut()?;
        let made = application.add_secret(&name.into(), "2099-12-31T00:00:00Z", None);
        made["keyId"].as_str().map(str::to_owned)
    }

    /// Removes such a secret.
    pub fn remove_secret_in_portal(&self, key_id: &str) {
        for application in &mut self.tenant.registry.lock().applications {
            application.remove_secret(&key_id.into());
        }
    }

    /// The variables that a program finds on the host which [`Config::identity`] names.
    #[must_use]
    pub fn identity_environment(&self) -> Vec<(&'static str, String)> {
        let Some((host, address, header)) = &self.identity else { return Vec::new() };
        let endpoint = format!("http://{address}{}", host.path());
        match host {
            IdentityHost::Imds => {
                vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", format!("http://{address}"))]
            }
            IdentityHost::AppService => {
                vec![("IDENTITY_ENDPOINT", endpoint), ("IDENTITY_HEADER", header.clone())]
            }
            IdentityHost::Arc { .. } => vec![("IDENTITY_ENDPOINT", endpoint)],
        }
    }

    /// Stops both services and closes their connections.
    pub async fn shutdown(self) {
        if let Err(running) = self.drain.finish(SHUTDOWN_GRACE).await {
            tracing::warn!(running, "sandbox tasks did not end in time");
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.drain.signal();
    }
}

fn login_url(address: SocketAddr) -> String {
    format!("https://localhost:{}", address.port())
}

async fn listen(
    service: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), SandboxError> {
    let fault = |source| SandboxError::Listen { service, address, source };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
}

/// Accepts connections until the drain begins, and gives each a task that ends then as well.
async fn accept<C>(
    listener: &TcpListener,
    drain: &Drain,
    mut serve: impl FnMut(TcpStream, SocketAddr) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.signaled() => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                // Without it a reply can wait for the client's acknowledgement of the last one.
                let _ = socket.set_nodelay(true);
                let (work, over) = (serve(socket, peer), drain.clone());
                drain.spawn(async move {
                    tokio::select! {
                        () = work => {}
                        () = over.signaled() => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "sandbox could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await; // out of descriptors, most likely
            }
        }
    }
}

const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
