//! The one question at the end of a set-up: could mail go now?

use crate::{
    cli::exit::Failure,
    clock::Clock,
    config::{self, Sources},
    delivery::{judge::judge, smarthost::Smarthost, trouble::Trouble},
    office365::{entra::Ids, replies::Names},
    token,
};

/// Gets a token and logs in with it; what is missing, in one line with its cure, or `None`.
///
/// # Errors
/// [`Failure`] if the configuration has faults.
pub(super) async fn check(sources: &Sources) -> Result<Option<String>, Failure> {
    let config = config::load(sources)?;
    let mailbox = config.queue.lanes.first().map(|lane| lane.mailbox.clone()).unwrap_or_default();
    let (tenant, client_id) = (config.token.tenant_id.clone(), config.token.client_id.clone());
    let token = match token::fetch(config.token, Clock::system()).await {
        Ok(token) => token,
        Err(error) => {
            let ids = Ids { tenant: &tenant, client_id: &client_id, app: None };
            return Ok(Some(format!("no access token: {error}; {}", error.advice(&ids))));
        }
    };
    let trouble = match Smarthost::new(config.delivery).connect(&mailbox, &token).await {
        Ok(connection) => {
            connection.quit().await;
            return Ok(None);
        }
        Err(trouble) => trouble,
    };
    let Trouble::Refused { stage, reply } = &trouble else {
        return Ok(Some(format!("no login: {trouble}")));
    };
    let object_id = token.object_id();
    let names = Names { mailbox: &mailbox, sender: &mailbox, object_id: object_id.as_deref() };
    let cure = judge(*stage, reply).row.map(|row| names.fill(row.cure));
    // Which right is missing, the script knows better than a row for everybody.
    let cure = cure.filter(|_| reply.code().value() != 535);
    let cure = cure.map(|cure| format!("; {cure}")).unwrap_or_default();
    Ok(Some(format!("no login: {trouble}{cure}")))
}
