//! `health`: for HEALTHCHECK and scripts.

use std::net::SocketAddr;

use clap::Args;

use super::{exit::Failure, fetch, output};
use crate::{config::Sources, http::Readiness, queue::Mode};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Also want it ready: mail is accepted and can be relayed
    #[arg(long)]
    ready: bool,
    /// The relay's http.address [default: from the configuration]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
}

pub(super) async fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    let address = fetch::address(options.address, sources)?;
    let path = if options.ready { "/readyz" } else { "/healthz" };
    let (status, body) = fetch::get(address, path).await?;
    if status.is_success() && !options.ready {
        return Ok(output::line("healthy")?);
    }
    let Ok(readiness) = serde_json::from_slice::<Readiness>(&body) else {
        return Err(Failure::unavailable(format!(
            "http://{address}{path} answers {status}, but not as o365-relay does; is this its \
             http.address? (--address asks at another)"
        )));
    };
    if !readiness.ready {
        return Err(Failure::unavailable(format!("not ready: {}", readiness.reasons.join("; "))));
    }
    output::line(match readiness.mode {
        Mode::Queue => "ready",
        Mode::Direct => "ready (direct mode)",
    })?;
    for warning in readiness.warnings {
        output::line(format!("warning: {warning}"))?;
    }
    Ok(())
}
