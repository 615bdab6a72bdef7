//! A queue that would go with the container: the relay refuses it, the doctor says so beforehand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use o365_relay::{
    clock::Clock,
    daemon::{Daemon, StartError},
    doctor::{
        self, Patient, examine,
        report::{Check, Colour},
    },
};

use self::support::relay::Place;

const MOUNTS: &str = "600 500 0:50 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n\
                      601 600 0:60 / /proc rw - proc proc rw\n";

/// A place where the queue is in a container's layer, but for what is mounted at `{queue}`.
async fn container(mount: &str) -> Place {
    let place = Place::with(o365_relay::sandbox::Config::default()).await;
    let root = place.directory.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("proc/self")).unwrap();
    fs::write(root.join(".dockerenv"), "").unwrap();
    let mount = mount.replace("{queue}", &root.join("queue").display().to_string());
    fs::write(root.join("proc/self/mountinfo"), format!("{MOUNTS}{mount}")).unwrap();
    if !mount.is_empty() {
        fs::create_dir(root.join("queue")).unwrap();
    }
    place
}

async fn start(place: &Place) -> Result<Daemon, StartError> {
    let mut config = place.config();
    config.surroundings.root = place.directory.path().to_path_buf();
    Daemon::start(config, Clock::system()).await
}

/// What the doctor says of the queue's ground.
async fn ground(place: &Place) -> Option<Check> {
    let patient = Patient {
        sources: place.sources(),
        from: None,
        send_to: None,
        daemon: doctor::Daemon::Silent("nobody there".into()),
        root: place.directory.path().to_path_buf(),
        let_in: None,
    };
    let report = examine(&patient, Clock::system()).await;
    report.checks.into_iter().find(|check| check.finding.starts_with("lies in"))
}

#[tokio::test]
async fn a_queue_in_the_containers_layer_is_refused_with_what_to_mount() {
    let mut place = container("").await;
    place.set("queue.ephemeral=false");
    let queue = place.directory.path().join("queue");
    let error = start(&place).await.map(drop).unwrap_err();
    assert!(matches!(error, StartError::Ground { .. }), "{error}");
    let told = error.to_string();
    let volume = format!("-v o365-relay-queue:{}", queue.display());
    let wanted =
        ["own layer", &volume, "persistentVolumeClaim", "direct", "queue.ephemeral = true"];
    for part in wanted {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!queue.exists(), "a refusal leaves nothing behind");

    let check = ground(&place).await.unwrap();
    assert_eq!((check.id, check.colour), ("queue", Colour::Red), "{check:?}");
    assert!(check.finding.contains("own layer"), "{check:?}");
    assert!(check.cure.join(" ").contains(&volume), "{check:?}");
}

#[tokio::test]
async fn whoever_says_that_mail_may_be_lost_is_let_in_and_still_told() {
    let mut place = container("").await;
    place.set("queue.ephemeral=true");
    start(&place).await.unwrap().drain().await;
    let check = ground(&place).await.unwrap();
    assert_eq!(check.colour, Colour::Amber, "{check:?}");
    assert!(check.finding.contains("queue.ephemeral allows it"), "{check:?}");
}

#[tokio::test]
async fn direct_mode_needs_no_volume() {
    let mut place = container("").await;
    place.set("queue.ephemeral=false");
    place.set("queue.mode=direct");
    start(&place).await.unwrap().drain().await;
    assert_eq!(ground(&place).await, None);
}

#[tokio::test]
async fn a_volume_with_a_name_is_taken_and_one_of_the_pod_is_told() {
    let named = "602 600 8:1 /var/lib/docker/volumes/mail/_data {queue} rw - ext4 /dev/sda1 rw\n";
    let mut place = container(named).await;
    place.set("queue.ephemeral=false");
    start(&place).await.unwrap().drain().await;
    assert_eq!(ground(&place).await, None);

    let of_pod = "602 600 8:1 /var/lib/kubelet/pods/0aa/volumes/kubernetes.io~empty-dir/queue \
                  {queue} rw - ext4 /dev/sda1 rw\n";
    let mut place = container(of_pod).await;
    place.set("queue.ephemeral=false");
    start(&place).await.unwrap().drain().await;
    let check = ground(&place).await.unwrap();
    assert_eq!(check.colour, Colour::Amber, "{check:?}");
    assert!(check.cure.join(" ").contains("persistentVolumeClaim"), "{check:?}");
}

#[test]
fn the_alerts_for_the_operator_are_those_of_the_rules() {
    let read = |file: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file);
        fs::read_to_string(path).unwrap()
    };
    let (rules, resource) = (read("prometheus/rules.yml"), read("kubernetes/prometheus-rule.yaml"));
    let (_, rules) = rules.split_once("\ngroups:\n").unwrap();
    let (_, spec) = resource.split_once("\nspec:\n  groups:\n").unwrap();
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("  {line}") };
    let wanted: Vec<_> = rules.lines().map(indented).filter(|line| !line.is_empty()).collect();
    let found: Vec<_> = spec.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(found, wanted, "write it anew: its first lines say how");
}
