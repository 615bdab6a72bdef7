//! Where mail is kept: whose the directory is, how much room is left, and what it lies on. Looks
//! only: neither the lock nor the database is touched.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    Case,
    report::{Check, Report},
};
use crate::{
    queue::Mode,
    store::{self, Ground, Surroundings},
};

pub(super) fn check(case: &Case<'_>, report: &mut Report) {
    if case.mode() == Mode::Direct {
        report.add(Check::grey("queue", "queue", "in direct mode nothing is queued"));
        return;
    }
    let directory = &case.config.store.directory;
    let subject = format!("queue {}", directory.display());
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let fleeting = fleeting(case, &subject, directory);
            report.add(absent(subject, directory));
            report.extend(fleeting);
            return;
        }
        Err(error) => {
            let finding = format!("could not be looked at: {error}");
            let cure = "Run the doctor as root or as the user of the relay: sudo o365-relay doctor";
            report.add(Check::amber("queue", subject, finding).cure(cure));
            return;
        }
    };
    report.add(owned(&subject, directory, &metadata));
    report.extend(damaged(&subject, directory));
    report.add(space(case, directory));
    report.extend(fleeting(case, &subject, directory));
}

/// The relay makes it at its first start, if it may.
fn absent(subject: String, directory: &Path) -> Check {
    let shown = directory.display();
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if !parent.is_dir() {
        let finding = format!("cannot be made: there is no {} either", parent.display());
        return Check::red("queue", subject, finding)
            .cure(format!("install -d -m 0700 -o o365-relay {shown}"));
    }
    if access(parent, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let finding =
            format!("is not there, and this user may not make it in {}", parent.display());
        return Check::amber("queue", subject, finding)
            .cure(format!("install -d -m 0700 -o o365-relay {shown}   # unless systemd makes it"));
    }
    Check::green("queue", subject, "is made at the first start")
}

fn owned(subject: &str, directory: &Path, metadata: &fs::Metadata) -> Check {
    let (id, owner) = ("queue", metadata.uid());
    let shown = directory.display();
    if !metadata.is_dir() {
        return Check::red(id, subject, "is no directory")
            .cure("Set queue.directory to a directory, not to a file.");
    }
    // Typically somebody ran the relay once as root.
    if let Some((path, uid)) = strange(inside(directory), owner) {
        let finding = format!(
            "belongs to user {owner}, but {} to user {uid}: the relay cannot use it",
            path.display()
        );
        return Check::red(id, subject, finding)
            .cure(format!("chown -R --reference={shown} {shown}"))
            .cure("systemctl restart o365-relay");
    }
    let own = rustix::process::geteuid().as_raw();
    if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let finding = format!(
            "belongs to user {owner}; whether the relay may write there cannot be told as user {own}"
        );
        return Check::amber(id, subject, finding).cure("sudo o365-relay doctor");
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let finding = format!("is open to other users (mode {mode:04o}): it holds mail");
        return Check::amber(id, subject, finding).cure(format!("chmod 0700 {shown}"));
    }
    Check::green(id, subject, format!("belongs to user {owner}, mode {mode:04o}"))
}

/// What belongs to somebody else. A volume that is mounted there has root's `lost+found` in it, which
/// the relay does not look at.
fn strange(inside: Vec<(PathBuf, u32)>, owner: u32) -> Option<(PathBuf, u32)> {
    inside.into_iter().find(|(path, uid)| *uid != owner && !path.ends_with("lost+found"))
}

/// What the relay keeps directly in the directory, with its owners.
fn inside(directory: &Path) -> Vec<(PathBuf, u32)> {
    let Ok(listing) = fs::read_dir(directory) else { return Vec::new() };
    let item = |item: fs::DirEntry| Some((item.path(), item.metadata().ok()?.uid()));
    listing.flatten().filter_map(item).collect()
}

/// What was set aside after damage.
fn damaged(subject: &str, directory: &Path) -> Option<Check> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let names = inside(directory).into_iter().filter_map(|(path, _)| name(&path));
    let mut aside: Vec<_> = names.filter(|name| name.starts_with("damaged-")).collect();
    aside.sort_unstable();
    let newest = aside.last()?;
    let finding = format!("the disk has damaged the queue before: {newest}/ holds what was left");
    Some(
        Check::amber("queue", subject, finding)
            .cure("See docs/reliability.md for what it means; remove the directory when you are done.")
            .cure("Check the disk: journalctl -k, smartctl -a"),
    )
}

fn space(case: &Case<'_>, directory: &Path) -> Check {
    let (id, subject) = ("disk", format!("room in {}", directory.display()));
    let wanted = case.config.store.min_free_bytes;
    let size = |octets: u64| bytesize::ByteSize::b(octets).display().iec().to_string();
    let free = match store::free_octets(directory) {
        Ok(free) => free,
        Err(error) => {
            return Check::amber(id, subject, format!("could not be measured: {error}"));
        }
    };
    let finding = format!("{} free, queue.min_free_bytes is {}", size(free), size(wanted));
    let check = match free {
        free if free < wanted => {
            Check::red(id, subject, format!("{finding}: clients hear 452 4.3.1, no mail is taken"))
        }
        free if free < wanted.saturating_mul(2) => Check::amber(id, subject, finding),
        _ => return Check::green(id, subject, finding),
    };
    check.cure(format!("df -h {0}; du -xh {0}   # make room there", directory.display()))
}

/// Whether what lies there outlives the container, the pod and the host's next start.
fn fleeting(case: &Case<'_>, subject: &str, directory: &Path) -> Option<Check> {
    let root = case.patient.root.clone();
    let surroundings = Surroundings { root, ..case.config.surroundings.clone() };
    let ground = Ground::of(directory, &surroundings);
    let meaning = ground.meaning()?;
    let (id, finding) = ("queue", format!("lies {meaning}"));
    let direct = "or set queue.mode = \"direct\", which keeps nothing (docs/direct.md)";
    let shown = directory.display();
    let check = if !ground.goes_with_container() {
        Check::amber(id, subject, finding)
    } else if case.config.ephemeral {
        Check::amber(id, subject, format!("{finding} (queue.ephemeral allows it)"))
    } else {
        Check::red(id, subject, format!("{finding}; so the relay does not start"))
    };
    Some(match ground {
        Ground::Pod | Ground::PodMemory => check.cure(format!(
            "Mount a persistentVolumeClaim at {shown} (docs/kubernetes.md), {direct}. An emptyDir \
             will do where what waits may be lost with the pod."
        )),
        Ground::Layer | Ground::Nameless | Ground::ContainerMemory => check.cure(format!(
            "Mount a volume with a name at {shown} (-v o365-relay-queue:{shown}), in Kubernetes a \
             persistentVolumeClaim (docs/containers.md), {direct}."
        )),
        _ => check.cure(format!("Mount a disk at {shown}, {direct}.")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_somebody_else_is_told_but_not_what_a_file_system_keeps_for_itself() {
        let found = |items: &[(&str, u32)]| {
            let items = items.iter().map(|(path, uid)| (PathBuf::from(path), *uid)).collect();
            strange(items, 65532).map(|(path, _)| path.display().to_string())
        };
        let ours = ("/q/queue.db", 65532);
        assert_eq!(found(&[ours, ("/q/lost+found", 0)]), None);
        assert_eq!(found(&[ours, ("/q/queue.db-wal", 0)]).as_deref(), Some("/q/queue.db-wal"));
    }
}
