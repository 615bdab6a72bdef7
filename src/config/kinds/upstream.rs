//! The kinds of values about the tenant: its ids, where it logs in, the mailbox.

use config::ValueKind;

use super::{Mismatch, Parsed, text, text_as};
use crate::config::text::{is_guid, is_host_name, is_mailbox, is_placeholder};

/// Which identity of the host is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum Identity {
    /// The one that the host itself has.
    System,
    /// The user-assigned one with this client id.
    User(String),
}

/// Through which mailbox mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum Mailbox {
    /// That of whoever sends it.
    Sender,
    /// This one.
    Of(String),
}

/// The address of a mailbox, or `sender`.
pub(in crate::config) fn mailbox(value: &ValueKind) -> Parsed<Mailbox> {
    if matches!(value, ValueKind::String(text) if text.trim() == "sender") {
        return Ok(Mailbox::Sender);
    }
    let expected = "an e-mail address such as \"relay@contoso.com\", or \"sender\"";
    text_as(value, expected, |text| is_mailbox(text).then(|| Mailbox::Of(text.to_owned())))
}

/// An `https` URL without user, query and fragment; a slash at its end is dropped.
pub(in crate::config) fn https_url(value: &ValueKind) -> Parsed<String> {
    let expected = "an https URL such as \"https://login.microsoftonline.com\"";
    text_as(value, expected, |text| {
        let url: hyper::Uri = text.parse().ok()?;
        let plain = url.scheme_str() == Some("https")
            && !url.host()?.is_empty()
            && !text.contains(['@', '?', '#']);
        plain.then(|| text.trim_end_matches('/').to_owned())
    })
}

/// As [`https_url`], or `off`.
pub(in crate::config) fn https_url_or_off(value: &ValueKind) -> Parsed<Option<String>> {
    if matches!(value, ValueKind::String(text) if text.trim() == "off") {
        return Ok(None);
    }
    https_url(value).map(Some)
}

/// One resource and `/.default`, the only form that the client credentials grant takes.
pub(in crate::config) fn scope(value: &ValueKind) -> Parsed<String> {
    let expected = "one URL that ends in `/.default`, such as \
                    \"https://outlook.office365.com/.default\"";
    text_as(value, expected, |text| {
        (text.ends_with("/.default") && !text.contains(char::is_whitespace))
            .then(|| text.to_owned())
    })
}

/// The id of an application.
pub(in crate::config) fn guid(value: &ValueKind) -> Parsed<String> {
    let expected = "the Application (client) ID of the app registration, such as \
                    \"58d827e0-c69c-401f-8deb-b1224d129dc8\"";
    text_as(value, expected, |text| {
        (is_guid(text) && !is_placeholder(text)).then(|| text.to_lowercase())
    })
}

/// A tenant: its directory id or one of its domains.
pub(in crate::config) fn tenant(value: &ValueKind) -> Parsed<String> {
    let expected = "the Directory (tenant) ID or a domain of the tenant, such as \
                    \"contoso.onmicrosoft.com\"";
    let found = text(value, expected)?;
    if ["common", "organizations", "consumers"].contains(&found.to_lowercase().as_str()) {
        return Err(Mismatch(format!(
            "found \"{found}\", which is no tenant: an application logs in to its own one; \
             expected {expected}"
        )));
    }
    text_as(value, expected, |text| {
        let domain = is_host_name(text) && text.contains('.');
        ((is_guid(text) || domain) && !is_placeholder(text)).then(|| text.to_owned())
    })
}

/// A managed identity: that of the host, or one of those that are assigned to it.
pub(in crate::config) fn identity(value: &ValueKind) -> Parsed<Identity> {
    let expected = "\"system\", or the Client ID of a user-assigned identity";
    text_as(value, expected, |text| match text {
        "system" => Some(Identity::System),
        id if is_guid(id) && !is_placeholder(id) => Some(Identity::User(id.to_lowercase())),
        _ => None,
    })
}
