use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::token::{Expiry, Refusal, SecretFault, TokenHandle};

const MINUTE: Duration = Duration::from_secs(60);
const EPOCH: UnixMillis = UnixMillis(1_800_000_000_000);

/// A source that answers from a list, and with its last answer for ever.
#[derive(Debug, Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    calls: Mutex<Vec<Instant>>,
    takes: Duration,
    under_way: AtomicUsize,
    expiry: Mutex<Option<Expiry>>,
}

#[derive(Debug, Clone, Copy)]
enum Reply {
    Token(u64),
    Down,
    Refused,
    Throttled(u64),
    NoFile,
}

impl Source for Arc<Script> {
    async fn fetch(&self) -> Result<Fetched, TokenError> {
        assert_eq!(self.under_way.fetch_add(1, Ordering::SeqCst), 0, "two requests at once");
        self.calls.lock().unwrap().push(Instant::now());
        let reply = {
            let mut replies = self.replies.lock().unwrap();
            if replies.len() > 1 { replies.pop_front() } else { replies.front().copied() }
        };
        tokio::time::sleep(self.takes).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        reply.expect("a reply").outcome()
    }

    fn expiry(&self) -> Option<Expiry> {
        self.expiry.lock().unwrap().clone()
    }
}

impl Reply {
    fn outcome(self) -> Result<Fetched, TokenError> {
        Err(match self {
            Self::Token(seconds) => {
                let lifetime = Duration::from_secs(seconds);
                return Ok(Fetched { token: "eyJ0".into(), lifetime, refresh_in: None });
            }
            Self::Down => TokenError::Timeout { host: "login.example".into(), after: MINUTE },
            Self::NoFile => {
                TokenError::Secret { path: Some("/s".into()), reason: SecretFault::Empty }
            }
            Self::Refused => TokenError::Refused(Box::new(Refusal {
                error: "invalid_client".into(),
                codes: vec![7_000_222],
                ..Refusal::default()
            })),
            Self::Throttled(seconds) => TokenError::Throttled {
                status: 429,
                retry_after: Some(Duration::from_secs(seconds)),
                refusal: None,
            },
        })
    }
}

struct Bench {
    script: Arc<Script>,
    handle: TokenHandle,
    clock: Clock,
    drain: Drain,
    task: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::slow(replies, Duration::ZERO)
    }

    fn slow(replies: impl IntoIterator<Item = Reply>, takes: Duration) -> Self {
        let replies = Mutex::new(replies.into_iter().collect());
        let script = Arc::new(Script { replies, takes, ..Script::default() });
        let (clock, drain) = (Clock::at(EPOCH), Drain::new());
        let (handle, shared) = TokenHandle::new(clock);
        let task = Refresher::new(Arc::clone(&script), clock, shared, Events::nameless());
        let task = drain.spawn(task.run(drain.clone()));
        Self { script, handle, clock, drain, task }
    }

    fn calls(&self) -> usize {
        self.script.calls.lock().unwrap().len()
    }

    /// Seconds between each two requests.
    fn gaps(&self) -> Vec<f64> {
        let calls = self.script.calls.lock().unwrap();
        calls.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
    }

    /// Moves time by `wait` and lets the task do what is due.
    async fn pass(&self, wait: Duration) {
        tokio::time::sleep(wait).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
}

/// Whether each is at least as long as wished and at most a fifth longer (and a timer's tick).
fn assert_waits(gaps: &[f64], wished: &[f64]) {
    assert_eq!(gaps.len(), wished.len(), "{gaps:?}");
    for (gap, wish) in gaps.iter().zip(wished) {
        assert!(*gap >= *wish && *gap <= wish * 1.2 + 0.01, "{gap} s, not {wish} s: {gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_at_half_its_life() {
    let bench = Bench::start([Reply::Token(3600)]);
    let first = bench.handle.valid().await;
    assert_eq!(first.expires_at(), EPOCH + 60 * MINUTE);
    bench.pass(28 * MINUTE).await;
    assert_eq!(bench.calls(), 1);
    bench.pass(3 * MINUTE).await;
    assert_eq!(bench.calls(), 2);
    assert!(bench.handle.valid().await.obtained_at() > first.obtained_at());
    bench.pass(24 * 60 * MINUTE).await;
    for gap in bench.gaps() {
        assert!((1705.0..=1801.0).contains(&gap), "{gap} s");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_and_a_success_forgets_them() {
    let mut replies = vec![Reply::Down; 7];
    replies.extend([Reply::Token(3600), Reply::Down, Reply::Token(3600)]);
    let bench = Bench::start(replies);
    bench.handle.valid().await;
    assert_waits(&bench.gaps(), &[1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 60.0]);
    assert!(bench.handle.snapshot().last_error.is_none());
    bench.pass(32 * MINUTE).await;
    assert_waits(&bench.gaps()[8..], &[1.0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_tells_since_when_and_keeps_the_old_token() {
    let bench = Bench::start([Reply::Token(3600), Reply::Down]);
    let token = bench.handle.valid().await;
    bench.pass(40 * MINUTE).await;
    let state = bench.handle.snapshot();
    assert!(Arc::ptr_eq(state.token.as_ref().unwrap(), &token));
    assert!(Arc::ptr_eq(&bench.handle.valid().await, &token));
    let failed = state.last_error.unwrap();
    assert!(failed.attempts > 6 && failed.since < failed.at && failed.at < failed.next_try);
    assert_eq!(state.next_refresh, Some(failed.next_try));
    assert!(failed.advice.contains("login.example"), "{}", failed.advice);

    bench.pass(21 * MINUTE).await; // now it has expired
    let waiting = tokio::time::timeout(10 * MINUTE, bench.handle.valid()).await;
    assert!(waiting.is_err() && bench.handle.snapshot().token.is_some());
}

#[tokio::test(start_paused = true)]
async fn retry_after_wins_over_backoff_and_over_demands() {
    let bench = Bench::start([Reply::Throttled(600), Reply::Token(3600)]);
    bench.pass(MINUTE).await;
    bench.handle.refresh_now(bench.clock.now());
    bench.handle.valid().await;
    assert_waits(&bench.gaps(), &[600.0]);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_set_up_is_rechecked_slowly_or_on_demand() {
    let bench = Bench::start([Reply::Refused]);
    bench.pass(15 * MINUTE).await;
    let gaps = bench.gaps();
    assert_waits(&gaps[..3], &[30.0, 300.0, 300.0]);
    let calls = bench.calls();
    bench.handle.refresh_now(bench.clock.now());
    bench.pass(Duration::from_millis(1)).await;
    assert_eq!(bench.calls(), calls + 1);
    bench.pass(4 * MINUTE).await;
    assert_eq!(bench.calls(), calls + 1, "a demand is good for one request");
}

#[tokio::test(start_paused = true)]
async fn demands_are_met_once_a_minute_and_not_for_an_old_token() {
    let bench = Bench::start([Reply::Token(3600)]);
    let first = bench.handle.valid().await;
    bench.pass(10 * MINUTE).await;
    bench.handle.refresh_now(first.obtained_at());
    let second = bench.handle.valid_after(&first).await.unwrap();
    assert_eq!(bench.calls(), 2);

    bench.handle.refresh_now(first.obtained_at()); // a slower lane met the old one, too
    bench.pass(5 * MINUTE).await;
    assert_eq!(bench.calls(), 2);

    for _ in 0..600 {
        let token = bench.handle.valid().await;
        bench.handle.refresh_now(token.obtained_at());
        bench.pass(Duration::from_secs(1)).await;
    }
    assert!(second.obtained_at() < bench.handle.valid().await.obtained_at());
    assert!((11..=13).contains(&bench.calls()), "{} requests in ten minutes", bench.calls());
    assert!(bench.gaps()[2..].iter().all(|gap| *gap >= 60.0));
}

#[tokio::test(start_paused = true)]
async fn many_waiters_share_one_request() {
    let bench = Bench::slow([Reply::Token(3600)], Duration::from_secs(3));
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let handle = bench.handle.clone();
            tokio::spawn(async move { handle.valid().await.obtained_at() })
        })
        .collect();
    bench.handle.refresh_now(EPOCH);
    bench.pass(Duration::from_secs(1)).await;
    bench.handle.refresh_now(bench.clock.now()); // while it is under way
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), EPOCH + Duration::from_secs(3));
    }
    bench.pass(5 * MINUTE).await;
    assert_eq!(bench.calls(), 1);
    assert_eq!(bench.handle.valid().await.expires_at(), EPOCH + 60 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_short_life_is_renewed_while_it_is_good_and_never_in_a_loop() {
    let bench = Bench::start([Reply::Token(600)]);
    bench.pass(60 * MINUTE).await;
    assert!(bench.gaps().iter().all(|gap| (284.0..=301.0).contains(gap)), "{:?}", bench.gaps());

    let bench = Bench::start([Reply::Token(31)]);
    bench.pass(10 * MINUTE).await;
    assert!(bench.gaps().iter().all(|gap| *gap >= 10.0), "{:?}", bench.gaps());
}

#[tokio::test(start_paused = true)]
async fn watchers_hear_of_each_change() {
    let bench = Bench::start([Reply::Down, Reply::Token(3600)]);
    let mut watcher = bench.handle.clone();
    watcher.changed().await;
    assert!(watcher.snapshot().last_error.is_some() && watcher.snapshot().token.is_none());
    watcher.changed().await;
    assert!(watcher.snapshot().last_error.is_none() && watcher.snapshot().token.is_some());
}

async fn assert_drains(bench: Bench) {
    assert_eq!(bench.drain.finish(Duration::from_millis(10)).await, Ok(()));
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_drain_ends_the_wait_for_another_token() {
    let bench = Bench::start([Reply::Token(3600)]);
    let first = bench.handle.valid().await;
    let handle = bench.handle.clone();
    let waiting = tokio::spawn(async move { handle.valid_after(&first).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert_drains(bench).await;
    let ended = tokio::time::timeout(Duration::from_secs(1), waiting).await;
    assert!(ended.expect("nobody waits for the task").unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_drain_stops_it_while_it_waits_and_while_it_asks() {
    let idle = Bench::start([Reply::Token(3600)]);
    idle.handle.valid().await;
    assert_drains(idle).await;

    let asking = Bench::slow([Reply::Token(3600)], MINUTE);
    asking.pass(Duration::from_secs(1)).await;
    assert_eq!(asking.calls(), 1);
    assert_drains(asking).await;
}

#[tokio::test(start_paused = true)]
async fn a_fixed_handle_has_its_token_until_that_expires() {
    let token = AccessToken::new("eyJ0".into(), EPOCH, EPOCH + MINUTE);
    let mut handle = TokenHandle::fixed(token);
    assert_eq!(handle.valid().await.secret(), "eyJ0");
    handle.refresh_now(EPOCH);
    tokio::time::advance(MINUTE).await;
    assert_never(handle.clone().valid()).await;
    handle.changed().await; // the one publication
    assert_never(handle.changed()).await;
}

async fn assert_never<T>(future: impl Future<Output = T>) {
    assert!(tokio::time::timeout(10 * MINUTE, future).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_may_just_be_written_is_looked_at_again_soon() {
    let bench = Bench::start([Reply::NoFile, Reply::NoFile, Reply::NoFile, Reply::Token(3600)]);
    bench.handle.valid().await;
    assert_waits(&bench.gaps(), &[1.0, 2.0, 5.0]);
}

/// The lines that the task logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_credential_is_told_in_time_once_each_and_published() {
    const DAY: Duration = Duration::from_secs(86_400);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let lines = || {
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    let ends =
        |days: u32| Some(Expiry { what: "certificate /c.pem".into(), at: EPOCH + DAY * days });

    let bench = Bench::start([Reply::Token(86_400)]);
    *bench.script.expiry.lock().unwrap() = ends(65);
    bench.pass(DAY * 70).await;
    let told = lines();
    for (line, days) in told.iter().zip(["60", "30", "7", "1"]) {
        assert!(line.starts_with("WARN"), "{line}");
        assert!(line.contains("credential expires soon") && line.contains("certificate /c.pem"));
        assert!(line.contains(&format!("days_left={days} ")), "{line}");
    }
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(told[4].starts_with("ERROR") && told[4].contains("credential has expired"));
    assert_eq!(bench.handle.snapshot().expiry, ends(65));

    *bench.script.expiry.lock().unwrap() = ends(90); // renewed
    bench.pass(DAY).await;
    assert_eq!(lines().len(), 6);
    assert!(lines()[5].contains("days_left=19 "), "{}", lines()[5]);
}
