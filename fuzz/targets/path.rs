//! Paths, and the command lines around them: what is taken can be written down and read back as
//! the same, alone and in a command for upstream, and brings no parameter along.

#![no_main]

use libfuzzer_sys::fuzz_target;
use o365_relay::smtp::{
    command::{self, Command, CommandRules},
    envelope::{MailParameters, RcptParameters},
    path::{
        Address, ForwardPath, PathRules, ReversePath, SenderPattern, parse_forward_path,
        parse_reverse_path, split_path,
    },
};

fuzz_target!(|input: &[u8]| {
    let Some((first, line)) = input.split_first() else { return };
    let default_domain = (first & 1 == 1).then_some("corp.example");
    let smtputf8 = first & 2 == 2;
    check_command(
        line,
        CommandRules { default_domain, sender: None, smtputf8, auth: first & 4 == 4 },
    );
    let Ok(text) = std::str::from_utf8(line) else { return };
    let rules = PathRules { smtputf8, default_domain };
    if let Ok((content, parameters)) = split_path(text) {
        assert!(text.contains(content) && text.contains(parameters));
        if let Ok(path) = parse_reverse_path(content, rules) {
            check_reverse_path(&path);
        }
        if let Ok(path) = parse_forward_path(content, rules) {
            check_forward_path(&path);
        }
    }
    if let Ok(pattern) = text.parse::<SenderPattern>() {
        let again: SenderPattern = pattern.to_string().parse().expect("a pattern read back");
        assert_eq!(again, pattern);
        for address in ["a@b.example", "\"a@b\"@c.example"] {
            let _ = pattern.matches(&address.parse().expect("an address"));
        }
    }
});

fn check_command(line: &[u8], rules: CommandRules<'_>) {
    match command::parse(line, rules) {
        Ok(Command::Mail(path, parameters)) => {
            if let ReversePath::Address(address) = &path {
                assert!(
                    parameters.smtputf8
                        || rules.default_domain.is_some()
                        || address.as_str().is_ascii()
                );
            }
            check_reverse_path(&path);
            check_words([parameters.envid.as_deref(), None]);
        }
        Ok(Command::Rcpt(path, parameters)) => {
            check_forward_path(&path);
            check_words([parameters.notify.as_deref(), parameters.orcpt.as_deref()]);
        }
        Ok(_) => {}
        Err(fault) => {
            let mut reply = Vec::new();
            fault.reply().write_to(&mut reply);
            let text = reply.strip_suffix(b"\r\n").expect("a line");
            assert!(matches!(text[0], b'4' | b'5'));
            assert!(text.iter().all(|octet| (b' '..=b'~').contains(octet)));
        }
    }
}

/// Values go upstream as they are, each as one word.
fn check_words(values: [Option<&str>; 2]) {
    for value in values.into_iter().flatten() {
        assert!(
            !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_graphic()),
            "{value:?}"
        );
    }
}

const UPSTREAM: CommandRules<'static> =
    CommandRules { default_domain: None, sender: None, smtputf8: true, auth: false };

fn check_reverse_path(path: &ReversePath) {
    if let ReversePath::Address(address) = path {
        check_address(address);
    }
    let line = format!("MAIL FROM:<{path}> SMTPUTF8");
    let parameters = MailParameters { smtputf8: true, ..MailParameters::default() };
    let again = command::parse(line.as_bytes(), UPSTREAM);
    assert_eq!(again, Ok(Command::Mail(path.clone(), parameters)), "{line:?}");
}

fn check_forward_path(path: &ForwardPath) {
    check_address(&path.0);
    let line = format!("RCPT TO:<{path}>");
    let again = command::parse(line.as_bytes(), UPSTREAM);
    assert_eq!(again, Ok(Command::Rcpt(path.clone(), RcptParameters::default())), "{line:?}");
}

fn check_address(address: &Address) {
    let text = address.as_str();
    assert!(text.len() <= 512 && !text.chars().any(char::is_control), "{text:?}");
    assert_eq!(text.parse::<Address>().as_ref(), Ok(address));
}
