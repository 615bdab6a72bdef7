//! The queue commands as a user meets them: the binary, on queues of a stopped relay and beside a
//! running one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "queue_commands/beside_a_daemon.rs"]
mod beside_a_daemon;
#[path = "queue_commands/fixture.rs"]
mod fixture;
#[path = "queue_commands/large.rs"]
mod large;
#[path = "queue_commands/recover.rs"]
mod recover;

use o365_relay::store::Outcome;

use fixture::{Queue, arrival, defer, files, mail_data, put, put_octets, settle};

#[tokio::test]
async fn list_shows_what_waits_and_that_no_daemon_runs() {
    let queue = Queue::new();
    let store = queue.store();
    let first = put(&store, "app@a.example", &["b@b.example", "c@c.example"]).await.to_string();
    let second = put(&store, "", &["d@d.example"]).await;
    defer(&store, second, 0, "451 4.7.500 Server busy", "").await;
    let third = put(&store, "other@a.example", &["c@c.example"]).await.to_string();
    store.close().await;
    let second = second.to_string();

    queue.run(&["queue", "list", "--address", "127.0.0.1:1"]).await.ends(0).tells(&[
        "ID                  ARRIVED",
        &first,
        "<app@a.example>    <b@b.example> +1",
        "in 23h  <>",
        "    451 4.7.500 Server busy",
        "3 messages, ",
        "the daemon is not running",
    ]);
    for (filter, expected) in [
        (["--from", "app@a.example"], vec![&first]),
        (["--from", "<>"], vec![&second]),
        (["--from", "*@A.example"], vec![&first, &third]),
        (["--to", "c@c.example"], vec![&first, &third]),
        (["--id", &second.to_lowercase()], vec![&second]),
        (["--limit", "1"], vec![&first]),
        (["--older-than", "1h"], vec![]),
        (["--lane", "nobody@a.example"], vec![]),
    ] {
        let arguments = [["queue", "list"].as_slice(), &filter, &["--json"]].concat();
        let found = queue.run(&arguments).await.ends(0).json();
        let ids: Vec<_> = found.iter().map(|message| message["id"].as_str().unwrap()).collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
    let json = &queue.run(&["queue", "list", "--id", &second, "--json"]).await.json()[0];
    assert_eq!(json["reverse_path"], "");
    assert_eq!(json["recipients"][0]["last_reply"], "451 4.7.500 Server busy");
    assert_eq!(json["waits_for"][0]["kind"], "retry");
}

#[tokio::test]
async fn show_tells_the_whole_story_also_when_the_message_has_gone() {
    let queue = Queue::new();
    let store = queue.store();
    let id = put(&store, "app@a.example", &["b@b.example", "c@c.example"]).await;
    defer(&store, id, 0, "451 4.7.500 Server busy", "wait an hour").await;
    defer(&store, id, 0, "421 4.3.2 later", "").await;
    let failed = Outcome::Failed { reply: "550 5.1.1 unknown".into() };
    settle(&store, id, 1, failed, "check the address").await;
    store.close().await;
    drop(store);
    let text = id.to_string();

    let story = [
        "from 192.0.2.7",
        "<1@printer.example>",
        "deferred: 451 4.7.500 Server busy\n      do: wait an hour\n",
        "deferred: 421 4.3.2 later",
        "to <c@c.example>  failed, 1 attempt\n",
        "failed: 550 5.1.1 unknown\n      do: check the address\n",
    ];
    let ran = queue.run(&["queue", "show", &text]).await.ends(0).tells(&story);
    ran.tells(&["queued\n", "waits for\n    next attempt ", "waiting, 2 attempts, next in 23h"]);

    let store = queue.store();
    settle(&store, id, 0, Outcome::Relayed { reply: "250 2.0.0 OK <x>".into() }, "").await;
    store.close().await;
    let ran = queue.run(&["queue", "show", &text]).await.ends(0).tells(&story);
    ran.tells(&["settled\n", "to <b@b.example>  relayed, 3 attempts", "relayed: 250 2.0.0 OK <x>"]);
    let json = &queue.run(&["queue", "show", &text, "--json"]).await.json()[0];
    assert_eq!(json["state"], "settled");
    assert_eq!(json["recipients"][0]["record"].as_array().unwrap().len(), 3);

    let history = queue.run(&["history"]).await.ends(0);
    history.tells(&[
        "relayed  3",
        "failed   1",
        "<c@c.example>",
        "250 2.0.0 OK <x>",
        "2 recipients",
    ]);
    for (filter, expected) in [
        (vec!["--failed"], vec!["c@c.example"]),
        (vec!["--to", "b@*"], vec!["b@b.example"]),
        (vec!["--from", "app@a.example", "--limit", "1"], vec!["b@b.example"]),
        (vec!["--id", &text, "--since", "1h"], vec!["b@b.example", "c@c.example"]),
        (vec!["--since", "2999-01-01"], vec![]),
    ] {
        let found = queue.run(&[vec!["history", "--json"], filter.clone()].concat()).await.ends(0);
        let found = found.json();
        let to: Vec<_> = found.iter().map(|row| row["forward_path"].as_str().unwrap()).collect();
        assert_eq!(to, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn hold_release_retry_and_remove_change_what_is_due() {
    let queue = Queue::new();
    let store = queue.store();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = put(&store, "app@a.example", &["b@b.example"]).await;
        defer(&store, id, 0, "451 later", "").await;
        ids.push(id.to_string());
    }
    let large = vec![b'x'; 100_000];
    let large = put_octets(&store, &large, arrival("big@a.example", &["b@b.example"])).await;
    store.close().await;
    drop(store);
    let [first, second, third] = [&*ids[0], &*ids[1], &*ids[2]];

    queue.run(&["queue", "retry", first, second]).await.ends(0).tells(&["due now"]);
    let hold = ["queue", "hold", second, "--reason", "ask Anna"];
    queue.run(&hold).await.ends(0).tells(&[second, "held"]);
    let show = queue.run(&["queue", "show", second]).await.ends(0);
    show.tells(&["held: ask Anna", &format!("do: o365-relay queue release {second}")]);
    queue.run(&["queue", "retry", second]).await.ends(69).tells(&["queue release"]);
    let held = queue.run(&["queue", "list", "--held", "--json"]).await.json();
    assert_eq!(held.len(), 1);

    let store = queue.store();
    let due = store.due(fixture::LANE, 10).await.unwrap();
    let due: Vec<_> = due.iter().map(|entry| entry.id.to_string()).collect();
    assert_eq!(due, [&large.to_string(), first]);
    store.close().await;
    drop(store);

    let released = queue.run(&["queue", "release", "--all", "--held", "--json"]).await.ends(0);
    assert_eq!(released.json()[0]["result"], "done");
    queue.run(&["queue", "release", second]).await.ends(0).tells(&["was not held"]);

    assert_eq!(files(&queue.path("queue/bodies")), 1);
    let remove = ["queue", "remove", third, &large.to_string()];
    queue.run(&remove).await.ends(0).tells(&["removed", "may still deliver"]);
    assert_eq!(files(&queue.path("queue/bodies")), 0);
    queue.run(&["queue", "remove", third]).await.ends(66).tells(&["no such message", third]);
    queue.run(&["queue", "show", third]).await.ends(0).tells(&["removed, 1 attempt", "451 later"]);

    let all = ["queue", "remove", "--all"];
    queue.run(&all).await.ends(64).tells(&["would remove 2 messages", "--yes"]);
    assert_eq!(queue.run(&["queue", "list", "--json"]).await.json().len(), 2);
    queue.run(&["queue", "remove", "--all", "--yes"]).await.ends(0).tells(&["2 messages removed"]);
    queue.run(&["queue", "list"]).await.ends(0).tells(&["the queue is empty"]);
    let store = queue.store();
    assert_eq!(store.summary().await.unwrap().lanes, []);
}

#[tokio::test]
async fn export_gives_every_octet() {
    let queue = Queue::new();
    let store = queue.store();
    let small: Vec<u8> = (0..=255).collect();
    let large = small.repeat(2_000);
    for octets in [small, large] {
        let id = put_octets(&store, &octets, arrival("app@a.example", &["b@b.example"])).await;
        let id = id.to_string();
        let exported = queue.run(&["queue", "export", &id]).await.ends(0);
        assert!(exported.octets == octets);
        let file = queue.path(&id);
        let arguments = ["queue", "export", &id, "--output", file.to_str().unwrap()];
        queue.run(&arguments).await.ends(0);
        assert!(std::fs::read(&file).unwrap() == octets);
        queue.run(&arguments).await.ends(69).tells(&["exists"]);
        assert!(std::fs::read(&file).unwrap() == octets, "nothing is overwritten");
    }
    queue.run(&["queue", "export", "000000000000000000"]).await.ends(66);
}

#[tokio::test]
async fn export_of_a_damaged_body_gives_its_octets_and_says_so() {
    let queue = Queue::new();
    let store = queue.store();
    for octets in [vec![b'x'; 100], vec![b'x'; 100_000]] {
        let id = put_octets(&store, &octets, arrival("app@a.example", &["b@b.example"])).await;
        let mut changed = octets.clone();
        changed[50] = b'y';
        let path = queue.path(&format!("queue/bodies/{id}.eml"));
        let place = if path.exists() {
            std::fs::write(&path, &changed).unwrap();
            path.display().to_string()
        } else {
            let database = rusqlite::Connection::open(queue.path("queue/queue.db")).unwrap();
            database.execute("UPDATE body SET data = ?1", [&changed]).unwrap();
            "its row in queue.db".to_owned()
        };
        let id = id.to_string();
        let told = [&*id, &place, "are not those that were accepted"];
        let exported = queue.run(&["queue", "export", &id]).await.ends(65).tells(&told);
        assert!(exported.octets == changed);
        let file = queue.path(&id);
        let arguments = ["queue", "export", &id, "--output", file.to_str().unwrap()];
        queue.run(&arguments).await.ends(65).tells(&told);
        assert!(std::fs::read(&file).unwrap() == changed);
    }
}

/// Whoever writes to us or answers us must not reach the operator's terminal.
#[tokio::test]
async fn nothing_hostile_reaches_the_terminal() {
    const ESCAPES: &str = "451 \u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{9b}31m\u{7f}";
    let queue = Queue::new();
    let store = queue.store();
    let mut hostile = arrival("\u{202e}moc.elpmaxe@a.example", &["\"a b;$(id)\"@b.example"]);
    hostile.hello = ESCAPES.into();
    hostile.client = ESCAPES.into();
    hostile.message_id = ESCAPES.into();
    let id = put_octets(&store, &mail_data("x"), hostile.clone()).await;
    defer(&store, id, 0, ESCAPES, ESCAPES).await;
    let failed = put_octets(&store, &mail_data("x"), hostile).await;
    settle(&store, failed, 0, Outcome::Failed { reply: ESCAPES.into() }, ESCAPES).await;
    store.close().await;

    let reason = "\u{1b}[31mreason";
    let (id, failed) = (id.to_string(), failed.to_string());
    for arguments in [
        vec!["queue", "list"],
        vec!["queue", "list", "--json"],
        vec!["queue", "show", &id, &failed],
        vec!["queue", "show", &id, &failed, "--json"],
        vec!["queue", "hold", &id, "--reason", reason],
        vec!["queue", "list", "--held"],
        vec!["queue", "show", &id],
        vec!["history"],
        vec!["history", "--json"],
    ] {
        let ran = queue.run(&arguments).await.ends(0);
        assert!(!ran.out.is_empty());
        let active = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        let found = ran.out.chars().find(active);
        assert_eq!(found, None, "{arguments:?}\n{:?}", ran.out);
    }
    let json = &queue.run(&["history", "--json"]).await.json()[0];
    assert_eq!(json["reply"], ESCAPES, "a program gets what was said");
}

#[tokio::test]
async fn mistakes_are_told_and_nothing_is_made() {
    let queue = Queue::new();
    for arguments in [
        ["queue", "list"].as_slice(),
        &["queue", "show", "000000000000000000"],
        &["queue", "hold", "--all"],
        &["history"],
    ] {
        queue.run(arguments).await.ends(66).tells(&["there is no queue in", "queue.directory"]);
    }
    assert_eq!(files(&queue.path("")), 0);

    let store = queue.store();
    put(&store, "app@a.example", &["b@b.example"]).await;
    store.close().await;
    for (arguments, told) in [
        (["queue", "retry"].as_slice(), "name queue ids, or give --all"),
        (&["queue", "remove", "--from", "app@a.example"], "add --all"),
        (&["queue", "hold", "000000000000000000", "--held"], "filters go with --all"),
        (&["queue", "show", "../../etc/passwd"], "a queue id has 18 characters"),
        (&["queue", "list", "--older-than", "soon"], "write it like 90m"),
        (&["history", "--since", "yesterday"], "a date such as"),
    ] {
        queue.run(arguments).await.ends(64).tells(&[told]);
    }
    for action in ["show", "retry", "hold", "release", "remove"] {
        let ran = queue.run(&["queue", action, "000000000000000000"]).await.ends(66);
        ran.tells(&["no such message"]);
    }
}
