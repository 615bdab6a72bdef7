//! A credential is renewed in time: the new one takes over when it works, and never earlier.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// The day a credential ends that is good for so long, as the record was told of another length:
/// as if most of the time had passed.
fn grow_old(place: &Place, days: u16) {
    let record = place.read("config.setup.json");
    let short = format!("\"days\": {days}");
    assert!(record.contains(&short), "{record}");
    fs::write(place.path("config.setup.json"), record.replace(&short, "\"days\": 730")).unwrap();
}

/// Certificates and secrets of the only application.
fn credentials(place: &Place) -> String {
    let directory = place.sandbox.directory();
    directory[0].split_once('(').unwrap().1.trim_end_matches(')').to_owned()
}

const FILES: [(&str, [&str; 2], &str); 2] = [
    ("certificate", ["certificate.pem", "private_key.pem"], "2 certificates, 0 secrets"),
    ("secret", ["client_secret", "client_secret"], "0 certificates, 2 secrets"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_renewed_when_little_time_is_left_and_when_asked() {
    for (kind, names, two) in FILES {
        let mut place = Place::auto().await;
        let told = place.plain(&["--credential", kind, "--days", "29"]).await;
        told.succeeds(&["good until ", ": 28 days left", "mail can go"]);
        place.seen();
        // What was made for so short a time is not old yet.
        place.setup(&[]).await.succeeds(&["nothing was changed", "28 days left"]);
        assert_eq!(place.seen(), [""; 0]);
        grow_old(&place, 29);
        let files = names.map(|name| place.read(name));
        fs::set_permissions(place.path(names[1]), fs::Permissions::from_mode(0o640)).unwrap();

        let told = place.setup(&[]).await;
        told.succeeds(&[
            "Sign in: ",
            "beside the old one",
            "is accepted and in place",
            "mail can go",
        ]);
        assert!(!told.out.contains("PowerShell"), "Exchange need not hear of it: {told:#?}");
        assert!(told.out.contains(": 729 days left"), "{told:#?}");
        assert_eq!(credentials(&place), two);
        for (name, old) in names.iter().zip(&files) {
            assert_ne!(place.read(name), *old, "{name}");
        }
        assert_eq!(mode(&place.path(names[1])), 0o640, "the service may read it as before");
        assert!(place.names().iter().all(|name| !name.contains("next")), "{:?}", place.names());
        place.setup(&[]).await.succeeds(&["nothing was changed", "729 days left"]);

        place
            .setup(&["--renew", "--days", "100"])
            .await
            .succeeds(&[": 99 days left", "mail can go"]);
        let undone = place.setup(&["--undo"]).await;
        undone.succeeds(&["All that setup made here and in Entra ID is gone."]);
        assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_credential_stays_in_place_until_the_new_one_is_accepted() {
    for (kind, names, two) in FILES {
        let mut place = Place::auto().await;
        place.plain(&["--credential", kind]).await.succeeds(&["mail can go"]);
        let files = names.map(|name| place.read(name));
        place.seen();
        place.fault("token-refused=disabled");
        let child = place.command(&["--renew"]).stdout(Stdio::null()).spawn();
        let mut child = child.unwrap();
        until("the new one", || place.sandbox.faults().iter().any(|one| one.struck > 1)).await;
        assert_eq!(names.map(|name| place.read(name)), files, "{kind}");
        child.kill().unwrap();
        child.wait().unwrap();
        place.sandbox.clear_faults();
        assert_eq!(names.map(|name| place.read(name)), files, "{kind}");
        assert_eq!(credentials(&place), two);
        place.seen();

        // It goes on from there, and nobody has to sign in again.
        place.setup(&[]).await.succeeds(&["is accepted and in place", "mail can go"]);
        assert_eq!(place.seen(), [""; 0]);
        assert_eq!(credentials(&place), two);
        for (name, old) in names.iter().zip(&files) {
            assert_ne!(place.read(name), *old, "{name}");
        }
    }
}

/// Wherever a renewal is killed, what is in place works, and the next run ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_was_killed_goes_on_where_it_was() {
    for (kind, _, two) in FILES {
        for request in 0..6 {
            let mut place = Place::auto().await;
            place.plain(&["--credential", kind]).await.succeeds(&["mail can go"]);
            place.seen();
            place.kill_after(request, &["--renew"]).await;
            // It may have been quicker than its death.
            let ended = place.read("config.setup.json").contains("\"earlier\"");
            assert_eq!(place.cure().await, None, "{kind} after {request}");
            if request % 2 == 1 {
                place.setup(&["--undo"]).await.succeeds(&["Entra ID is gone"]);
                assert_eq!((place.sandbox.directory(), place.names()), (vec![], vec![]));
                continue;
            }
            let arguments: &[&str] = if ended { &[] } else { &["--renew"] };
            place.setup(arguments).await.succeeds(&["mail can go"]);
            assert_eq!(credentials(&place), two, "{kind} after {request}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_somebody_put_there_is_told_and_left_to_them() {
    let mut place = Place::auto().await;
    place.plain(&[]).await.succeeds(&["mail can go"]);
    again::put_a_pair(&place, 20);
    place.seen();
    let told = place.setup(&["--days", "90"]).await;
    for part in ["is not the certificate that setup uploaded", "setup --verify", "19 days left"] {
        assert!(told.out.contains(part), "no {part:?} in {told:#?}");
    }
    assert!(told.out.contains("--days counts for a new credential"), "{told:#?}");
    assert_eq!(place.seen(), [""; 0]);
    let told = place.setup(&["--renew"]).await;
    told.fails(78, &["was not made by setup, and is not renewed by it", "docs/credentials.md"]);
    let told = place.setup(&["--verify"]).await;
    told.succeeds(&["certificate.pem uploaded", "mail can go"]);
    assert!(!told.out.contains("is not the certificate"), "{told:#?}");
}
