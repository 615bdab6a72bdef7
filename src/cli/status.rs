//! `status`: how the running relay is, for people or programs.

use std::net::SocketAddr;

use clap::Args;

use super::{
    exit::Failure,
    fetch,
    output::{line, seconds},
};
use crate::{
    config::Sources,
    http::{
        AccountStatus, LaneStatus, PauseStatus, QueueRebuilt, ReloadStatus, Status, TokenStatus,
    },
    queue::Mode,
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// For programs: what /status answers
    #[arg(long)]
    json: bool,
    /// The relay's http.address [default: from the configuration]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
}

pub(super) async fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    let address = fetch::address(options.address, sources)?;
    let (_, body) = fetch::get(address, "/status").await?;
    if options.json {
        return Ok(line(String::from_utf8_lossy(&body).trim_end())?);
    }
    let status: Status = serde_json::from_slice(&body).map_err(|error| {
        Failure::unavailable(format!("http://{address}/status is no status of o365-relay: {error}"))
    })?;
    Ok(show(&status)?)
}

fn show(status: &Status) -> std::io::Result<()> {
    line(format!("o365-relay {}, started {}", status.version, status.started))?;
    show_listeners(status)?;
    if status.mode == Mode::Direct {
        line("mode       direct: nothing is queued, each client hears what upstream says")?;
    }
    line(if status.readiness.ready {
        "ready      yes".into()
    } else {
        format!("ready      NO: {}", in_short(status).join("; "))
    })?;
    if pauses(status).next().is_some() || !status.readiness.ready {
        line("find out   o365-relay doctor")?;
    }
    if let Some(reload) = &status.reload {
        show_reload(reload)?;
    }
    if let Some(QueueRebuilt { time, set_aside, lost, kept_in }) = &status.queue_rebuilt {
        line(format!("queue      WAS DAMAGED, rebuilt {time}: {set_aside} held, {lost} lost"))?;
        line(format!("  do: check the disk; {kept_in}/report.json names the messages"))?;
    }
    if status.accounts.is_empty() {
        show_account(&status.token, status.relay_pause.as_ref())?;
    }
    for AccountStatus { name, token, pause } in &status.accounts {
        line(format!("account    {name}"))?;
        show_account(token, pause.as_ref())?;
    }
    show_lanes(status)?;
    if !status.failures.is_empty() {
        line("last failures")?;
    }
    for failure in &status.failures {
        line(format!(
            "  {} {} <{}> to <{}>: {}",
            failure.time, failure.id, failure.reverse_path, failure.forward_path, failure.reply
        ))?;
    }
    Ok(())
}

/// A reload that went well and left nothing to do is worth no line.
fn show_reload(reload: &ReloadStatus) -> std::io::Result<()> {
    if !reload.faults.is_empty() {
        line(format!("reload     FAILED {}: the old configuration stays", reload.time))?;
        for fault in &reload.faults {
            line(format!("  {fault}"))?;
        }
    }
    if !reload.needs_restart.is_empty() {
        line("restart    needed for settings that have changed:")?;
        for change in &reload.needs_restart {
            line(format!("  {change}"))?;
        }
    }
    Ok(())
}

fn show_account(token: &TokenStatus, pause: Option<&PauseStatus>) -> std::io::Result<()> {
    show_token(token)?;
    let Some(pause) = pause else { return Ok(()) };
    line("smarthost  PAUSED")?;
    show_pause(pause)
}

/// Lanes of senders that are told one by one; there may be as many as mailboxes.
const LANES_SHOWN: usize = 20;

/// Those of senders that need somebody come first, and of the others only so many.
fn show_lanes(status: &Status) -> std::io::Result<()> {
    let (mut others, fixed): (Vec<_>, Vec<_>) =
        status.lanes.iter().partition(|lane| lane.by_sender);
    for lane in fixed {
        show_lane(lane, status.mode)?;
    }
    others.sort_by_key(|lane| (lane.pause.is_none() && lane.held == 0, lane.name.as_str()));
    for lane in others.iter().take(LANES_SHOWN) {
        show_lane(lane, status.mode)?;
    }
    let rest = others.get(LANES_SHOWN..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(());
    }
    let paused = rest.iter().filter(|lane| lane.pause.is_some()).count();
    let queued: u64 = rest.iter().map(|lane| lane.queued).sum();
    line(format!(
        "lanes      {} more with {queued} queued, {paused} of them paused; all with --json",
        rest.len()
    ))
}

/// One line for each; the name is told where it says more than the addresses.
fn show_listeners(status: &Status) -> std::io::Result<()> {
    if status.listeners.is_empty() {
        return line(format!("listening  {}", status.listening.join(", ")));
    }
    for listener in &status.listeners {
        let named = status.listeners.len() > 1 || !listener.addresses.contains(&listener.name);
        let name = if named { format!(" ({})", listener.name) } else { String::new() };
        let sender =
            listener.sender.as_ref().map(|sender| format!(", every message from <{sender}>"));
        let addresses = listener.addresses.join(", ");
        line(format!("listening  {addresses}{name}{}", sender.unwrap_or_default()))?;
    }
    Ok(())
}

/// Of the way to the smarthost, and of lanes.
pub(super) fn pauses(status: &Status) -> impl Iterator<Item = &PauseStatus> {
    let accounts = status.accounts.iter().filter_map(|one| one.pause.as_ref());
    let lanes = status.lanes.iter().filter_map(|lane| lane.pause.as_ref());
    status.relay_pause.iter().chain(accounts).chain(lanes)
}

/// The reasons, without their details where other lines have them.
fn in_short(status: &Status) -> Vec<&str> {
    let details: Vec<&str> = pauses(status)
        .map(|pause| pause.reason.as_str())
        .chain(status.token.last_error.iter().map(|failed| failed.error.as_str()))
        .collect();
    let short = |reason| match str::split_once(reason, ": ") {
        Some((what, rest)) if details.iter().any(|detail| rest.starts_with(detail)) => what,
        _ => reason,
    };
    status.readiness.reasons.iter().map(|reason| short(reason)).collect()
}

fn show_token(token: &TokenStatus) -> std::io::Result<()> {
    match token.expires_in_seconds {
        Some(left) => line(format!("token      valid for {}", seconds(left)))?,
        None => line("token      NONE")?,
    }
    if let Some(credential) = &token.credential {
        let left = match credential.days_left {
            days if days < 0 => "EXPIRED".into(),
            1 => "1 day left".into(),
            days => format!("{days} days left"),
        };
        line(format!("credential {}: {left}, expires {}", credential.what, credential.expires))?;
    }
    let Some(failed) = &token.last_error else { return Ok(()) };
    line(format!("  fails since {}: {}", failed.since, failed.error))?;
    line(format!("  do: {}", failed.advice))?;
    line(format!("  next try {}", failed.next_try))
}

fn show_lane(lane: &LaneStatus, mode: Mode) -> std::io::Result<()> {
    if mode == Mode::Direct {
        let LaneStatus { name, waiting, in_flight, .. } = lane;
        line(format!(
            "lane       {name}: {waiting} waiting for their turn, {in_flight} under way"
        ))?;
        return show_pauses(lane);
    }
    let oldest = lane.oldest_seconds.map(|age| format!(", oldest {}", seconds(age)));
    let held = if lane.held > 0 { format!(", {} held", lane.held) } else { String::new() };
    line(format!(
        "lane       {}: {} queued{held}{}, {} under way",
        lane.name,
        lane.queued,
        oldest.unwrap_or_default(),
        lane.in_flight
    ))?;
    if lane.takes_over {
        line("  new settings: sends nothing else until what is under way has ended")?;
    }
    show_pauses(lane)
}

fn show_pauses(lane: &LaneStatus) -> std::io::Result<()> {
    for held in &lane.held_senders {
        line(format!("  mail from {} is held", held.sender))?;
        show_pause(&held.pause)?;
    }
    lane.pause.as_ref().map_or(Ok(()), show_pause)
}

fn show_pause(pause: &PauseStatus) -> std::io::Result<()> {
    line(format!("  paused since {}: {}", pause.since, pause.reason))?;
    if let Some(advice) = &pause.advice {
        line(format!("  do: {advice}"))?;
    }
    line(format!("  next try in {}", seconds(pause.retry_in_seconds)))
}
