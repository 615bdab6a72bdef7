//! The committer: messages of 4 KiB, each durable before its writer goes on, by one writer and by
//! many at a time. The queue is below the build directory, and so on a disk rather than in memory.

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use o365_relay::{
    clock::{Clock, UnixMillis},
    smtp::{
        envelope::{Envelope, MailParameters, RcptParameters, Recipient},
        path::{ForwardPath, ReversePath},
    },
    store::{Arrival, Config, Router, Store, Synced},
};

const OCTETS: usize = 4 * 1024;

struct OneLane;

impl Router for OneLane {
    fn lane(&self, _: &ReversePath) -> String {
        "relay@contoso.com".into()
    }

    fn knows(&self, _: &str) -> bool {
        true
    }
}

async fn accept(store: Store, body: Arc<Vec<u8>>) {
    let mut draft = store.draft();
    draft.append(&body).await.expect("room");
    let forward_path = ForwardPath("somebody@example.net".parse().expect("an address"));
    let envelope = Envelope {
        reverse_path: ReversePath::Address("app@contoso.com".parse().expect("an address")),
        parameters: MailParameters::default(),
        recipients: vec![Recipient { forward_path, parameters: RcptParameters::default() }],
    };
    let arrival = Arrival {
        envelope,
        time: UnixMillis(1_795_415_050_000),
        client: "127.0.0.1".into(),
        hello: "printer".into(),
        message_id: "<1@x>".into(),
    };
    store.accept(draft, arrival).await.expect("a receipt");
}

fn committer(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let config = Config {
        directory: directory.path().join("queue"),
        min_free_bytes: 0,
        max_messages: u64::MAX,
        history_keep: Duration::from_secs(3600),
    };
    let store = Store::open(config, Clock::system(), Arc::new(Synced), Arc::new(OneLane));
    let store = store.expect("a store");
    let body = Arc::new(b"x".repeat(OCTETS));
    let mut group = criterion.benchmark_group("committer");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for writers in [1, 16, 64] {
        group.throughput(Throughput::Elements(writers));
        group.bench_function(format!("{writers} at a time"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let all: Vec<_> = (0..writers)
                        .map(|_| tokio::spawn(accept(store.clone(), Arc::clone(&body))))
                        .collect();
                    for one in all {
                        one.await.expect("no panic");
                    }
                });
            });
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

criterion_group!(benches, committer);
criterion_main!(benches);
