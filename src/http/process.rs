//! What the system says about this process, by the names that Prometheus has for it. Where there
//! is no `/proc` only some of it is shown.

use std::fs;

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use super::metrics::large;
use crate::telemetry::metrics::{Page, catalogue as all};

pub(super) fn show(page: &mut Page) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = large(u64::try_from(used.tv_sec).unwrap_or(0));
    let fraction = u32::try_from(used.tv_nsec).map_or(0.0, f64::from) / 1e9;
    page.set(&all::PROCESS_CPU, &[], seconds + fraction);
    if let Some(most) = getrlimit(Resource::Nofile).current {
        page.set(&all::PROCESS_MAX_FDS, &[], large(most));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Less the one that counts.
        page.set(&all::PROCESS_FDS, &[], large((open.count() as u64).saturating_sub(1)));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, metric, unit) in [
        ("VmRSS:", &all::PROCESS_RESIDENT, 1024),
        ("VmSize:", &all::PROCESS_VIRTUAL, 1024),
        ("Threads:", &all::PROCESS_THREADS, 1),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        if let Some(number) = number {
            page.set(metric, &[], large(number * unit));
        }
    }
}
