//! The machine: kernel, cores and driver, memory, files.

use std::fs;

use bytesize::ByteSize;
use nix::sys::resource::{Resource, getrlimit};

use super::finding::{Finding, Findings};
use crate::config::Serve;
use crate::core::{DriverKind, Tried, Wanted, try_out};
use crate::limits::LEDGER_BYTES_MIN;
use crate::process::setup::Setup;

/// The first kernel whose rings are not counted as locked memory: (5, 12).
const UNCOUNTED_RINGS: (u32, u32) = (5, 12);

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// `6.1.0-18-amd64`: 6 and 1.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The kernel, and what it keeps from this process.
pub(super) fn kernel(findings: &mut Findings) {
    let release = release();
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let rings = match disabled.as_deref().map(str::trim) {
        Ok("1") => "; kernel.io_uring_disabled=1: rings only for root and members of a group",
        Ok("2") => "; kernel.io_uring_disabled=2: no rings",
        _ => "",
    };
    let found = format!("Linux {release} {}{rings}", std::env::consts::ARCH);
    let old = version(&release).is_some_and(|version| version < (5, 1));
    const KERNEL: &str = "Linux 5.1 or newer, 6.0 for all of io_uring";
    findings.add(match old || !rings.is_empty() {
        true => Finding::warn("kernel", found, KERNEL),
        false => Finding::ok("kernel", found, KERNEL),
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    let found = match mode {
        Some("0") => "no filter".to_owned(),
        Some("2") => "a filter is in force; the driver's line says whether it lets rings through".to_owned(),
        mode => format!("mode {}", mode.unwrap_or("unknown")),
    };
    findings.add(Finding::ok(
        "seccomp",
        found,
        "no filter, or one that allows io_uring_setup, io_uring_enter and io_uring_register",
    ));
}

/// What the start chooses, and whether the kernel gives it.
pub(super) fn machine(serve: &Serve, setup: &Setup, findings: &mut Findings) {
    let tried = try_out(&setup.cpus, serve.driver, setup.files.connections);
    cores(serve, setup, &tried, findings);
    driver(serve, &tried, findings);
    locked_memory(&tried, findings);
    memory(setup, findings);
    files(setup, findings);
}

fn cores(serve: &Serve, setup: &Setup, tried: &[Result<Tried, String>], findings: &mut Findings) {
    const EXPECTED: &str = "each core pinned to a CPU of its own";
    let cpus: Vec<String> = setup.cpus.iter().map(ToString::to_string).collect();
    let found = format!("{} on CPU {} (--cores {})", cpus.len(), cpus.join(","), serve.cores);
    let not_pinned = tried.iter().flatten().find_map(|tried| tried.pinned.as_ref().err());
    let shared = (1..cpus.len()).any(|core| setup.cpus[..core].contains(&setup.cpus[core]));
    findings.add(match (not_pinned, shared) {
        (Some(why), _) => Finding::warn("cores", format!("{found}: {why}"), EXPECTED),
        (None, true) => Finding::warn("cores", format!("{found}: some share a CPU"), EXPECTED),
        (None, false) => Finding::ok("cores", found + ", pinned", EXPECTED),
    });
}

fn driver(serve: &Serve, tried: &[Result<Tried, String>], findings: &mut Findings) {
    const EXPECTED: &str = "io_uring on every core";
    let found = |tried: &Tried| format!("{}: {}", tried.driver.kind.name(), tried.driver.reason);
    let refused = tried.iter().find_map(|tried| tried.as_ref().err());
    let fallen_back =
        tried.iter().flatten().find(|tried| tried.driver.kind == DriverKind::Epoll || tried.driver.small);
    findings.add(match (refused, fallen_back, tried.first()) {
        (Some(why), ..) => Finding::error("driver", why.clone(), EXPECTED),
        (None, Some(tried), _) if serve.driver != Wanted::Epoll => {
            Finding::warn("driver", found(tried), EXPECTED)
        }
        (None, _, Some(Ok(first))) => Finding::ok("driver", found(first), EXPECTED),
        (None, ..) => Finding::error("driver", "no core was chosen".to_owned(), EXPECTED),
    });
}

fn locked_memory(tried: &[Result<Tried, String>], findings: &mut Findings) {
    const EXPECTED: &str = "enough to lock for the rings, on kernels before 5.12";
    let limit = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((u64::MAX, _)) => "no limit".to_owned(),
        Ok((soft, _)) => format!("limit {}", ByteSize::b(soft)),
        Err(errno) => format!("limit unknown: {errno}"),
    };
    let counted = version(&release()).is_some_and(|version| version < UNCOUNTED_RINGS);
    let small = tried.iter().flatten().any(|tried| tried.driver.small);
    findings.add(match (counted, small) {
        (_, true) => Finding::warn("memlock", format!("{limit}: rings are smaller for it"), EXPECTED),
        (true, false) => Finding::ok("memlock", format!("{limit}, enough for the rings"), EXPECTED),
        (false, false) => {
            Finding::ok("memlock", format!("{limit}; this kernel does not count rings"), EXPECTED)
        }
    });
}

fn memory(setup: &Setup, findings: &mut Findings) {
    const EXPECTED: &str = "a limit with room for cache, process and cores";
    let size = |bytes: usize| ByteSize::b(bytes as u64);
    let limit = setup.memory.limit.map_or("no limit".to_owned(), |limit| format!("limit {}", size(limit)));
    let found = format!(
        "{limit}; cache {}, {} a core for what is received and answered",
        size(setup.memory.cache),
        size(setup.memory.ledger)
    );
    findings.add(match setup.memory.fits {
        true => Finding::ok("memory", found, EXPECTED),
        false => {
            let least =
                format!("{found}: more than the limit, as each core needs {}", size(LEDGER_BYTES_MIN));
            Finding::warn("memory", least + "; give a smaller --cache-bytes or fewer --cores", EXPECTED)
        }
    });
}

/// With fewer, clients of a busy balancer are refused.
const CONNECTIONS_ENOUGH: usize = 512;

fn files(setup: &Setup, findings: &mut Findings) {
    const EXPECTED: &str = "open files for at least 512 connections a core";
    let files = &setup.files;
    let found = format!("{} open files: {} connections a core", files.files, files.connections);
    let not_raised =
        files.not_raised.as_ref().map(|why| format!("{found}; the limit could not be raised {why}"));
    findings.add(match not_raised {
        Some(found) => Finding::warn("files", found, EXPECTED),
        None if files.connections < CONNECTIONS_ENOUGH => {
            Finding::warn("files", found + " (raise ulimit -n)", EXPECTED)
        }
        None => Finding::ok("files", found, EXPECTED),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kernels() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.10.0", Some((5, 10))),
            ("6.18.44-fc-v657", Some((6, 18))),
            ("6.6-rc1", Some((6, 6))),
            ("", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
        assert!(version("5.4.0-42") < Some(UNCOUNTED_RINGS) && version("5.15.0") > Some(UNCOUNTED_RINGS));
    }
}
