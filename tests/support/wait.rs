//! Waiting for something to become true.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// No test waits longer than this for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer; a test that waits in vain fails by `what`.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(BETWEEN_LOOKS).await;
    }
}
