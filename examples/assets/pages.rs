//! Man pages and completions. They are made anew each time, from nothing but the code: the same
//! code gives the same octets.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};
use o365_relay::{
    cli,
    config::{self, DefaultReference},
};

/// The program, its pages and its completions.
const NAME: &str = "o365-relay";

/// Writes `man/*.1`, `man/*.5` and `completions/` below `directory`.
pub fn write(directory: &Path) -> io::Result<()> {
    let man = directory.join("man");
    let completions = directory.join("completions");
    for directory in [&man, &completions] {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(directory)?,
        }
    }
    write_commands(&man)?;
    fs::write(man.join(format!("{NAME}.toml.5")), configuration()?)?;
    // In place of the page made of the command line, which knows none of its options. Not as
    // sendmail.1: other mailers have that file, and a package may not replace it.
    fs::write(man.join(format!("{NAME}-sendmail.1")), sendmail()?)?;
    for shell in [Shell::Zsh, Shell::Fish] {
        let directory = completions.join(shell.to_string());
        fs::create_dir_all(&directory)?;
        generate_to(shell, &mut cli::command(), NAME, directory)?;
    }
    fs::create_dir_all(completions.join("bash"))?;
    fs::write(completions.join("bash").join(format!("{NAME}.bash")), bash()?)
}

/// For bash a program with a hyphen in its name is written in two ways that do not meet, so that no
/// command would be completed: it is written without, and told for whom at the end.
fn bash() -> io::Result<String> {
    const PLAIN: &str = "o365relay";
    let mut out = Vec::new();
    clap_complete::generate(Shell::Bash, &mut cli::command().name(PLAIN), PLAIN, &mut out);
    let script = String::from_utf8(out).map_err(io::Error::other)?;
    Ok(script.replace(&format!(" {PLAIN}\n"), &format!(" {NAME}\n")))
}

fn write_commands(directory: &Path) -> io::Result<()> {
    let mut program = cli::command().disable_help_subcommand(true);
    program.build();
    fs::write(directory.join(format!("{NAME}.1")), main_page(&program)?)?;
    for command in program.get_subcommands() {
        write_command(directory, NAME, command)?;
    }
    Ok(())
}

/// `o365-relay-queue-list.1`, and so on for each command and what is below it.
fn write_command(directory: &Path, above: &str, command: &Command) -> io::Result<()> {
    let name = format!("{above}-{}", command.get_name());
    let path = directory.join(format!("{name}.1"));
    fs::write(path, command_page(&name, command)?)?;
    for below in command.get_subcommands() {
        write_command(directory, &name, below)?;
    }
    Ok(())
}

fn page(name: &str, command: &Command) -> Man {
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).title(name).section("1").source(source).manual("Mail relay")
}

fn main_page(command: &Command) -> io::Result<Vec<u8>> {
    let man = page(NAME, command);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    let mut more = Roff::default();
    for text in [
        "Without a command it runs as a daemon, in the foreground, until SIGTERM or SIGINT. See it \
         work without a tenant with `o365-relay sandbox`; set up the real thing with `o365-relay \
         setup`; find out why mail does not go through with `o365-relay doctor`.",
        "A message is answered with 250 only when it is safe on disk.",
    ] {
        paragraph(&mut more, text);
    }
    more.to_writer(&mut out)?;
    man.render_subcommands_section(&mut out)?;
    man.render_options_section(&mut out)?;
    tail(&SIGNALS_AND_FILES, &mut out)?;
    see_also(&[("o365-relay.toml", "5"), ("o365-relay-sendmail", "1")], &mut out)?;
    Ok(out)
}

fn command_page(name: &str, command: &Command) -> io::Result<Vec<u8>> {
    let man = page(name, command);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    if command.get_subcommands().next().is_some() {
        let mut roff = Roff::default();
        roff.control("SH", ["COMMANDS"]);
        for below in command.get_subcommands() {
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            roff.control("TP", []);
            roff.text([bold(format!("{name}-{}(1)", below.get_name()))]);
            roff.text([roman(about)]);
        }
        roff.to_writer(&mut out)?;
    }
    man.render_options_section(&mut out)?;
    tail(&[("EXIT STATUS", EXIT_STATUS)], &mut out)?;
    see_also(&[(NAME, "1"), ("o365-relay.toml", "5")], &mut out)?;
    Ok(out)
}

/// Sections of terms and what they mean.
type Terms = &'static [(&'static str, &'static str)];

const EXIT_STATUS: Terms = &[
    ("0", "Success."),
    ("1", "The doctor has found something."),
    ("64", "Wrong usage."),
    ("65", "A message is not what it was."),
    ("66", "No such message or queue."),
    ("67", "A recipient was refused."),
    ("69", "Unavailable."),
    ("75", "Try again later."),
    ("77", "Not permitted."),
    ("78", "The configuration has faults."),
];

const SIGNALS: Terms = &[
    ("SIGTERM, SIGINT", "Stop: mail under way may finish. A second one does not wait for it."),
    ("SIGHUP", "Read the configuration again and apply what can change while it runs."),
];

const FILES: Terms = &[
    ("/etc/o365-relay/config.toml", "The configuration; see o365-relay.toml(5)."),
    ("/var/lib/o365-relay", "The queue."),
];

const ENVIRONMENT: Terms = &[
    ("O365_RELAY_CONFIG", "Another configuration file."),
    ("O365_RELAY__SECTION__KEY", "One key of the configuration; wins over the file."),
    ("CREDENTIALS_DIRECTORY", "Where systemd puts the files of LoadCredential=."),
    ("NO_COLOR", "No colours, on a terminal too."),
];

const SIGNALS_AND_FILES: [(&str, Terms); 4] = [
    ("EXIT STATUS", EXIT_STATUS),
    ("SIGNALS", SIGNALS),
    ("ENVIRONMENT", ENVIRONMENT),
    ("FILES", FILES),
];

fn tail(sections: &[(&str, Terms)], out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::default();
    for (title, terms) in sections {
        roff.control("SH", [*title]);
        for (term, meaning) in *terms {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*meaning)]);
        }
    }
    roff.to_writer(out)
}

fn see_also(pages: &[(&str, &str)], out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", ["SEE ALSO"]);
    let mut inlines: Vec<Inline> = Vec::new();
    for (number, (name, section)) in pages.iter().enumerate() {
        if number > 0 {
            inlines.push(roman(", "));
        }
        inlines.push(bold(*name));
        inlines.push(roman(format!("({section})")));
    }
    roff.text(inlines);
    roff.to_writer(out)
}

/// `o365-relay-sendmail(1)`, also for where the relay is called by another name.
fn sendmail() -> io::Result<Vec<u8>> {
    let mut roff = Roff::default();
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["o365-relay-sendmail", "1", "", source.as_str(), "Mail relay"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "o365-relay-sendmail, sendmail, mailq, newaliases - hand a message to o365-relay(1)",
    )]);
    roff.control("SH", ["SYNOPSIS"]);
    let names = [bold("sendmail"), roman(" [options] [recipients] < message")];
    roff.text(names);
    roff.control("SH", ["DESCRIPTION"]);
    for text in SENDMAIL {
        paragraph(&mut roff, text);
    }
    roff.control("SH", ["OPTIONS"]);
    for (flag, meaning) in cli::sendmail_flags() {
        roff.control("TP", []);
        roff.text([bold(*flag)]);
        roff.text(code(meaning));
    }
    let mut out = Vec::new();
    roff.to_writer(&mut out)?;
    tail(&[("EXIT STATUS", EXIT_STATUS)], &mut out)?;
    see_also(&[(NAME, "1"), ("o365-relay.toml", "5")], &mut out)?;
    Ok(out)
}

const SENDMAIL: [&str; 3] = [
    "Reads a message from standard input, as programs have always handed mail to their host, and \
     hands it to the running relay over SMTP. `o365-relay sendmail` is the same.",
    "The relay is the one that `--server` or the variable O365_RELAY_SERVER names, else the first \
     listener of the configuration that asks for neither TLS nor a login; who may not read the \
     configuration tries 127.0.0.1 and ::1, port 25.",
    "Where no relay runs, who may write to its queue (root, and the user of the relay) puts the \
     message there, and the next start sends it; everybody else is told to try again later, with \
     exit status 75. With status 0 the message is safe on disk, or, in direct mode, with Office 365.",
];

/// `o365-relay.toml(5)`: every key with its meaning, default, variable and an example.
fn configuration() -> io::Result<Vec<u8>> {
    let mut roff = Roff::default();
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["o365-relay.toml", "5", "", source.as_str(), "Mail relay"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("o365-relay.toml - configuration of o365-relay(1)")]);
    roff.control("SH", ["DESCRIPTION"]);
    for text in INTRODUCTION {
        paragraph(&mut roff, text);
    }
    for section in config::reference() {
        roff.control("SH", [section.heading.to_uppercase().as_str()]);
        paragraph(&mut roff, section.about);
        for key in section.keys {
            roff.control("TP", []);
            roff.text([bold(key.name), roman(" = "), italic(key.example)]);
            let default = match key.default {
                DefaultReference::Required => "No default.".into(),
                DefaultReference::NotSet => "Default: not set.".into(),
                DefaultReference::Computed(from) => format!("Default: {from}."),
                DefaultReference::Value(value) => format!("Default: {value}."),
            };
            let restart = if key.needs_restart { "A change takes a restart." } else { "" };
            roff.text(code(format!("{} {default} {restart}", key.meaning).trim()));
            roff.control("br", []);
            let other = key.fallback_variable.map(|name| format!(", or else {name}"));
            let variables = key.variable + &other.unwrap_or_default();
            roff.text([roman("Variable: "), roman(variables)]);
        }
    }
    roff.control("SH", ["FILES"]);
    roff.control("TP", []);
    roff.text([bold(config::DEFAULT_FILE)]);
    roff.text([roman("Read where neither --config nor O365_RELAY_CONFIG names another.")]);
    let mut out = Vec::new();
    roff.to_writer(&mut out)?;
    see_also(&[(NAME, "1"), ("o365-relay-config-check", "1")], &mut out)?;
    Ok(out)
}

const INTRODUCTION: [&str; 4] = [
    "The configuration is a TOML file with a section for each part, `[office365]` or `[listener]`. \
     Each key can also be set by a variable of the environment, O365_RELAY__SECTION__KEY, which \
     wins over the file, and with `--set section.key=value`, which wins over both. In a variable \
     a list has commas between its items, and an empty variable counts as unset.",
    "Durations are written like `30s`, `5m`, `2h` or `5d`, sizes like `64KiB` or `35MiB`, or as a \
     number of octets.",
    "`o365-relay config check` tells every fault with its place, `o365-relay config show` what \
     holds and where it comes from, and `o365-relay config example` prints a whole file with \
     comments.",
    "On SIGHUP the daemon reads it again and applies what has changed, but for the keys that say \
     so, which take a restart. A configuration with faults changes nothing; log and `o365-relay \
     status` tell what came of it.",
];

fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.text(code(text));
}

/// What stands between backticks is bold.
fn code(text: &str) -> Vec<Inline> {
    let part = |(number, part): (usize, &str)| match number % 2 {
        0 => roman(part),
        _ => bold(part),
    };
    text.split('`').enumerate().map(part).collect()
}
