//! What is offered to a client, and what it must do first. Both depend on the way it came.

use super::{Login, Rules};
use crate::smtp::{
    auth::MECHANISMS,
    command::CommandFault,
    peer::{Origin, Peer},
    reply::Reply,
};

/// The reply to EHLO: the extensions, each with its RFC in the module that implements it.
pub(super) fn ehlo(peer: &Peer, rules: &Rules) -> Reply {
    let mut lines = vec![
        rules.hostname.clone().into(),
        "PIPELINING".into(),
        format!("SIZE {}", rules.max_message_size).into(),
        "8BITMIME".into(),
        "SMTPUTF8".into(),
        "ENHANCEDSTATUSCODES".into(),
        "CHUNKING".into(),
        "DSN".into(),
    ];
    if starttls_refusal(peer, rules).is_none() {
        lines.push("STARTTLS".into());
    }
    if auth_refusal(peer, rules).is_none() {
        lines.push(format!("AUTH {MECHANISMS}").into());
        // Programs that are older than RFC 2554 look for this form.
        lines.push(format!("AUTH={MECHANISMS}").into());
    }
    lines.push("HELP".into());
    Reply::plain(250, lines)
}

/// The reply to HELP: the verbs that mean something now.
pub(super) fn help(peer: &Peer, rules: &Rules) -> Reply {
    let mut verbs = "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP".to_owned();
    if starttls_refusal(peer, rules).is_none() {
        verbs.push_str(" STARTTLS");
    }
    if auth_refusal(peer, rules).is_none() {
        verbs.push_str(" AUTH");
    }
    Reply::new(214, (2, 0, 0), format!("{verbs}; see RFC 5321"))
}

/// Why a client cannot log in now, if it cannot.
pub(super) fn auth_refusal(peer: &Peer, rules: &Rules) -> Option<Reply> {
    if rules.login == Login::No {
        return Some(CommandFault::NotOffered("AUTH").reply());
    }
    if peer.user.is_some() {
        return Some(Reply::new(503, (5, 5, 1), "already logged in"));
    }
    if let Some(reply) = tls_missing(peer, rules) {
        return Some(reply);
    }
    if !peer.channel.is_private() && !rules.auth_without_tls {
        let text = match rules.starttls {
            true => "a login takes encryption; send STARTTLS first",
            false => "a login takes encryption (listener.auth_without_tls)",
        };
        return Some(Reply::new(538, (5, 7, 11), text));
    }
    None
}

/// Why TLS cannot begin now, if it cannot. Over a Unix socket it would protect nothing.
pub(super) fn starttls_refusal(peer: &Peer, rules: &Rules) -> Option<Reply> {
    if peer.channel.tls {
        return Some(Reply::new(503, (5, 5, 1), "TLS is in use already"));
    }
    let offered = rules.starttls && peer.channel.origin != Origin::Socket;
    (!offered).then(|| CommandFault::NotOffered("STARTTLS").reply())
}

/// RFC 3207 section 4.
fn tls_missing(peer: &Peer, rules: &Rules) -> Option<Reply> {
    let missing = rules.tls_required && !peer.channel.tls && peer.channel.origin != Origin::Socket;
    let text = "must issue a STARTTLS command first (listener.tls_required)";
    missing.then(|| Reply::new(530, (5, 7, 0), text))
}

/// What a client must do before MAIL, if it must (RFC 4954 section 6).
pub(super) fn mail_refusal(peer: &Peer, rules: &Rules) -> Option<Reply> {
    if let Some(reply) = tls_missing(peer, rules) {
        return Some(reply);
    }
    if rules.login == Login::Required && peer.user.is_none() {
        return Some(Reply::new(530, (5, 7, 0), "log in first (listener.auth)"));
    }
    None
}
