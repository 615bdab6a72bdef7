//! `o365-relay hash-password`, piped and at a terminal.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{Read, Write},
    process::{Command, Stdio},
};

use assert_cmd::cargo::cargo_bin;
use o365_relay::listener::Users;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Exit code, standard output, standard error.
fn run(input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(cargo_bin("o365-relay"))
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_piped_password_becomes_a_line_that_users_takes() {
    for input in [&b"s3cret\n"[..], b"s3cret", b"s3cret\r\n", b"p\xe4sswort\n", b" with blanks \n"]
    {
        let (code, hash, errors) = run(input);
        assert_eq!((code, errors.as_str()), (0, ""));
        assert!(hash.starts_with("$argon2id$") && hash.lines().count() == 1, "{hash}");
        Users::parse(&format!("scanner:{hash}")).unwrap();
    }
}

#[test]
fn what_no_client_could_send_is_refused_without_being_shown() {
    let long = vec![b'x'; 5000];
    for (input, reason) in [
        (&b""[..], "there is no password"),
        (b"\n", "there is no password"),
        (b"s3cret\nmore\n", "must be one line"),
        (b"s3cret\0", "must be one line"),
        (&long, "too long"),
    ] {
        let (code, hash, errors) = run(input);
        assert_eq!((code, hash.as_str()), (64, ""), "{errors}");
        assert!(errors.contains(reason) && !errors.contains("s3cret"), "{errors}");
    }
    let output = Command::new(cargo_bin("o365-relay")).args(["hash-password", "s3cret"]).output();
    assert_eq!(output.unwrap().status.code(), Some(64), "never as an argument");
}

/// What is typed at a terminal: exit code, standard output, and what the terminal showed.
fn type_in(lines: &[&str]) -> (i32, String, String) {
    let mut terminal = {
        let fd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&fd).unwrap();
        unlockpt(&fd).unwrap();
        File::from(fd)
    };
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let stdin = File::options().read(true).write(true).open(name).unwrap();
    let screen = stdin.try_clone().unwrap();
    let mut child = Command::new(cargo_bin("o365-relay"))
        .arg("hash-password")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = child.stderr.take().unwrap();
    for line in lines {
        let mut prompt = Vec::new();
        while !prompt.ends_with(b": ") {
            let mut octet = [0];
            errors.read_exact(&mut octet).unwrap();
            prompt.push(octet[0]);
        }
        writeln!(terminal, "{line}").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    // Afterwards it shows again what is typed; that is how far there is something to read.
    writeln!(terminal, "END").unwrap();
    let mut shown = Vec::new();
    while !shown.ends_with(b"END\r\n") {
        let mut octet = [0];
        terminal.read_exact(&mut octet).unwrap();
        shown.push(octet[0]);
    }
    drop(screen);
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(shown))
}

#[test]
fn at_a_terminal_it_asks_twice_and_shows_nothing() {
    let (code, hash, shown) = type_in(&["s3cret", "s3cret"]);
    assert_eq!(code, 0);
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    assert!(!shown.contains("s3cret"), "{shown:?}");
    let (code, hash, shown) = type_in(&["s3cret", "s4cret"]);
    assert_eq!((code, hash.as_str()), (64, ""));
    assert!(!shown.contains("cret"), "{shown:?}");
}
