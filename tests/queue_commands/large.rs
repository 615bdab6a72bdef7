//! A long queue is listed at once and in little memory.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use tokio::task::JoinSet;

use crate::fixture::{Queue, arrival, command};

const MESSAGES: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_messages_are_listed_at_once_in_little_memory() {
    let queue = Queue::new();
    let store = queue.store();
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let arrival = arrival("app@a.example", &["b@b.example"]);
            for _ in 0..MESSAGES.div_ceil(64) {
                store.accept(store.draft(), arrival.clone()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    store.close().await;
    drop(store);

    let directory = queue.path("queue");
    let list = ["queue", "list", "--json", "--directory", directory.to_str().unwrap()];
    let list = || command(&list).stdout(Stdio::piped()).spawn().unwrap();
    let peak = |id: u32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };

    // As `| head -1` does: the reader goes after the first line, and that is no failure.
    let mut child = list();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    // The child waits for us: most of the list does not fit into the pipe.
    let early = peak(child.id());
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let mut child = list();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let near_the_end = MESSAGES - 1_000;
    assert_eq!(lines.by_ref().take(near_the_end).map(Result::unwrap).count(), near_the_end);
    let late = peak(child.id());
    assert!(late < early + 4_096, "{early} kB at the begin, {late} kB near the end");
    assert!(lines.map(Result::unwrap).count() >= 1_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
