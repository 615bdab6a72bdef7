//! The container that the relay may be in, and how one of its kind is restarted and read: cures are
//! written for a host with systemd, and say there what would not work here.

use std::{collections::BTreeMap, path::Path};

use super::report::Report;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Pod,
    Docker,
    Podman,
}

/// The commands of a host, and what takes their place: for a pod, and with the name of the engine.
/// The longer form of a command comes before the one that it contains.
const COMMANDS: [(&str, &str, &str); 4] = [
    ("systemctl restart o365-relay", "kubectl delete pod POD", "restart CONTAINER"),
    ("systemctl start o365-relay", "kubectl get pod POD", "start CONTAINER"),
    ("journalctl -u o365-relay -p err", "kubectl logs POD", "logs CONTAINER"),
    ("journalctl -u o365-relay", "kubectl logs POD", "logs CONTAINER"),
];

impl Container {
    /// By the marks that engines leave, below `root`.
    pub fn around(root: &Path, environment: &BTreeMap<String, String>) -> Option<Self> {
        let there = |name: &str| root.join(name).exists();
        match () {
            () if environment.contains_key("KUBERNETES_SERVICE_HOST") => Some(Self::Pod),
            () if there(".dockerenv") => Some(Self::Docker),
            () if there("run/.containerenv") => Some(Self::Podman),
            () => None,
        }
    }

    /// With its article.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pod => "a pod",
            Self::Docker => "a Docker container",
            Self::Podman => "a Podman container",
        }
    }

    /// Has each cure name the commands that do the same here.
    pub fn reword(self, report: &mut Report) {
        for cure in report.checks.iter_mut().flat_map(|check| &mut check.cure) {
            for (host, pod, engine) in COMMANDS {
                let here = match self {
                    Self::Pod => pod.to_owned(),
                    Self::Docker => format!("docker {engine}"),
                    Self::Podman => format!("podman {engine}"),
                };
                *cure = cure.replace(host, &here);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report::Check, *};
    use crate::clock::UnixMillis;

    fn reworded(container: Container) -> Vec<String> {
        let mut report = Report::new(UnixMillis(0));
        report.add(
            Check::red("queue", "queue", "is broken")
                .cure("journalctl -u o365-relay -p err   # what it met")
                .cure("journalctl -u o365-relay   # all of it")
                .cure("Make room, then: systemctl restart o365-relay"),
        );
        container.reword(&mut report);
        report.checks.remove(0).cure
    }

    #[test]
    fn a_cure_names_commands_that_work_where_the_relay_is() {
        assert_eq!(
            reworded(Container::Docker),
            [
                "docker logs CONTAINER   # what it met",
                "docker logs CONTAINER   # all of it",
                "Make room, then: docker restart CONTAINER",
            ]
        );
        assert_eq!(reworded(Container::Podman)[1], "podman logs CONTAINER   # all of it");
        assert_eq!(reworded(Container::Pod)[2], "Make room, then: kubectl delete pod POD");
    }
}
