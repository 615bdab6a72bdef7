//! Waiting for something to become true.

use std::{future::Future, time::Duration};

use tokio::time::sleep;

/// No test waits longer than this for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer; a test that waits in vain fails by `what`. Looks
/// are counted, not time, as a test may move that.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..PATIENCE.as_millis() / BETWEEN_LOOKS.as_millis() {
        if let Some(answer) = ask().await {
            return answer;
        }
        sleep(BETWEEN_LOOKS).await;
    }
    panic!("waited in vain: {what}");
}
