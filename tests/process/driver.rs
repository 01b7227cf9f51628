//! Which kernel interface drives a server, seen from outside; where it runs, and what it does when there is nothing to
//! do.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rinha::core::Machine;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::cluster::Cluster;
use crate::load::{Load, seed};
use crate::server::{Server, binary, database_url};
use crate::{SERVERS, each_server, refused};

/// Wake-ups of all threads of an idle server in a second. Each core's clock ticks once, the main thread looks twice, and
/// the feed asks twice, with several wake-ups of its thread for each question, and of each core that hears how fresh it is;
/// each of two connections a core asks every other second whether its server is there.
const WAKE_UPS_MAX: u64 = 30;

/// The anonymous files of a process, such as rings: number and kind.
fn anonymous_files(server: &Server) -> Vec<(String, String)> {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the server's files").flatten();
    let kinds = files.filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        let kind = target.to_str()?.strip_prefix("anon_inode:")?.to_owned();
        Some((file.file_name().into_string().ok()?, kind))
    });
    kinds.collect()
}

/// The files that are rings.
fn rings(server: &Server) -> Vec<String> {
    let files = anonymous_files(server).into_iter();
    files.filter(|(_, kind)| kind == "[io_uring]").map(|(number, _)| number).collect()
}

/// How many completions the kernel has put into a ring, as `/proc/PID/fdinfo` tells.
fn completions(server: &Server, ring: &str) -> u64 {
    let path = format!("/proc/{}/fdinfo/{ring}", server.pid());
    let info = fs::read_to_string(path).expect("what the kernel tells of a ring");
    let tail = info.lines().find_map(|line| line.strip_prefix("CqTail:"));
    tail.expect("CqTail").trim().parse().expect("a number")
}

/// A field of every thread's status, by thread id: its name, and the value.
fn threads(server: &Server, field: &str) -> BTreeMap<String, (String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server's threads").flatten();
    let of = |status: &str, field: &str| {
        let line = status.lines().find(|line| line.split(':').next() == Some(field)).expect("the field");
        line.split_once(':').expect("a value").1.trim().to_owned()
    };
    tasks
        .filter_map(|task| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let id = task.file_name().into_string().ok()?;
            Some((id, (of(&status, "Name"), of(&status, field))))
        })
        .collect()
}

/// Runs `start` in a thread whose children have the system call of this number answered by an error.
fn forbidding<T: Send>(call: i64, errno: i32, start: impl FnOnce() -> T + Send) -> T {
    filtering(call, Vec::new(), SeccompAction::Errno(errno.unsigned_abs()), start)
}

/// The same with another end than an error, and only if one of the rules holds.
fn filtering<T: Send>(
    call: i64,
    rules: Vec<SeccompRule>,
    action: SeccompAction,
    start: impl FnOnce() -> T + Send,
) -> T {
    let rules = [(call, rules)].into_iter().collect();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        action,
        std::env::consts::ARCH.try_into().expect("an architecture that seccomp knows"),
    );
    let filter: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
    // A filter binds a thread and its children for good: this thread is for nothing else.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccompiler::apply_filter(&filter).expect("a filter may always be added");
            start()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What the server says of its driver, in the start line and in `/healthz`.
fn said(server: &Server) -> (String, String) {
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let started = (text(&server.start["driver"]), text(&server.start["why"]));
    let health = server.ask("GET", "/healthz", "").json();
    assert_eq!((text(&health["driver"]["name"]), text(&health["driver"]["reason"])), started);
    started
}

/// Whether this kernel lets anyone have a ring.
fn has_rings() -> bool {
    let forbidden = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let allowed = forbidden.map_or(true, |value| value.trim() == "0") && io_uring::IoUring::new(2).is_ok();
    if !allowed {
        println!("skipped: no io_uring on this machine");
    }
    allowed
}

/// Every wait says that it is none for a disk: the kernel ends a server by the first one that does not. An error would not
/// be enough, as the runtime asks again and again.
#[test]
fn a_wait_for_clients_is_no_iowait() {
    const GETEVENTS: u64 = 1 << 0;
    const NO_IOWAIT: u64 = 1 << 7;
    let version = nix::sys::utsname::uname().expect("the kernel's name");
    let version = version.release().to_string_lossy().into_owned();
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().expect("a version"), numbers.next().expect("a version"));
    if version < (6, 15) {
        println!("skipped: Linux {version:?} knows no such flag, 6.15 does");
        return;
    }
    if !has_rings() {
        return;
    }
    let waits = SeccompCmpOp::MaskedEq(GETEVENTS | NO_IOWAIT);
    let flags = SeccompCondition::new(3, SeccompCmpArgLen::Dword, waits, GETEVENTS).expect("a condition");
    let rules = vec![SeccompRule::new(vec![flags]).expect("a rule")];
    let cluster = Cluster::start();
    let server = filtering(nix::libc::SYS_io_uring_enter, rules, SeccompAction::KillProcess, || {
        Server::on(&cluster.config(), &["--driver", "io_uring"])
    });
    assert_eq!(said(&server).0, "io_uring");
}

#[test]
fn the_driver_that_runs_is_the_one_that_is_said() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), &[&["--driver", "epoll"], arguments].concat());
        assert_eq!(said(&server), ("epoll".to_owned(), "asked for".to_owned()));
        assert_eq!(rings(&server), [] as [String; 0]);
        let epolls = |server: &Server| {
            anonymous_files(server).iter().filter(|(_, kind)| kind == "[eventpoll]").count()
        };
        let with_epoll = epolls(&server);
        drop(server);
        if !has_rings() {
            return;
        }
        for driver in ["io_uring", "auto"] {
            let server = Server::on(&cluster.config(), &[&["--driver", driver], arguments].concat());
            let (name, why) = said(&server);
            assert_eq!(name, "io_uring");
            assert!(why.contains("entries"), "{why}");
            let rings = rings(&server);
            assert!(!rings.is_empty());
            // The database's threads have an epoll each with either driver; the cores' are gone.
            assert_eq!(epolls(&server) + rings.len(), with_epoll);
            let before: Vec<u64> = rings.iter().map(|ring| completions(&server, ring)).collect();
            let load = Load::start(&server.tcp(), 4, seed());
            load.wait_for(200);
            drop(load.finish());
            let moved: Vec<u64> =
                rings.iter().zip(&before).map(|(ring, before)| completions(&server, ring) - before).collect();
            println!("{driver}: completions {moved:?}");
            // Each create was read and written through a ring.
            assert!(moved.iter().sum::<u64>() >= 400, "{moved:?}");
        }
    });
}

#[test]
fn a_forbidden_ring() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    let (setup, enter) = (nix::libc::SYS_io_uring_setup, nix::libc::SYS_io_uring_enter);
    for (call, errno, cause) in [
        (setup, nix::libc::EPERM, "io_uring is forbidden here"),
        (setup, nix::libc::ENOSYS, "io_uring is missing"),
        // What a careless profile allows: the ring is there, and every use of it fails.
        (enter, nix::libc::EPERM, "io_uring is forbidden here"),
    ] {
        for arguments in SERVERS {
            let server = forbidding(call, errno, || Server::on(&cluster.config(), arguments));
            let (name, why) = said(&server);
            println!("{name}: {why}");
            assert_eq!(name, "epoll");
            assert!(why.contains(cause) && why.contains("seccomp"), "{why}");
            assert_eq!(rings(&server), [] as [String; 0]);
            let load = Load::start(&server.tcp(), 2, seed());
            load.wait_for(20);
        }
        let mut command = binary();
        command.args(["--listen=127.0.0.1:0", "--driver=io_uring", "--database-url", &url]);
        forbidding(call, errno, || refused(command, 1, &["--driver io_uring", cause, "seccomp"]));
    }
}

#[test]
fn cores_are_pinned_to_their_cpus() {
    let cluster = Cluster::start();
    let machine = Machine::this().expect("this machine");
    let allowed: Vec<usize> = {
        let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("the affinity mask");
        (0..nix::sched::CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap_or(false)).collect()
    };
    let last = *allowed.last().expect("a CPU to run on");
    // Four cores may be more than there are CPUs: some then share one.
    for cores in ["auto", "auto@1", "1", "1@1", "2", "2@1", "4", &format!("{last}-{last}")] {
        let expected = machine.choose(&cores.parse().expect("right values")).expect("cores");
        let server = Server::on(&cluster.config(), &["--cores", cores]);
        let mut pinned: Vec<(String, String)> = threads(&server, "Cpus_allowed_list")
            .into_values()
            .filter(|(name, _)| name.starts_with("core-"))
            .collect();
        pinned.sort();
        let expected_threads: Vec<(String, String)> =
            (0..).zip(&expected).map(|(core, cpu)| (format!("core-{core}"), cpu.to_string())).collect();
        assert_eq!(pinned, expected_threads, "--cores {cores}");
        assert_eq!(server.ask("GET", "/healthz", "").json()["cores"], serde_json::json!(expected));
    }
    let beyond = nix::sched::CpuSet::count() - 1;
    assert!(!allowed.contains(&beyond));
    let mut command = binary();
    command.args(["--listen=127.0.0.1:0", "--cores", &format!("{beyond}-{beyond}")]);
    refused(command, 2, &["--cores", &beyond.to_string(), "may use"]);
}

#[test]
fn an_idle_server_sleeps() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let servers = ["auto", "epoll"]
            .map(|driver| Server::on(&cluster.config(), &[&["--driver", driver], arguments].concat()));
        // The servers have been used, and have clients that say nothing.
        let idle = servers.each_ref().map(|server| {
            let load = Load::start(&server.tcp(), 4, seed());
            load.wait_for(50);
            drop(load.finish());
            (0..20).map(|_| server.connect()).collect::<Vec<_>>()
        });
        thread::sleep(Duration::from_millis(500));
        let seconds = 3;
        let look = || servers.each_ref().map(|server| threads(server, "voluntary_ctxt_switches"));
        let before = look();
        thread::sleep(Duration::from_secs(seconds));
        let after = look();
        for ((before, after), server) in before.iter().zip(&after).zip(&servers) {
            let count = |switches: &str| switches.parse::<u64>().expect("a number");
            let mut sum = 0;
            for (id, (name, switches)) in after {
                let woken = count(switches) - before.get(id).map_or(0, |(_, switches)| count(switches));
                println!("{name}: {woken} in {seconds} s");
                sum += woken;
            }
            println!("{}: {sum} wake-ups in {seconds} s", server.start["driver"]);
            assert!(sum <= WAKE_UPS_MAX * seconds, "{sum} in {seconds} s");
        }
        drop(idle);
    });
}

#[test]
fn hardly_any_locked_memory() {
    let probe = Command::new("prlimit").arg("--version").output();
    if probe.is_err() {
        return println!("skipped: no prlimit on this machine");
    }
    let cluster = Cluster::start();
    each_server(|arguments| {
        let mut command = Command::new("prlimit");
        command.args(["--memlock=65536:65536", env!("CARGO_BIN_EXE_rinha"), "--log-format=json"]);
        command
            .args(["--listen=127.0.0.1:0", "--database-url", &database_url(&cluster.config())])
            .args(arguments);
        let mut server = Server::spawn(command);
        server.wait_until_serving();
        // Since Linux 5.12 the memory of rings counts against the cgroup instead. On older kernels the server tries
        // smaller rings.
        println!("{:?}", said(&server));
        let load = Load::start(&server.tcp(), 2, seed());
        load.wait_for(20);
    });
}
