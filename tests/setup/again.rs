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
