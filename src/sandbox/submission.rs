//! The submission service: SMTP with STARTTLS, driven over a socket.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::{
    accept,
    certificates::Acceptors,
    session::{MAIL_DATA, Session, Step},
    tenant::Tenant,
    wire::{Line, Wire},
};
use crate::drain::Drain;

/// Serves `listener` until the drain begins.
pub(super) async fn serve(
    listener: TcpListener,
    acceptors: Acceptors,
    tenant: Arc<Tenant>,
    drain: Drain,
) {
    accept(&listener, &drain, |socket, peer| {
        let session = Session::new(Arc::clone(&tenant), peer);
        let acceptors = acceptors.clone();
        async move {
            if let Err(error) = connection(socket, acceptors, session).await {
                tracing::debug!(%peer, %error, "sandbox submission: connection lost");
            }
        }
    })
    .await;
}

async fn connection(
    socket: TcpStream,
    acceptors: Acceptors,
    mut session: Session,
) -> io::Result<()> {
    let mut wire = Wire::new(socket);
    let first = session.greet();
    match converse(&mut wire, &mut session, first).await? {
        End::Upgrade => {}
        End::Drop => return Ok(()),
        End::Close => {
            drop(session);
            wire.close().await;
            return Ok(());
        }
    }
    let fault = session.handshake_fault();
    let handshake = acceptors.pick(fault.as_ref()).accept(wire.into_stream());
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await? {
        Ok(stream) => stream,
        Err(error) => {
            session.note("STARTTLS", format!("TLS handshake failed: {error}"));
            return Err(error);
        }
    };
    session.secure();
    let mut wire = Wire::new(stream);
    if converse(&mut wire, &mut session, Step::Command).await? == End::Drop {
        return Ok(());
    }
    drop(session); // another connection may have its place
    wire.close().await;
    Ok(())
}

/// Why a conversation ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Close,
    Upgrade,
    /// As if a cable had been pulled.
    Drop,
}

/// Talks until one side wants to close or to begin TLS.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    session: &mut Session,
    first: Step,
) -> io::Result<End> {
    let mut line = Vec::with_capacity(256);
    let mut step = first;
    loop {
        step = match step {
            Step::Command | Step::AuthResponse(_) => {
                let limit = if step == Step::Command { command_limit } else { response_limit };
                match wire.read_line(&mut line, limit, &mut session.replies).await? {
                    Line::Whole => take(step, &line, wire.has_input(), session),
                    Line::TooLong => {
                        session.refuse("overlong line", "500 5.5.2 Command too long");
                        Step::Command
                    }
                    Line::BareLineFeed => {
                        let reply = "500 5.5.2 Command line does not end in CRLF";
                        session.refuse("bare line feed", reply);
                        Step::Close
                    }
                    Line::Closed => Step::Close,
                }
            }
            Step::MailData => {
                let mut data = session.new_message();
                let read = wire.read_mail_data(&mut data, &mut session.replies).await;
                if !matches!(read, Ok(true)) {
                    session.note(MAIL_DATA, "connection closed before the final dot".into());
                    return Ok(End::Close);
                }
                session.message(data).await
            }
            Step::BreakOff => {
                wire.wait_for_input(&mut session.replies).await?;
                session.note(MAIL_DATA, "connection dropped before the final dot".into());
                return Ok(End::Drop);
            }
            Step::Drop => return Ok(End::Drop),
            Step::Upgrade => {
                wire.send(&mut session.replies).await?;
                return Ok(End::Upgrade);
            }
            Step::Close => {
                wire.send(&mut session.replies).await?;
                return Ok(End::Close);
            }
        };
    }
}

/// Executes one line. `more` says that the client has already sent what comes after it.
fn take(step: Step, line: &[u8], more: bool, session: &mut Session) -> Step {
    let before = session.replies.len();
    let next = match step {
        Step::AuthResponse(mechanism) => session.auth_response(mechanism, line),
        _ => session.command(line),
    };
    let stage = match next {
        Step::Upgrade => "STARTTLS",
        Step::AuthResponse(_) => "AUTH",
        Step::MailData | Step::BreakOff => "DATA",
        Step::Command | Step::Close | Step::Drop => return next,
    };
    if !more {
        return next;
    }
    // RFC 3207 section 4, RFC 4954 section 4, RFC 2920 section 3.1: what comes next depends on
    // the reply. A client that has sent it already did not wait, or somebody injected it.
    session.replies.truncate(before);
    session.refuse(stage, "503 5.5.0 Input sent before the reply that it depends on");
    Step::Close
}

/// Octets that a command may have with its CRLF. One that carries an AUTH response may be as
/// long as that: Office 365 takes tokens inline.
fn command_limit(line: &[u8]) -> usize {
    let auth = line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "));
    if auth { MAX_AUTH_RESPONSE } else { MAX_COMMAND }
}

fn response_limit(_line: &[u8]) -> usize {
    MAX_AUTH_RESPONSE
}

const MAX_COMMAND: usize = 2_048;
const MAX_AUTH_RESPONSE: usize = 12_288; // RFC 4954 section 4
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
