//! What runs the relay: systemd or a container, which user, how much memory, and whether a port
//! below 1024 can be had. Facts are read from files; nothing is started.

use std::{fs, path::Path};

use super::{
    Case,
    container::Container,
    report::{Check, Report},
};
use crate::listener::Address;

const ID: &str = "service";

pub(super) fn check(case: &Case<'_>, report: &mut Report) {
    let facts = Facts::read(&case.patient.root, &case.patient.sources.environment);
    let answers = case.patient.daemon.status().is_some();
    report.extend(facts.judge(answers));
    let addresses = case.config.listeners.iter().flat_map(|listener| &listener.addresses);
    let low = addresses.filter_map(|address| match address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) | Address::Systemd(_) => None,
    });
    if let Some(port) = low.filter(|port| *port != 0 && *port < facts.first_free_port).min() {
        report.extend(facts.low_port(port, answers));
    }
}

/// What this host says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    /// The user that the doctor runs as.
    uid: u32,
    user: Option<String>,
    container: Option<Container>,
    systemd: bool,
    unit: bool,
    active: bool,
    enabled: bool,
    /// Whether systemd listens in its place from boot on.
    socket: bool,
    /// Octets that the relay may have, if there is a limit.
    memory: Option<u64>,
    /// Ports from here on need no right.
    first_free_port: u16,
    /// Whether this process may listen below.
    may_bind: bool,
}

impl Facts {
    fn read(root: &Path, environment: &std::collections::BTreeMap<String, String>) -> Self {
        let there = |name: &str| root.join(name).exists();
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let uid = rustix::process::geteuid().as_raw();
        let unit_files = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
        let wants = "etc/systemd/system/multi-user.target.wants/o365-relay.service";
        let socket = "etc/systemd/system/sockets.target.wants/o365-relay.socket";
        let group = format!("sys/fs/cgroup/system.slice/{UNIT}");
        let active = there(&group);
        let memory =
            if active { format!("{group}/memory.max") } else { "sys/fs/cgroup/memory.max".into() };
        let first = text("proc/sys/net/ipv4/ip_unprivileged_port_start");
        Self {
            uid,
            user: user_name(&text("etc/passwd"), uid),
            container: Container::around(root, environment),
            systemd: there("run/systemd/system"),
            unit: unit_files.iter().any(|folder| there(&format!("{folder}/{UNIT}"))),
            active,
            enabled: root.join(wants).is_symlink() || there(wants),
            socket: root.join(socket).is_symlink() || there(socket),
            memory: text(&memory).trim().parse().ok(),
            first_free_port: first.trim().parse().unwrap_or(1024),
            may_bind: may_bind(&text("proc/self/status")),
        }
    }

    fn judge(&self, answers: bool) -> Vec<Check> {
        let subject = "service";
        let user = match &self.user {
            Some(name) => format!("the doctor runs as {name}"),
            None => format!("the doctor runs as user {}", self.uid),
        };
        let mut checks = Vec::new();
        let place = match (self.container, self.systemd && self.unit) {
            (Some(container), _) => format!("in {}", container.as_str()),
            (None, true) => format!("systemd unit {UNIT}"),
            (None, false) => "no container, and no systemd unit of that name".into(),
        };
        if self.container.is_none() && self.systemd && self.unit {
            if !self.active && !answers {
                let check = Check::amber(ID, subject, format!("{UNIT} is not active; {user}"));
                checks.push(
                    check
                        .cure("systemctl start o365-relay")
                        .cure("systemctl status o365-relay   # why it stopped, if it did"),
                );
            }
            if !self.enabled {
                let until = match self.socket {
                    true => ", only when a client comes: mail that waits is not sent before",
                    false => "",
                };
                let finding = format!("{UNIT} does not start at boot{until}");
                let check = Check::amber(ID, subject, finding);
                checks.push(check.cure("systemctl enable o365-relay"));
            }
        }
        if let Some(memory) = self.memory.filter(|memory| *memory < LEAST_MEMORY) {
            let shown = bytesize::ByteSize::b(memory).display().iec();
            let finding = format!("its memory limit of {shown} is low: the kernel may end it");
            checks.push(Check::amber(ID, subject, finding).cure("Allow it 64 MiB or more."));
        }
        if checks.is_empty() {
            checks.push(Check::green(ID, subject, format!("{place}; {user}")));
        }
        checks
    }

    /// A relay that runs has its port; the unit brings the right to it.
    fn low_port(&self, port: u16, answers: bool) -> Option<Check> {
        if answers || self.may_bind || self.unit {
            return None;
        }
        let finding = format!(
            "user {} may not listen on port {port}: it is below {}",
            self.uid, self.first_free_port
        );
        let check = Check::red(ID, "service", finding);
        if self.container.is_some() {
            return Some(check.cure("listener.addresses = [\"127.0.0.1:2525\"]   # any above"));
        }
        Some(
            check
                .cure("Run it by its systemd unit, which has the right (CAP_NET_BIND_SERVICE), or:")
                .cure("setcap cap_net_bind_service=+ep /usr/bin/o365-relay")
                .cure("# or listen above: listener.addresses = [\"127.0.0.1:2525\"]"),
        )
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').next().map(str::to_owned)
}

/// Bit 10 of the effective capabilities is `CAP_NET_BIND_SERVICE`.
fn may_bind(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << 10) != 0)
}

const UNIT: &str = "o365-relay.service";
const LEAST_MEMORY: u64 = 48 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A root directory with these files.
    fn facts(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Facts {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let environment: BTreeMap<_, _> =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Facts::read(root.path(), &environment)
    }

    fn told(facts: &Facts, answers: bool) -> String {
        let lines = facts.judge(answers).into_iter();
        lines
            .map(|check| format!("{} {}", check.colour.as_str(), check.finding))
            .collect::<Vec<_>>()
            .join("\n")
    }

    const UNIT_FILE: (&str, &str) = ("etc/systemd/system/o365-relay.service", "[Unit]");

    #[test]
    fn a_unit_that_is_down_or_not_enabled_is_told() {
        let booted = ("run/systemd/system/x", "");
        let down = facts(&[booted, UNIT_FILE], &[]);
        let text = told(&down, false);
        assert!(text.contains("amber o365-relay.service is not active"), "{text}");
        assert!(text.contains("does not start at boot"), "{text}");
        let socket = ("etc/systemd/system/sockets.target.wants/o365-relay.socket", "");
        let by_client = told(&facts(&[booted, UNIT_FILE, socket], &[]), false);
        assert!(by_client.contains("does not start at boot, only when a client"), "{by_client}");
        let wants = ("etc/systemd/system/multi-user.target.wants/o365-relay.service", "");
        let group = ("sys/fs/cgroup/system.slice/o365-relay.service/memory.max", "33554432\n");
        let up = facts(&[booted, UNIT_FILE, wants, group], &[]);
        assert!(up.active && up.enabled && up.memory == Some(32 << 20));
        assert!(told(&up, true).contains("amber its memory limit of 32.0 MiB is low"));
    }

    #[test]
    fn containers_are_recognised() {
        let pod =
            facts(&[("sys/fs/cgroup/memory.max", "max")], &[("KUBERNETES_SERVICE_HOST", "x")]);
        assert!(told(&pod, true).starts_with("green in a pod"), "{}", told(&pod, true));
        let docker = facts(&[(".dockerenv", "")], &[]);
        assert_eq!(docker.container, Some(Container::Docker));
        let low = docker.low_port(25, false).unwrap();
        assert!(low.cure.iter().all(|line| line.starts_with("listener.addresses")), "{low:?}");
        let podman = facts(&[("run/.containerenv", "")], &[]);
        assert_eq!(podman.container, Some(Container::Podman));
    }

    #[test]
    fn a_port_that_needs_a_right_is_told_where_nothing_gives_it() {
        let bare = facts(&[("proc/self/status", "CapEff:\t0000000000000000\n")], &[]);
        let red = bare.low_port(25, false).unwrap();
        assert!(red.finding.contains("may not listen on port 25"), "{red:?}");
        assert_eq!(bare.low_port(25, true), None, "a relay that runs has it");
        let able = facts(&[("proc/self/status", "CapEff:\t0000000000000400\n")], &[]);
        assert_eq!(able.low_port(25, false), None);
        assert_eq!(facts(&[UNIT_FILE], &[]).low_port(25, false), None, "the unit gives it");
    }
}
