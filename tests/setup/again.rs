//! `setup` run again: what it knows of its credential by then, and what it takes back.

use super::*;

/// This many days from now, as the portal shows a day.
fn in_days(days: i64) -> String {
    let now = o365_relay::clock::Clock::system().now();
    let then = o365_relay::clock::UnixMillis(now.0 + days * 86_400_000);
    then.rfc3339()[..10].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_secret_is_told_to_the_relay_which_warns_of_it() {
    let place = Place::auto().await;
    let told = place.plain(&["--credential", "secret", "--days", "20"]).await;
    told.succeeds(&["mail can go"]);
    let end = in_days(20);
    let line = format!("\nclient_secret_expires = {end}\n");
    assert!(place.read("config.toml").contains(&line), "{}", place.read("config.toml"));
    // The doctor, which looks at the end of a run, has it from there.
    assert!(told.out.contains("client_secret_expires) ends in "), "{told:#?}");

    // A record of before this was written learns it from Graph.
    let record = place.read("config.setup.json");
    let older: String = record.lines().filter(|line| !line.contains(&end)).collect();
    fs::write(place.path("config.setup.json"), older).unwrap();
    place.setup(&["--verify"]).await.succeeds(&["mail can go"]);
    assert_eq!(place.read("config.setup.json"), record);
}

#[test]
fn whoever_makes_a_secret_by_hand_is_told_to_write_its_end_down() {
    let mut command = o365_relay(["setup", "--print-only", "--tenant", "contoso.com"]);
    command.args(["--mailbox", MAILBOX, "--credential", "secret"]);
    tell(&mut command)
        .succeeds(&["note the day on which it Expires", "\nclient_secret_expires = "]);
}

/// A pair that somebody has made and put into place.
pub fn put_a_pair(place: &Place, days: u16) {
    let pair = o365_relay::sandbox::ClientCertificate::new(days).unwrap();
    fs::write(place.path("certificate.pem"), pair.certificate_pem()).unwrap();
    fs::write(place.path("private_key.pem"), pair.private_key_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_takes_back_every_credential_that_setup_uploaded() {
    let place = Place::auto().await;
    place.plain(&[]).await.succeeds(&["mail can go"]);
    put_a_pair(&place, 700);
    let told = place.setup(&["--verify"]).await;
    told.succeeds(&["certificate.pem uploaded", "mail can go"]);
    assert!(place.sandbox.directory()[0].ends_with("(2 certificates, 0 secrets)"));
    let told = place.setup(&["--undo"]).await;
    told.succeeds(&["All that setup made here and in Entra ID is gone"]);
    assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));

    // A secret whose file was lost is made anew, beside the old one.
    place.plain(&["--credential", "secret"]).await.succeeds(&["mail can go"]);
    fs::remove_file(place.path("client_secret")).unwrap();
    place.setup(&["--verify"]).await.succeeds(&["client secret made"]);
    place.setup(&["--undo"]).await.succeeds(&["Entra ID is gone"]);
    assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_into_the_application_keeps_it_and_that_is_said() {
    for credential in ["certificate", "secret"] {
        let place = Place::auto().await;
        place.plain(&["--credential", credential]).await.succeeds(&["mail can go"]);
        let secret = place.sandbox.add_secret_in_portal("rotated by hand").unwrap();
        let told = place.setup(&["--undo"]).await;
        assert_eq!(told.code, Some(75), "{told:#?}");
        assert!(!told.out.contains("is gone."), "{told:#?}");
        let last = told.err.lines().last().unwrap();
        for part in [
            "stays",
            "secret \"rotated by hand\"",
            "Certificates & secrets",
            "setup --undo` again",
            "config.setup.json",
        ] {
            assert!(last.contains(part), "no {part:?} in {told:#?}");
        }
        assert_eq!(place.names(), ["config.setup.json"]);
        let directory = place.sandbox.directory();
        assert!(directory[0].ends_with("(0 certificates, 1 secrets)"), "{directory:?}");

        // As long as it is there, nothing else happens; when it has gone, all of it goes.
        let again = place.setup(&["--undo"]).await;
        assert_eq!((again.code, place.sandbox.directory()), (Some(75), directory));
        place.sandbox.remove_secret_in_portal(&secret);
        place.setup(&["--undo"]).await.succeeds(&["Entra ID is gone"]);
        assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_goes_on_with_an_application_that_undo_had_to_leave() {
    let place = Place::auto().await;
    place.plain(&[]).await.succeeds(&["mail can go"]);
    place.sandbox.add_secret_in_portal("rotated by hand").unwrap();
    assert_eq!(place.setup(&["--undo"]).await.code, Some(75));
    place.setup(&[]).await.succeeds(&["certificate.pem uploaded", "mail can go"]);
    let directory = place.sandbox.directory();
    assert!(directory[0].ends_with("(1 certificates, 1 secrets)"), "{directory:?}");
}

const OTHER: &str = "other@sandbox.example";
const FIRST: [&str; 4] = ["--send-as", "erp@sandbox.example", "--send-as", "crm@sandbox.example"];
const SECOND: [&str; 4] = ["--mailbox", OTHER, "--send-as", "erp@sandbox.example"];

/// Two set-ups, the second for another mailbox and with fewer senders.
async fn changed_place(path: &str, second_script: bool) -> (Place, String) {
    let mailboxes = vec![MAILBOX.to_owned(), OTHER.to_owned()];
    let place = Place::with(Config { mailboxes, ..Config::default() }).await;
    place.plain(&[&["--path", path][..], &FIRST].concat()).await;
    place.run_script();
    let told = place.setup(&SECOND).await;
    if second_script {
        place.run_script();
        place.run_script(); // it can be run again
    }
    (place, told.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_wanted_any_more_is_revoked_by_the_next_script() {
    for path in ["applications", "classic"] {
        let (place, out) = changed_place(path, true).await;
        for part in ["relay@sandbox.example", "crm@sandbox.example", "the script takes"] {
            assert!(out.contains(part), "{path}: {out}");
        }
        assert_eq!(place.cure_as(OTHER).await, None, "{path}");
        assert!(place.cure_as(MAILBOX).await.is_some(), "{path}: {:?}", place.sandbox.directory());
        let rights = place.sandbox.directory().join("\n");
        assert!(rights.contains("sends as erp@"), "{path}: {rights}");
        assert!(!rights.contains("sends as crm@"), "{path}: {rights}");
        // Who is wanted again gets it back.
        place.setup(&[&["--mailbox", MAILBOX][..], &FIRST].concat()).await;
        place.run_script();
        assert_eq!(place.cure_as(MAILBOX).await, None, "{path}");
        assert!(place.cure_as(OTHER).await.is_some(), "{path}");
        assert!(place.sandbox.directory().join("\n").contains("sends as crm@"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_takes_back_what_was_ever_granted() {
    for path in ["applications", "classic"] {
        for second_script in [false, true] {
            let (place, _) = changed_place(path, second_script).await;
            place.undo_all().await;
            assert_eq!(place.sandbox.directory(), [""; 0], "{path} {second_script}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_group_of_theirs_is_left_to_them() {
    let place = Place::auto().await;
    place.plain(&["--group", "theirs"]).await.succeeds(&["mail can go"]);
    place.setup(&["--mailbox", OTHER]).await;
    let script = place.read("config.exchange.ps1");
    let line = format!("\n# Remove-DistributionGroupMember -Identity 'theirs' -Member '{MAILBOX}'");
    assert!(script.contains(&line), "{script}");
}
