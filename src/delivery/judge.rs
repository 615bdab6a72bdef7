//! One pure function says who is hurt by a refusal. Rows for single replies stand in
//! [`crate::office365::replies`]; what no row names keeps its class, with the stage telling
//! message from recipient.

use super::trouble::Stage;
use crate::{
    office365::replies::{self, PauseRule, Row, Scope},
    smtp::reply::Reply,
};

/// Who is hurt, for how long, and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct Judgement {
    /// Who is hurt.
    pub scope: Scope,
    /// How long a pause lasts, where the scope is one that pauses.
    pub pause: PauseRule,
    /// The catalogue's row, if one fits: it has the meaning and the cure.
    pub row: Option<&'static Row>,
}

/// Judges a refusal, a reply that was not the one the stage wants.
///
/// Up to and including AUTH no message can be at fault: even a 5yz pauses and bounces nothing.
#[must_use]
pub fn judge(stage: Stage, reply: &Reply) -> Judgement {
    let row = replies::lookup(reply);
    let scope = match (stage.is_before_mail(), row) {
        (true, Some(row)) if row.scope.pauses() => row.scope,
        (true, _) if stage == Stage::Auth && reply.code().is_permanent() => Scope::Lane,
        (true, _) => Scope::Relay,
        // A recipient that is named as late as that takes the message with it.
        (false, Some(row)) if row.scope == Scope::Recipient => class(stage, reply),
        (false, Some(row)) => row.scope,
        (false, None) => class(stage, reply),
    };
    let pause = match row {
        Some(row) if row.scope == scope => row.pause,
        _ if stage == Stage::Auth && reply.code().is_permanent() => PauseRule::LOGIN,
        _ if is_about_login(reply) => PauseRule::LOGIN,
        _ => PauseRule::NETWORK,
    };
    Judgement { scope, pause, row }
}

/// RFC 4954 section 6: what these codes refuse is the login, whatever command they answer.
fn is_about_login(reply: &Reply) -> bool {
    matches!(reply.code().value(), 530 | 534 | 535 | 538)
}

fn class(stage: Stage, reply: &Reply) -> Scope {
    match reply.code().is_permanent() {
        // 503 and 500 mean that the dialogue is out of step: our fault, not the message's.
        true if matches!(reply.code().value(), 500 | 502 | 503) => Scope::Transient,
        true if is_about_login(reply) => Scope::Lane,
        true if stage == Stage::Rcpt => Scope::Recipient,
        true => Scope::Message,
        false => Scope::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(stage: Stage, line: &str) -> Scope {
        judge(stage, &Reply::parse(format!("{line}\r\n").as_bytes()).unwrap()).scope
    }

    #[test]
    fn nothing_up_to_auth_hurts_a_message() {
        for stage in [Stage::Greeting, Stage::Ehlo, Stage::StartTls, Stage::Auth, Stage::Reset] {
            for line in [
                "554 5.3.2 no",
                "421 4.3.2 busy",
                "550 5.1.1 odd",
                "552 5.3.4 odd",
                "535 5.7.3 no",
                "999",
            ] {
                if let Some(reply) = Reply::parse(format!("{line}\r\n").as_bytes()) {
                    let judgement = judge(stage, &reply);
                    assert!(judgement.scope.pauses(), "{stage:?} {line}: {judgement:?}");
                }
            }
        }
    }

    #[test]
    fn a_refused_login_pauses_the_mailbox_a_busy_server_all() {
        assert_eq!(scope(Stage::Auth, "535 5.7.3 Authentication unsuccessful"), Scope::Lane);
        assert_eq!(scope(Stage::Auth, "550 5.9.9 something new"), Scope::Lane);
        assert_eq!(scope(Stage::Auth, "454 4.7.0 Temporary authentication failure"), Scope::Relay);
        assert_eq!(scope(Stage::Auth, "504 5.7.4 Unrecognized authentication type"), Scope::Relay);
        assert_eq!(scope(Stage::Greeting, "421 4.3.2 Service not available"), Scope::Relay);
    }

    #[test]
    fn from_mail_on_unknown_replies_keep_their_class() {
        assert_eq!(scope(Stage::Rcpt, "550 5.1.10 no such user"), Scope::Recipient);
        assert_eq!(scope(Stage::Rcpt, "450 4.2.1 busy"), Scope::Transient);
        assert_eq!(scope(Stage::Mail, "550 5.9.9 no"), Scope::Message);
        assert_eq!(scope(Stage::EndOfData, "554 5.9.9 no"), Scope::Message);
        assert_eq!(
            scope(Stage::EndOfData, "451 4.7.0 Temporary server error. PRX4"),
            Scope::Transient
        );
        assert_eq!(scope(Stage::EndOfData, "421 4.4.2 Connection dropped"), Scope::Transient);
        assert_eq!(scope(Stage::Mail, "503 5.5.1 bad sequence"), Scope::Transient);
    }

    #[test]
    fn a_login_that_is_missed_as_late_as_at_a_message_fails_none() {
        for line in [
            "530 5.7.57 Client not authenticated to send mail.",
            "530 5.7.1 Client was not authenticated",
            "530 Authentication required",
            "534 5.7.9 Authentication mechanism is too weak",
            "535 5.7.8 Authentication credentials invalid",
            "538 5.7.11 Encryption required",
        ] {
            for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::EndOfData] {
                let reply = Reply::parse(format!("{line}\r\n").as_bytes()).unwrap();
                let judgement = judge(stage, &reply);
                assert!(judgement.scope.pauses(), "{stage:?} {line}: {judgement:?}");
                assert_eq!(judgement.pause, PauseRule::LOGIN, "{stage:?} {line}");
            }
        }
    }

    #[test]
    fn an_address_hurts_its_recipient_only_where_it_is_named() {
        for line in ["550 5.5.105", "501 5.1.3 Invalid address"] {
            assert_eq!(scope(Stage::Rcpt, line), Scope::Recipient, "{line}");
            assert_eq!(scope(Stage::EndOfData, line), Scope::Message, "{line}");
            assert_eq!(scope(Stage::Auth, line), Scope::Lane, "{line}");
        }
    }

    #[test]
    fn a_login_that_is_out_of_step_waits_as_a_refused_one() {
        let reply = Reply::parse(b"503 5.5.1 Bad sequence of commands\r\n").unwrap();
        let judgement = judge(Stage::Auth, &reply);
        assert_eq!((judgement.scope, judgement.pause), (Scope::Lane, PauseRule::LOGIN));
        assert_eq!(judge(Stage::Ehlo, &reply).pause, PauseRule::NETWORK);
    }

    #[test]
    fn what_high_volume_email_says_to_a_login_fails_no_message() {
        for code in ["535 5.7.142", "535 5.7.143", "535 5.7.144", "550 5.7.240", "501 5.5.126"] {
            for stage in [Stage::Auth, Stage::Mail, Stage::EndOfData] {
                assert_eq!(scope(stage, code), Scope::Lane, "{code}");
            }
        }
    }

    #[test]
    fn the_pair_that_must_not_be_mixed_up() {
        assert_eq!(
            scope(Stage::EndOfData, "554 5.2.252 SendAsDenied; a not allowed to send as b"),
            Scope::Sender
        );
        assert_eq!(
            scope(Stage::EndOfData, "550 5.2.252 Sender throttled due to continuous errors"),
            Scope::Lane
        );
    }
}
