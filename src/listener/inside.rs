//! A session for a program that has the outlet itself, since no daemon runs: the same rules, the
//! same Received field, the same proof before 250.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::{
    Auth, Config, Tls, auth::Workshop, client::Client, connection::Connection, outlet::Outlet,
    shared::Shared,
};
use crate::{clock::Clock, drain::Drain};

/// Serves one client, the program at the other end of `stream`, until it says goodbye. Who may
/// open the outlet needs no login.
pub async fn serve_inside(
    stream: UnixStream,
    config: Config,
    outlet: Arc<dyn Outlet>,
    clock: Clock,
    drain: Drain,
) {
    let config = Config { auth: Auth::None, tls: Tls::None, tls_required: false, ..config };
    let shared = Shared::new(config, outlet, clock, Workshop::default());
    Connection::new(stream.into(), Client::LocalSocket, Arc::new(shared), drain).run().await;
}
