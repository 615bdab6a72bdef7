//! From a token to a connection that is logged in.

use std::time::Duration;

use tokio::time::timeout;

use super::shared::Account;
use crate::delivery::{
    smarthost::Connection,
    trouble::{Stage, Trouble},
};

/// A token older than this may have lost its rights on the server's side: worth one new one.
const TOKEN_MAY_BE_STALE: Duration = Duration::from_secs(300);

/// How long to wait for that new token.
const NEW_TOKEN_PATIENCE: Duration = Duration::from_secs(30);

/// Connects and logs in as `mailbox`. `None` if there is no token to do it with. A refused login
/// with a token of some age is tried once more with a new one; there is never a second time, so
/// that a mailbox without rights does not make us ask for token after token.
pub(super) async fn log_in(
    account: &Account,
    mailbox: &str,
) -> Result<Option<Connection>, Trouble> {
    let now = account.clock.now();
    let Some(token) = account.token.snapshot().usable(now).cloned() else { return Ok(None) };
    let first = account.smarthost.connect(mailbox, &token).await;
    let stale = account.clock.now().since(token.obtained_at()) > TOKEN_MAY_BE_STALE;
    if !stale || !is_refused_login(&first) {
        return first.map(Some);
    }
    account.token.refresh_now(token.obtained_at());
    match timeout(NEW_TOKEN_PATIENCE, account.token.valid_after(&token)).await {
        Ok(Some(newer)) => account.smarthost.connect(mailbox, &newer).await.map(Some),
        // None has come in time, or none will: the relay is stopping.
        Ok(None) | Err(_) => first.map(Some),
    }
}

fn is_refused_login(result: &Result<Connection, Trouble>) -> bool {
    matches!(
        result,
        Err(Trouble::Refused { stage: Stage::Auth, reply }) if reply.code().value() == 535
    )
}
