//! A fixed id for each kind of event that somebody may want to wait for (`MESSAGE_ID`, see
//! `journalctl -o verbose`). They never change; an event without one is found by its text.

/// Text of the event, its id, and what it tells.
pub const KINDS: &[(&str, &str, &str)] = &[
    ("relay started", "63064f488ea54cb9a02a57a306d795de", "the relay serves clients"),
    ("relay stopped", "96614b3cc4834640aeb126c00cca1e64", "the relay has ended in an orderly way"),
    (
        "message accepted",
        "749c2eb484ec4ee7afaca03097d213cd",
        "a message is taken and was answered with 250",
    ),
    (
        "recipient attempted",
        "26627e89a0c94a4aad577ce70e41dcc3",
        "what came of an attempt for one recipient: relayed, deferred or failed",
    ),
    (
        "delivery paused",
        "9b4f0e38c6aa4b9aac9a5710ad8d1d7c",
        "a lane, all of them or a sender waits for a fault that is not a message's",
    ),
    ("delivery resumed", "072b419d838641b1aa3983fe588753ba", "a pause is over"),
    (
        "message set aside",
        "7dcb7e6bfd384050a3c51f5a7d9d202d",
        "a message is held for an operator to look at",
    ),
    (
        "notice queued",
        "a5ab6817d63c4c49a6e05a3e37e62f35",
        "a notice of the relay's own is in the queue",
    ),
    (
        "recipients failed and nobody can be told, see the history",
        "f788694e1d964de3aabd20b903211006",
        "a message without a sender to tell, or a notice, has failed",
    ),
    ("connection refused", "0b32d5732e894fe4a0b71479a65e1a54", "a client was not let in"),
    (
        "client refused",
        "37f555bdd4c44953aedfe212d6bd0d01",
        "a client heard a reply of 400 or above",
    ),
    (
        "mail refused for the time being",
        "0291f0b82e82423ca56e32d1b2fecc65",
        "there is no room, or the queue cannot be written",
    ),
    (
        "message not stored",
        "530687f3e1a44bf0a529f322d538b726",
        "a message was refused after its data for the same reasons",
    ),
    (
        "store poisoned, no mail is taken until a restart; check the disk, then restart",
        "faad12ed11154ea0a00116cacf75292e",
        "a sync has failed",
    ),
    ("access token obtained", "1bcf7da4ea4041f0aca5f5241984cc9b", "there is a new access token"),
    ("access token refused", "daea3d8f6c294da0a8ad9b720c87ce07", "Entra ID said no"),
    (
        "access token request failed",
        "d2687b39402e4c4baaf0aa2e42f5773d",
        "the token endpoint was not reached or has a fault",
    ),
    (
        "access token request not possible",
        "a77d33fb39864e8ca41d3718931d21bb",
        "a file or a setting of this host stands in the way",
    ),
    (
        "credential expires soon",
        "2f4da1acd8eb47aaa3f414b9ba1d83f6",
        "a client secret or certificate ends within 60 days",
    ),
    (
        "fault of o365-relay itself, please report it",
        "e125c63a8bc6419d9d8d8e9f96f4812a",
        "a part of the program broke off in the midst of its work",
    ),
    ("credential has expired", "cbae4a8e1e01426daae3b267a8f2ea2b", "it has ended"),
];

/// The id of an event with this text.
pub(super) fn of(text: &str) -> Option<&'static str> {
    KINDS.iter().find(|(kind, ..)| *kind == text).map(|(_, id, _)| *id)
}
