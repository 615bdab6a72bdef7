//! Facts of several engines, made up after what each of them leaves, and what follows from them.

use super::*;

const HEX: &str = "4f1c0ab7d2e94c6b8a50f3e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5";

/// A place with the directory of a queue, and a root of facts beside it.
struct Facts {
    place: tempfile::TempDir,
    mounts: Vec<String>,
    surroundings: Surroundings,
}

impl Facts {
    /// The root mount, by what of which file system it is.
    fn new(source_root: &str, kind: &str, options: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("queue")).unwrap();
        fs::create_dir_all(place.path().join("root/proc/self")).unwrap();
        fs::create_dir_all(place.path().join("root/run")).unwrap();
        let root = place.path().join("root");
        let surroundings = Surroundings { root, container: None, kubernetes: false };
        let mounts =
            vec![format!("600 500 0:50 {source_root} / rw,relatime - {kind} none {options}")];
        Self { place, mounts, surroundings }
    }

    fn overlay(options: &str) -> Self {
        Self::new("/", "overlay", options)
    }

    fn docker() -> Self {
        let options = "rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B";
        Self::overlay(options).file(".dockerenv", "")
    }

    fn containerd() -> Self {
        let store = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let facts = Self::overlay(&format!("rw,lowerdir={store}/7/fs,upperdir={store}/9/fs"));
        facts.with_mount("/var/lib/kubelet/pods/0aa/etc-hosts", "/etc/hosts", "ext4")
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.surroundings.root.join(name), text).unwrap();
        self
    }

    fn with_mount(mut self, source_root: &str, point: &str, kind: &str) -> Self {
        self.mounts.push(format!(
            "601 600 8:1 {source_root} {point} rw,noatime master:1 - {kind} /dev/sda1 rw"
        ));
        self
    }

    /// Something mounted at the queue.
    fn with_queue(self, source_root: &str, kind: &str) -> Self {
        let queue = self.place.path().join("queue").canonicalize().unwrap();
        let point = queue.display().to_string();
        self.with_mount(source_root, &point, kind)
    }

    fn ground(self) -> Ground {
        let queue = self.place.path().join("queue");
        self.ground_of(&queue)
    }

    fn ground_of(mut self, directory: &Path) -> Ground {
        self.mounts.push("602 600 0:60 / /proc rw - proc proc rw".into());
        fs::write(
            self.surroundings.root.join("proc/self/mountinfo"),
            self.mounts.join("\n") + "\n",
        )
        .unwrap();
        Ground::of(directory, &self.surroundings)
    }
}

#[test]
fn the_root_of_a_container_is_its_own_layer_whatever_told_that_it_is_one() {
    let plain = || Facts::overlay("rw,lowerdir=/lower,upperdir=/upper");
    assert_eq!(plain().ground(), Ground::Overlay);
    assert_eq!(Facts::docker().ground(), Ground::Layer);
    assert_eq!(Facts::containerd().ground(), Ground::Layer);
    assert_eq!(plain().file("run/.containerenv", "").ground(), Ground::Layer);
    let store = "/home/u/.local/share/containers/storage/overlay/l";
    assert_eq!(Facts::overlay(&format!("rw,lowerdir={store}/A")).ground(), Ground::Layer);

    let mut podman = plain();
    podman.surroundings.container = Some("podman".into());
    assert_eq!(podman.ground(), Ground::Layer);
    let mut pod = plain();
    pod.surroundings.kubernetes = true;
    assert_eq!(pod.ground(), Ground::Layer);

    for group in [
        format!("9:memory:/docker/{HEX}\n0::/\n"),
        format!("0::/system.slice/docker-{HEX}.scope\n"),
        format!("0::/user.slice/user-1000.slice/libpod-{HEX}.scope/container\n"),
        format!("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-{HEX}.scope\n"),
        format!("11:cpu,cpuacct:/kubepods/besteffort/pod0aa/{HEX}\n"),
    ] {
        assert_eq!(plain().file("proc/self/cgroup", &group).ground(), Ground::Layer, "{group}");
    }
    for group in ["0::/\n", "0::/system.slice/docker.service\n", "0::/system.slice/crond.service\n"]
    {
        assert_eq!(plain().file("proc/self/cgroup", group).ground(), Ground::Overlay, "{group}");
    }
}

#[test]
fn a_layer_need_not_be_an_overlay() {
    let vfs = format!("/var/lib/docker/vfs/dir/{HEX}");
    for (source_root, kind) in [
        (vfs.as_str(), "ext4"),
        ("/@/var/lib/docker/btrfs/subvolumes/1f", "btrfs"),
        ("/rootfs", "xfs"),
        ("/", "zfs"),
        ("/", "fuse.fuse-overlayfs"),
        ("/", "virtiofs"),
    ] {
        let facts = || Facts::new(source_root, kind, "rw");
        assert_eq!(facts().file(".dockerenv", "").ground(), Ground::Layer, "{kind}");
        assert!(!facts().ground().goes_with_container(), "{kind} on a host");
    }
}

#[test]
fn what_is_a_whole_system_has_a_disk_of_its_own() {
    // A virtual machine that was made of an image still has the traces of one.
    assert_eq!(Facts::new("/", "ext4", "rw").file(".dockerenv", "").ground(), Ground::Lasting);
    for kind in ["lxc", "systemd-nspawn", "wsl"] {
        let mut facts = Facts::new("/var/lib/machines/mail", "btrfs", "rw");
        facts.surroundings.container = Some(kind.into());
        assert_eq!(facts.ground(), Ground::Lasting, "{kind}");
    }
    assert_eq!(Facts::new("/@rootfs", "btrfs", "rw").ground(), Ground::Lasting);
}

#[test]
fn a_volume_with_a_name_lasts_and_one_without_goes_with_the_container() {
    let named = "/var/lib/docker/volumes/o365-relay-queue/_data";
    assert_eq!(Facts::docker().with_queue(named, "ext4").ground(), Ground::Lasting);
    assert_eq!(Facts::docker().with_queue("/srv/queue", "xfs").ground(), Ground::Lasting);
    // A disk of its own, and what is shared from another host.
    assert_eq!(Facts::containerd().with_queue("/", "ext4").ground(), Ground::Lasting);
    assert_eq!(Facts::containerd().with_queue("/", "nfs4").ground(), Ground::Lasting);

    let nameless = format!("/var/lib/docker/volumes/{HEX}/_data");
    assert_eq!(Facts::docker().with_queue(&nameless, "ext4").ground(), Ground::Nameless);
    let podman = format!("/home/u/.local/share/containers/storage/volumes/{HEX}/_data");
    let facts = Facts::overlay("rw").file("run/.containerenv", "");
    assert_eq!(facts.with_queue(&podman, "ext4").ground(), Ground::Nameless);
    // What containerd makes for a VOLUME of the image that the pod does not mount.
    let image = format!("/var/lib/containerd/io.containerd.grpc.v1.cri/containers/{HEX}/volumes/1");
    assert_eq!(Facts::containerd().with_queue(&image, "ext4").ground(), Ground::Layer);
    for gone in [Ground::Layer, Ground::Nameless, Ground::ContainerMemory] {
        assert!(gone.goes_with_container() && gone.meaning().is_some(), "{gone:?}");
    }
}

#[test]
fn what_outlives_the_container_but_not_the_pod_is_told_and_not_refused() {
    let empty = "/var/lib/kubelet/pods/0aa/volumes/kubernetes.io~empty-dir/queue";
    for (facts, ground) in [
        (Facts::containerd().with_queue(empty, "ext4"), Ground::Pod),
        (Facts::containerd().with_queue("/", "tmpfs"), Ground::PodMemory),
        (Facts::new("/", "ext4", "rw").with_queue("/", "tmpfs"), Ground::Memory),
    ] {
        let found = facts.ground();
        assert_eq!(found, ground);
        assert!(!found.goes_with_container() && found.meaning().is_some(), "{found:?}");
    }
    // Docker's tmpfs does not even outlive a stop.
    assert_eq!(Facts::docker().with_queue("/", "tmpfs").ground(), Ground::ContainerMemory);
}

#[test]
fn the_mount_on_top_counts_and_a_name_that_only_begins_alike_does_not() {
    let twice = Facts::docker().with_queue("/", "ext4").with_queue("/", "tmpfs");
    assert_eq!(twice.ground(), Ground::ContainerMemory);
    let facts = Facts::docker();
    let beside = format!("{}/que", facts.place.path().canonicalize().unwrap().display());
    assert_eq!(facts.with_mount("/", &beside, "ext4").ground(), Ground::Layer);
}

#[test]
fn a_directory_that_is_not_there_yet_lies_where_it_would_be_made_and_links_are_followed() {
    let facts = Facts::docker().with_queue("/", "ext4");
    let inside = facts.place.path().join("queue/new/er");
    assert_eq!(facts.ground_of(&inside), Ground::Lasting);

    let facts = Facts::docker().with_queue("/", "ext4");
    let link = facts.place.path().join("link");
    std::os::unix::fs::symlink(facts.place.path().join("queue"), &link).unwrap();
    assert_eq!(facts.ground_of(&link), Ground::Lasting);
}

#[test]
fn a_blank_in_the_name_of_a_mount_is_read() {
    assert_eq!(unescaped(r"/mnt/mail\040queue\134x"), r"/mnt/mail queue\x");
    assert_eq!(unescaped(r"/ä\04"), r"/ä\04");
}

#[test]
fn without_a_list_of_mounts_nothing_is_refused_on_a_plain_disk() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("no-facts");
    let surroundings = Surroundings { root, container: None, kubernetes: false };
    assert!(!Ground::of(place.path(), &surroundings).goes_with_container());
}
