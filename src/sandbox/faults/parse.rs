//! Faults as text, there and back.

use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

use super::{
    Fault, Parameter,
    kind::{FaultKind, Form, fault_kinds},
};

/// Why a text is no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Not in the table.
    #[error("there is no fault {name:?}; the faults are {}", names())]
    UnknownName {
        /// What was given.
        name: String,
    },
    /// The fault takes no parameter.
    #[error("{name} takes no parameter, so {given:?} is too much")]
    NoParameter {
        /// The fault.
        name: &'static str,
        /// What was given.
        given: String,
    },
    /// The parameter is not what the fault takes.
    #[error("{name} takes {wanted}, not {given:?}")]
    WrongParameter {
        /// The fault.
        name: &'static str,
        /// What it takes.
        wanted: String,
        /// What was given.
        given: String,
    },
    /// What follows `*` or `~`.
    #[error("{given:?} is not how often: *3 for three times, ~25% for one in four, 1 to 99")]
    HowOften {
        /// What was given.
        given: String,
    },
}

fn names() -> String {
    let names: Vec<_> = fault_kinds().iter().map(FaultKind::name).collect();
    names.join(", ")
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let end = text.find(['=', '*', '~']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let kind = kind(name)?;
        let (parameter, often) = HowOften::split(rest.strip_prefix('=').unwrap_or(rest))?;
        // `throttle=` is a parameter that somebody forgot, or a variable that was empty.
        if rest.starts_with('=') == parameter.is_empty() {
            return Err(wrong(kind, parameter));
        }
        Self::new(kind, parameter, often)
    }
}

impl Fault {
    /// The fault `name` with what may stand after its name, as in `5s`, `5s*3`, `*3` or nothing.
    ///
    /// # Errors
    /// [`FaultError`] if there is no such fault, or it cannot be told what it is to do.
    pub fn named(name: &str, text: &str) -> Result<Self, FaultError> {
        let kind = kind(name)?;
        let (parameter, often) = HowOften::split(text)?;
        Self::new(kind, parameter, often)
    }

    fn new(kind: &'static FaultKind, given: &str, often: HowOften) -> Result<Self, FaultError> {
        let parameter = match given {
            "" => kind.form.default(),
            given => kind.form.read(given).ok_or_else(|| wrong(kind, given))?,
        };
        Ok(Self { kind, parameter, times: often.times, percent: often.percent })
    }

    /// The parameter as text, if there is one.
    pub(super) fn parameter_text(&self) -> Option<String> {
        self.kind.form.text(&self.parameter)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        if let Some(parameter) = self.parameter_text().filter(|_| *self != self.by_default()) {
            write!(f, "={parameter}")?;
        }
        if let Some(times) = self.times {
            write!(f, "*{times}")?;
        }
        if let Some(percent) = self.percent {
            write!(f, "~{percent}%")?;
        }
        Ok(())
    }
}

impl Fault {
    /// The same, with the parameter that it has when none is given.
    fn by_default(&self) -> Self {
        Self { parameter: self.kind.form.default(), ..self.clone() }
    }
}

impl Form {
    /// `parameter` as text, if it is one.
    pub(super) fn text(self, parameter: &Parameter) -> Option<String> {
        match (parameter, self) {
            (Parameter::Time(time), _) => {
                Some(humantime::format_duration(*time).to_string().replace(' ', ""))
            }
            (Parameter::Status(status), _) => Some(status.to_string()),
            (Parameter::Addresses(patterns), _) => Some(patterns.join(",")),
            (Parameter::Choice(at), Self::Choice(words)) => {
                words.get(*at).map(|word| (*word).to_owned())
            }
            _ => None,
        }
    }

    /// The parameter when none is given.
    pub(super) fn default(self) -> Parameter {
        match self {
            Self::Nothing => Parameter::Nothing,
            Self::Time(seconds) => Parameter::Time(Duration::from_secs(seconds)),
            Self::Status => Parameter::Status(503),
            Self::Addresses => Parameter::Addresses(vec!["*".into()]),
            Self::Choice(_) => Parameter::Choice(0),
        }
    }

    fn read(self, text: &str) -> Option<Parameter> {
        match self {
            Self::Nothing => None,
            Self::Time(_) => humantime::parse_duration(text)
                .ok()
                .filter(|time| *time <= LONGEST)
                .map(Parameter::Time),
            Self::Status => {
                let sound = text.len() == 3 && text.starts_with('5');
                text.parse().ok().filter(|_| sound).map(Parameter::Status)
            }
            Self::Addresses => {
                let patterns: Vec<String> = text.split(',').map(str::to_owned).collect();
                let sound = patterns.len() <= MOST_PATTERNS && patterns.iter().all(is_pattern);
                sound.then_some(Parameter::Addresses(patterns))
            }
            Self::Choice(words) => {
                words.iter().position(|word| *word == text).map(Parameter::Choice)
            }
        }
    }
}

/// An address, or `*@domain`, or `*`.
fn is_pattern(text: &String) -> bool {
    let plain = |text: &str| {
        !text.contains(['*', '<', '>'])
            && !text.chars().any(|c| c.is_whitespace() || c.is_control())
    };
    match text.split_once('@') {
        Some(("*", domain)) => !domain.is_empty() && plain(domain),
        Some((local, domain)) => !local.is_empty() && !domain.is_empty() && plain(text),
        None => text == "*",
    }
}

/// What `*3` and `~25%` say.
#[derive(Clone, Copy, Default)]
struct HowOften {
    times: Option<NonZeroU32>,
    percent: Option<u8>,
}

impl HowOften {
    /// Takes both from the end of `text`, since a `*` may also begin an address.
    fn split(mut text: &str) -> Result<(&str, Self), FaultError> {
        let mut often = Self::default();
        loop {
            if let (None, Some((rest, percent))) = (often.percent, split_percent(text)) {
                often.percent = Some(percent?);
                text = rest;
            } else if let (None, Some((rest, times))) = (often.times, split_times(text)) {
                often.times = Some(times?);
                text = rest;
            } else {
                return Ok((text, often));
            }
        }
    }
}

/// Takes `~25%` from the end.
fn split_percent(text: &str) -> Option<(&str, Result<u8, FaultError>)> {
    let (rest, number) = text.strip_suffix('%')?.rsplit_once('~')?;
    let chance = decimal(number).and_then(|number| u8::try_from(number).ok());
    let chance = chance.filter(|percent| (1..=99).contains(percent));
    Some((rest, chance.ok_or_else(|| how_often(&text[rest.len()..]))))
}

/// Takes `*3` from the end. Where no digit follows, the `*` belongs to an address.
fn split_times(text: &str) -> Option<(&str, Result<NonZeroU32, FaultError>)> {
    let (rest, number) = text.rsplit_once('*')?;
    if number.is_empty() || !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let times = decimal(number).and_then(NonZeroU32::new);
    Some((rest, times.ok_or_else(|| how_often(&text[rest.len()..]))))
}

fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn kind(name: &str) -> Result<&'static FaultKind, FaultError> {
    FaultKind::named(name).ok_or_else(|| FaultError::UnknownName { name: name.to_owned() })
}

fn how_often(given: &str) -> FaultError {
    FaultError::HowOften { given: given.to_owned() }
}

fn wrong(kind: &'static FaultKind, given: &str) -> FaultError {
    let (name, given) = (kind.name(), given.to_owned());
    match kind.parameter() {
        Some(wanted) => FaultError::WrongParameter { name, wanted, given },
        None => FaultError::NoParameter { name, given },
    }
}

const LONGEST: Duration = Duration::from_secs(86_400);
const MOST_PATTERNS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_as_itself() {
        for kind in fault_kinds() {
            let fault: Fault = kind.name().parse().unwrap();
            assert_eq!((fault.kind, fault.to_string().as_str()), (kind, kind.name()));
        }
    }

    #[test]
    fn text_goes_there_and_back() {
        for text in [
            "throttle*3",
            "slow-dot=20s",
            "slow-dot=1m30s*2~50%",
            "deny-sender=erp@contoso.com",
            "deny-sender=*@contoso.com",
            "deny-sender=*@contoso.com,a~b@x.example*3",
            "token-5xx=500~1%",
            "blocked=5.2.255",
            "token-429=7s*4294967295",
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault.to_string(), text);
            let (name, rest) = text.split_at(text.find(['=', '*']).unwrap());
            let again = Fault::named(name, rest.strip_prefix('=').unwrap_or(rest));
            assert_eq!(again.as_ref(), Ok(&fault), "{text}");
        }
        let other_order: Fault = "slow-dot=5s~50%*2".parse().unwrap();
        assert_eq!(other_order.to_string(), "slow-dot*2~50%");
    }

    #[test]
    fn what_is_no_fault_is_told_why() {
        for (text, part) in [
            ("", "no fault \"\"; the faults are token-wrong-certificate, "),
            ("throtle", "no fault \"throtle\""),
            ("Throttle", "no fault \"Throttle\""),
            ("throttle ", "no fault \"throttle \""),
            ("throttle=3", "throttle takes no parameter, so \"3\" is too much"),
            ("throttle=", "throttle takes no parameter"),
            ("throttle*", "throttle takes no parameter"),
            ("throttle*0", "\"*0\" is not how often"),
            ("throttle*4294967296", "is not how often"),
            ("throttle~0%", "\"~0%\" is not how often"),
            ("throttle~100%", "is not how often"),
            ("throttle~x%", "is not how often"),
            ("throttle~25", "throttle takes no parameter"),
            ("throttle*2*3", "throttle takes no parameter"),
            ("slow-dot=", "slow-dot takes a time such as 5s, not \"\""),
            ("slow-dot=5", "slow-dot takes a time such as 5s, not \"5\""),
            ("slow-dot=2d", "slow-dot takes"),
            ("token-5xx=404", "token-5xx takes a status from 500 to 599"),
            ("blocked=5.2.250", "blocked takes 5.2.252, 5.2.251, "),
            ("throttle=*3", "throttle takes no parameter"),
            ("slow-dot=*3", "slow-dot takes a time"),
            ("deny-sender*@b.example", "deny-sender takes addresses"),
            ("deny-sender=root", "deny-sender takes addresses"),
            ("deny-sender=a@b,,c@d", "deny-sender takes addresses"),
            ("deny-sender=a*@b", "deny-sender takes addresses"),
            ("deny-sender=a@b c", "deny-sender takes addresses"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
