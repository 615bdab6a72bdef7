//! What systemd hears while the daemon runs: a sign of life for its watchdog, and a line about the
//! queue for `systemctl status`.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, sleep},
};

use super::{output::seconds, status::pauses};
use crate::{
    config::Sources,
    http::{Status, Watched},
};

/// The line is as old as that at most.
const FRESH: Duration = Duration::from_secs(10);

/// Reasons quote what others have said, at any length.
const LONGEST: usize = 300;

/// Signs of life go out before a third of the watchdog's time is over, so that two may be late.
const SIGNS_IN_TIME: u32 = 3;

/// Tells systemd until it is dropped; where systemd does not listen, nothing is done.
#[derive(Debug)]
pub(super) struct Informed(Vec<JoinHandle<()>>);

impl Drop for Informed {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Starts telling about the daemon that is watched, which a reload may change.
pub(super) fn keep_informed(watching: watch::Receiver<Watched>, sources: &Sources) -> Informed {
    let mut tasks = Vec::new();
    // The two know nothing of each other: a disk that hangs holds up the line, and a restart would
    // not mend the disk.
    if let Some(patience) = sd_notify::watchdog_enabled() {
        tasks.push(tokio::spawn(sign_of_life(patience / SIGNS_IN_TIME)));
    }
    if sources.environment.contains_key("NOTIFY_SOCKET") {
        tasks.push(tokio::spawn(line_of_state(watching)));
    }
    Informed(tasks)
}

async fn sign_of_life(pause: Duration) {
    let mut beat = interval(pause.max(Duration::from_millis(1)));
    loop {
        beat.tick().await;
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

async fn line_of_state(watching: watch::Receiver<Watched>) {
    let mut told = String::new();
    loop {
        let watched = watching.borrow().clone();
        if let Ok(status) = watched.status().await {
            let line = line(&status);
            if line != told && sd_notify::notify(&[NotifyState::Status(&line)]).is_ok() {
                told = line;
            }
        }
        sleep(FRESH).await;
    }
}

/// What stands in the way comes first, as the line may be cut off.
fn line(status: &Status) -> String {
    let mut parts = Vec::new();
    let mut paused = pauses(status);
    if let Some(pause) = paused.next() {
        let more = match paused.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        parts.push(format!("PAUSED: {}{more}", pause.reason));
    } else if !status.readiness.ready {
        parts.push(format!("NOT READY: {}", status.readiness.reasons.join("; ")));
    }
    let queued: u64 = status.lanes.iter().map(|lane| lane.queued).sum();
    let oldest = status.lanes.iter().filter_map(|lane| lane.oldest_seconds).max();
    parts.push(match oldest.filter(|_| queued > 0) {
        Some(oldest) => format!("{queued} queued, oldest {}", seconds(oldest)),
        None => format!("{queued} queued"),
    });
    parts.push(match status.token.expires_in_seconds {
        Some(left) => format!("token for {}", seconds(left)),
        None => "NO TOKEN".into(),
    });
    let line = parts.join(", ").replace(|c: char| c.is_control(), " ");
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::{LaneStatus, PauseStatus, Readiness, TokenStatus},
        queue::Mode,
    };

    fn status() -> Status {
        let lane = |queued, oldest_seconds| LaneStatus {
            name: "relay@contoso.example".into(),
            queued,
            oldest_seconds,
            ..LaneStatus::default()
        };
        Status {
            version: String::new(),
            mode: Mode::Queue,
            started: String::new(),
            listening: Vec::new(),
            listeners: Vec::new(),
            readiness: Readiness {
                ready: true,
                mode: Mode::Queue,
                reasons: Vec::new(),
                warnings: Vec::new(),
            },
            token: TokenStatus { expires_in_seconds: Some(3300), ..TokenStatus::default() },
            reload: None,
            relay_pause: None,
            accounts: Vec::new(),
            lanes: vec![lane(2, Some(240)), lane(3, Some(60)), lane(0, None)],
            failures: Vec::new(),
            queue_rebuilt: None,
        }
    }

    #[test]
    fn the_line_has_queue_and_token_and_first_of_all_the_trouble() {
        assert_eq!(line(&status()), "5 queued, oldest 4m, token for 55m");
        let mut empty = status();
        empty.lanes.clear();
        empty.token.expires_in_seconds = None;
        empty.readiness.ready = false;
        empty.readiness.reasons = vec!["no token:\nAADSTS7000222".into()];
        assert_eq!(line(&empty), "NOT READY: no token: AADSTS7000222, 0 queued, NO TOKEN");

        let pause = |reason: &str| PauseStatus {
            kind: String::new(),
            reason: reason.into(),
            advice: None,
            since: String::new(),
            retry_in_seconds: 1,
        };
        let mut paused = status();
        paused.relay_pause = Some(pause("no connection"));
        paused.lanes[0].pause = Some(pause("535 5.7.139"));
        let text = line(&paused);
        assert!(text.starts_with("PAUSED: no connection (and 1 more), 5 queued"), "{text}");
        paused.relay_pause = Some(pause(&"x".repeat(5000)));
        assert!(line(&paused).len() <= LONGEST);
    }
}
