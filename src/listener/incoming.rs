//! One message on its way from the socket to where mail goes.

use std::pin::pin;

use tokio::time::Instant;

use super::{client::Client, outlet::not_stored, shared::Shared};
use crate::{
    mail::{
        header::{HeaderEditor, Repair},
        trace::{MAX_RECEIVED_FIELDS, Received},
    },
    smtp::{envelope::Envelope, path::ReversePath, peer::Peer, reply::Reply},
    store::{Arrival, Draft, StoreError},
    telemetry::events::MessageAccepted,
};

/// A draft being filled: our trace field, the edited header section, the body.
pub(super) struct Incoming {
    envelope: Box<Envelope>,
    client: String,
    hello: String,
    user: Option<String>,
    draft: Draft,
    /// What goes to the draft next; reused from chunk to chunk.
    edited: Vec<u8>,
    editor: HeaderEditor,
    /// The draft cannot be stored; the rest of the mail data is read and dropped.
    fault: Option<StoreError>,
    begun: Instant,
}

impl Incoming {
    /// Begins a draft with our Received field on top.
    pub fn begin(shared: &Shared, client: Client, peer: &Peer, envelope: Box<Envelope>) -> Self {
        let draft = shared.outlet.draft();
        let date = shared.clock.now().rfc5322();
        let received = Received {
            client_name: peer.hello.name(),
            client_address: client.address(),
            hostname: &shared.config.hostname,
            protocol: peer.protocol(envelope.parameters.smtputf8),
            id: draft.id(),
            date: &date,
        };
        let edited = received.field().into_bytes();
        let from = shared.config.add_from.then(|| match &envelope.reverse_path {
            ReversePath::Address(address) => address.to_string(),
            ReversePath::Null => shared.config.fallback_from.clone(),
        });
        let message_id = format!("<{}@{}>", draft.id(), shared.config.hostname);
        let editor = HeaderEditor::new(Repair { from, date, message_id });
        Self {
            envelope,
            client: client.to_string(),
            hello: peer.hello.name().to_owned(),
            user: peer.user.clone(),
            draft,
            edited,
            editor,
            fault: None,
            begun: Instant::now(),
        }
    }

    /// Takes decoded mail data.
    pub async fn push(&mut self, data: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let appended = if self.editor.is_in_body() && self.edited.is_empty() {
            self.draft.append(data).await
        } else {
            self.editor.push(data, &mut self.edited);
            let appended = self.draft.append(&self.edited).await;
            self.edited.clear();
            appended
        };
        self.fault = appended.err();
    }

    /// Hands the message over and says what the client hears. `gone` completes when the client has
    /// hung up.
    pub async fn finish(mut self, shared: &Shared, gone: impl Future<Output = ()> + Send) -> Reply {
        let facts = self.editor.finish(&mut self.edited);
        if facts.received > MAX_RECEIVED_FIELDS {
            return Reply::new(554, (5, 4, 6), "too many Received fields: the mail goes in a loop");
        }
        if let Some(fault) = self.fault {
            return not_stored(&fault).into_reply();
        }
        if let Err(fault) = self.draft.append(&self.edited).await {
            return not_stored(&fault).into_reply();
        }
        let (id, size) = (self.draft.id(), self.draft.size());
        let reverse_path = self.envelope.reverse_path.clone();
        let recipients = self.envelope.recipients.len();
        let arrival = Arrival {
            envelope: *self.envelope,
            time: shared.clock.now(),
            client: self.client.clone(),
            hello: self.hello.clone(),
            message_id: facts.message_id.clone(),
        };
        match shared.outlet.hand_over(self.draft, arrival, pin!(gone)).await {
            Err(refusal) => refusal.into_reply(),
            Ok(accepted) => {
                MessageAccepted {
                    id,
                    listener: &shared.config.name,
                    client: &self.client,
                    hello: &self.hello,
                    user: self.user.as_deref(),
                    reverse_path: &reverse_path,
                    recipients,
                    size,
                    message_id: &facts.message_id,
                    took: self.begun.elapsed(),
                }
                .emit();
                accepted.into_reply()
            }
        }
    }
}
