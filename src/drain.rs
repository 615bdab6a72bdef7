//! Orderly shutdown: one signal that every task hears, and a tracker that knows when all have
//! finished. It is passed in as a value, so that a test can drain one part alone.
//!
//! It also hears when a task breaks off without which the whole is no good: a restart mends that,
//! and a relay that goes on without its token or a lane would look alive.

use std::{future::Future, thread, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long before the end of the grace period the last call comes, at most.
const GOODBYE: Duration = Duration::from_secs(2);

/// The handle that each task holds: it says when to finish.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    signal: CancellationToken,
    last_call: CancellationToken,
    /// Shared by all parts of the whole.
    broken: CancellationToken,
    tasks: TaskTracker,
}

/// Tells when the task that holds it panics.
struct Vital {
    task: &'static str,
    broken: CancellationToken,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!(task = self.task, "a part broke off that the relay cannot be without");
            self.broken.cancel();
        }
    }
}

impl Drain {
    /// A handle that nobody has signalled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle for a part that can also be drained on its own, before the whole.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            signal: self.signal.child_token(),
            last_call: self.last_call.child_token(),
            broken: self.broken.clone(),
            tasks: TaskTracker::new(),
        }
    }

    /// A handle for a part that may come to its end before the whole does; [`Drain::finish`] of
    /// the whole waits for its tasks too.
    #[must_use]
    pub fn part(&self) -> Self {
        let part = self.child();
        let ending = part.clone();
        self.spawn(async move {
            ending.signaled().await;
            ending.end().await;
        });
        part
    }

    /// Signals, and waits for the tasks however long they take.
    pub async fn end(&self) {
        self.signal();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Completes once the drain has begun.
    pub async fn signaled(&self) {
        self.signal.cancelled().await;
    }

    /// Completes when the grace period is almost over: what is still under way should say
    /// goodbye now.
    pub async fn last_call(&self) {
        self.last_call.cancelled().await;
    }

    /// Whether the drain has begun.
    #[must_use]
    pub fn is_signaled(&self) -> bool {
        self.signal.is_cancelled()
    }

    /// `work` as a part that the whole cannot be without: [`Drain::broken`] completes when it
    /// panics. `task` is what the log calls it.
    pub fn vital<F: Future + Send>(
        &self,
        task: &'static str,
        work: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        let vital = Vital { task, broken: self.broken.clone() };
        async move {
            let _vital = vital;
            work.await
        }
    }

    /// Completes when a vital part of the whole has broken off.
    pub async fn broken(&self) {
        self.broken.cancelled().await;
    }

    /// Runs `task` as one that [`Drain::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Tells every task to finish and returns at once.
    pub fn signal(&self) {
        self.signal.cancel();
    }

    /// Signals, then waits at most `grace` for the tasks.
    ///
    /// # Errors
    /// The number of tasks still running.
    pub async fn finish(&self, grace: Duration) -> Result<(), usize> {
        self.signal();
        self.tasks.close();
        let goodbye = (grace / 4).min(GOODBYE);
        if tokio::time::timeout(grace.saturating_sub(goodbye), self.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        self.last_call.cancel();
        tokio::time::timeout(goodbye, self.tasks.wait()).await.map_err(|_| self.tasks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn finishing_waits_for_tasks_but_no_longer_than_the_grace_period() {
        let drain = Drain::new();
        let inner = drain.clone();
        drain.spawn(async move { inner.signaled().await });
        assert_eq!(drain.finish(Duration::from_secs(1)).await, Ok(()));

        let drain = Drain::new();
        drain.spawn(std::future::pending::<()>());
        assert_eq!(drain.finish(Duration::from_secs(1)).await, Err(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_still_busy_hears_a_last_call_before_the_end() {
        let drain = Drain::new();
        let inner = drain.clone();
        drain.spawn(async move { inner.last_call().await });
        let begun = tokio::time::Instant::now();
        assert_eq!(drain.finish(Duration::from_secs(20)).await, Ok(()));
        assert_eq!(begun.elapsed().as_secs(), 18);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_ends_alone_and_is_waited_for_by_the_whole() {
        let whole = Drain::new();
        let (first, second) = (whole.part(), whole.part());
        let inner = first.clone();
        first.spawn(async move { inner.signaled().await });
        first.end().await;
        assert!(!whole.is_signaled() && !second.is_signaled());
        second.spawn(tokio::time::sleep(Duration::from_secs(5)));
        let begun = tokio::time::Instant::now();
        assert_eq!(whole.finish(Duration::from_secs(20)).await, Ok(()));
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_hears_of_a_vital_part_that_breaks_off_and_of_no_other() {
        let whole = Drain::new();
        let part = whole.part().child();
        drop(part.spawn(part.vital("sound", async {})).await);
        drop(part.spawn(async { panic!("a session") }).await);
        let cut_off = part.spawn(part.vital("cut off", std::future::pending::<()>()));
        cut_off.abort();
        assert!(cut_off.await.is_err_and(|error| error.is_cancelled()));
        let early = tokio::time::timeout(Duration::from_secs(1), whole.broken()).await;
        assert!(early.is_err(), "nothing vital has broken off");
        drop(part.spawn(part.vital("token", async { panic!("a fault") })).await);
        whole.broken().await;
        assert!(!whole.is_signaled(), "it is for the owner to end the whole");
    }

    #[tokio::test]
    async fn a_child_drains_alone_and_hears_its_parent() {
        let parent = Drain::new();
        let (first, second) = (parent.child(), parent.child());
        first.signal();
        assert!(first.is_signaled() && !parent.is_signaled() && !second.is_signaled());
        parent.signal();
        second.signaled().await;
    }
}
