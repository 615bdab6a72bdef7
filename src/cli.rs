//! The command line: one file per command, one result to one exit code.

mod config;
mod doctor;
mod exit;
mod explain;
mod fetch;
mod hash_password;
mod health;
mod history;
mod local_socket;
mod output;
mod queue;
mod run;
mod sandbox;
mod send;
mod sendmail;
mod setup;
mod status;
mod storyline;
mod systemd;
mod text;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::Sources;
use exit::Failure;

/// Mail relay for Office 365: takes plain SMTP from local applications, queues it durably, and
/// sends it on with STARTTLS and OAuth2 (XOAUTH2).
#[derive(Debug, Parser)]
#[command(name = "o365-relay", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
See it work without a tenant:  o365-relay sandbox
Set up the real thing:         o365-relay setup
Begin with a configuration:    o365-relay config example > config.toml
Exit codes: 0 success, 1 doctor found a red line, 64 usage, 66 no such message or queue, 67 no such recipient, 69 unavailable, 75 try again later, 77 permission, 78 configuration";

/// Where settings come from.
#[derive(Debug, Clone, Args)]
struct Settings {
    /// Configuration file [default: $O365_RELAY_CONFIG, else /etc/o365-relay/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, such as listener.addresses=127.0.0.1:2525 (wins over file and environment)
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    fn sources(&self) -> Sources {
        Sources::from_process(self.config.clone(), self.set.clone())
    }
}

/// The command line of a daemon. To describe all commands takes longer than to read a configuration,
/// and memory that a daemon keeps for good.
#[derive(Debug, Parser)]
#[command(name = "o365-relay")]
struct RunOnly {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    _command: Option<Run>,
}

#[derive(Debug, Subcommand)]
enum Run {
    Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay (this is what happens without a command)
    Run,
    /// Try everything against a fake tenant in this process: no account, no network
    Sandbox(sandbox::Options),
    /// Register the application, make its credential, write the configuration; or take it all back
    Setup(setup::Options),
    /// Send a test message through the running relay
    Send(send::Options),
    /// Take a message from a program as sendmail does, and hand it to the relay or into its queue
    Sendmail(sendmail::Options),
    /// Find out why mail does not go through: every check from here to Exchange, with its cure
    Doctor(doctor::Options),
    /// Show how the running relay is
    Status(status::Options),
    /// See and change what is queued, whether the relay runs or not
    Queue(queue::Options),
    /// Show what became of messages that have left the queue
    History(history::Options),
    /// Explain an error of Microsoft's: an AADSTS number, an SMTP reply, a line of the log
    Explain(explain::Options),
    /// Check the configuration, show what is in force, print a commented example
    Config(config::Options),
    /// Hash a password for `listener.users`; it is typed in or piped in, never an argument
    HashPassword,
    /// Exit 0 if the running relay is healthy (for HEALTHCHECK)
    Health(health::Options),
}

/// The command line as clap has it, for man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads the arguments and carries out the command.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(outcome) = as_mailer() {
        return outcome.map_or_else(Failure::report, |()| ExitCode::SUCCESS);
    }
    if let Ok(RunOnly { settings, .. }) = RunOnly::try_parse() {
        return exit_code(run(&settings));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    exit_code(carry_out(&cli))
}

fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(settings: &Settings) -> Result<(), Failure> {
    runtime()?.block_on(run::run(&settings.sources()))
}

/// The options of `sendmail` and what they do, for its man page.
#[must_use]
pub fn sendmail_flags() -> &'static [(&'static str, &'static str)] {
    sendmail::flags()
}

/// What a mailer is asked for, by its name or as the first argument: its options are its own.
fn as_mailer() -> Option<Result<(), Failure>> {
    let mut arguments = std::env::args_os();
    let program = PathBuf::from(arguments.next()?);
    let called = program.file_name()?.to_str()?.to_owned();
    let mut rest: Vec<_> = arguments.collect();
    let name = match rest.first() {
        _ if sendmail::NAMES.contains(&called.as_str()) => called,
        Some(first) if first == "sendmail" => rest.remove(0).into_string().ok()?,
        _ => return None,
    };
    Some(sendmail::carry_out(&name, &rest, Sources::from_process(None, Vec::new())))
}

/// `queue list`, for `mailq`.
fn list_queue(sources: &Sources) -> Result<(), Failure> {
    let listed = Cli::try_parse_from(["o365-relay", "queue", "list"]);
    match listed.map(|cli| cli.command) {
        Ok(Some(Command::Queue(options))) => runtime()?.block_on(queue::run(&options, sources)),
        _ => Err(Failure::usage("see `o365-relay queue list`")),
    }
}

fn carry_out(cli: &Cli) -> Result<(), Failure> {
    let settings = &cli.settings;
    match cli.command.as_ref().unwrap_or(&Command::Run) {
        Command::Run => run(settings),
        Command::Sandbox(options) => runtime()?.block_on(sandbox::run(options, settings)),
        Command::Setup(options) => runtime()?.block_on(setup::run(options, settings)),
        Command::Sendmail(options) => sendmail::run(options, settings.sources()),
        Command::Send(options) => runtime()?.block_on(send::run(options, &settings.sources())),
        Command::Doctor(options) => runtime()?.block_on(doctor::run(options, &settings.sources())),
        Command::Status(options) => runtime()?.block_on(status::run(options, &settings.sources())),
        Command::Queue(options) => runtime()?.block_on(queue::run(options, &settings.sources())),
        Command::History(options) => history::run(options, &settings.sources()),
        Command::Explain(options) => explain::run(options, &settings.sources()),
        Command::Config(options) => config::run(options, &settings.sources()),
        Command::HashPassword => hash_password::run(),
        Command::Health(options) => runtime()?.block_on(health::run(options, &settings.sources())),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unavailable(format!("could not start the runtime: {error}")))
}
