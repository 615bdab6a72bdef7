//! Command lines: what each means, or that it is refused.

use o365_relay::smtp::{
    command::{self, Command, CommandRules},
    envelope::{self, Ret},
};
use smtp_proto::{
    Error, MAIL_BODY_8BITMIME, MAIL_RET_FULL, MAIL_RET_HDRS, MAIL_SMTPUTF8, RCPT_NOTIFY_DELAY,
    RCPT_NOTIFY_FAILURE, RCPT_NOTIFY_NEVER, RCPT_NOTIFY_SUCCESS, Request,
};

use super::{Known, pick, sort_into};

const CASES: usize = 60_000;
const SEED: u64 = 2;

#[derive(Debug)]
struct Case {
    line: Line,
    ours: Reading,
    theirs: Reading,
}

/// What a command line says, in words that both sides have.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    Refused,
    /// The line is not taken for complete.
    Waits,
    /// A verb and its argument where that matters.
    Plain(&'static str, String),
    Mail {
        path: String,
        size: u64,
        eight_bit: bool,
        smtputf8: bool,
        ret: &'static str,
        envid: String,
    },
    Rcpt {
        path: String,
        notify: Vec<&'static str>,
        orcpt: String,
    },
}

/// A command line, and what it was made from.
#[derive(Debug, Default)]
struct Line {
    text: String,
    /// `FROM:` or `TO:` in its various forms; none for the other verbs.
    keyword: &'static str,
    path: &'static str,
    parameters: Vec<&'static str>,
    /// A parameter stands right behind the path or another one.
    glued: bool,
}

impl Case {
    fn ours_refuses(&self) -> bool {
        self.ours == Reading::Refused
    }

    fn theirs_refuses(&self) -> bool {
        self.theirs == Reading::Refused
    }

    fn verb(&self) -> String {
        self.line.text.split([' ', '\t']).next().unwrap_or_default().to_ascii_uppercase()
    }

    fn has(&self, parameter: impl Fn(&str) -> bool) -> bool {
        self.line.parameters.iter().any(|one| parameter(one))
    }

    fn has_one_of(&self, parameters: &[&str]) -> bool {
        self.has(|one| parameters.contains(&one))
    }

    fn path_is_one_of(&self, paths: &[&str]) -> bool {
        paths.contains(&self.line.path)
    }

    fn paths(&self) -> Option<(&str, &str)> {
        match (&self.ours, &self.theirs) {
            (Reading::Mail { path: ours, .. }, Reading::Mail { path: theirs, .. })
            | (Reading::Rcpt { path: ours, .. }, Reading::Rcpt { path: theirs, .. }) => {
                Some((ours, theirs))
            }
            _ => None,
        }
    }
}

/// Liberal where a device is known to send it, strict where nobody does.
const ROWS: &[Known<Case>] = &[
    // Other verbs.
    Known {
        reason: "we refuse an argument of DATA, RSET and QUIT: RFC 5321 has none",
        applies: |case| {
            case.ours_refuses() && ["DATA", "RSET", "QUIT"].contains(&case.verb().as_str())
        },
    },
    Known {
        reason: "we take HELO and EHLO without a name, as some devices send them",
        applies: |case| case.theirs_refuses() && ["HELO", "EHLO"].contains(&case.verb().as_str()),
    },
    Known {
        reason: "we answer VRFY without an argument like any other: we tell nobody anyhow",
        applies: |case| case.theirs_refuses() && case.verb() == "VRFY",
    },
    Known {
        reason: "we keep a name with a blank in it whole; it is for the trace field only",
        applies: |case| case.line.text.ends_with("a b") && case.line.keyword.is_empty(),
    },
    // The path.
    Known {
        reason: "smtp-proto waits for more behind `MAIL FROM` and `RCPT TO`, and would eat the \
                 next line; we refuse",
        applies: |case| case.ours_refuses() && case.theirs == Reading::Waits,
    },
    Known {
        reason: "we refuse a blank before the colon: no device is known to send it",
        applies: |case| case.ours_refuses() && case.line.keyword.ends_with(" :"),
    },
    Known {
        reason: "we refuse text glued to the path or a parameter to its neighbour",
        applies: |case| case.ours_refuses() && case.line.glued,
    },
    Known {
        reason: "we take an address without brackets, and nothing at all for the null \
                 reverse-path: devices send both",
        applies: |case| case.theirs_refuses() && !case.line.path.starts_with('<'),
    },
    Known {
        reason: "we take blanks within the brackets",
        applies: |case| case.theirs_refuses() && case.line.text.contains(" >"),
    },
    Known {
        reason: "we take dots wherever they stand in a local part: such mailboxes are in use",
        applies: |case| {
            case.theirs_refuses() && case.path_is_one_of(&["<a..b@c.example>", "<.a@c.example>"])
        },
    },
    Known {
        reason: "we take an address literal",
        applies: |case| case.theirs_refuses() && case.path_is_one_of(&["<a@[192.0.2.1]>"]),
    },
    Known {
        reason: "we take an empty quoted local part, as RFC 5321's grammar does",
        applies: |case| case.theirs_refuses() && case.path_is_one_of(&["<\"\"@b.example>"]),
    },
    Known {
        reason: "we leave quotes where they stand: without them another address goes upstream, \
                 or a parameter",
        applies: |case| {
            case.paths().is_some_and(|(ours, theirs)| ours.contains('"') && ours != theirs)
        },
    },
    Known {
        reason: "we take a final dot off the domain",
        applies: |case| case.paths().is_some_and(|(ours, theirs)| format!("{ours}.") == theirs),
    },
    Known {
        reason: "we refuse `RCPT TO:<>`; smtp-proto cannot tell it from <Postmaster>",
        applies: |case| case.ours_refuses() && case.verb() == "RCPT" && case.line.path == "<>",
    },
    Known {
        reason: "we complete <Postmaster> with the default domain or refuse it",
        applies: |case| case.ours_refuses() && case.path_is_one_of(&["<Postmaster>"]),
    },
    Known {
        reason: "we refuse what is no domain, with an empty label or a character of no host name",
        applies: |case| case.ours_refuses() && case.path_is_one_of(&["<a@>", "<a@b!c.example>"]),
    },
    Known {
        reason: "we refuse UTF-8 in an address where MAIL does not declare SMTPUTF8 (RFC 6531)",
        applies: |case| {
            case.ours_refuses()
                && case.verb() == "MAIL"
                && !case.line.path.is_ascii()
                && !case.line.text.to_ascii_uppercase().contains("SMTPUTF8")
        },
    },
    // Parameters.
    Known {
        reason: "we refuse extensions that we do not offer",
        applies: |case| {
            case.ours_refuses()
                && (case.has_one_of(&["BODY=BINARYMIME", "REQUIRETLS", "CONNEG"])
                    || case.has(|one| {
                        ["HOLDFOR", "AUTH=", "MT-PRIORITY", "BY=", "RRVS="]
                            .iter()
                            .any(|known| one.starts_with(known))
                    }))
        },
    },
    Known {
        reason: "we refuse NOTIFY=NEVER beside other words (RFC 3461 section 4.1)",
        applies: |case| case.ours_refuses() && case.has_one_of(&["NOTIFY=NEVER,DELAY"]),
    },
    Known {
        reason: "we refuse `=` within a value; it is xtext's to write it as +3D",
        applies: |case| case.ours_refuses() && case.has_one_of(&["ENVID=a=b"]),
    },
    Known {
        reason: "we refuse a keyword that stands twice",
        applies: |case| {
            let keyword = |one: &str| one.split('=').next().map(str::to_ascii_uppercase);
            let mut keywords: Vec<_> =
                case.line.parameters.iter().map(|one| keyword(one)).collect();
            keywords.sort();
            case.ours_refuses() && keywords.windows(2).any(|pair| pair[0] == pair[1])
        },
    },
    Known {
        reason: "we pass ORCPT of any address type, as it was sent: it is for upstream to read",
        applies: |case| case.theirs_refuses() && case.has(|one| one.starts_with("ORCPT=")),
    },
];

#[test]
fn commands_are_read_alike_but_for_the_known_differences() {
    let mut dice = fastrand::Rng::with_seed(SEED);
    let mut differing = Vec::new();
    for _ in 0..CASES {
        let line = line(&mut dice);
        let (ours, theirs) = (ours(&line.text), theirs(&line.text));
        if ours != theirs {
            differing.push(Case { line, ours, theirs });
        }
    }
    sort_into(ROWS, &differing, CASES);
}

// --- the two sides

fn ours(line: &str) -> Reading {
    // The other side does not ask whether SMTPUTF8 was declared.
    let rules = CommandRules { default_domain: None, sender: None, smtputf8: true, auth: false };
    let Ok(command) = command::parse(line.as_bytes(), rules) else { return Reading::Refused };
    match command {
        Command::Helo(name) => Reading::Plain("HELO", name),
        Command::Ehlo(name) => Reading::Plain("EHLO", name),
        Command::Data => Reading::Plain("DATA", String::new()),
        Command::Rset => Reading::Plain("RSET", String::new()),
        Command::Noop => Reading::Plain("NOOP", String::new()),
        Command::Quit => Reading::Plain("QUIT", String::new()),
        Command::Vrfy => Reading::Plain("VRFY", String::new()),
        Command::Help => Reading::Plain("HELP", String::new()),
        // None of the lines has these verbs; the dialogues do.
        Command::Bdat(_) => Reading::Plain("BDAT", String::new()),
        Command::Auth(..) => Reading::Plain("AUTH", String::new()),
        Command::StartTls => Reading::Plain("STARTTLS", String::new()),
        Command::Mail(path, parameters) => Reading::Mail {
            path: path.to_string(),
            size: parameters.size.unwrap_or(0),
            eight_bit: parameters.body == envelope::Body::EightBitMime,
            smtputf8: parameters.smtputf8,
            ret: parameters.ret.map_or("", Ret::as_str),
            envid: from_xtext(parameters.envid.as_deref().unwrap_or_default()),
        },
        Command::Rcpt(path, parameters) => {
            let mut notify: Vec<_> =
                parameters.notify.iter().flat_map(|list| list.split(',')).map(known_word).collect();
            notify.sort_unstable();
            notify.dedup();
            let orcpt = parameters.orcpt.unwrap_or_default();
            let orcpt = orcpt.split_once(';').map_or("", |(_, address)| address);
            Reading::Rcpt { path: path.to_string(), notify, orcpt: from_xtext(orcpt) }
        }
    }
}

fn known_word(word: &str) -> &'static str {
    NOTIFY.iter().find(|(known, _)| *known == word).unwrap().0
}

const NOTIFY: &[(&str, u64)] = &[
    ("DELAY", RCPT_NOTIFY_DELAY),
    ("FAILURE", RCPT_NOTIFY_FAILURE),
    ("NEVER", RCPT_NOTIFY_NEVER),
    ("SUCCESS", RCPT_NOTIFY_SUCCESS),
];

/// RFC 3461 section 4.
fn from_xtext(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&octet, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(code)) if octet == b'+' => {
                octets.push(code);
                rest = &after[2..];
            }
            _ => {
                octets.push(octet);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

fn theirs(line: &str) -> Reading {
    let octets = format!("{line}\r\n");
    let mut input = octets.as_bytes().iter();
    let request = Request::parse(&mut input);
    let request = match request {
        Ok(request) => request,
        Err(Error::NeedsMoreData { .. }) => return Reading::Waits,
        Err(_) => return Reading::Refused,
    };
    match request {
        Request::Helo { host } => Reading::Plain("HELO", host.trim().to_owned()),
        Request::Ehlo { host } => Reading::Plain("EHLO", host.trim().to_owned()),
        Request::Data => Reading::Plain("DATA", String::new()),
        Request::Rset => Reading::Plain("RSET", String::new()),
        Request::Noop { .. } => Reading::Plain("NOOP", String::new()),
        Request::Quit => Reading::Plain("QUIT", String::new()),
        Request::Vrfy { .. } => Reading::Plain("VRFY", String::new()),
        Request::Help { .. } => Reading::Plain("HELP", String::new()),
        Request::Mail { from } => Reading::Mail {
            path: from.address.into_owned(),
            size: from.size as u64,
            eight_bit: from.flags & MAIL_BODY_8BITMIME != 0,
            smtputf8: from.flags & MAIL_SMTPUTF8 != 0,
            ret: match from.flags & (MAIL_RET_FULL | MAIL_RET_HDRS) {
                0 => "",
                MAIL_RET_FULL => "FULL",
                MAIL_RET_HDRS => "HDRS",
                _ => "both",
            },
            envid: from.env_id.unwrap_or_default().into_owned(),
        },
        Request::Rcpt { to } => Reading::Rcpt {
            path: to.address.into_owned(),
            notify: NOTIFY
                .iter()
                .filter(|(_, flag)| to.flags & flag != 0)
                .map(|(word, _)| *word)
                .collect(),
            orcpt: to.orcpt.unwrap_or_default().into_owned(),
        },
        // What we do not offer is refused whatever stands behind it.
        _ => Reading::Refused,
    }
}

// --- the lines

const VERBS: &[&str] = &[
    "HELO", "EHLO", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP", "EXPN", "LHLO", "ETRN", "FOO",
    "", "DAT", "DATAX", "XDATA",
];

const ARGUMENTS: &[&str] =
    &["", "", " ", " printer", " printer.example.com", " [192.0.2.1]", " a b", "  a", " a ", "\ta"];

const PATHS: &[&str] = &[
    "<>",
    "<a@b.example>",
    "<a.b+tag@b-c.example>",
    "<A@B.EXAMPLE>",
    "<o'hara=x/y@b.example>",
    "<@one.example:a@b.example>",
    "<@one.example,@two.example:a@b.example>",
    "<a@b>",
    "<a@[192.0.2.1]>",
    "<\"a b\"@b.example>",
    "<\"a\\\"b\"@b.example>",
    "<\"a>b\"@b.example>",
    "<root>",
    "<Postmaster>",
    "a@b.example",
    "<a@b.example",
    "a@b.example>",
    "<a b@c.example>",
    "<a@b.example,c@d.example>",
    "<a@b@c.example>",
    "<a..b@c.example>",
    "<.a@c.example>",
    "<a.@c.example>",
    "<a@b..example>",
    "<a@b.example.>",
    "<@b.example>",
    "<a@>",
    "< a@b.example >",
    "<gr\u{fc}n@b.example>",
    "<a@b\u{fc}ro.example>",
    "<a@b_c.example>",
    "<a@-b.example>",
    "<DOMAIN\\user>",
    "<<a@b.example>>",
    "<\"\"@b.example>",
    "<(c)a@b.example>",
    "<a:b@c.example>",
    "<a;b@c.example>",
    "<a@b!c.example>",
    "",
];

const FROM: &[&str] = &["FROM:", "FROM:", "FROM:", "FROM: ", "FROM :", "FROM", "TO:", "from:"];

const TO: &[&str] = &["TO:", "TO:", "TO:", "TO: ", "TO :", "TO", "FROM:", "to:"];

const MAIL_PARAMETERS: &[&str] = &[
    "SIZE=1",
    "size=1000",
    "SIZE=",
    "SIZE",
    "SIZE=x",
    "SIZE=-1",
    "SIZE=1x",
    "BODY=7BIT",
    "BODY=8BITMIME",
    "body=8bitmime",
    "BODY=BINARYMIME",
    "BODY=",
    "BODY=9BIT",
    "SMTPUTF8",
    "SMTPUTF8=1",
    "RET=FULL",
    "RET=hdrs",
    "RET=x",
    "ENVID=abc",
    "ENVID=a+2Bb",
    "ENVID=",
    "ENVID=a=b",
    "FOO",
    "FOO=1",
    "=",
    "=1",
    ">",
    "REQUIRETLS",
    "HOLDFOR=60",
    "AUTH=<>",
    "MT-PRIORITY=3",
    "BY=120;R",
    "NOTIFY=NEVER",
];

const RCPT_PARAMETERS: &[&str] = &[
    "NOTIFY=NEVER",
    "NOTIFY=SUCCESS",
    "notify=success,failure",
    "NOTIFY=DELAY,SUCCESS,FAILURE",
    "NOTIFY=NEVER,DELAY",
    "NOTIFY=DELAY,NEVER",
    "NOTIFY=",
    "NOTIFY=X",
    "NOTIFY",
    "NOTIFY=SUCCESS,",
    "NOTIFY=SUCCESS,SUCCESS",
    "ORCPT=rfc822;a@b.example",
    "ORCPT=RFC822;a+2Bb@c",
    "ORCPT=x400;abc",
    "ORCPT=rfc822",
    "ORCPT=",
    "ORCPT=rfc822;",
    "ORCPT=utf-8;a@b",
    "FOO",
    "FOO=1",
    "SIZE=1",
    "CONNEG",
    "RRVS=2014-04-03T23:01:00Z",
    "=",
];

fn line(dice: &mut fastrand::Rng) -> Line {
    let mut line = match dice.u8(0..10) {
        0 | 1 => {
            let text = format!("{}{}", pick(dice, VERBS), pick(dice, ARGUMENTS));
            Line { text, ..Line::default() }
        }
        2..6 => transaction(dice, "MAIL", FROM, MAIL_PARAMETERS),
        _ => transaction(dice, "RCPT", TO, RCPT_PARAMETERS),
    };
    if dice.u8(0..4) == 0 {
        let text = line.text.chars();
        line.text = text.map(|c| if dice.bool() { c.to_ascii_lowercase() } else { c }).collect();
    }
    line
}

fn transaction(
    dice: &mut fastrand::Rng,
    verb: &str,
    keywords: &[&'static str],
    parameters: &[&'static str],
) -> Line {
    let (keyword, path) = (pick(dice, keywords), pick(dice, PATHS));
    let mut line =
        Line { text: format!("{verb} {keyword}{path}"), keyword, path, ..Line::default() };
    for _ in 0..dice.usize(0..3) {
        let before = pick(dice, &[" ", " ", " ", " ", " ", "  ", "  ", ""]);
        let parameter = pick(dice, parameters);
        line.glued |= before.is_empty();
        line.text.push_str(before);
        line.text.push_str(parameter);
        line.parameters.push(parameter);
    }
    line.text.push_str(pick(dice, &["", "", "", " "]));
    line
}
