//! SMTP commands as the sandbox reads them: letter by letter what RFC 5321, 1870, 3461, 6152 and
//! 6531 say, nothing that a friendly server would let pass.

use super::address::{self, AddressFault};

/// The commands that the submission service knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

impl Verb {
    /// As it is written on the wire.
    pub fn name(self) -> &'static str {
        VERBS.iter().find(|(_, verb)| *verb == self).map_or("", |(name, _)| *name)
    }
}

/// Splits a line (without its CRLF) into verb and argument.
pub(super) fn split(line: &[u8]) -> Result<(Verb, Option<&str>), &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| NOT_TEXT)?;
    if text.chars().any(char::is_control) {
        return Err(NOT_TEXT);
    }
    let (word, argument) = match text.split_once(' ') {
        Some((word, argument)) => (word, Some(argument)),
        None => (text, None),
    };
    let (_, verb) =
        VERBS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).ok_or(UNRECOGNIZED)?;
    Ok((*verb, argument))
}

/// The argument of MAIL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mail {
    pub reverse_path: String,
    /// As the client wrote them.
    pub parameters: Vec<String>,
    pub smtputf8: bool,
}

/// Reads the argument of MAIL; the null reverse-path is refused.
pub(super) fn mail(argument: Option<&str>, max_size: u64) -> Result<Mail, &'static str> {
    let (path, parameters) = arguments(argument, "FROM:", INVALID_SENDER)?;
    let mut seen = Parameters::default();
    for parameter in &parameters {
        let (keyword, value) = seen.add(parameter)?;
        let sound = match (keyword.as_str(), value) {
            ("SIZE", Some(size)) => {
                let size = decimal(size).ok_or(INVALID_ARGUMENTS)?;
                if size > max_size {
                    return Err(TOO_LARGE);
                }
                true
            }
            ("BODY", Some(body)) => one_of(body, &["7BIT", "8BITMIME"]),
            ("SMTPUTF8", None) => true,
            ("RET", Some(what)) => one_of(what, &["FULL", "HDRS"]),
            ("ENVID", Some(id)) => id.len() <= 100 && is_xtext(id, false),
            _ => return Err(UNRECOGNIZED_PARAMETER),
        };
        if !sound {
            return Err(INVALID_ARGUMENTS);
        }
    }
    let smtputf8 = seen.has("SMTPUTF8");
    // Exchange is not known to take a null reverse-path on submission.
    address::check(path, smtputf8).map_err(|fault| match fault {
        AddressFault::Syntax => INVALID_SENDER,
        AddressFault::NonAscii => NON_ASCII_SENDER,
    })?;
    Ok(Mail { reverse_path: path.to_owned(), parameters: owned(&parameters), smtputf8 })
}

/// The argument of RCPT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rcpt {
    pub forward_path: String,
    /// As the client wrote them.
    pub parameters: Vec<String>,
}

/// Reads the argument of RCPT within a transaction that may (not) hold more than ASCII.
pub(super) fn rcpt(argument: Option<&str>, smtputf8: bool) -> Result<Rcpt, &'static str> {
    let (path, parameters) = arguments(argument, "TO:", INVALID_RECIPIENT)?;
    let mut seen = Parameters::default();
    for parameter in &parameters {
        let (keyword, value) = seen.add(parameter)?;
        let sound = match (keyword.as_str(), value) {
            ("NOTIFY", Some(list)) => is_notify_list(list),
            ("ORCPT", Some(original)) => is_original_recipient(original, smtputf8),
            _ => return Err(UNRECOGNIZED_PARAMETER),
        };
        if !sound {
            return Err(INVALID_ARGUMENTS);
        }
    }
    address::check(path, smtputf8).map_err(|fault| match fault {
        AddressFault::Syntax => INVALID_RECIPIENT,
        AddressFault::NonAscii => NON_ASCII_RECIPIENT,
    })?;
    Ok(Rcpt { forward_path: path.to_owned(), parameters: owned(&parameters) })
}

/// Whether `argument` is a name that EHLO and HELO may give.
pub(super) fn is_client_name(argument: &str) -> bool {
    argument.is_ascii() && address::is_domain(argument) || address::is_address_literal(argument)
}

/// `FROM:<path> PARAMETER PARAMETER`: one space each, none after the colon.
fn arguments<'a>(
    argument: Option<&'a str>,
    keyword: &str,
    path_fault: &'static str,
) -> Result<(&'a str, Vec<&'a str>), &'static str> {
    let text = argument.unwrap_or_default();
    let rest = match text.get(..keyword.len()) {
        Some(start) if start.eq_ignore_ascii_case(keyword) => &text[keyword.len()..],
        _ => return Err(INVALID_ARGUMENTS),
    };
    let (path, rest) = address::split_path(rest).ok_or(path_fault)?;
    match rest.strip_prefix(' ') {
        Some(parameters) => Ok((path, parameters.split(' ').collect())),
        None if rest.is_empty() => Ok((path, Vec::new())),
        None => Err(INVALID_ARGUMENTS),
    }
}

/// The keywords met so far: RFC 5321 section 4.1.1.11 lets each stand once.
#[derive(Default)]
struct Parameters(Vec<String>);

impl Parameters {
    fn add<'p>(&mut self, text: &'p str) -> Result<(String, Option<&'p str>), &'static str> {
        let (keyword, value) = match text.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (text, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        let sound_value =
            value.is_none_or(|value| !value.is_empty() && value.chars().all(is_value_character));
        if !sound_value || self.has(&keyword) {
            return Err(INVALID_ARGUMENTS);
        }
        self.0.push(keyword.clone());
        Ok((keyword, value))
    }

    fn has(&self, keyword: &str) -> bool {
        self.0.iter().any(|seen| seen == keyword)
    }
}

fn is_value_character(c: char) -> bool {
    c != '=' && !c.is_whitespace() && !c.is_control()
}

fn owned(parameters: &[&str]) -> Vec<String> {
    parameters.iter().map(ToString::to_string).collect()
}

fn decimal(text: &str) -> Option<u64> {
    let digits = (1..=20).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    // Twenty digits may exceed u64: then it is simply more than any limit.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn one_of(value: &str, allowed: &[&str]) -> bool {
    allowed.iter().any(|word| word.eq_ignore_ascii_case(value))
}

/// RFC 3461 section 4.1: NEVER alone, or a list of the three others.
fn is_notify_list(list: &str) -> bool {
    let words: Vec<String> = list.split(',').map(str::to_ascii_uppercase).collect();
    let known = |word: &String| ["SUCCESS", "FAILURE", "DELAY"].contains(&word.as_str());
    let repeated = (1..words.len()).any(|at| words[..at].contains(&words[at]));
    words == ["NEVER"] || words.iter().all(known) && !repeated
}

/// RFC 3461 section 4.2 and RFC 6533: `rfc822;xtext`, `utf-8;xtext`.
fn is_original_recipient(value: &str, smtputf8: bool) -> bool {
    let Some((kind, address)) = value.split_once(';') else { return false };
    let utf8 = smtputf8 && kind.eq_ignore_ascii_case("utf-8");
    value.len() <= 500
        && !kind.is_empty()
        && kind.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && !address.is_empty()
        && is_xtext(address, utf8)
}

/// RFC 3461 section 4: printable ASCII, where `+` begins two upper-case hexadecimal digits.
fn is_xtext(text: &str, utf8: bool) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let is_hex = |c: Option<char>| c.is_some_and(|c| matches!(c, '0'..='9' | 'A'..='F'));
        let sound = match character {
            '+' => is_hex(characters.next()) && is_hex(characters.next()),
            '=' => false,
            '!'..='~' => true,
            other => utf8 && !other.is_ascii(),
        };
        if !sound {
            return false;
        }
    }
    true
}

/// For a verb that is not known, or not offered.
pub(super) const UNRECOGNIZED: &str = "500 5.3.3 Unrecognized command";
/// Both for the SIZE parameter and for mail data that turns out too large.
pub(super) const TOO_LARGE: &str = "552 5.3.4 Message size exceeds fixed maximum message size";
/// For an argument that a command does not take, or not in this form.
pub(super) const INVALID_ARGUMENTS: &str = "501 5.5.4 Invalid arguments";
const UNRECOGNIZED_PARAMETER: &str = "501 5.5.4 Unrecognized parameter";
const INVALID_SENDER: &str = "501 5.1.7 Invalid address";
const INVALID_RECIPIENT: &str = "501 5.1.3 Invalid address";
const NON_ASCII_SENDER: &str = "553 5.6.7 Sender address needs SMTPUTF8";
const NON_ASCII_RECIPIENT: &str = "553 5.6.7 Recipient address needs SMTPUTF8";
const NOT_TEXT: &str = "500 5.5.2 Command holds control characters or is not text";

const VERBS: [(&str, Verb); 12] = [
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("VRFY", Verb::Vrfy),
    ("HELP", Verb::Help),
    ("QUIT", Verb::Quit),
];

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000;

    #[test]
    fn verbs_are_read_in_any_case_and_lines_with_control_characters_are_not() {
        assert_eq!(split(b"ehlo a.example"), Ok((Verb::Ehlo, Some("a.example"))));
        assert_eq!(split(b"QUIT"), Ok((Verb::Quit, None)));
        assert_eq!(split(b"BDAT 5 LAST"), Err("500 5.3.3 Unrecognized command"));
        for line in [&b"NOOP\r"[..], b"NOOP \0", b"NOOP \t", b"NOOP \xff"] {
            assert_eq!(split(line), Err(NOT_TEXT), "{line:?}");
        }
    }

    #[test]
    fn mail_keeps_its_parameters_as_written() {
        let argument = "from:<a@b.example> SIZE=12 BODY=8bitmime SMTPUTF8 RET=HDRS ENVID=Q+2B1";
        let read = mail(Some(argument), LIMIT).unwrap();
        assert_eq!(read.reverse_path, "a@b.example");
        assert_eq!(
            read.parameters,
            ["SIZE=12", "BODY=8bitmime", "SMTPUTF8", "RET=HDRS", "ENVID=Q+2B1"]
        );
        assert!(read.smtputf8);
    }

    #[test]
    fn faulty_mail_arguments_are_refused() {
        for (argument, reply) in [
            ("", INVALID_ARGUMENTS),
            ("<a@b.example>", INVALID_ARGUMENTS),
            ("TO:<a@b.example>", INVALID_ARGUMENTS),
            ("FROM: <a@b.example>", INVALID_SENDER),
            ("FROM:a@b.example", INVALID_SENDER),
            ("FROM:<>", INVALID_SENDER),
            ("FROM:<root>", INVALID_SENDER),
            ("FROM:<@relay.example:a@b.example>", INVALID_SENDER),
            ("FROM:<a@b.example>SIZE=1", INVALID_ARGUMENTS),
            ("FROM:<a@b.example>  SIZE=1", UNRECOGNIZED_PARAMETER),
            ("FROM:<a@b.example> ", UNRECOGNIZED_PARAMETER),
            ("FROM:<a@b.example> SIZE=1 SIZE=1", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> SIZE=", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> SIZE=-1", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> SIZE=1001", TOO_LARGE),
            ("FROM:<a@b.example> SIZE=99999999999999999999", TOO_LARGE),
            ("FROM:<a@b.example> BODY=BINARYMIME", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> SMTPUTF8=YES", UNRECOGNIZED_PARAMETER),
            ("FROM:<a@b.example> RET=ALL", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> ENVID=a+2b", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> ENVID=a=b", INVALID_ARGUMENTS),
            ("FROM:<a@b.example> AUTH=<>", UNRECOGNIZED_PARAMETER),
            ("FROM:<a@b.example> NOTIFY=NEVER", UNRECOGNIZED_PARAMETER),
            ("FROM:<ä@b.example>", NON_ASCII_SENDER),
        ] {
            assert_eq!(mail(Some(argument), LIMIT).err(), Some(reply), "{argument}");
        }
    }

    #[test]
    fn faulty_rcpt_arguments_are_refused() {
        for (argument, reply) in [
            ("TO:<>", INVALID_RECIPIENT),
            ("TO: <a@b.example>", INVALID_RECIPIENT),
            ("FROM:<a@b.example>", INVALID_ARGUMENTS),
            ("TO:<a@b.example> SIZE=1", UNRECOGNIZED_PARAMETER),
            ("TO:<a@b.example> NOTIFY=NEVER,SUCCESS", INVALID_ARGUMENTS),
            ("TO:<a@b.example> NOTIFY=DELAY,DELAY", INVALID_ARGUMENTS),
            ("TO:<a@b.example> ORCPT=a@b.example", INVALID_ARGUMENTS),
            ("TO:<a@b.example> ORCPT=utf-8;ä@b.example", INVALID_ARGUMENTS),
            ("TO:<ä@b.example>", NON_ASCII_RECIPIENT),
        ] {
            assert_eq!(rcpt(Some(argument), false).err(), Some(reply), "{argument}");
        }
        for argument in [
            "TO:<a@b.example> NOTIFY=success,FAILURE,DELAY ORCPT=rfc822;a+2Bx@b.example",
            "TO:<a@b.example> NOTIFY=NEVER",
        ] {
            assert!(rcpt(Some(argument), false).is_ok(), "{argument}");
        }
        assert!(rcpt(Some("TO:<ä@b.example> ORCPT=utf-8;ä@b.example"), true).is_ok());
    }

    #[test]
    fn client_names_are_host_names_or_literals() {
        for name in ["relay.example.com", "localhost.localdomain", "host-1", "[192.0.2.7]"] {
            assert!(is_client_name(name), "{name}");
        }
        for name in ["", "my_host", "a..b", "host.", "-a", "a b", "192.0.2.7]", "höst.example"] {
            assert!(!is_client_name(name), "{name}");
        }
    }
}
