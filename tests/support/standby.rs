//! A standby of a test's cluster: a copy that follows it, and may become the primary.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::wait_until;

/// A program of the Postgres that the tests use.
pub(crate) fn program(name: &str) -> Command {
    let directories = rinha::embedded::Settings::new("").search;
    let found = directories.iter().map(|directory| directory.join(name)).find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| name.into()))
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A new standby that streams from `primary`. It is read-only until [`promote`].
pub(crate) fn follow(primary: &Cluster) -> Cluster {
    let directory = temporary_directory();
    fs::create_dir(directory.path().join("data")).expect("a directory");
    let pgdata = directory.path().join("data/postgres");
    let socket = primary.embedded.socket_dir();
    run(program("pg_basebackup")
        .args([
            "--write-recovery-conf",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
            "-U",
            "rinha",
        ])
        .arg("-h")
        .arg(socket)
        .arg("-D")
        .arg(&pgdata));
    let reference = format!("--reference={}", primary.pgdata().display());
    run(Command::new("chown").arg("-R").arg(reference).arg(&pgdata));
    let standby = Cluster::start_in(directory);
    wait_until("a standby that streams", || {
        primary.query("select state from pg_stat_replication where state = 'streaming'").len() == 1
    });
    standby
}

/// Makes the standby a primary, on a timeline of its own. The old one goes on if it runs.
pub(crate) fn promote(standby: &Cluster) {
    standby.query("select pg_promote()");
    wait_until("a primary", || standby.query("select pg_is_in_recovery()") == ["f"]);
}

/// The URL of several clusters, in this order.
pub(crate) fn url(directories: &[&Path]) -> String {
    let hosts: Vec<String> = directories.iter().map(|directory| directory.display().to_string()).collect();
    format!("host={} user=rinha dbname=postgres", hosts.join(","))
}
