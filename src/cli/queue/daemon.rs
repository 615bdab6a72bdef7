//! What the daemon knows and the store does not: why mail waits that could go.

use std::{io, net::SocketAddr};

use serde::Serialize;

use crate::{
    cli::{
        fetch,
        text::{plain, until},
    },
    clock::UnixMillis,
    http::{AccountStatus, HeldSender, PauseStatus, Status, TokenStatus},
    store::Queued,
};

/// The daemon, as far as it answers.
pub(in crate::cli) enum Daemon {
    Running(Box<Status>),
    /// No answer at this address.
    Silent(SocketAddr),
    /// Nobody knows where to ask.
    NotAsked,
}

/// Why a message waits, or why all do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Cause {
    /// `held`, `retry`, `not-running`, `unknown`, `relay-paused`, `lane-paused`, `sender-paused`,
    /// `no-token`, `turn`.
    pub kind: &'static str,
    /// In words; upstream's, where it has spoken.
    pub reason: String,
    /// The next step, if there is one.
    pub advice: Option<String>,
}

impl Cause {
    fn new(kind: &'static str, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), advice: None }
    }

    fn paused(kind: &'static str, what: &str, pause: &PauseStatus) -> Self {
        let PauseStatus { reason, advice, since, retry_in_seconds, .. } = pause;
        let reason =
            format!("{what} paused since {since}, next try in {retry_in_seconds} s: {reason}");
        Self { kind, reason, advice: advice.clone() }
    }

    /// Whether it goes on until the relay tries again by itself.
    pub fn is_pause(&self) -> bool {
        matches!(self.kind, "relay-paused" | "lane-paused")
    }

    /// As lines for people, behind `indent`.
    pub fn write(&self, out: &mut impl io::Write, indent: &str) -> io::Result<()> {
        writeln!(out, "{indent}{}", plain(&self.reason))?;
        match &self.advice {
            Some(advice) => writeln!(out, "{indent}  do: {}", plain(advice)),
            None => Ok(()),
        }
    }
}

impl Daemon {
    /// Asks for `/status`; that there is no answer is an answer too.
    pub async fn ask(address: Option<SocketAddr>) -> Self {
        let Some(address) = address else { return Self::NotAsked };
        let Ok((_, body)) = fetch::get(address, "/status").await else {
            return Self::Silent(address);
        };
        match serde_json::from_slice(&body) {
            Ok(status) => Self::Running(Box::new(status)),
            Err(_) => Self::Silent(address),
        }
    }

    /// What keeps mail of a lane from going, or that of some lane if none is named.
    pub fn causes(&self, lane: Option<&str>) -> Vec<Cause> {
        let status = match self {
            Self::Running(status) => status,
            Self::Silent(address) => {
                let reason = format!(
                    "the daemon is not running (no answer from http://{address}/status); \
                     nothing is sent until it is"
                );
                return vec![Cause::new("not-running", reason)];
            }
            Self::NotAsked => {
                let reason = "the daemon was not asked, because there is no http.address; \
                              name it with --address";
                return vec![Cause::new("unknown", reason)];
            }
        };
        let mut causes = Vec::new();
        let accounts = accounts(status, lane);
        for pause in accounts.iter().filter_map(|(_, pause)| *pause) {
            causes.push(Cause::paused("relay-paused", "smarthost", pause));
        }
        let lanes = status.lanes.iter().filter(|found| lane.is_none_or(|lane| lane == found.name));
        for found in lanes {
            if let Some(pause) = &found.pause {
                let what = format!("lane {}", found.name);
                causes.push(Cause::paused("lane-paused", &what, pause));
            }
            if lane.is_none() {
                causes.extend(found.held_senders.iter().map(sender_paused));
            }
        }
        for (token, _) in accounts.iter().filter(|(token, _)| !token.valid) {
            let failed = token.last_error.as_ref();
            let error = failed.map_or("not here yet", |failed| failed.error.as_str());
            let cause = Cause::new("no-token", format!("no access token: {error}"));
            let advice = failed.map(|failed| failed.advice.clone());
            causes.push(Cause { advice, ..cause });
        }
        causes
    }

    /// That its lane may not send as its sender.
    fn cause_of_sender(&self, message: &Queued) -> Option<Cause> {
        let Self::Running(status) = self else { return None };
        let lane = status.lanes.iter().find(|found| found.name == message.lane)?;
        let is_its = |held: &&HeldSender| held.sender.eq_ignore_ascii_case(&message.reverse_path);
        lane.held_senders.iter().find(is_its).map(sender_paused)
    }

    /// Why a message waits: its own reason first, then what keeps its lane.
    pub fn why_waits(&self, message: &Queued, now: UnixMillis) -> Vec<Cause> {
        if let Some(reason) = &message.hold_reason {
            let advice = Some(format!("o365-relay queue release {}", message.id));
            return vec![Cause { kind: "held", reason: format!("held: {reason}"), advice }];
        }
        let mut causes = Vec::new();
        if message.next_attempt > now {
            let (time, wait) = (message.next_attempt.rfc3339(), until(message.next_attempt, now));
            causes.push(Cause::new("retry", format!("next attempt {time}, {wait}")));
        }
        causes.extend(self.causes(Some(&message.lane)));
        causes.extend(self.cause_of_sender(message));
        if causes.is_empty() {
            let reason = "due; it is under way, or its turn comes as the lane's pace allows";
            causes.push(Cause::new("turn", reason));
        }
        causes
    }
}

fn sender_paused(held: &HeldSender) -> Cause {
    Cause::paused("sender-paused", &format!("mail from {}", held.sender), &held.pause)
}

/// Token and pause of the account that a lane belongs to; of all of them without a lane.
fn accounts<'a>(
    status: &'a Status,
    lane: Option<&str>,
) -> Vec<(&'a TokenStatus, Option<&'a PauseStatus>)> {
    if status.accounts.is_empty() {
        return vec![(&status.token, status.relay_pause.as_ref())];
    }
    let found = status.lanes.iter().find(|found| lane == Some(found.name.as_str()));
    let concerns = |account: &&AccountStatus| {
        found.is_none_or(|lane| lane.account.is_empty() || lane.account == account.name)
    };
    let accounts = status.accounts.iter().filter(concerns);
    accounts.map(|account| (&account.token, account.pause.as_ref())).collect()
}
