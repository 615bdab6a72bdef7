//! `setup`: from nothing to an application that may submit mail, and back.

mod ask;
mod mail;
mod options;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(super) use self::options::Options;
use self::options::{APPLICATION_ID, Ids, OBJECT_ID, Wanted};
use super::{Settings, doctor, exit::Failure, output::line};
use crate::{
    clock::Clock,
    config::Sources,
    office365::{clouds::Cloud, exchange::FIRST_DIGITS},
    setup::{self, CredentialKind, Done, HVE_PERMISSION, Left, Plan, SetupError, Undone},
};

pub(super) async fn run(options: &Options, settings: &Settings) -> Result<(), Failure> {
    let wanted = Wanted::new(options, settings)?;
    if options.undo {
        return undo(&wanted).await;
    }
    let interactive = ask::is_possible() && !options.yes;
    let wanted = if interactive { ask::missing(wanted)? } else { wanted };
    if options.print_only {
        return print_only(&wanted);
    }
    let plan = wanted.plan()?;
    if interactive && !ask::go_on(&plan)? {
        return Err(Failure::usage("nothing was done"));
    }
    let done = setup::run(&plan, Clock::system(), &tell).await?;
    if !done.changed {
        line("Everything is as it should be; nothing was changed.")?;
    }
    if let Some((day, days)) = &done.ends {
        line(match days {
            ..0 => format!(
                "The credential ended on {day}; docs/credentials.md tells how to replace it."
            ),
            _ => format!("The credential is good until {day}: {days} days left."),
        })?;
    }
    if options.days.is_some() && !done.new_credential {
        line("--days counts for a new credential, and none was made; --renew makes one.")?;
    }
    advise(&plan, &done)?;
    let sources = sources(&plan, settings);
    until_open(&plan, &sources, options.wait.unwrap_or_default()).await?;
    match &options.send_to {
        Some(to) => mail::first(&sources, &plan.mailbox, to).await,
        None => Ok(line("Next: start the relay, then `o365-relay send --to you@example.com`.")?),
    }
}

/// One line of what happens. A reader that has gone away does not stop a set-up half-way.
fn tell(text: &str) {
    let _ = line(text);
}

/// The script, and what else a person has to do.
fn advise(plan: &Plan, done: &Done) -> Result<(), Failure> {
    if let Some(drop_in) = &done.drop_in {
        line(format!(
            "The systemd unit has to hand over the certificate. `systemctl edit o365-relay`, and put \
             in:\n\n{drop_in}"
        ))?;
    }
    if done.new_script && plan.cloud == Cloud::Hve {
        line(format!("setup asks for no API permission.\n{HVE_PERMISSION}"))?;
    }
    if done.new_script {
        line(format!(
            "What is left takes an Exchange administrator and PowerShell, which nothing else can do. \
             The script, also in {}:\n\n{}",
            plan.script().display(),
            done.access.script()
        ))?;
    }
    Ok(())
}

/// The configuration that was written, and the credential where it does not name it.
fn sources(plan: &Plan, settings: &Settings) -> Sources {
    let mut sources = Sources { file: Some(plan.config.clone()), ..settings.sources() };
    if plan.systemd {
        let files = plan.credential_files().into_iter();
        sources.set.extend(files.map(|(key, path)| format!("office365.{key}={}", path.display())));
    }
    sources
}

/// Has the doctor look until nothing is red, for `patience` at most.
async fn until_open(plan: &Plan, sources: &Sources, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_secs(1);
    let mut patient = doctor::patient(sources);
    let screen = doctor::Screen::new(false, sources);
    let mut before = None;
    loop {
        let report = doctor::examine(&mut patient).await?;
        screen.show(&report, before.as_ref())?;
        let Some(red) = report.first_red() else {
            let mailbox = &plan.mailbox;
            return Ok(line(format!("Logged in to {mailbox} with XOAUTH2: mail can go."))?);
        };
        if Instant::now() + pause > deadline {
            let script = plan.script();
            return Err(Failure::try_later(format!(
                "what could be done here is done; still missing: {}: {}\nRun {} in Exchange Online \
                 PowerShell if that has not been done. A change takes up to two hours to reach every \
                 server. Then run the same command again (--wait 2h keeps looking): it goes on from \
                 here",
                red.subject,
                red.finding,
                script.display()
            )));
        }
        before = Some(report);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn print_only(wanted: &Wanted) -> Result<(), Failure> {
    let (access, known) = wanted.access()?;
    line(setup::portal_steps(&access, wanted.credential))?;
    match known {
        Ids::Given => line("The script for Exchange Online PowerShell:\n")?,
        Ids::Missing => line(format!(
            "The script for Exchange Online PowerShell. Better run this again with --client-id and \
             --object-id once you know them; or replace by hand, everywhere:\n  {APPLICATION_ID}\n  \
             {OBJECT_ID}\n  {FIRST_DIGITS} (58d827e0 of 58d827e0-c69c-...)\n"
        ))?,
    }
    line(access.script())?;
    line("The configuration:\n")?;
    let credential = match wanted.credential {
        CredentialKind::Certificate => {
            "certificate_file = \"/etc/o365-relay/certificate.pem\"\n\
             private_key_file = \"/etc/o365-relay/private_key.pem\""
        }
        CredentialKind::Secret => {
            "client_secret_file = \"/etc/o365-relay/client_secret\"\n\
             client_secret_expires = \"THE DAY, SUCH AS 2027-03-01\""
        }
    };
    let quoted = |text: &str| toml::Value::from(text).to_string();
    Ok(line(format!(
        "[office365]\ntenant_id = {}\nclient_id = {}\n{credential}\nmailbox = {}\ncloud = {}",
        quoted(&access.tenant),
        quoted(&access.client_id),
        quoted(&access.mailbox),
        quoted(access.cloud.name())
    ))?)
}

async fn undo(wanted: &Wanted) -> Result<(), Failure> {
    let plan = wanted.plan_to_undo();
    let Undone { script, left } = setup::undo(&plan, &tell).await?;
    let gone = match &left {
        Left::Nothing => "All that setup made here and in Entra ID is gone.".to_owned(),
        Left::Theirs(left) => format!("All that setup made here is gone; {left}."),
        Left::ToDo(_) => {
            "All that setup made on this host is gone, but not all in Entra ID.".into()
        }
    };
    line(gone)?;
    if let Some(script) = script {
        let caution = match left {
            Left::Nothing => "",
            _ => ", and if nobody else uses the application, who would be shut out",
        };
        line(format!(
            "What Exchange was told goes by this script, if the other one was run{caution}:\n\n{script}"
        ))?;
    }
    match left {
        Left::ToDo(left) => Err(Failure::try_later(left)),
        _ => Ok(line("Done; running setup again begins anew.")?),
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        let message = error.to_string();
        match &error {
            SetupError::File { .. } => Self::of(&error, message),
            SetupError::NoRole { .. } | SetupError::Declined => Self::permission(message),
            SetupError::CodeExpired | SetupError::NotAccepted { .. } => Self::try_later(message),
            SetupError::Several { .. }
            | SetupError::FileExists { .. }
            | SetupError::Record { .. }
            | SetupError::Changed { .. }
            | SetupError::Key { .. }
            | SetupError::NothingToUndo { .. } => Self::configuration(message),
            _ => Self::unavailable(message),
        }
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
