//! A Postgres of the server's own: the data directory and the programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Said, check, command};
use crate::cluster::{is_root_or_skip, temporary_directory};
use crate::processes::{Home, runs};
use crate::server::Server;

fn at(data_dir: &Path) -> Said {
    check(&["--data-dir", data_dir.to_str().expect("UTF-8")])
}

/// Everything below a directory, with its time of change.
fn tree(directory: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).expect("a file");
        found.push((path.clone(), metadata.modified().expect("a time")));
        if metadata.is_dir() {
            found.extend(tree(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn before_beside_and_after_its_server() {
    let home = Home::new();
    let said = at(&home.data_dir());
    said.expect("data", "ok", &["would be made", "MiB free"]);
    said.expect("postgres", "ok", &["postgres", "run as "]);
    said.expect("cluster", "ok", &["would be made"]);
    said.expect("durability", "ok", &["are on"]);
    said.expect("admin", "ok", &["data/admin.sock would be made"]);
    assert!(!home.data_dir().exists());
    // One that is there and empty stays empty.
    let empty = home.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    at(&empty).expect("data", "ok", &["MiB free"]);
    assert_eq!(tree(&empty), []);

    let mut server = Server::start(&["--data-dir", &home.data_dir_text()]);
    let holder = format!("process {}", server.pid());
    at(&home.data_dir()).expect("data", "error", &["another rinha server", &holder]);
    at(&home.data_dir()).expect("admin", "error", &["data/admin.sock", "another server listens there"]);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "0");
    assert!(!at(&home.data_dir()).of("cluster").1.contains("killed"));

    // Its Postgres outlives it, and the look.
    server.kill();
    let postmaster = home.postmaster().expect("a pid file");
    let said = at(&home.data_dir());
    said.expect("data", "ok", &["MiB free"]);
    said.expect("cluster", "ok", &["a server that was killed", &postmaster.to_string(), "taken over"]);
    said.expect("admin", "ok", &["data/admin.sock: a socket that nobody listens on would be replaced"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(runs(postmaster));

    let mut server = Server::start(&["--data-dir", &home.data_dir_text()]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(0));
    let before = tree(home.path());
    let said = at(&home.data_dir());
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.expect("cluster", "ok", &[home.data_dir().join("postgres").to_str().expect("UTF-8")]);
    assert_eq!(tree(home.path()), before);
}

#[test]
fn what_is_no_cluster_or_another_version() {
    let home = Home::new();
    fs::create_dir_all(home.data_dir().join("postgres")).expect("a directory");
    fs::write(home.data_dir().join("postgres/letter.txt"), "").expect("a file");
    at(&home.data_dir()).expect("postgres", "error", &["is not empty and not a Postgres cluster"]);
    fs::remove_file(home.data_dir().join("postgres/letter.txt")).expect("the file");
    fs::write(home.data_dir().join("postgres/PG_VERSION"), "9\n").expect("a file");
    at(&home.data_dir()).expect("postgres", "error", &["was made by PostgreSQL 9", "installed: 1"]);
    fs::write(home.data_dir().join("rinha.lock"), "").expect("a file");
    fs::create_dir(home.data_dir().join("socket")).expect("a directory");
}

/// Runs the check in a mount namespace of its own, after `before`.
fn apart(before: &str, data_dir: &Path) -> Option<Said> {
    let check = command(&["--listen=127.0.0.1:0", "--data-dir", data_dir.to_str().expect("UTF-8")]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{{ {before}; }} >&2 || exit 77; exec \"$0\" \"$@\"")]);
    command.arg(check.get_program()).args(check.get_args());
    let said = Said::by(command);
    if matches!(said.code, Some(77)) || said.stdout.is_empty() {
        println!("skipped: no mount namespace here: {}", said.stderr);
        return None;
    }
    Some(said)
}

#[test]
fn on_a_disk_that_does_not_do() {
    if !is_root_or_skip("mounting") {
        return;
    }
    let directory = temporary_directory();
    let data = directory.path().join("data");
    fs::create_dir(&data).expect("a directory");
    let place = data.display();
    if let Some(said) = apart(&format!("mount -t tmpfs -o size=2g none {place}"), &data) {
        said.expect("data", "warn", &["tmpfs", "kept in memory"]);
    }
    if let Some(said) = apart(&format!("mount -t tmpfs -o size=200m none {place}"), &data) {
        said.expect("data", "warn", &["expected 1024"]);
    }
    if let Some(said) = apart(&format!("mount -t tmpfs -o size=20m none {place}"), &data) {
        said.expect("data", "error", &["expected at least 56"]);
    }
    if let Some(said) = apart(&format!("mount -t tmpfs -o ro none {place}"), &data) {
        said.expect("data", "error", &["Read-only file system"]);
        // Below it there is nothing, nor can there be.
        let said = apart(&format!("mount -t tmpfs -o ro none {place}"), &data.join("new/er"));
        said.expect("the same namespace").expect("data", "error", &["Read-only file system"]);
    }
    if let Some(said) = apart(
        "for place in /usr/lib/postgresql /usr/pgsql-*; do [ ! -d $place ] || mount -t tmpfs none $place; done; PATH=/nowhere",
        &data,
    ) {
        said.expect("postgres", "error", &["no PostgreSQL 13 or newer found", "--database-url"]);
    }
}

#[test]
fn as_another_user() {
    if !is_root_or_skip("becoming somebody else") {
        return;
    }
    let directory = temporary_directory();
    let program = directory.path().join("rinha");
    fs::copy(command(&[]).get_program(), &program).expect("a copy that everybody may run");
    let as_nobody = |data_dir: &Path| {
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        other.args(["check", "--format=json", "--listen=127.0.0.1:0", "--data-dir"]).arg(data_dir);
        Said::by(other)
    };
    let new = directory.path().join("new");
    as_nobody(&new).expect("data", "error", &["cannot write", "Permission denied"]);
    // One that it may write to does.
    let open = directory.path().join("open");
    fs::create_dir(&open).expect("a directory");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("a mode");
    let said = as_nobody(&open);
    said.expect("data", "ok", &[]);
    said.expect("postgres", "ok", &["run as nobody"]);
    // A cluster of another user's.
    let home = Home::new();
    let mut server = Server::start(&["--data-dir", &home.data_dir_text()]);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(0));
    let said = as_nobody(&home.data_dir());
    said.expect("data", "error", &["cannot write"]);
    assert_eq!(said.of("postgres").0, "error");
    // Root runs it as that user, who must get there.
    let closed = directory.path().join("closed");
    fs::create_dir_all(closed.join("data")).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("a mode");
    at(&closed.join("data")).expect("postgres", "error", &["who may not enter", "chmod o+x"]);
}
