//! `history`: what became of messages that have left the queue.

use std::io::{self, BufWriter, Write};

use clap::Args;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;

use super::{
    exit::Failure,
    queue::Place,
    text::{Table, clip, count, duration, json, path, plain},
};
use crate::{
    clock::{Clock, UnixMillis},
    config::Sources,
    store::{HistoryFilter, PathPattern, Settled},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Recipients with this forward-path; * stands for anything
    #[arg(long, value_name = "ADDRESS")]
    to: Option<String>,
    /// Messages with this reverse-path; * stands for anything, <> for the null reverse-path
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Messages whose id begins like this
    #[arg(long, value_name = "PREFIX")]
    id: Option<String>,
    /// What was settled since: a duration such as 2h, a date, or a time such as 2026-11-23T06:24Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<UnixMillis>,
    /// Recipients that failed
    #[arg(long)]
    failed: bool,
    /// The newest so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// For programs: one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    let (desk, _) = options.place.open(sources)?;
    let filter = HistoryFilter {
        reverse_path: options.from.as_deref().map(PathPattern::new),
        forward_path: options.to.as_deref().map(PathPattern::new),
        id_prefix: options.id.as_deref().map(str::to_ascii_uppercase),
        since: options.since,
        failed: options.failed,
        limit: options.limit,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut table = Table::new(HEADS, COLUMN);
    let mut recipients = 0;
    for page in desk.history(&filter) {
        let page = page?;
        if options.json {
            for settled in &page {
                writeln!(out, "{}", json(&Line::new(settled))?)?;
            }
        } else {
            write_page(&page, &mut table, recipients == 0, &mut out)?;
        }
        recipients += page.len() as u64;
        out.flush()?;
    }
    if !options.json {
        writeln!(
            out,
            "{}{}",
            if recipients > 0 { "\n" } else { "" },
            match recipients {
                0 => "nothing like that is on record".to_owned(),
                number => count(number, "recipient", "recipients"),
            }
        )?;
    }
    Ok(out.flush()?)
}

const HEADS: [&str; 6] = ["SETTLED", "ID", "WHAT", "TRIES", "FROM", "TO"];

/// The widest column.
const COLUMN: usize = 40;

/// The longest reply; `queue show` has all of it.
const REPLY: usize = 240;

fn write_page(
    page: &[Settled],
    table: &mut Table<6>,
    first: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let rows: Vec<_> = page.iter().map(cells).collect();
    for row in &rows {
        table.fit(row);
    }
    if first {
        writeln!(out, "{}", table.row(&HEADS))?;
    }
    for (settled, row) in page.iter().zip(&rows) {
        writeln!(out, "{}", table.row(row))?;
        writeln!(out, "    {}", clip(&plain(&settled.reply), REPLY))?;
    }
    Ok(())
}

fn cells(settled: &Settled) -> [String; 6] {
    [
        settled.time.rfc3339(),
        plain(&settled.id).into_owned(),
        plain(&settled.disposition).into_owned(),
        settled.attempts.to_string(),
        path(&settled.reverse_path),
        path(&settled.forward_path),
    ]
}

/// A settled recipient for programs.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: &'a str,
    disposition: &'a str,
    arrival: String,
    client: &'a str,
    reverse_path: &'a str,
    forward_path: &'a str,
    attempts: u32,
    reply: &'a str,
    advice: Option<&'a str>,
    size: u64,
    message_id: &'a str,
}

impl<'a> Line<'a> {
    fn new(settled: &'a Settled) -> Self {
        Self {
            time: settled.time.rfc3339(),
            id: &settled.id,
            disposition: &settled.disposition,
            arrival: settled.arrival.rfc3339(),
            client: &settled.client,
            reverse_path: &settled.reverse_path,
            forward_path: &settled.forward_path,
            attempts: settled.attempts,
            reply: &settled.reply,
            advice: settled.advice.as_deref(),
            size: settled.size,
            message_id: &settled.message_id,
        }
    }
}

/// A time, a date (its begin in UTC), or a duration back from now.
fn since(text: &str) -> Result<UnixMillis, String> {
    let time = text.parse::<Timestamp>().or_else(|_| {
        text.parse::<Date>()
            .and_then(|date| date.to_zoned(TimeZone::UTC))
            .map(|day| day.timestamp())
    });
    match (time, duration(text)) {
        (Ok(time), _) => Ok(UnixMillis(time.as_millisecond())),
        (_, Ok(ago)) => {
            let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            Ok(UnixMillis(Clock::system().now().0.saturating_sub(ago)))
        }
        _ => Err("write a duration such as 2h, a date such as 2026-11-23, or a time such as \
                  2026-11-23T06:24Z"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_what_people_write() {
        assert_eq!(since("2026-11-23"), Ok(UnixMillis(1_795_392_000_000)));
        assert_eq!(since("2026-11-23T06:24:10Z"), Ok(UnixMillis(1_795_415_050_000)));
        assert_eq!(since("2026-11-23T07:24:10+01:00"), Ok(UnixMillis(1_795_415_050_000)));
        let hour_ago = since("1h").unwrap();
        assert!(hour_ago < Clock::system().now() && hour_ago > UnixMillis(1_700_000_000_000));
        assert!(since("yesterday").is_err());
    }
}
