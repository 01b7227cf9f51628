//! What the services may use and do, read from the kernel: the cgroups and `/proc` of their processes, not from what an
//! engine was told.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::cluster::{block_on, query};
use crate::composition::{Composition, Containers, INSTANCES, SERVICES, health};
use crate::rows;
use crate::tell;

/// The contest's, for all services together.
const CPUS_MAX: f64 = 1.5;
const MEMORY_MAX: u64 = 3 << 30;

/// Each service's user, and the most threads it may have.
const CONFINED: [(&str, u32, u64); 4] =
    [("haproxy", 99, 32), ("api1", 10_001, 128), ("api2", 10_001, 128), ("postgres", 999, 100)];

pub(crate) fn check(containers: &Containers) {
    check_limits(containers);
    for (service, user, pids) in CONFINED {
        let pid = containers.pid(service);
        assert_eq!(limit(pid, "pids", "pids.max", "pids.max"), Some(pids), "{service}");
        for (field, expected) in [
            ("Uid", format!("{user}\t{user}\t{user}\t{user}").as_str()),
            ("CapEff", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
            // 2 is the mode of a filter.
            ("Seccomp", "2"),
        ] {
            assert_eq!(status(pid, field), expected, "{field} of {service}");
        }
        let container = containers.container(service);
        // From outside: the servers' image has no program that could.
        let root = Path::new("/proc").join(pid.to_string()).join("root");
        let written = fs::write(root.join("written"), "");
        let refused = written.is_err_and(|why| why.kind() == ErrorKind::ReadOnlyFilesystem);
        assert!(refused, "the root of {service}");
        let networks = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
        let reached = networks.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
        assert_eq!(reached, service == "haproxy", "{service}: {networks}");
        let published = containers.engine(&["port", &container]);
        assert_eq!(published.is_empty(), service != "haproxy", "{service}: {published}");
        assert!(published.lines().all(|line| line.starts_with("9999/tcp -> ")), "{service}: {published}");
    }
    check_driver(containers, &Seccomp::OfTheProject);
    check_postgres(containers);
}

/// The limits of all services add up to the contest's, and each has one.
pub(crate) fn check_limits(composition: &dyn Composition) {
    let (mut cpus, mut memory) = (0.0, 0);
    for service in SERVICES {
        let pid = composition.pid(service);
        let quota = cpu_quota(pid).unwrap_or_else(|| panic!("expected a limit on the CPU of {service}"));
        let bytes = limit(pid, "memory", "memory.max", "memory.limit_in_bytes");
        let bytes = bytes.unwrap_or_else(|| panic!("expected a limit on the memory of {service}"));
        tell!("   {service}: {quota} CPUs, {} MiB", bytes >> 20);
        cpus += quota;
        memory += bytes;
    }
    assert!(cpus <= CPUS_MAX + 1e-6 && memory <= MEMORY_MAX, "{cpus} CPUs, {memory} bytes");
}

/// What a 201 rests on, as the running server has it.
pub(crate) fn check_postgres(composition: &dyn Composition) {
    let settings = "select name || '=' || setting from pg_settings \
                    where name in ('fsync', 'full_page_writes', 'synchronous_commit', 'listen_addresses') order by name";
    let expected = ["fsync=on", "full_page_writes=on", "listen_addresses=", "synchronous_commit=on"];
    assert_eq!(query(&composition.database(), settings), expected);
}

/// The four lines of the page that set a password.
pub(crate) fn password() -> Vec<(&'static str, String)> {
    let page = fs::read_to_string("docs/compose.md").unwrap();
    let names = ["POSTGRES_PASSWORD", "POSTGRES_HOST_AUTH_METHOD", "POSTGRES_INITDB_ARGS", "DATABASE_URL"];
    let recipe: Vec<_> = page
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter_map(|(name, value)| {
            let name = names.into_iter().find(|known| *known == name)?;
            Some((name, value.to_owned()))
        })
        .collect();
    assert_eq!(recipe.len(), names.len(), "{recipe:?}");
    recipe
}

/// What was started with the four lines: the servers know the password, and without it nobody gets in.
pub(crate) fn check_password(composition: &dyn Composition) {
    rows::main_rows(composition);
    let mut database = composition.database();
    assert!(block_on(database.connect(NoTls)).is_err(), "no password was asked for");
    assert_eq!(query(database.password(&password()[0].1), "select count(*) > 0 from pessoas"), ["t"]);
}

/// Before anything is stopped or started: what runs has its own port, and nobody else's is taken.
pub(crate) fn check_values(containers: &Containers) {
    assert_eq!(containers.check(&[]), (Some(0), String::new()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (name, value, expected) in [
        ("PORT", port.as_str(), "somebody listens"),
        ("API_CORES", "3", "expected 1, 2 or 4"),
        ("API_CPUS", "0", "expected 0.01"),
        ("SECURITY_OPT", "seccomp=/nowhere", "a seccomp profile"),
    ] {
        let (code, said) = containers.check(&[(name, value)]);
        assert!(
            code == Some(2) && said.contains(expected) && said.lines().count() == 1,
            "{name}={value}: {said}"
        );
    }
}

/// A start that went well says so, without an alarm, and each thing once.
pub(crate) fn check_logs(containers: &Containers) {
    let log = containers.logs("haproxy");
    assert!(!log.contains("ALERT"), "{log}");
    for name in INSTANCES {
        let up = format!("Server api/{name}-0 is UP");
        assert_eq!(log.lines().filter(|line| line.contains(&up)).count(), 1, "{up}: {log}");
        let log = containers.logs(name);
        assert!(log.contains("serving") && !log.contains("ERROR"), "{name}: {log}");
        assert_eq!(containers.inspect(name, "{{.RestartCount}}"), "0", "{name}: {log}");
    }
}

/// The HAProxy of the image takes its configuration with any number of server lines, and without a warning.
pub(crate) fn haproxy_takes_its_configuration(containers: &Containers) {
    for cores in ["1", "2", "4"] {
        let cores = format!("API_CORES={cores}");
        // With its state it says which servers are away before their first check, which is a warning too.
        let check = ["haproxy", "-dW", "-c", "-f", "/usr/local/etc/haproxy/haproxy.cfg"];
        containers.compose(
            &[&["run", "--rm", "--no-deps", "-T", "-e", &cores, "-e", "STATE=", "haproxy"], &check[..]]
                .concat(),
        );
    }
}

/// The HAProxy of this machine takes the configuration, too.
pub(crate) fn haproxy_takes_its_configuration_here() {
    for cores in ["1", "2", "4"] {
        let variables = [("SOCKETS", "/run/rinha"), ("PORT", "9999"), ("API_CORES", cores)];
        let check = Command::new("haproxy")
            .args(["-dW", "-c", "-f", "haproxy.cfg"])
            .envs(variables)
            .output()
            .unwrap();
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
}

/// What stands between a server and io_uring.
pub(crate) enum Seccomp {
    /// The profile of compose.yml.
    OfTheProject,
    /// The profile of compose.yml, but io_uring is answered with this errno.
    Refusing(i32),
    /// `epoll.env`: whatever the engine has.
    OfTheEngine,
}

/// Sets the profile of the containers that are made from now on.
pub(crate) fn choose(containers: &mut Containers, seccomp: &Seccomp) {
    containers.variables.clear();
    containers.variables_file = None;
    match seccomp {
        Seccomp::OfTheProject => {}
        Seccomp::OfTheEngine => containers.variables_file = Some("epoll.env"),
        Seccomp::Refusing(errno) => {
            let profile = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("seccomp-{errno}.json"));
            fs::write(&profile, refusing(*errno)).unwrap();
            containers.variables.push(("SECURITY_OPT", format!("seccomp={}", profile.display())));
        }
    }
}

/// `seccomp/io_uring.json`, except that the calls of io_uring, which it allows, are refused.
fn refusing(errno: i32) -> String {
    let mut profile: Value =
        serde_json::from_str(&fs::read_to_string("seccomp/io_uring.json").unwrap()).unwrap();
    let rules = profile["syscalls"].as_array_mut().unwrap();
    let rule =
        rules.iter_mut().find(|rule| rule["names"][0].as_str().unwrap().starts_with("io_uring_")).unwrap();
    rule["action"] = json!("SCMP_ACT_ERRNO");
    rule["errnoRet"] = json!(errno);
    profile.to_string()
}

/// Both instances run on what the profile leaves them, and say why.
pub(crate) fn check_driver(containers: &Containers, seccomp: &Seccomp) {
    for name in INSTANCES {
        let driver = health(&containers.instance(name)).unwrap()["driver"].take();
        let (driver, reason) = (driver["name"].as_str().unwrap(), driver["reason"].as_str().unwrap());
        tell!("   {name}: {driver}: {reason}");
        let on_epoll = |errno: &str| driver == "epoll" && reason.contains(errno);
        let (forbidden, hidden) = ("(os error 1)", "(os error 38)");
        let right = match seccomp {
            Seccomp::OfTheProject => driver == "io_uring",
            Seccomp::Refusing(errno) => on_epoll(&format!("(os error {errno})")),
            // Engines differ, also from one release to the next.
            Seccomp::OfTheEngine => driver == "io_uring" || on_epoll(forbidden) || on_epoll(hidden),
        };
        assert!(right, "{name}: {driver}: {reason}");
        let custom = containers.inspect(name, "{{.HostConfig.SecurityOpt}}").contains("seccomp=");
        assert_eq!(custom, !matches!(seccomp, Seccomp::OfTheEngine), "a profile for {name}");
    }
}

/// A field of `/proc/PID/status`.
fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.split(':').next() == Some(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

/// The quota that binds a process, in CPUs.
fn cpu_quota(pid: i32) -> Option<f64> {
    let read = |directory: &Path| {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
        let file = |name: &str| fs::read_to_string(directory.join(name)).ok();
        if let Some(maximum) = file("cpu.max") {
            let (quota, period) = maximum.split_once(' ')?;
            return Some(number(quota)? / number(period)?);
        }
        Some(number(&file("cpu.cfs_quota_us")?)? / number(&file("cpu.cfs_period_us")?)?)
    };
    groups(pid, "cpu").iter().filter_map(|group| read(group)).min_by(f64::total_cmp)
}

/// The least of the limits that bind a process: its cgroup's, and those of the groups above. The file has one name in
/// cgroups of version 2 and another in version 1.
fn limit(pid: i32, controller: &str, v2: &str, v1: &str) -> Option<u64> {
    let read = |directory: &PathBuf| {
        let text = [v2, v1].iter().find_map(|name| fs::read_to_string(directory.join(name)).ok())?;
        text.trim().parse().ok()
    };
    groups(pid, controller).iter().filter_map(read).min()
}

/// The directories of a process' cgroup and of those above it, in the hierarchy with this controller.
fn groups(pid: i32, controller: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let unified = root.join("cgroup.controllers").exists();
    let root = if unified { root.to_owned() } else { root.join(controller) };
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let matches =
            if unified { controllers.is_empty() } else { controllers.split(',').any(|it| it == controller) };
        matches.then(|| root.join(path.trim_start_matches('/')))
    });
    let path = path.unwrap_or_else(|| panic!("expected a cgroup with {controller}: {text}"));
    path.ancestors().take_while(|group| group.starts_with(&root)).map(Path::to_owned).collect()
}
