//! What upstream says: whatever it is, it is read or refused, can be written down and read back,
//! and is judged; before MAIL no judgement hurts a message. The same octets pasted into
//! `o365-relay explain` are explained, in text that may stand on a terminal.

#![no_main]

use libfuzzer_sys::fuzz_target;
use o365_relay::{
    delivery::{judge::judge, trouble::Stage},
    office365::{
        entra::Ids,
        explain::{explain, find},
        replies::{Names, Scope},
    },
    smtp::reply::Reply,
};
use o365_relay_fuzz::is_one_printable_line;

const STAGES: [Stage; 12] = [
    Stage::Connect,
    Stage::Greeting,
    Stage::Ehlo,
    Stage::StartTls,
    Stage::Tls,
    Stage::Auth,
    Stage::Reset,
    Stage::Mail,
    Stage::Rcpt,
    Stage::Data,
    Stage::MailData,
    Stage::EndOfData,
];

fuzz_target!(|octets: &[u8]| {
    check_explanation(&String::from_utf8_lossy(octets));
    let Some(reply) = Reply::parse(octets) else { return };
    assert!(reply.to_string().bytes().all(|octet| (b' '..=b'~').contains(&octet)));
    assert!(is_one_printable_line(&reply.text()));
    let mut wire = Vec::new();
    reply.write_to(&mut wire);
    assert_eq!(Reply::parse(&wire).as_ref(), Some(&reply), "read back");
    for stage in STAGES {
        let judgement = judge(stage, &reply);
        assert!(!stage.is_before_mail() || judgement.scope.pauses(), "{stage:?} {judgement:?}");
        if stage != Stage::Rcpt && judgement.row.is_none() {
            assert_ne!(judgement.scope, Scope::Recipient, "{stage:?} {judgement:?}");
        }
    }
});

fn check_explanation(text: &str) {
    let ids = Ids { tenant: "contoso.onmicrosoft.com", client_id: "58d827e0", app: None };
    let names = Names { mailbox: "relay@contoso.com", sender: "<sender>", object_id: None };
    for finding in find(text) {
        for explanation in explain(&finding, &ids, &names) {
            assert!(is_one_printable_line(&explanation.subject), "{explanation:?}");
            assert!(!explanation.meaning.is_empty() && !explanation.cure.is_empty());
        }
    }
}
