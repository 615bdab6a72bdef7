use std::collections::BTreeMap;

use super::*;
use crate::office365::{
    clouds::Cloud,
    exchange::{self, Group},
};

fn plan(config: PathBuf) -> Plan {
    Plan {
        tenant: "contoso.onmicrosoft.com".into(),
        cloud: Cloud::Global,
        name: "o365-relay".into(),
        mailbox: "relay@contoso.com".into(),
        send_as: Vec::new(),
        path: exchange::Path::Applications(Group::Own),
        credential: CredentialKind::Certificate,
        days: 730,
        places: BTreeMap::new(),
        tls: crate::tls::client_config(None).unwrap(),
        config,
        systemd: false,
        owner: None,
        overwrite: false,
        existing_key: false,
        renew: false,
        verify: false,
        patience: Duration::ZERO,
    }
}

#[test]
fn at_no_moment_is_there_a_key_without_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan(directory.path().join("config.toml"));
    let now = Clock::system().now();
    let write = |paths: [PathBuf; 2], days| {
        let pair = KeyPair::new("o365-relay", days, now).unwrap();
        fs::write(&paths[0], pair.certificate.as_str()).unwrap();
        fs::write(&paths[1], pair.private_key.as_str()).unwrap();
    };
    write([plan.certificate(), plan.private_key()], 20);
    write([plan.next_certificate(), plan.next_private_key()], 700);
    let usable = || super::super::pair_of(&plan).examine().unwrap().days_left(now);
    let mut days = vec![usable()];
    // A run that was cut short after any of them begins with the first again.
    for until in 1..=3 {
        for (path, text) in steps(&plan).unwrap().into_iter().take(until) {
            replace(&path, &text, None).unwrap();
            days.push(usable());
        }
    }
    assert!(days.is_sorted(), "{days:?}");
    assert_eq!((days[0], days[1]), (19, 19));
    assert_eq!(*days.last().unwrap(), 699);
    let certificate = fs::read_to_string(plan.certificate()).unwrap();
    assert_eq!(certificate, fs::read_to_string(plan.next_certificate()).unwrap());
}
