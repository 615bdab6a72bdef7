//! The mail data codec (RFC 5321 section 4.5.2).

/// What becomes of a bare LF or a bare CR in mail data. Neither is ever a line end for framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BareLineFeed {
    /// It becomes CRLF in the stored message.
    Normalize,
    /// The message is refused with 550 5.6.11 after its end.
    Reject,
}
