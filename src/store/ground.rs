//! What a queue directory lies on: whether mail in it outlives the container, the pod, the host.
//! Looks only, at facts of the kernel and at what container engines leave behind.

use std::{
    fs, iter,
    path::{Path, PathBuf},
};

use rustix::fs::statfs;

/// What is known of where this process runs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Where the files of the host are: `/`, elsewhere in tests.
    pub root: PathBuf,
    /// The variable `container`, which says what kind of container this is.
    pub container: Option<String>,
    /// Whether the variable `KUBERNETES_SERVICE_HOST` is there.
    pub kubernetes: bool,
}

/// How long what is written somewhere stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// As long as a disk does, for all that can be seen.
    Lasting,
    /// The container's own layer: as long as the container.
    Layer,
    /// A volume that was made for this container alone: the next one gets another.
    Nameless,
    /// Memory of a container: until it stops.
    ContainerMemory,
    /// A volume of the pod (emptyDir): containers restart, the pod moves and it is gone.
    Pod,
    /// Memory of the pod (emptyDir with medium Memory).
    PodMemory,
    /// Memory of the host.
    Memory,
    /// A layer above something that is not changed, as a live system has it.
    Overlay,
}

impl Ground {
    /// What `directory` lies on, or what it would lie on if it were made.
    #[must_use]
    pub fn of(directory: &Path, surroundings: &Surroundings) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.into());
        let there = directory.ancestors().find_map(|path| fs::canonicalize(path).ok());
        let there = there.unwrap_or_else(|| PathBuf::from("/"));
        let text = surroundings.read("proc/self/mountinfo");
        let mounts: Vec<_> = text.lines().filter_map(Mount::read).collect();
        let runs = surroundings.runs(&mounts);
        match Mount::below(&mounts, &there) {
            Some(mount) => mount.ground(runs),
            // No mounts are shown where /proc is hidden: the kind of file system is left.
            None => by_kind(&there, runs),
        }
    }

    /// Whether mail is gone, or out of reach, as soon as the container is another one.
    #[must_use]
    pub fn goes_with_container(self) -> bool {
        matches!(self, Self::Layer | Self::Nameless | Self::ContainerMemory)
    }

    /// What it means for mail, to go on after "lies"; `None` where there is nothing to tell.
    #[must_use]
    pub fn meaning(self) -> Option<&'static str> {
        Some(match self {
            Self::Lasting => return None,
            Self::Layer => "in the container's own layer: accepted mail is lost with the container",
            Self::Nameless => {
                "in a volume without a name, made for this container alone: the next container \
                 begins with an empty queue, and accepted mail stays behind or is deleted"
            }
            Self::ContainerMemory => {
                "in memory (tmpfs) of the container: accepted mail is lost when it stops"
            }
            Self::Pod => {
                "in an emptyDir: accepted mail outlives a restart of the container, and is lost \
                 with the pod (eviction, rollout, drained node)"
            }
            Self::PodMemory => {
                "in memory (tmpfs) of the pod: accepted mail outlives a restart of the container, \
                 counts against its memory limit, and is lost with the pod"
            }
            Self::Memory => "in memory (tmpfs): accepted mail is lost when the host restarts",
            Self::Overlay => {
                "in an overlay: accepted mail is lost with its upper layer, on a live system when \
                 the host restarts"
            }
        })
    }
}

/// Kinds of containers that are whole systems, with disks of their own that stay.
const SYSTEMS: &[&str] = &["lxc", "lxc-libvirt", "systemd-nspawn", "wsl", "proot"];

/// Where this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    OnHost,
    InContainer,
    InPod,
}

impl Surroundings {
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    fn runs(&self, mounts: &[Mount<'_>]) -> Runs {
        let groups = self.read("proc/self/cgroup");
        // The last of a line's three fields is the path of the control group.
        let groups: Vec<_> = groups
            .lines()
            .filter_map(|line| line.splitn(3, ':').nth(2))
            .flat_map(|path| path.split('/'))
            .collect();
        // The kubelet writes one for each pod and lays it over the image's.
        let of_kubelet = |mount: &Mount<'_>| {
            mount.point == "/etc/hosts" && mount.source_root.ends_with("/etc-hosts")
        };
        let of_pod = |group: &&str| group.starts_with("kubepods");
        if self.kubernetes || groups.iter().any(of_pod) || mounts.iter().any(of_kubelet) {
            return Runs::InPod;
        }
        let of_engine = self.container.as_deref().is_some_and(|kind| !SYSTEMS.contains(&kind));
        let left = [".dockerenv", "run/.containerenv"];
        if of_engine
            || left.iter().any(|file| self.root.join(file).exists())
            || groups.iter().copied().any(is_group_of_engine)
            || mounts.iter().any(|mount| mount.point == "/" && mount.has_engines_layers())
        {
            return Runs::InContainer;
        }
        Runs::OnHost
    }
}

/// `docker.service` is the engine itself, on the host.
fn is_group_of_engine(group: &str) -> bool {
    let of_docker = || group.strip_prefix("docker-")?.strip_suffix(".scope");
    let begins = |prefix: &&str| group.starts_with(*prefix);
    group == "docker"
        || of_docker().is_some()
        || ["libpod-", "crio-", "cri-containerd-"].iter().any(begins)
}

/// A line of mountinfo (proc(5)).
#[derive(Debug)]
struct Mount<'a> {
    /// What of the file system is mounted: `/`, or one of its directories.
    source_root: String,
    point: String,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Self {
            source_root: unescaped(before.next()?),
            point: unescaped(before.next()?),
            kind: after.next()?,
            options: after.nth(1).unwrap_or_default(),
        })
    }

    /// The mount that `path` is in. Of two at the same place the later one is on top.
    fn below<'b>(mounts: &'b [Self], path: &Path) -> Option<&'b Self> {
        let holds = |mount: &&Self| path.starts_with(&mount.point);
        mounts.iter().filter(holds).max_by_key(|mount| mount.point.len())
    }

    fn ground(&self, runs: Runs) -> Ground {
        let of_container = match self.point.as_str() {
            "/" => runs == Runs::InPod || (runs == Runs::InContainer && self.is_layer()),
            // What the image calls a volume and nobody mounts is made for the container alone.
            _ => self.source_root.contains("/io.containerd.grpc.v1.cri/containers/"),
        };
        if of_container {
            return Ground::Layer;
        }
        if is_nameless(&self.source_root) {
            return Ground::Nameless;
        }
        if self.source_root.contains("/kubernetes.io~empty-dir/") {
            return Ground::Pod;
        }
        by_name(self.kind, runs)
    }

    /// A root in a container that is nothing but a layer. A virtual machine that was made of an
    /// image has its traces too, and a disk of its own: then the whole of a file system is root.
    fn is_layer(&self) -> bool {
        const LAYERS: &[&str] =
            &["overlay", "aufs", "fuse.fuse-overlayfs", "tmpfs", "virtiofs", "9p", "zfs"];
        LAYERS.contains(&self.kind) || self.source_root != "/"
    }

    /// Whether the layers are those of an engine, by where it keeps them.
    fn has_engines_layers(&self) -> bool {
        const STORES: &[&str] =
            &["/io.containerd.snapshotter.", "/docker/overlay2/", "/containers/storage/overlay"];
        self.kind == "overlay" && STORES.iter().any(|store| self.options.contains(store))
    }
}

/// Docker and Podman give a volume that nobody named 64 hexadecimal digits:
/// `.../volumes/<digits>/_data`.
fn is_nameless(source_root: &str) -> bool {
    let mut parts = source_root.rsplit('/');
    let data = parts.next() == Some("_data");
    let name = parts.next().unwrap_or_default();
    let digits = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    data && digits && parts.next() == Some("volumes")
}

fn by_name(kind: &str, runs: Runs) -> Ground {
    match (kind, runs) {
        ("tmpfs" | "ramfs" | "rootfs", Runs::InContainer) => Ground::ContainerMemory,
        ("tmpfs" | "ramfs" | "rootfs", Runs::InPod) => Ground::PodMemory,
        ("tmpfs" | "ramfs" | "rootfs", Runs::OnHost) => Ground::Memory,
        // A layer that is mounted somewhere else than at the root is somebody's intention.
        ("overlay" | "aufs", _) => Ground::Overlay,
        _ => Ground::Lasting,
    }
}

fn by_kind(path: &Path, runs: Runs) -> Ground {
    // The width of the kind differs between platforms; the numbers are small.
    let kind = statfs(path).ok().and_then(|facts| u64::try_from(facts.f_type).ok());
    match kind {
        Some(OVERLAY) if runs != Runs::OnHost => Ground::Layer,
        Some(OVERLAY) => by_name("overlay", runs),
        Some(TMPFS) => by_name("tmpfs", runs),
        _ => Ground::Lasting,
    }
}

const OVERLAY: u64 = 0x794c_7630;
const TMPFS: u64 = 0x0102_1994;

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> String {
    let mut rest = text.chars();
    iter::from_fn(|| {
        let first = rest.next()?;
        let digits: String = rest.clone().take(3).collect();
        match u8::from_str_radix(&digits, 8) {
            Ok(octet) if first == '\\' && digits.len() == 3 => {
                let _ = rest.nth(2);
                Some(char::from(octet))
            }
            _ => Some(first),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests;
