//! Parts that the tests of this layer are made of: one mailbox, nobody upstream, an open store.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    LaneConfig, NoticeConfig, OnUncertain, Pace, SenderConfig, Upstream,
    shared::{Account, Context, LaneState, SharedGate},
    slots::Slots,
};
use crate::{
    clock::{Clock, UnixMillis},
    delivery::{self, NullSender, smarthost::Smarthost},
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
    store::{self, Arrival, Router, Store, Synced},
    tls,
    token::{AccessToken, TokenHandle},
};

pub(super) const START: UnixMillis = UnixMillis(1_795_415_050_000);
pub(super) const MAILBOX: &str = "relay@contoso.com";

struct OneLane;

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        MAILBOX.into()
    }

    fn knows(&self, _: &str) -> bool {
        true
    }
}

/// With a token that is over, so that whoever needs one waits.
pub(super) fn account(clock: Clock) -> Arc<Account> {
    let smarthost = Smarthost::new(delivery::Config {
        host: "localhost".into(),
        port: 1,
        ehlo_name: "relay.contoso.com".into(),
        null_sender: NullSender::Mailbox,
        max_messages_per_connection: 1,
        idle_close: Duration::from_secs(1),
        tls: tls::client_config(None).unwrap(),
    });
    let token = TokenHandle::fixed(AccessToken::new("t".into(), START, START));
    let upstream = Upstream { name: String::new(), token, smarthost };
    let gate = Arc::new(SharedGate::new("all", clock));
    Arc::new(Account::new(upstream, gate, Slots::new(1), clock))
}

pub(super) fn lane_state(clock: Clock) -> Arc<LaneState> {
    let config = LaneConfig {
        account: 0,
        mailbox: MAILBOX.into(),
        max_connections: 1,
        pace: Pace::Unlimited,
        recipients_per_day: None,
    };
    Arc::new(LaneState::new(config, &SenderConfig::default(), clock))
}

/// Gives up at once.
pub(super) fn context(directory: &Path, clock: Clock) -> Arc<Context> {
    let config = store::Config {
        directory: directory.join("queue"),
        min_free_bytes: 0,
        max_messages: 10,
        history_keep: Duration::ZERO,
    };
    Arc::new(Context {
        account: account(clock),
        running: Arc::default(),
        store: Store::open(config, clock, Arc::new(Synced), Arc::new(OneLane)).unwrap(),
        give_up_after: Duration::ZERO,
        on_uncertain: OnUncertain::Retry,
        notices: NoticeConfig { hostname: String::new(), to: Vec::new(), delay_after: None },
    })
}

/// Of one message with one recipient.
pub(super) fn arrival() -> Arrival {
    let recipient = Recipient {
        forward_path: ForwardPath("c@d.example".parse().unwrap()),
        parameters: RcptParameters::default(),
    };
    Arrival {
        envelope: Envelope {
            reverse_path: ReversePath::Address("a@b.example".parse().unwrap()),
            parameters: MailParameters::default(),
            recipients: vec![recipient],
        },
        time: START,
        client: String::new(),
        hello: String::new(),
        message_id: String::new(),
    }
}
