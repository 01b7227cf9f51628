//! The private Postgres, against the real binaries: life, death and the ways a start can fail.

#[path = "../support/cluster.rs"]
mod cluster;
mod container;
mod full_disk;
mod life;
mod refusals;
mod takeover;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rinha::embedded::{Embedded, Settings};

/// Starts and expects a refusal: one line that holds every one of `words`.
fn refused(settings: &Settings, words: &[&str]) {
    let message = match Embedded::start(settings) {
        Ok(_) => panic!("started, but was to be refused with {words:?}"),
        Err(error) => error.to_string(),
    };
    println!("{message}");
    assert_eq!(message.lines().count(), 1, "{message:?}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

/// A program that is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program as the user of the cluster, which is another one when the test runs as root.
fn as_owner_of(pgdata: &Path, program: &str, arguments: &[&str]) -> Killed {
    let owner = fs::metadata(pgdata).expect("a cluster");
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    Killed(command.spawn().expect("a process"))
}

/// The program of the installed Postgres.
fn postgres() -> PathBuf {
    let search = Settings::new("").search;
    search.iter().map(|bin| bin.join("postgres")).find(|path| path.exists()).expect("Postgres")
}

fn signal(pid: Option<i32>, signal: Signal) {
    kill(Pid::from_raw(pid.expect("a running Postgres")), signal).expect("a live process");
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn write_rows(cluster: &Cluster, rows: u32) {
    cluster.query(&format!("create table kept (n int); insert into kept select generate_series(1, {rows})"));
}

fn kept(cluster: &Cluster) -> Vec<String> {
    cluster.query("select count(*), max(n) from kept")
}
