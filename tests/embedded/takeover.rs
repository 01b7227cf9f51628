//! What a start finds of an earlier one: pid files, lock files, and a Postgres that still runs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rinha::embedded::Embedded;

use crate::cluster::{self, Cluster, processes_with, settings};
use crate::{Killed, as_owner_of, kept, postgres, refused, signal, wait_until, write_rows};

#[test]
fn a_stale_pid_file() {
    let cluster = Cluster::start();
    let pgdata = cluster.pgdata();
    let socket_dir = cluster.embedded.socket_dir().to_path_buf();
    write_rows(&cluster, 5);
    let pid_file = fs::read_to_string(pgdata.join("postmaster.pid")).unwrap();
    let with_pid = |pid: u32| {
        let (_, rest) = pid_file.split_once('\n').unwrap();
        format!("{pid}\n{rest}")
    };
    let mut directory = cluster.leave(drop);

    let mut dead = as_owner_of(&pgdata, "/bin/true", &[]);
    dead.0.wait().unwrap();
    // With the pid of a live process of the same user, Postgres itself would refuse to start: it takes that process for
    // a postmaster.
    let live = as_owner_of(&pgdata, "/bin/sleep", &["60"]);
    // A process that ended and was not reaped, as in a container without an init, answers kill(pid, 0) as well.
    let zombie = as_owner_of(&pgdata, "/bin/true", &[]);
    for pid in [dead.0.id(), zombie.0.id(), live.0.id(), std::process::id()] {
        fs::write(pgdata.join("postmaster.pid"), with_pid(pid)).unwrap();
        let cluster = Cluster::start_in(directory);
        assert!(!cluster.embedded.adopted());
        assert_eq!(kept(&cluster), ["5|5"]);
        directory = cluster.leave(drop);
    }

    // A Postgres that runs on the cluster, but was started by hand, is neither adopted nor ended.
    let program = postgres();
    let socket_setting = format!("unix_socket_directories={}", socket_dir.display());
    let mut by_hand = as_owner_of(
        &pgdata,
        program.to_str().unwrap(),
        &["-D", pgdata.to_str().unwrap(), "-c", "listen_addresses=", "-c", &socket_setting],
    );
    let pid = by_hand.0.id().to_string();
    wait_until("a Postgres by hand", || {
        let ready = fs::read_to_string(pgdata.join("postmaster.pid"));
        ready.is_ok_and(|content| content.starts_with(&pid) && content.contains("ready"))
    });
    refused(&settings(directory.path()), &["someone else started", &pid]);
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGINT).unwrap();
    assert!(by_hand.0.wait().unwrap().success());
}

/// What a power cut or a copy of a live directory leaves: lock files that are empty, torn, or name a live process that
/// is something else, another cluster's postmaster among them.
#[test]
fn lock_files_of_another_time() {
    let other = Cluster::start();
    let cluster = Cluster::start();
    let pgdata = cluster.pgdata();
    let socket_dir = cluster.embedded.socket_dir().to_path_buf();
    write_rows(&cluster, 5);
    let pid_file = fs::read_to_string(pgdata.join("postmaster.pid")).unwrap();
    let socket_lock = fs::read_to_string(socket_dir.join(".s.PGSQL.5432.lock")).unwrap();
    let with_pid = |file: &str, pid: i32| format!("{pid}\n{}", file.split_once('\n').unwrap().1);
    let mut directory = cluster.leave(drop);
    let live = as_owner_of(&pgdata, "/bin/sleep", &["60"]);
    let live = i32::try_from(live.0.id()).map(|pid| (pid, live)).unwrap();

    // A postmaster without a tag, as the system's own: on another cluster, of the same user.
    let elsewhere = other.pgdata();
    let (socket_of_other, program) = (other.directory().join("elsewhere"), postgres());
    fs::create_dir(&socket_of_other).unwrap();
    fs::set_permissions(&socket_of_other, fs::Permissions::from_mode(0o777)).unwrap();
    let other = other.leave(drop);
    let setting = format!("unix_socket_directories={}", socket_of_other.display());
    let foreign = as_owner_of(
        &elsewhere,
        program.to_str().unwrap(),
        &["-D", elsewhere.to_str().unwrap(), "-c", "listen_addresses=", "-c", &setting],
    );
    wait_until("the other Postgres", || socket_of_other.join(".s.PGSQL.5432").exists());
    let foreign = i32::try_from(foreign.0.id()).map(|pid| (pid, foreign)).unwrap();

    for (pid_content, lock_content) in [
        (String::new(), String::new()),
        ("12".to_owned(), "x".to_owned()),
        ("\0\0\0\0".to_owned(), "\0\0\0\0".to_owned()),
        (with_pid(&pid_file, live.0), with_pid(&socket_lock, live.0)),
        (with_pid(&pid_file, foreign.0), with_pid(&socket_lock, foreign.0)),
    ] {
        fs::create_dir_all(&socket_dir).unwrap();
        fs::write(pgdata.join("postmaster.pid"), &pid_content).unwrap();
        fs::write(socket_dir.join(".s.PGSQL.5432.lock"), &lock_content).unwrap();
        let cluster = Cluster::start_in(directory);
        assert!(!cluster.embedded.adopted(), "{pid_content:?}");
        assert_eq!(kept(&cluster), ["5|5"], "{pid_content:?}");
        directory = cluster.leave(drop);
    }
    drop((live, foreign, other));
}

/// Whose pid a file names is told by directories. The start time in the file proves nothing: the clock may have been set.
#[test]
fn a_reused_pid_is_told_by_directories() {
    let other = Cluster::start();
    let cluster = Cluster::start();
    write_rows(&cluster, 5);
    let (pgdata, first) = (cluster.pgdata(), cluster.embedded.pid());
    let with_start_time = |file: &str, time: &str| {
        let mut lines: Vec<&str> = file.lines().collect();
        lines[2] = time;
        lines.join("\n") + "\n"
    };

    // The postmaster of another data directory of this program; even the start time is right.
    let directory = cluster.leave(drop);
    let file = fs::read_to_string(other.pgdata().join("postmaster.pid")).unwrap();
    fs::write(pgdata.join("postmaster.pid"), file).unwrap();
    let cluster = Cluster::start_in(directory);
    assert!(!cluster.embedded.adopted());
    assert_eq!(kept(&cluster), ["5|5"]);
    assert_eq!(other.query("select 1"), ["1"]);

    // The right one, started at another time of the clock.
    let own = cluster.embedded.pid();
    assert_ne!(own, first);
    let directory = cluster.leave(Embedded::leave_running);
    let file = fs::read_to_string(pgdata.join("postmaster.pid")).unwrap();
    fs::write(pgdata.join("postmaster.pid"), with_start_time(&file, "1")).unwrap();
    let cluster = Cluster::start_in(directory);
    assert_eq!((cluster.embedded.adopted(), cluster.embedded.pid()), (true, own));
    assert_eq!(kept(&cluster), ["5|5"]);
}

/// Whether a process runs; one that was not reaped does not.
fn is_alive(pid: Option<i32>) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.expect("a pid"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

/// A cluster that is put in the place of the one that an orphan still runs on, here a copy of it with its pid file.
#[test]
fn an_orphan_whose_cluster_was_moved_away() {
    let cluster = Cluster::start();
    write_rows(&cluster, 5);
    cluster.query("checkpoint");
    let (pgdata, orphan) = (cluster.pgdata(), cluster.embedded.pid());
    let (copy, moved) = (pgdata.with_file_name("copy"), pgdata.with_file_name("moved"));
    assert!(Command::new("cp").arg("-a").args([&pgdata, &copy]).status().unwrap().success());
    cluster.query("insert into kept values (6)");
    let directory = cluster.leave(Embedded::leave_running);
    fs::rename(&pgdata, &moved).unwrap();
    fs::rename(&copy, &pgdata).unwrap();

    let cluster = Cluster::start_in(directory);
    assert!(!cluster.embedded.adopted());
    assert_eq!(kept(&cluster), ["5|5"]);
    assert!(!is_alive(orphan));
    assert!(moved.join("PG_VERSION").exists());
}

/// What the tag of a cluster relies on.
#[test]
fn the_inode_above_a_live_process_is_nobody_elses() {
    let directory = cluster::temporary_directory();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    for held in [false, true] {
        let data = directory.path().join("data");
        fs::create_dir_all(data.join("postgres")).unwrap();
        let before = inode(&data);
        let mut command = Command::new("sleep");
        let held =
            held.then(|| Killed(command.arg("60").current_dir(data.join("postgres")).spawn().unwrap()));
        fs::remove_dir_all(&data).unwrap();
        let reused = (0..1_000).any(|number| {
            let path = directory.path().join(format!("{}-{number}", held.is_some()));
            fs::create_dir(&path).unwrap();
            inode(&path) == before
        });
        println!("held: {}, reused: {reused}", held.is_some());
        assert!(held.is_none() || !reused);
    }
}

#[test]
fn the_orphan_of_a_killed_server() {
    let cluster = Cluster::start();
    write_rows(&cluster, 7);
    let first = cluster.embedded.pid();
    let directory = cluster.leave(Embedded::leave_running);

    // Healthy: taken over, with its pid; and it can be stopped although it need not be a child.
    let mut cluster = Cluster::start_in(directory);
    assert!(cluster.embedded.adopted());
    assert_eq!(cluster.embedded.pid(), first);
    assert!(cluster.embedded.is_running());
    assert!(!cluster.embedded.ensure_running().unwrap());
    assert_eq!(kept(&cluster), ["7|7"]);
    let tag = cluster.query("show cluster_name").remove(0);

    // Killed after it was taken over: noticed, and started again.
    signal(first, Signal::SIGKILL);
    wait_until("the end of the orphan", || !cluster.embedded.is_running());
    assert!(cluster.embedded.ensure_running().unwrap());
    assert!(!cluster.embedded.adopted());
    assert_eq!(kept(&cluster), ["7|7"]);

    // With other settings: replaced.
    let second = cluster.embedded.pid();
    let directory = cluster.leave(Embedded::leave_running);
    let mut other = settings(directory.path());
    other.max_connections = 20;
    let embedded = Embedded::start(&other).unwrap();
    assert!(!embedded.adopted());
    assert_ne!(embedded.pid(), second);
    assert_eq!(cluster::query(&embedded.config(), "show max_connections"), ["20"]);

    // Hanging: replaced.
    signal(embedded.pid(), Signal::SIGSTOP);
    let hanging = embedded.pid();
    embedded.leave_running();
    let mut embedded = Embedded::start(&other).unwrap();
    assert_ne!(embedded.pid(), hanging);
    assert_eq!(cluster::query(&embedded.config(), "select count(*) from kept"), ["7"]);
    embedded.stop().unwrap();
    assert_eq!(processes_with(&tag), [] as [String; 0]);
}
