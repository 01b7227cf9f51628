//! What a cluster lives through: stops, kills, panics, and directories with uncommon names.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid, getpgrp};
use rinha::embedded::Embedded;

use crate::cluster::{self, Cluster, block_on, connect, processes_with, settings, temporary_directory};
use crate::{kept, refused, signal, wait_until, write_rows};

#[test]
fn rows_outlive_a_stop_and_the_settings_are_the_stated_ones() {
    let mut cluster = Cluster::start();
    assert!(!cluster.embedded.adopted());
    write_rows(&cluster, 1000);
    for (name, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("shared_buffers", "16MB"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("jit", "off"),
    ] {
        assert_eq!(cluster.query(&format!("show {name}")), [expected], "{name}");
    }

    // Ctrl-C in a terminal goes to the server's process group: Postgres is not in it.
    let pid = cluster.embedded.pid().unwrap();
    assert_eq!(getpgid(Some(Pid::from_raw(pid))).unwrap().as_raw(), pid);
    assert_ne!(getpgrp().as_raw(), pid);
    // Nothing of this process was inherited: not its lock, not its sockets.
    let inherited: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().contains("rinha.lock"))
        .collect();
    assert_eq!(inherited, [] as [PathBuf; 0]);
    let socket_dir = fs::metadata(cluster.embedded.socket_dir()).unwrap();
    assert_eq!(socket_dir.mode() & 0o777, 0o700);
    assert!(cluster.embedded.socket_dir().starts_with(cluster.directory()));

    let start = Instant::now();
    cluster.embedded.stop().unwrap();
    println!("stopped in {:?}", start.elapsed());
    cluster.embedded.stop().unwrap();
    assert!(!cluster.embedded.is_running());
    assert_eq!(cluster.embedded.pid(), None);
    assert!(!cluster.pgdata().join("postmaster.pid").exists());

    let log = fs::read_to_string(cluster.embedded.log_path()).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
    // A backend that has not noticed yet that its client left is terminated by the stop, and says so.
    let complaints: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("FATAL") && !line.contains("administrator command"))
        .collect();
    assert_eq!(complaints, [] as [&str; 0]);

    let directory = cluster.leave(drop);
    let start = Instant::now();
    let cluster = Cluster::start_in(directory);
    println!("started in {:?}", start.elapsed());
    assert_eq!(kept(&cluster), ["1000|1000"]);
}

#[test]
fn two_at_once_and_a_second_server_on_one_directory() {
    let one = Cluster::start();
    let two = Cluster::start();
    write_rows(&one, 1);
    write_rows(&two, 2);
    assert_eq!(kept(&one), ["1|1"]);
    assert_eq!(kept(&two), ["2|2"]);

    let pid = std::process::id().to_string();
    refused(&settings(one.directory()), &["another rinha server", &pid, "--data-dir"]);
    // The refusal did not disturb the first.
    assert_eq!(kept(&one), ["1|1"]);
}

/// The paths of a system are bytes.
#[test]
fn a_data_directory_that_is_not_utf_8() {
    let parent = cluster::temporary_directory();
    let mut settings = cluster::settings(parent.path());
    settings.data_dir = parent.path().join(OsStr::from_bytes(b"dados-\xe7\xe3o"));
    let began = Instant::now();
    let mut embedded = Embedded::start(&settings).expect("a Postgres");
    println!("started in {:?}", began.elapsed());
    assert_eq!(cluster::query(&embedded.config(), "select 1"), ["1"]);
    embedded.stop().unwrap();
}

#[test]
fn a_killed_postmaster_is_started_again() {
    let mut cluster = Cluster::start();
    write_rows(&cluster, 10);
    let config = cluster.config();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let clients = std::thread::spawn(move || {
        block_on(async {
            // One backend is idle, and ends with its postmaster; one computes, and does not notice.
            let idle = connect(&config).await;
            let busy = connect(&config).await;
            ready.send(()).unwrap();
            let endless =
                busy.simple_query("select max(s) from (select generate_series(1, 1000000000000) s) n");
            assert!(endless.await.is_err());
            assert!(idle.simple_query("select 1").await.is_err());
        });
    });
    is_ready.recv().unwrap();
    let active = "select count(*) from pg_stat_activity \
         where backend_type = 'client backend' and state = 'active' and pid <> pg_backend_pid()";
    wait_until("a busy backend", || cluster.query(active) == ["1"]);
    cluster.query("insert into kept values (11)");

    let first = cluster.embedded.pid();
    signal(first, Signal::SIGKILL);
    wait_until("the end of the postmaster", || !cluster.embedded.is_running());
    let start = Instant::now();
    assert!(cluster.embedded.ensure_running().unwrap());
    println!("started again in {:?}", start.elapsed());
    assert_ne!(cluster.embedded.pid(), first);
    assert!(!cluster.embedded.ensure_running().unwrap());
    assert_eq!(kept(&cluster), ["11|11"]);
    clients.join().unwrap();
}

#[test]
fn nothing_is_left_behind_by_a_panic() {
    let (send, receive) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let cluster = Cluster::start();
        let tag = cluster.query("show cluster_name").remove(0);
        send.send((tag, cluster.directory().to_path_buf())).unwrap();
        panic!("on purpose");
    });
    assert!(test.join().is_err());
    let (tag, directory) = receive.recv().unwrap();
    assert_eq!(processes_with(&tag), [] as [String; 0]);
    assert!(!directory.exists());
}

#[test]
fn a_long_path_moves_the_socket() {
    let directory = temporary_directory();
    let long = directory.path().join("d".repeat(90));
    let mut settings = settings(&long);
    // Other characters that a path may hold.
    settings.data_dir = long.join("a, \"b\" 'c' $d é");
    let mut embedded = Embedded::start(&settings).unwrap();
    let socket_dir = embedded.socket_dir().to_path_buf();
    assert!(!socket_dir.starts_with(directory.path()), "{}", socket_dir.display());
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    assert_eq!(cluster::query(&embedded.config(), "select 1"), ["1"]);

    // The next server finds the socket again.
    let pid = embedded.pid();
    embedded.leave_running();
    embedded = Embedded::start(&settings).unwrap();
    assert_eq!(embedded.pid(), pid);
    assert_eq!(embedded.socket_dir(), socket_dir);

    embedded.stop().unwrap();
    assert!(!socket_dir.exists());
    // Something else has the name: the start is refused, and does not use it.
    fs::create_dir(&socket_dir).unwrap();
    fs::set_permissions(&socket_dir, Permissions::from_mode(0o777)).unwrap();
    drop(embedded);
    refused(&settings, &[socket_dir.to_str().unwrap(), "0700"]);
    fs::remove_dir(&socket_dir).unwrap();
}
