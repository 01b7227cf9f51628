//! Processes of a test's own, by their number: who they are, what they hold, and how they end. Never by name.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use rinha::embedded::{DATABASE, Embedded, Settings, USER};
use tempfile::TempDir;
use tokio_postgres::Config;

use crate::cluster;
use crate::load::wait_until;

/// Sends a signal to a process that may be gone already.
pub(crate) fn send(pid: i32, signal: Signal) {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => panic!("{signal} to {pid}: {errno}"),
    }
}

/// The state and the parent of a process, from `/proc/PID/stat`: `PID (name) STATE PARENT ...`.
fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process runs: a zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// A postmaster and its children.
pub(crate) fn family(postmaster: i32) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok());
    let children = pids.filter(|&pid| state_and_parent(pid).is_some_and(|(_, parent)| parent == postmaster));
    std::iter::once(postmaster).chain(children).collect()
}

/// SIGKILL to a postmaster and all its children, the postmaster first, so that it forks no more.
pub(crate) fn kill_family(postmaster: i32) {
    send(postmaster, Signal::SIGSTOP);
    let family = family(postmaster);
    for &pid in &family {
        send(pid, Signal::SIGKILL);
    }
    wait_until("the end of all Postgres processes", || family.iter().all(|&pid| !runs(pid)));
}

/// All that a process started, and what that started, and so on: those that run.
pub(crate) fn descendants(ancestor: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some((state, parent)) = state_and_parent(pid)
            && !matches!(state, 'Z' | 'X')
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found: Vec<i32> = Vec::new();
    let mut open = vec![ancestor];
    while let Some(pid) = open.pop() {
        let own = children.remove(&pid).unwrap_or_default();
        found.extend(&own);
        open.extend(own);
    }
    found
}

/// SIGKILL to all that a process started, at once: none of them sees another one end.
pub(crate) fn kill_descendants(ancestor: i32) {
    let mut stopped = Vec::new();
    loop {
        let now = descendants(ancestor);
        if now.iter().all(|pid| stopped.contains(pid)) {
            break;
        }
        for &pid in &now {
            send(pid, Signal::SIGSTOP);
        }
        stopped = now;
    }
    for pid in stopped {
        send(pid, Signal::SIGKILL);
    }
}

/// SIGKILL to a process and all its descendants.
pub(crate) fn kill_tree(pid: u32) {
    let pid = i32::try_from(pid).expect("a pid of Linux fits an i32");
    send(pid, Signal::SIGSTOP);
    kill_descendants(pid);
    send(pid, Signal::SIGKILL);
}

/// Stopped processes; they go on when this is dropped.
pub(crate) struct Frozen(Vec<i32>);

impl Frozen {
    /// Stops these.
    pub(crate) fn freeze(pids: Vec<i32>) -> Frozen {
        for &pid in &pids {
            send(pid, Signal::SIGSTOP);
        }
        Frozen(pids)
    }

    /// Stops a postmaster and all its children.
    pub(crate) fn family_of(postmaster: i32) -> Frozen {
        send(postmaster, Signal::SIGSTOP);
        let frozen = Frozen(family(postmaster));
        for &pid in &frozen.0 {
            send(pid, Signal::SIGSTOP);
        }
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for &pid in &self.0 {
            send(pid, Signal::SIGCONT);
        }
    }
}

/// A data directory for servers with a private Postgres. Whatever they leave behind goes with it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Home {
        Home(cluster::temporary_directory())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The value of `--data-dir`.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn data_dir_text(&self) -> String {
        self.data_dir().to_str().expect("a path in UTF-8").to_owned()
    }

    /// How to connect to the private Postgres beside its server.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.data_dir().join("socket")).port(5432).user(USER).dbname(DATABASE);
        config
    }

    /// The postmaster, as its pid file has it.
    pub(crate) fn postmaster(&self) -> Option<i32> {
        let file = fs::read_to_string(self.data_dir().join("postgres/postmaster.pid")).ok()?;
        file.lines().next()?.trim().parse().ok()
    }

    /// What every process of its cluster has in its command line.
    pub(crate) fn tag(&self) -> String {
        cluster::query(&self.config(), "show cluster_name").remove(0)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.postmaster().is_some_and(runs) {
            // Taken over as the next server would do, and stopped when dropped.
            let left = Embedded::start(&Settings::new(self.data_dir()));
            println!("a Postgres was left behind: stopped ({:?})", left.map(|left| left.pid()));
        }
    }
}

/// A program that a test runs beside the server; killed when this is dropped.
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Starts a program that refuses to be root as the user that owns `path`.
    pub(crate) fn start_as_owner_of(path: &Path, mut command: Command) -> Child {
        let owner = fs::metadata(path).expect("a path");
        if nix::unistd::geteuid().is_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Child(command.spawn().expect("a program"))
    }

    /// Starts a program.
    pub(crate) fn start(mut command: Command) -> Child {
        Child(command.spawn().expect("a program"))
    }

    /// Its pid.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// A port of loopback that nobody has.
    pub(crate) fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("its address").port()
    }

    /// The path of a program.
    pub(crate) fn find(name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        directories.push("/usr/sbin".into());
        directories.into_iter().map(|directory| directory.join(name)).find(|path| path.is_file())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SIGINT is a fast stop for Postgres, and ends PgBouncer.
        send(i32::try_from(self.0.id()).expect("a pid"), Signal::SIGINT);
        wait_until("its end", || self.0.try_wait().is_ok_and(|ended| ended.is_some()));
    }
}
