//! Logging in (RFC 4954): the mechanisms PLAIN (RFC 4616) and LOGIN, as devices speak them. What
//! they yield is a name and a password; whether the two belong together is for others to say.

use std::fmt;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::zeroize::Zeroizing;

use super::reply::Reply;

/// Longest response that we take, without its line end (RFC 4954 section 4).
pub const MAX_RESPONSE: usize = 12_288;

/// Longest user name, in octets.
pub const MAX_NAME: usize = 255;

/// The mechanisms that we offer, as EHLO lists them.
pub const MECHANISMS: &str = "PLAIN LOGIN";

/// Devices leave the padding out, or get the last bits wrong; both can be read in one way only.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Everything in one response.
    Plain,
    /// Name and password, each asked for.
    Login,
}

impl Mechanism {
    /// The mechanism of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let is = |known| name.eq_ignore_ascii_case(known);
        if is("PLAIN") { Some(Self::Plain) } else { is("LOGIN").then_some(Self::Login) }
    }
}

/// A response of the client's: it may hold a password, so it is never shown, and it is overwritten
/// when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Response(Zeroizing<String>);

impl Response {
    /// The response in these words, base64 or not.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response(..)")
    }
}

/// A name and the password that is to prove it; the password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who the client says it is.
    pub name: String,
    password: Zeroizing<Vec<u8>>,
}

impl Credentials {
    /// A name with its password. It need not be UTF-8: devices send what they were given.
    #[must_use]
    pub fn new(name: impl Into<String>, password: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), password: Zeroizing::new(password.into()) }
    }

    /// The password, for whoever compares it.
    #[must_use]
    pub fn expose_password(&self) -> &[u8] {
        &self.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The name is the client's.
    Accepted,
    /// It is not, or there is none such: nobody learns which.
    Refused,
    /// Nobody can tell now.
    Unavailable,
    /// There were too many refusals before.
    Blocked,
}

impl Verdict {
    /// What the client hears (RFC 4954 section 6).
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            Self::Accepted => Reply::new(235, (2, 7, 0), "authentication successful"),
            Self::Refused => Reply::new(535, (5, 7, 8), "user name or password is wrong"),
            Self::Unavailable => {
                Reply::new(454, (4, 7, 0), "cannot tell whether the password is right; try later")
            }
            Self::Blocked => {
                Reply::new(421, (4, 7, 0), "too many failed logins from your address; try later")
            }
        }
    }
}

/// Which response comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// That of PLAIN.
    Plain,
    /// The name in LOGIN.
    LoginName,
    /// The password in LOGIN, for this name.
    LoginPassword(String),
}

/// Where a response leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Send this reply; a line with another response comes.
    Challenge(Exchange, Reply),
    /// All is said.
    Verify(Credentials),
    /// The exchange is over, with this reply.
    Refused(Reply),
}

/// Begins an exchange, with the initial response if there is one.
#[must_use]
pub fn begin(mechanism: Mechanism, initial: Option<&Response>) -> Turn {
    let exchange = match mechanism {
        Mechanism::Plain => Exchange::Plain,
        Mechanism::Login => Exchange::LoginName,
    };
    match initial {
        None => exchange.challenge(),
        // RFC 4954 section 4: an empty initial response is written as one `=`.
        Some(response) if response.0.as_str() == "=" => exchange.take(&[]),
        Some(response) => exchange.respond(response.0.as_bytes()),
    }
}

impl Exchange {
    /// RFC 4954 section 4: the challenge is base64; that of PLAIN is empty.
    fn challenge(self) -> Turn {
        let text = match self {
            Self::Plain => "",
            Self::LoginName => "VXNlcm5hbWU6",
            Self::LoginPassword(_) => "UGFzc3dvcmQ6",
        };
        Turn::Challenge(self, Reply::plain(334, vec![text.into()]))
    }

    /// Takes a line with a response.
    #[must_use]
    pub fn respond(self, line: &[u8]) -> Turn {
        let line = line.trim_ascii();
        if line == b"*" {
            return Turn::Refused(Reply::new(501, (5, 7, 0), "authentication cancelled"));
        }
        let mut padding = line.len();
        while padding > 0 && line.get(padding - 1) == Some(&b'=') {
            padding -= 1;
        }
        match BASE64.decode(line.get(..padding).unwrap_or_default()) {
            Ok(octets) => self.take(&Zeroizing::new(octets)),
            Err(_) => malformed("response is not base64"),
        }
    }

    /// Takes a decoded response.
    fn take(self, octets: &[u8]) -> Turn {
        match self {
            Self::Plain => plain(octets),
            Self::LoginName => match name(octets) {
                Some(name) => Self::LoginPassword(name).challenge(),
                None => malformed(BAD_NAME),
            },
            Self::LoginPassword(name) => verify(name, octets),
        }
    }
}

/// RFC 4616 section 2: authorization identity, NUL, name, NUL, password. To act for somebody else
/// has no meaning here.
fn plain(octets: &[u8]) -> Turn {
    let mut parts = octets.splitn(3, |octet| *octet == 0);
    let (Some(acting), Some(own), Some(password)) = (parts.next(), parts.next(), parts.next())
    else {
        return malformed("response of PLAIN is not NUL, name, NUL, password");
    };
    let Some(name) = name(own) else { return malformed(BAD_NAME) };
    if !acting.is_empty() && acting != own {
        return Turn::Refused(Reply::new(
            535,
            (5, 7, 8),
            "authorization identity must be the user's own name, or empty",
        ));
    }
    verify(name, password)
}

fn verify(name: String, password: &[u8]) -> Turn {
    if password.is_empty() || password.contains(&0) {
        return malformed("password is empty or holds a NUL");
    }
    Turn::Verify(Credentials::new(name, password))
}

const BAD_NAME: &str = "user name is empty, too long or no printable UTF-8";

fn name(octets: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(octets).ok()?;
    let fits = !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

fn malformed(text: &'static str) -> Turn {
    Turn::Refused(Reply::new(501, (5, 5, 2), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> Response {
        Response::new(&base64::engine::general_purpose::STANDARD.encode(text))
    }

    fn plain_of(text: &str) -> Turn {
        begin(Mechanism::Plain, Some(&encode(text)))
    }

    #[track_caller]
    fn refused(turn: Turn) -> String {
        let Turn::Refused(reply) = turn else { panic!("{turn:?}") };
        reply.to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn plain_has_all_in_one_response() {
        let expected = Turn::Verify(Credentials::new("scanner", "s3cret"));
        assert_eq!(plain_of("\0scanner\0s3cret"), expected);
        assert_eq!(plain_of("scanner\0scanner\0s3cret"), expected);
        let Turn::Challenge(exchange, reply) = begin(Mechanism::Plain, None) else { panic!() };
        assert_eq!(reply.to_string(), "334 ");
        assert_eq!(exchange.respond(b"AHNjYW5uZXIAczNjcmV0"), expected);
        let bytes = Turn::Verify(Credentials::new("a", b"\xff\xfe".to_vec()));
        assert_eq!(Exchange::Plain.respond(b"AGEA//4="), bytes);
    }

    #[test]
    fn login_asks_twice_or_once() {
        let Turn::Challenge(first, reply) = begin(Mechanism::Login, None) else { panic!() };
        assert_eq!((&first, reply.text().as_str()), (&Exchange::LoginName, "VXNlcm5hbWU6"));
        for turn in
            [first.respond(b"c2Nhbm5lcg=="), begin(Mechanism::Login, Some(&encode("scanner")))]
        {
            let Turn::Challenge(second, reply) = turn else { panic!() };
            assert_eq!(reply.text(), "UGFzc3dvcmQ6");
            let expected = Turn::Verify(Credentials::new("scanner", "s3cret"));
            assert_eq!(second.respond(b"czNjcmV0"), expected);
        }
    }

    #[test]
    fn base64_is_read_as_devices_write_it() {
        let expected = Turn::Verify(Credentials::new("a", "b"));
        for line in ["AGEAYg==", "AGEAYg", "AGEAYg=", " AGEAYg== ", "AGEAYh=="] {
            assert_eq!(Exchange::Plain.respond(line.as_bytes()), expected, "{line:?}");
        }
        for line in ["AGEA Yg==", "AGEAY", "AG=EAYg", "AGEAYg-_", "%", "\0"] {
            assert_eq!(refused(Exchange::Plain.respond(line.as_bytes())), "501 5.5.2", "{line:?}");
        }
    }

    #[test]
    fn what_is_no_name_and_password_is_refused() {
        for text in ["", "a", "a\0b", "\0\0b", "\0a\0", "\0a\0b\0", "\0a\0b\0c", "\0a\nb\0c"] {
            assert_eq!(refused(plain_of(text)), "501 5.5.2", "{text:?}");
        }
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(refused(plain_of(&format!("\0{long}\0b"))), "501 5.5.2");
        assert_eq!(refused(plain_of("root\0a\0b")), "535 5.7.8");
        assert_eq!(refused(begin(Mechanism::Plain, Some(&Response::new("=")))), "501 5.5.2");
        assert_eq!(refused(begin(Mechanism::Login, Some(&Response::new("=")))), "501 5.5.2");
        assert_eq!(refused(Exchange::LoginPassword("a".into()).respond(b"")), "501 5.5.2");
        for exchange in [Exchange::Plain, Exchange::LoginName, Exchange::LoginPassword("a".into())]
        {
            assert_eq!(refused(exchange.respond(b"*")), "501 5.7.0");
        }
    }

    #[test]
    fn nothing_of_a_password_is_shown() {
        let shown = format!("{:?} {:?}", plain_of("\0scanner\0s3cret"), encode("s3cret"));
        assert_eq!(shown, "Verify(Credentials { name: \"scanner\", .. }) Response(..)");
    }
}
