//! One command line (RFC 5321 section 4.1.1) and its parameters.

use super::{
    auth::{Mechanism, Response},
    chunk::ChunkSize,
    envelope::{Body, MailParameters, RcptParameters, Ret},
    path::{Address, ForwardPath, PathFault, PathRules, ReversePath},
    path::{parse_forward_path, parse_reverse_path, split_path},
    reply::Reply,
};

/// A command that is right in itself; whether it is in order is for the session to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO with the client's name, which may be empty.
    Helo(String),
    /// EHLO with the client's name, which may be empty.
    Ehlo(String),
    /// MAIL FROM.
    Mail(ReversePath, MailParameters),
    /// RCPT TO.
    Rcpt(ForwardPath, RcptParameters),
    /// DATA.
    Data,
    /// BDAT; its octets follow.
    Bdat(ChunkSize),
    /// AUTH: the mechanism, if we know it, and the first response, if it came along.
    Auth(Option<Mechanism>, Option<Response>),
    /// STARTTLS.
    StartTls,
    /// RSET.
    Rset,
    /// NOOP, its argument ignored.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY: we do not say who exists.
    Vrfy,
    /// HELP.
    Help,
}

/// Why a command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    /// No verb that we know.
    #[error("command not recognized")]
    Unknown,
    /// A verb that we know and do not offer.
    #[error("{0} is not offered here")]
    NotOffered(&'static str),
    /// Control characters or octets that are no UTF-8.
    #[error("command line holds control characters or is not UTF-8")]
    Octets,
    /// `MAIL` without `FROM:`, `RCPT` without `TO:`.
    #[error("syntax is {0}")]
    Form(&'static str),
    /// An argument where none belongs.
    #[error("{0} takes no argument")]
    Argument(&'static str),
    /// The reverse-path.
    #[error("reverse-path: {0}")]
    ReversePath(PathFault),
    /// The forward-path.
    #[error("forward-path: {0}")]
    ForwardPath(PathFault),
    /// BDAT that is wrong; as many octets as it says, or none, follow all the same.
    #[error("syntax is BDAT length [LAST]")]
    Chunk(u64),
    /// BDAT with a length that no counter of ours holds: where its octets end cannot be told.
    #[error("BDAT length is out of range; closing connection")]
    ChunkLength,
    /// A parameter that the command does not have.
    #[error("parameter {0} is not known")]
    Parameter(String),
    /// A parameter with a wrong value, or given twice.
    #[error("parameter {0} has a wrong value or stands twice")]
    ParameterValue(String),
}

impl CommandFault {
    /// What the client hears (RFC 5321 section 4.2.4, RFC 3463).
    #[must_use]
    pub fn reply(&self) -> Reply {
        let text = self.to_string();
        match self {
            Self::Unknown => Reply::new(500, (5, 5, 1), text),
            Self::NotOffered(_) => Reply::new(502, (5, 5, 1), text),
            Self::Octets => Reply::new(500, (5, 5, 2), text),
            Self::Form(_) => Reply::new(501, (5, 5, 2), text),
            Self::Argument(_) | Self::Chunk(_) | Self::ChunkLength | Self::ParameterValue(_) => {
                Reply::new(501, (5, 5, 4), text)
            }
            Self::Parameter(_) => Reply::new(555, (5, 5, 4), text),
            Self::ReversePath(fault) => path_reply(*fault, 7, text),
            Self::ForwardPath(fault) => path_reply(*fault, 3, text),
        }
    }
}

/// `detail` is the X.1.detail for a bad address syntax: 3 for a destination, 7 for a sender.
fn path_reply(fault: PathFault, detail: u16, text: String) -> Reply {
    match fault {
        PathFault::Syntax | PathFault::Several | PathFault::TooLong => {
            Reply::new(501, (5, 1, detail), text)
        }
        PathFault::NoDomain => Reply::new(553, (5, 1, detail), text),
        PathFault::NeedsSmtpUtf8 => Reply::new(553, (5, 6, 7), text),
    }
}

/// What a command line is read against.
#[derive(Debug, Clone, Copy)]
pub struct CommandRules<'a> {
    /// Completes an address without a domain.
    pub default_domain: Option<&'a str>,
    /// The reverse-path of every message; what the client writes in its place is not even read.
    pub sender: Option<&'a Address>,
    /// The open mail transaction declared SMTPUTF8.
    pub smtputf8: bool,
    /// Clients log in here, so that MAIL may have an AUTH parameter (RFC 4954 section 5).
    pub auth: bool,
}

/// Reads one command line, without its line end. Verbs and keywords are read in any case.
///
/// # Errors
/// [`CommandFault`], which has the reply.
pub fn parse(line: &[u8], rules: CommandRules<'_>) -> Result<Command, CommandFault> {
    let line = std::str::from_utf8(line).map_err(|_| CommandFault::Octets)?;
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err(CommandFault::Octets);
    }
    let line = line.trim_end_matches([' ', '\t']);
    let (verb, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let without_argument = |command, verb| {
        if argument.is_empty() { Ok(command) } else { Err(CommandFault::Argument(verb)) }
    };
    match verb.to_ascii_uppercase().as_str() {
        "HELO" => Ok(Command::Helo(argument.trim().to_owned())),
        "EHLO" => Ok(Command::Ehlo(argument.trim().to_owned())),
        "MAIL" => parse_mail(argument, rules),
        "RCPT" => parse_rcpt(argument, rules),
        "DATA" => without_argument(Command::Data, "DATA"),
        "BDAT" => parse_bdat(argument),
        "RSET" => without_argument(Command::Rset, "RSET"),
        "QUIT" => without_argument(Command::Quit, "QUIT"),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "EXPN" => Err(CommandFault::NotOffered("EXPN")),
        "STARTTLS" => without_argument(Command::StartTls, "STARTTLS"),
        "AUTH" => parse_auth(argument),
        _ => Err(CommandFault::Unknown),
    }
}

fn parse_mail(argument: &str, rules: CommandRules<'_>) -> Result<Command, CommandFault> {
    let argument = strip_keyword(argument, "FROM:")
        .ok_or(CommandFault::Form("MAIL FROM:<address> [parameters]"))?;
    let (content, parameters) = split_path(argument).map_err(CommandFault::ReversePath)?;
    let parameters = parse_mail_parameters(parameters, rules.auth)?;
    if let Some(sender) = rules.sender {
        return Ok(Command::Mail(ReversePath::Address(sender.clone()), parameters));
    }
    let rules = PathRules { smtputf8: parameters.smtputf8, default_domain: rules.default_domain };
    let path = parse_reverse_path(content, rules).map_err(CommandFault::ReversePath)?;
    Ok(Command::Mail(path, parameters))
}

fn parse_rcpt(argument: &str, rules: CommandRules<'_>) -> Result<Command, CommandFault> {
    let argument = strip_keyword(argument, "TO:")
        .ok_or(CommandFault::Form("RCPT TO:<address> [parameters]"))?;
    let (content, parameters) = split_path(argument).map_err(CommandFault::ForwardPath)?;
    let parameters = parse_rcpt_parameters(parameters)?;
    let rules = PathRules { smtputf8: rules.smtputf8, default_domain: rules.default_domain };
    let path = parse_forward_path(content, rules).map_err(CommandFault::ForwardPath)?;
    Ok(Command::Rcpt(path, parameters))
}

/// RFC 3030 section 2. A length of nothing but digits is taken at its word, since octets follow;
/// without one, none were declared.
fn parse_bdat(argument: &str) -> Result<Command, CommandFault> {
    let mut words = argument.split([' ', '\t']).filter(|word| !word.is_empty());
    let length = words.next().unwrap_or_default();
    if length.is_empty() || !length.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(CommandFault::Chunk(0));
    }
    let octets = length.parse().map_err(|_| CommandFault::ChunkLength)?;
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Bdat(ChunkSize { octets, last: false })),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => {
            Ok(Command::Bdat(ChunkSize { octets, last: true }))
        }
        _ => Err(CommandFault::Chunk(octets)),
    }
}

/// RFC 4954 section 4. What the client sent is in no reply: it may have put a password there.
fn parse_auth(argument: &str) -> Result<Command, CommandFault> {
    let mut words = argument.split([' ', '\t']).filter(|word| !word.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => {
            Ok(Command::Auth(Mechanism::named(mechanism), initial.map(Response::new)))
        }
        _ => Err(CommandFault::Form("AUTH mechanism [initial-response]")),
    }
}

fn strip_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let argument = argument.trim_start_matches([' ', '\t']);
    let head = argument.get(..keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| &argument[keyword.len()..])
}

fn parse_mail_parameters(text: &str, auth: bool) -> Result<MailParameters, CommandFault> {
    let mut parameters = MailParameters::default();
    let mut seen = Vec::new();
    for (keyword, value) in keywords(text, &mut seen) {
        let keyword = keyword?;
        let wrong = || CommandFault::ParameterValue(keyword.clone());
        match (keyword.as_str(), value) {
            ("SIZE", Some(value)) => parameters.size = Some(parse_size(value).ok_or_else(wrong)?),
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                parameters.body = Body::EightBitMime;
            }
            ("SMTPUTF8", None) => parameters.smtputf8 = true,
            ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => {
                parameters.ret = Some(Ret::Full);
            }
            ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => {
                parameters.ret = Some(Ret::Headers);
            }
            ("ENVID", Some(value)) if is_parameter_value(value, 100) => {
                parameters.envid = Some(value.to_owned());
            }
            // Who submitted the message elsewhere: we trust nobody to say so.
            ("AUTH", Some(value)) if auth && is_parameter_value(value, 500) => {}
            ("AUTH", _) if auth => return Err(wrong()),
            ("SIZE" | "BODY" | "SMTPUTF8" | "RET" | "ENVID", _) => return Err(wrong()),
            _ => return Err(CommandFault::Parameter(keyword)),
        }
    }
    Ok(parameters)
}

/// RFC 1870 allows 20 digits; what does not fit is larger than any limit of ours.
fn parse_size(value: &str) -> Option<u64> {
    let digits =
        !value.is_empty() && value.len() <= 20 && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

fn parse_rcpt_parameters(text: &str) -> Result<RcptParameters, CommandFault> {
    let mut parameters = RcptParameters::default();
    let mut seen = Vec::new();
    for (keyword, value) in keywords(text, &mut seen) {
        let keyword = keyword?;
        match (keyword.as_str(), value) {
            ("NOTIFY", Some(value)) if is_notify(value) => {
                parameters.notify = Some(value.to_ascii_uppercase());
            }
            ("ORCPT", Some(value)) if value.contains(';') && is_parameter_value(value, 500) => {
                parameters.orcpt = Some(value.to_owned());
            }
            ("NOTIFY" | "ORCPT", _) => return Err(CommandFault::ParameterValue(keyword)),
            _ => return Err(CommandFault::Parameter(keyword)),
        }
    }
    Ok(parameters)
}

/// NEVER stands alone (RFC 3461 section 4.1).
fn is_notify(value: &str) -> bool {
    let word = |word: &str| {
        ["SUCCESS", "FAILURE", "DELAY"].iter().any(|known| word.eq_ignore_ascii_case(known))
    };
    value.eq_ignore_ascii_case("NEVER") || value.split(',').all(word)
}

/// esmtp-value: printable ASCII without `=` (which xtext writes as `+3D`).
fn is_parameter_value(value: &str, longest: usize) -> bool {
    let allowed = |b: u8| (b'!'..=b'~').contains(&b) && b != b'=';
    !value.is_empty() && value.len() <= longest && value.bytes().all(allowed)
}

/// The parameters as (keyword in upper case, value); a keyword that stands twice is a fault.
fn keywords<'a>(
    text: &'a str,
    seen: &'a mut Vec<String>,
) -> impl Iterator<Item = (Result<String, CommandFault>, Option<&'a str>)> {
    text.split([' ', '\t']).filter(|word| !word.is_empty()).map(|word| {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let keyword = keyword.to_ascii_uppercase();
        if seen.contains(&keyword) {
            return (Err(CommandFault::ParameterValue(keyword)), value);
        }
        seen.push(keyword.clone());
        (Ok(keyword), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: CommandRules<'static> =
        CommandRules { default_domain: None, sender: None, smtputf8: false, auth: false };

    fn reply_to(line: &str) -> String {
        match parse(line.as_bytes(), RULES) {
            Ok(command) => format!("{command:?}"),
            Err(fault) => {
                let text = fault.reply().to_string();
                text.split(' ').take(2).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn verbs_are_read_in_any_case_and_with_trailing_blanks() {
        assert_eq!(reply_to("data"), "Data");
        assert_eq!(reply_to("Quit  "), "Quit");
        assert_eq!(reply_to("ehlo  printer "), "Ehlo(\"printer\")");
        assert_eq!(reply_to("EHLO"), "Ehlo(\"\")");
        assert_eq!(reply_to("NOOP anything"), "Noop");
    }

    #[test]
    fn each_fault_has_its_reply() {
        for (line, reply) in [
            ("", "500 5.5.1"),
            ("FOO", "500 5.5.1"),
            ("EXPN list", "502 5.5.1"),
            ("STARTTLS x", "501 5.5.4"),
            ("DATA x", "501 5.5.4"),
            ("RSET x", "501 5.5.4"),
            ("NOOP \u{0}", "500 5.5.2"),
            ("MAIL", "501 5.5.2"),
            ("MAIL <a@b>", "501 5.5.2"),
            ("RCPT FROM:<a@b>", "501 5.5.2"),
            ("MAIL FROM:<a b@c>", "501 5.1.7"),
            ("RCPT TO:<>", "501 5.1.3"),
            ("RCPT TO:<root>", "553 5.1.3"),
            ("MAIL FROM:<root>", "553 5.1.7"),
            ("RCPT TO:<\u{fc}@b>", "553 5.6.7"),
            ("MAIL FROM:<a@b> FOO=1", "555 5.5.4"),
            ("MAIL FROM:<a@b> SIZE=x", "501 5.5.4"),
            ("MAIL FROM:<a@b> SIZE=1 SIZE=1", "501 5.5.4"),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", "501 5.5.4"),
            ("MAIL FROM:<a@b> SMTPUTF8=1", "501 5.5.4"),
            ("RCPT TO:<a@b> NOTIFY=NEVER,FAILURE", "501 5.5.4"),
            ("RCPT TO:<a@b> ORCPT=x", "501 5.5.4"),
            ("RCPT TO:<a@b> SIZE=1", "555 5.5.4"),
        ] {
            assert_eq!(reply_to(line), reply, "{line:?}");
        }
    }

    #[test]
    fn chunk_lengths_are_counted_or_refused() {
        let size = |octets, last| Ok(Command::Bdat(ChunkSize { octets, last }));
        for (line, read) in [
            ("BDAT 0", size(0, false)),
            ("bdat  17  last ", size(17, true)),
            ("BDAT 00000000000000000000000003", size(3, false)),
            ("BDAT 18446744073709551615 LAST", size(u64::MAX, true)),
            ("BDAT 18446744073709551616", Err(CommandFault::ChunkLength)),
            ("BDAT 99999999999999999999999 LAST", Err(CommandFault::ChunkLength)),
            ("BDAT 5 FIRST", Err(CommandFault::Chunk(5))),
            ("BDAT 5 LAST LAST", Err(CommandFault::Chunk(5))),
            ("BDAT", Err(CommandFault::Chunk(0))),
            ("BDAT LAST", Err(CommandFault::Chunk(0))),
            ("BDAT -1 LAST", Err(CommandFault::Chunk(0))),
            ("BDAT +1 LAST", Err(CommandFault::Chunk(0))),
            ("BDAT 0x10 LAST", Err(CommandFault::Chunk(0))),
        ] {
            assert_eq!(parse(line.as_bytes(), RULES), read, "{line:?}");
        }
    }

    #[test]
    fn octets_that_are_no_utf8_are_refused() {
        assert_eq!(parse(b"MAIL FROM:<\xff@b>", RULES), Err(CommandFault::Octets));
    }

    #[test]
    fn mail_parameters_are_read() {
        let line = b"mail from: <a@b> size=10 body=8bitmime SMTPUTF8 RET=hdrs ENVID=x+2By";
        let Ok(Command::Mail(path, parameters)) = parse(line, RULES) else { panic!() };
        assert_eq!(path.as_str(), "a@b");
        let expected = MailParameters {
            size: Some(10),
            body: Body::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("x+2By".into()),
        };
        assert_eq!(parameters, expected);
        let huge = b"MAIL FROM:<a@b> SIZE=99999999999999999999";
        let Ok(Command::Mail(_, parameters)) = parse(huge, RULES) else { panic!() };
        assert_eq!(parameters.size, Some(u64::MAX));
    }

    #[test]
    fn recipient_parameters_are_kept_as_they_were_sent() {
        let line = b"RCPT TO:<a@b> NOTIFY=success,DELAY ORCPT=rfc822;a+2B@b";
        let Ok(Command::Rcpt(_, parameters)) = parse(line, RULES) else { panic!() };
        assert_eq!(parameters.notify.as_deref(), Some("SUCCESS,DELAY"));
        assert_eq!(parameters.orcpt.as_deref(), Some("rfc822;a+2B@b"));
    }
}
