//! The man pages and completions that `cargo run --example assets` writes: all there is has a
//! page, and the programs that are to read them can. Those that are not installed are passed over
//! here; `.ci/assets` installs them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../examples/assets/pages.rs"]
mod pages;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

fn written() -> TempDir {
    let directory = TempDir::new().unwrap();
    pages::write(directory.path()).unwrap();
    directory
}

fn page(directory: &TempDir, name: &str) -> String {
    let path = directory.path().join("man").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As a terminal would show it, without hyphens that only tell groff where not to break.
fn plain(page: &str) -> String {
    page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
}

#[test]
fn every_command_has_a_page_with_its_options() {
    let directory = written();
    let mut program = o365_relay::cli::command();
    program.build();
    let mut waiting = vec![(String::from("o365-relay"), &program)];
    let mut pages = 0;
    while let Some((name, command)) = waiting.pop() {
        let page = plain(&page(&directory, &format!("{name}.1")));
        for argument in command.get_arguments().filter(|one| !one.is_hide_set()) {
            let Some(long) = argument.get_long().filter(|long| *long != "help") else { continue };
            assert!(page.contains(&format!("--{long}")), "{name} lacks --{long}");
        }
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        waiting.extend(below.map(|below| (format!("{name}-{}", below.get_name()), below)));
        pages += 1;
    }
    assert!(pages > 20, "{pages} pages");
}

#[test]
fn every_key_is_in_the_page_of_the_configuration() {
    let page = plain(&page(&written(), "o365-relay.toml.5"));
    let example = o365_relay::config::example();
    let keys = example.lines().filter_map(|line| {
        let (name, _) = line.trim_start_matches("# ").split_once(" = ")?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(is_name).then_some(name)
    });
    let mut count = 0;
    for key in keys {
        assert!(page.contains(&format!("\n{key} = ")), "the page lacks {key}");
        count += 1;
    }
    assert!(count > 60, "{count} keys");
    assert!(page.contains("AZURE_TENANT_ID"));
}

/// Runs a program that may not be installed.
fn run(program: &str, arguments: &[&Path], settings: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    match command.args(settings).args(arguments).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("{program} is not installed, passed over");
            None
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn groff_has_no_complaint() {
    let directory = written();
    for path in files(&directory.path().join("man")) {
        let settings = ["-man", "-ww", "-Tutf8", "-z"];
        let Some(output) = run("groff", &[&path], &settings) else { return };
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaint.is_empty(), "{}: {complaint}", path.display());
    }
}

#[test]
fn each_shell_can_read_its_completions() {
    let directory = written();
    for shell in ["bash", "zsh", "fish"] {
        let files = files(&directory.path().join("completions").join(shell));
        assert_eq!(files.len(), 1, "{files:?}");
        let Some(output) = run(shell, &[&files[0]], &["-n"]) else { continue };
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && complaint.is_empty(), "{shell}: {complaint}");
    }
}

#[test]
fn bash_completes_a_command() {
    let directory = written();
    let file = directory.path().join("completions/bash/o365-relay.bash");
    let script = format!(
        "source {}; COMP_WORDS=(o365-relay queue rel); COMP_CWORD=2; \
         $(complete -p o365-relay | grep -o ' _[^ ]*') o365-relay rel queue; echo \"${{COMPREPLY[*]}}\"",
        file.display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "release", "{output:?}");
}
