//! `config check`, `config show`, `config example`, `config reference`.

use clap::{Args, Subcommand};

use super::{exit::Failure, output};
use crate::config::{self, Sources};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Report every fault with its place; exit 78 if there is one
    Check,
    /// Print every setting in force and where it comes from, secrets masked
    Show {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Print the whole configuration file, commented
    Example,
    /// Print the page of all keys, docs/configuration.md
    #[command(hide = true)]
    Reference,
}

pub(super) fn run(options: &Options, sources: &Sources) -> Result<(), Failure> {
    match options.action {
        Action::Check => check(sources),
        Action::Show { json } => show(sources, json),
        Action::Example => Ok(output::line(config::example().trim_end())?),
        Action::Reference => Ok(output::line(config::page_of_keys().trim_end())?),
    }
}

fn check(sources: &Sources) -> Result<(), Failure> {
    let config = config::load(sources)?;
    for warning in &config.warnings {
        output::line(format!("warning: {warning}"))?;
    }
    Ok(output::line("configuration ok")?)
}

fn show(sources: &Sources, json: bool) -> Result<(), Failure> {
    let settings = config::show(sources)?;
    if json {
        let list: Vec<_> = settings
            .iter()
            .map(|setting| {
                serde_json::json!({
                    "key": setting.key, "value": setting.value, "origin": setting.origin,
                })
            })
            .collect();
        return Ok(output::line(serde_json::Value::from(list).to_string())?);
    }
    let width = settings.iter().map(|setting| setting.key.len()).max().unwrap_or(0);
    for setting in &settings {
        let (key, value, origin) = (&setting.key, &setting.value, &setting.origin);
        output::line(format!("{key:width$} = {value}  ({origin})"))?;
    }
    Ok(())
}
