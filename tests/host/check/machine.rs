//! The machine: driver, cores, memory, files.

use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::{Said, check, command};
use crate::cgroup::Cgroup;

/// Without a database, which is not what is asked here.
const NOWHERE: [&str; 2] = ["--database-url=host=/nowhere user=a", "--listen=127.0.0.1:0"];

fn ask(arguments: &[&str]) -> Said {
    Said::by(command(&[&NOWHERE, arguments].concat()))
}

/// Whether rings work here, as the server itself finds out.
fn has_rings() -> bool {
    let works = io_uring::IoUring::new(8).is_ok();
    if !works {
        println!("skipped: no io_uring on this machine");
    }
    works
}

/// Runs a check under a filter that answers io_uring_setup with this error.
fn forbidden(errno: i32, arguments: &[&str]) -> Said {
    let rules = [(nix::libc::SYS_io_uring_setup, Vec::new())].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().expect("an architecture that seccomp knows");
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()), arch);
    let filter: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    // A filter binds a thread and its children for good: this thread is for nothing else.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&filter).expect("a filter may always be added");
            ask(arguments)
        });
        thread.join().expect("a check")
    })
}

#[test]
fn a_ring_that_is_forbidden() {
    for (errno, cause) in
        [(nix::libc::EPERM, "io_uring is forbidden here"), (nix::libc::ENOSYS, "io_uring is missing")]
    {
        let said = forbidden(errno, &[]);
        said.expect("driver", "warn", &["epoll", cause, "seccomp"]);
        said.expect("seccomp", "ok", &["a filter is in force"]);
        forbidden(errno, &["--driver=io_uring"]).expect("driver", "error", &["--driver io_uring", cause]);
        forbidden(errno, &["--driver=epoll"]).expect("driver", "ok", &["epoll: asked for"]);
    }
    if has_rings() {
        ask(&[]).expect("driver", "ok", &["io_uring", "entries"]);
    }
}

#[test]
fn cores_that_share_a_cpu() {
    let alone = ask(&["--cores=1"]);
    alone.expect("cores", "ok", &["1 on CPU ", "pinned"]);
    let mut command = Command::new("taskset");
    let check = super::command(&[&NOWHERE[..], &["--cores=2"]].concat());
    command.args(["-c", "0"]).arg(check.get_program()).args(check.get_args());
    let said = Said::by(command);
    said.expect("cores", "warn", &["2 on CPU 0,0", "share a CPU"]);
}

#[test]
fn few_open_files() {
    let limited = |files: usize| {
        let check = command(&[&NOWHERE[..], &["--cores=2"]].concat());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
        command.arg(check.get_program()).args(check.get_args());
        Said::by(command)
    };
    limited(400).expect("files", "warn", &["400 open files", "connections a core", "ulimit -n"]);
    limited(40).expect("cores", "error", &["expected to be allowed more than", "got 40"]);
}

#[test]
fn a_cache_that_does_not_fit() {
    const MIB: usize = 1 << 20;
    let cgroup = match Cgroup::with_memory("check", 128 * MIB) {
        Ok(cgroup) => cgroup,
        Err(error) => return println!("skipped: a cgroup: {error}"),
    };
    for (cache, verdict) in [("100MiB", "warn"), ("16MiB", "ok")] {
        let arguments = [&NOWHERE[..], &["--cores=2", "--cache-bytes", cache]].concat();
        let said = Said::by(cgroup.enclose(&command(&arguments)));
        said.expect("memory", verdict, &["limit 128.0 MiB", "a core"]);
    }
}

#[test]
fn the_log_that_nobody_writes() {
    for (filter, verdict) in
        [("off", "warn"), ("error", "warn"), ("warn", "ok"), ("off,rinha::net=debug", "ok")]
    {
        let log = format!("--log={filter}");
        check(&["--database-url=host=/nowhere user=a", &log]).expect("log", verdict, &[filter]);
    }
}
