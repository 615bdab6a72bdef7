//! AUTH: the exchange after it, and who gets in.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Outcome, Session, Step};
use crate::sandbox::{
    Event,
    command::{self, Verb},
    faults::{Action, Stage, Strike},
    tenant::{Login, LoginFault},
};

/// How far which kind of login has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Mechanism {
    Xoauth2,
    LoginName,
    LoginPassword,
    /// Whatever comes, the answer is no.
    Refused,
}

impl Session {
    /// Begins an exchange.
    pub(super) fn auth(&mut self, argument: Option<&str>) -> Outcome {
        self.need_extended_greeting()?;
        if !self.secured {
            return Err("530 5.7.0 Must issue a STARTTLS command first".into());
        }
        if self.login.is_some() || self.transaction.is_some() {
            return Err("503 5.5.1 Bad sequence of commands".into());
        }
        let argument = argument.unwrap_or_default();
        let (mechanism, response) = match argument.split_once(' ') {
            Some((mechanism, response)) => (mechanism, Some(response)),
            None => (argument, None),
        };
        let mechanism = match mechanism.to_ascii_uppercase().as_str() {
            "XOAUTH2" if !self.xoauth2_hidden => Mechanism::Xoauth2,
            "LOGIN" => Mechanism::LoginName,
            "" => return Err(command::INVALID_ARGUMENTS.into()),
            _ => return Err("504 5.7.4 Unrecognized authentication type".into()),
        };
        match response {
            Some(response) => self.judge_login(mechanism, response.as_bytes()),
            None => Ok(self.challenge(mechanism)),
        }
    }

    fn challenge(&mut self, mechanism: Mechanism) -> Step {
        self.reply(match mechanism {
            Mechanism::Xoauth2 => "334 ",
            Mechanism::LoginName => "334 VXNlcm5hbWU6",
            Mechanism::LoginPassword => "334 UGFzc3dvcmQ6",
            // {"status":"401","schemes":"Bearer"}, the like of which others than Exchange send
            Mechanism::Refused => "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiQmVhcmVyIn0=",
        });
        Step::AuthResponse(mechanism)
    }

    /// Takes the line that answers a 334.
    pub fn auth_response(&mut self, mechanism: Mechanism, line: &[u8]) -> Step {
        self.judge_login(mechanism, line).unwrap_or_else(|reply| {
            self.refuse(Verb::Auth.name(), &reply);
            Step::Command
        })
    }

    fn judge_login(&mut self, mechanism: Mechanism, response: &[u8]) -> Outcome {
        match mechanism {
            // Exchange answers a cancelled exchange with the same 535.
            _ if response == b"*" => Err(UNAUTHENTICATED.into()),
            Mechanism::Refused => Err(UNAUTHENTICATED.into()),
            Mechanism::LoginName => Ok(self.challenge(Mechanism::LoginPassword)),
            Mechanism::LoginPassword => {
                Err("535 5.7.139 Authentication unsuccessful, basic authentication is disabled."
                    .into())
            }
            Mechanism::Xoauth2 => {
                let login = self.log_in(response).map_err(|(reply, reason)| {
                    tracing::info!(peer = %self.peer, %reason, "sandbox refused a login");
                    reply
                })?;
                if let Some(strike) = self.tenant.strike(Stage::Auth, &[]) {
                    return self.refuse_login(&strike, response);
                }
                let mailbox = login.mailbox().to_owned();
                self.login = Some(login);
                self.tenant.emit(Event::Authenticated { mailbox });
                self.reply("235 2.7.0 Authentication successful");
                Ok(Step::Command)
            }
        }
    }

    /// Does to a good login what the fault has it that struck.
    fn refuse_login(&mut self, strike: &Strike, response: &[u8]) -> Outcome {
        match (strike.action(), strike.refusal()) {
            (_, Some(reply)) => return Err(reply.into()),
            (Action::RefuseAfterChallenge, _) => return Ok(self.challenge(Mechanism::Refused)),
            (Action::VoidToken, _) => {
                let decoded = STANDARD.decode(response).unwrap_or_default();
                if let Some((_, token)) = split_xoauth2(&decoded) {
                    self.tenant.void(token);
                }
            }
            _ => {}
        }
        Err(UNAUTHENTICATED.into())
    }

    /// The reason for a refusal is for our log; the client learns as little as from Exchange.
    fn log_in(&self, response: &[u8]) -> Result<Login, (&'static str, String)> {
        let no = |reason: &str| (UNAUTHENTICATED, reason.to_owned());
        let decoded = STANDARD.decode(response).map_err(|_| no("the response is not base64"))?;
        let (user, token) =
            split_xoauth2(&decoded).ok_or_else(|| no("the response is not an XOAUTH2 one"))?;
        self.tenant.log_in(user, token).map_err(|fault| match fault {
            LoginFault::Mailbox => {
                no(&format!("no mailbox {user:?} in this tenant, or no right to it"))
            }
            LoginFault::Application => no("Exchange knows another Object ID than the token has"),
            LoginFault::Token(fault) => no(&format!("the access token does not count: {fault:?}")),
            LoginFault::SmtpAuth => (SMTP_AUTH_OFF, format!("SMTP AUTH is off for {user:?}")),
        })
    }
}

/// `user=` mailbox ^A `auth=Bearer ` token ^A ^A
fn split_xoauth2(response: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(response).ok()?;
    let (user, rest) = text.strip_prefix("user=")?.split_once('\u{1}')?;
    let token = rest.strip_prefix("auth=Bearer ")?.strip_suffix("\u{1}\u{1}")?;
    (!user.is_empty() && !token.contains('\u{1}')).then_some((user, token))
}

/// What Exchange says when neither tenant nor mailbox has it on.
const SMTP_AUTH_OFF: &str = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is \
                             disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled";
const UNAUTHENTICATED: &str = "535 5.7.3 Authentication unsuccessful";
