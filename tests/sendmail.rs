//! The binary as programs call their mailer: into the running relay, into its queue where none
//! runs, and what it says and exits with where neither goes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod operator;

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use operator::{BINARY, Place, Relay, Tenant, o365_relay, wait_for};
use serde_json::Value;

/// Runs a command with this input to its end.
fn feed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who ends without reading it all is right to do so.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ends(output: &Output, code: i32, words: &[&str]) {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    for word in words {
        assert!(out.contains(word) || err.contains(word), "no {word:?} in {out}{err}");
    }
}

/// What the tenant has saved of each message: the envelope, and the mail data.
fn saved(tenant: &Tenant, count: usize) -> Vec<(Value, String)> {
    let paths = wait_for("the messages", || {
        let mut paths = tenant.arrived();
        paths.sort();
        (paths.len() >= count).then_some(paths)
    });
    let read = |path: &PathBuf| {
        let text = wait_for("the envelope", || {
            serde_json::from_str(&fs::read_to_string(path).unwrap()).ok()
        });
        (text, fs::read_to_string(path.with_extension("eml")).unwrap())
    };
    paths.iter().map(read).collect()
}

fn sendmail(relay: &Relay, arguments: &[&str]) -> Command {
    let mut command = o365_relay(["sendmail", "--server"]);
    command.arg(relay.smtp.to_string()).args(arguments);
    command
}

#[test]
fn the_header_section_says_who_gets_it() {
    let tenant = Tenant::start();
    let relay = tenant.relay([]);
    let text = "From: relay@sandbox.example\nTo: a@example.com\nCc: \"B, C\" <b@example.com>\n\
                Bcc: secret@example.com\nSubject: x\n\n.\n..dots\nlast line without end";
    let arguments = ["-t", "-i", "-f", "relay@sandbox.example", "d@example.com"];
    let output = feed(&mut sendmail(&relay, &arguments), text);
    ends(&output, 0, &[]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let (envelope, data) = saved(&tenant, 1).remove(0);
    let envelope = envelope.to_string();
    for recipient in ["a@example.com", "b@example.com", "d@example.com", "secret@example.com"] {
        assert!(envelope.contains(recipient), "{envelope}");
    }
    assert!(!data.contains("secret@") && data.contains("Subject: x\r\n"), "{data}");
    assert!(data.ends_with("\r\n\r\n.\r\n..dots\r\nlast line without end\r\n"), "{data}");
    relay.stop();
}

#[test]
fn a_lone_dot_ends_the_message_and_what_is_missing_is_added() {
    let tenant = Tenant::start();
    let relay = tenant.relay(["--set", "listener.default_domain=sandbox.example"]);
    let arguments = ["-oem", "-F", "Cron Daemon", "-frelay", "root"];
    let output = feed(&mut sendmail(&relay, &arguments), "disk full\n.\nnot this\n");
    ends(&output, 0, &[]);
    let (envelope, data) = saved(&tenant, 1).remove(0);
    assert!(envelope.to_string().contains("root@sandbox.example"), "{envelope}");
    assert!(data.contains("From: \"Cron Daemon\" <relay@"), "{data}");
    assert!(data.contains("\r\nDate: ") && data.contains("\r\nMessage-ID: "), "{data}");
    assert!(data.ends_with("\r\n\r\ndisk full\r\n"), "{data}");
    relay.stop();
}

/// As the package puts it: the configuration of the relay, which does not run.
fn without_a_relay(tenant: &Tenant, arguments: &[&str]) -> Command {
    let mut command = tenant.relay_command([]);
    let settings: Vec<_> = command.get_args().skip(1).map(ToOwned::to_owned).collect();
    command = o365_relay(["sendmail"]);
    // Port 1: nobody listens there.
    command.args(settings).args(["--set", "listener.addresses=127.0.0.1:1"]).args(arguments);
    command
}

#[test]
fn without_a_relay_the_message_waits_in_the_queue_for_the_next_one() {
    let tenant = Tenant::start();
    let text = "Subject: waits\n\ntext\n";
    let arguments = ["-f", "relay@sandbox.example", "a@example.com"];
    ends(&feed(&mut without_a_relay(&tenant, &arguments), text), 75, &["queue", "not there"]);
    fs::create_dir(tenant.root.path().join("queue")).unwrap();
    ends(&feed(&mut without_a_relay(&tenant, &arguments), text), 0, &[]);
    let large = format!("Subject: large\n\n{}", "0123456789\n".repeat(20_000));
    ends(&feed(&mut without_a_relay(&tenant, &arguments), &large), 0, &[]);
    let listed = feed(&mut without_a_relay(&tenant, &["-bp"]), "");
    ends(&listed, 0, &["a@example.com"]);
    let session = "EHLO me\r\nMAIL FROM:<relay@sandbox.example>\r\nRCPT TO:<b@example.com>\r\n\
                   DATA\r\nSubject: session\r\n\r\ntext\r\n.\r\nQUIT\r\n";
    let output = feed(&mut without_a_relay(&tenant, &["-bs"]), session);
    ends(&output, 0, &["220 ", "250 2.0.0 queued as", "221 "]);

    let relay = tenant.relay([]);
    let arrived = saved(&tenant, 3);
    let of = |subject: &str| {
        let subject = format!("Subject: {subject}\r\n");
        arrived.iter().find(|(_, data)| data.contains(&subject)).unwrap().1.clone()
    };
    assert!(of("waits").contains("by ") && of("session").ends_with("text\r\n"));
    assert!(of("large").len() > 220_000);
    relay.stop();
}

#[test]
fn the_relay_answers_a_session_on_standard_input() {
    let tenant = Tenant::start();
    let relay = tenant.relay([]);
    let output = feed(&mut sendmail(&relay, &["-bs"]), "EHLO me\r\nNOOP\r\nQUIT\r\n");
    ends(&output, 0, &["220 ", "250 PIPELINING".get(4..).unwrap(), "221 "]);
    // Whoever hangs up without QUIT does not leave it waiting.
    ends(&feed(&mut sendmail(&relay, &["-bs"]), "EHLO me\r\n"), 0, &["220 "]);
    relay.stop();
}

#[test]
fn each_refusal_has_its_exit_code() {
    let tenant = Tenant::start();
    let relay = tenant.relay(["--set", "sender.allow=*@sandbox.example"]);
    let text = "Subject: x\n\ny\n";
    let run = |arguments: &[&str]| feed(&mut sendmail(&relay, arguments), text);
    let from = "-frelay@sandbox.example";
    ends(&run(&[from]), 64, &["no recipients"]);
    ends(&run(&[from, "-t"]), 64, &["To, Cc and Bcc"]);
    ends(&run(&["-Z"]), 64, &["unknown option -Z", "--help"]);
    ends(&run(&[from, "a@example.com", "nobody"]), 67, &["refused the recipient nobody"]);
    ends(&run(&["-fa@other.example", "a@example.com"]), 77, &["a@other.example", "5.7.1"]);
    let quiet = run(&["-oeq", "-fa@other.example", "a@example.com"]);
    assert!(quiet.status.code() == Some(77) && quiet.stderr.is_empty(), "{quiet:?}");
    assert!(tenant.arrived().is_empty(), "nothing was sent to some of them");
    relay.stop();

    let arguments = ["sendmail", "--server", "127.0.0.1:1", "a@example.com"];
    ends(&feed(&mut o365_relay(arguments), text), 75, &["no relay at 127.0.0.1:1"]);
    let direct = ["--set", "queue.mode=direct", "a@example.com"];
    ends(&feed(&mut without_a_relay(&tenant, &direct), text), 75, &["direct mode"]);
    let wrong = ["--set", "queue.give_up_after=soon", "a@example.com"];
    ends(&feed(&mut without_a_relay(&tenant, &wrong), text), 78, &["queue.give_up_after"]);
}

#[test]
fn it_answers_to_the_names_of_mailers() {
    let place = Place::new();
    let called = |name: &str, arguments: &[&str]| {
        let path = place.path(name);
        symlink(BINARY, &path).unwrap();
        let mut command = Command::new(path);
        command.env_clear().args(arguments);
        command
    };
    ends(&feed(&mut called("newaliases", &[]), ""), 0, &["no aliases"]);
    ends(&feed(&mut called("sendmail", &["--help"]), ""), 0, &["-bs", "--server"]);
    fs::create_dir(place.path("queue")).unwrap();
    let config = place.config.display().to_string();
    let mut command = called("mailq", &["--config", &config]);
    ends(&feed(&mut command, ""), 66, &["queue"]);
}
