//! Where mail is kept: whose the directory is, how much room is left, and what it lies on. Looks
//! only: neither the lock nor the database is touched.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access, statfs};

use super::{
    Case,
    report::{Check, Report},
};
use crate::{queue::Mode, store};

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
            report.add(absent(subject, directory));
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
    report.extend(fleeting(&subject, directory));
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
    let strange = inside(directory).into_iter().find(|(_, uid)| *uid != owner);
    if let Some((path, uid)) = strange {
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

/// File systems that do not outlive the container or the host's next start.
fn fleeting(subject: &str, directory: &Path) -> Option<Check> {
    let kind = statfs(directory).ok()?.f_type;
    // Its width differs between platforms; the numbers are small.
    let what = match u64::try_from(kind).ok()? {
        OVERLAY => "lies in the container's own layer: accepted mail is lost with the container",
        TMPFS => "lies in memory (tmpfs): accepted mail is lost when the host or pod restarts",
        _ => return None,
    };
    Some(Check::amber("queue", subject, what).cure(format!(
        "Mount a volume at {}, or set queue.mode = \"direct\", which keeps nothing (docs/direct.md).",
        directory.display()
    )))
}

const OVERLAY: u64 = 0x794c_7630;
const TMPFS: u64 = 0x0102_1994;
