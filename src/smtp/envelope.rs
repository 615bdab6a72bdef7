//! The envelope: who gets the mail and who hears of its failure (RFC 5321 section 2.3.1), with
//! the parameters that travel with it (RFC 1870, 3461, 6152, 6531).

use super::path::{ForwardPath, ReversePath};

/// What BODY declared (RFC 6152).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// Nothing, or `7BIT`.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// How much of the message a notice returns: RET (RFC 3461 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header section.
    Headers,
}

impl Ret {
    /// The parameter's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// The parameters of MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailParameters {
    /// SIZE: what the client says the mail data will measure, in octets (RFC 1870).
    pub size: Option<u64>,
    /// BODY.
    pub body: Body,
    /// SMTPUTF8: header fields or addresses hold UTF-8.
    pub smtputf8: bool,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, as xtext (RFC 3461 section 4.4).
    pub envid: Option<String>,
}

/// The parameters of RCPT, as they were sent; they go upstream unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RcptParameters {
    /// NOTIFY: `NEVER` or a list of `SUCCESS`, `FAILURE`, `DELAY` (RFC 3461 section 4.1).
    pub notify: Option<String>,
    /// ORCPT: address type and xtext (RFC 3461 section 4.2).
    pub orcpt: Option<String>,
}

/// One forward-path and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Who gets the message.
    pub forward_path: ForwardPath,
    /// What was asked for this recipient.
    pub parameters: RcptParameters,
}

/// A complete envelope: it has at least one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where notices go.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// Who gets the message.
    pub recipients: Vec<Recipient>,
}
