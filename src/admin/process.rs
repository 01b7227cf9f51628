//! What the kernel says of this process, under the names that every exporter of Prometheus uses.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

use super::families::Families;

/// Adds what the kernel tells; what it does not tell is left out. `started` is when the process was.
pub(super) fn add(families: &mut Families, started: SystemTime) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
        let _ = families
            .counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
            .value(&[], seconds(usage.user_time()) + seconds(usage.system_time()));
    }
    if let Some(bytes) = resident_bytes(&fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        let _ = families
            .gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
            .count(&[], bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory's.
        let _ = families
            .gauge("process_open_fds", "Number of open file descriptors.")
            .size(&[], open.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ =
            families.gauge("process_max_fds", "Maximum number of open file descriptors.").count(&[], soft);
    }
    if let Ok(started) = started.duration_since(UNIX_EPOCH) {
        let _ = families
            .gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.")
            .value(&[], started.as_secs_f64());
    }
}

/// The resident bytes, as `/proc/PID/status` says them.
fn resident_bytes(status: &str) -> Option<u64> {
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kilobytes.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_bytes_are_read() {
        for (status, expected) in [
            ("Name:\trinha\nVmRSS:\t   12 kB\nThreads:\t1\n", Some(12 * 1024)),
            ("VmRSS:\tmany kB\n", None),
            ("", None),
        ] {
            assert_eq!(resident_bytes(status), expected, "{status:?}");
        }
    }
}
