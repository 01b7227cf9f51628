//! The private Postgres, against the real binaries: life, death and the ways a start can fail.

#[path = "support/cluster.rs"]
mod cluster;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{Cluster, block_on, connect, is_root_or_skip, processes_with, settings, temporary_directory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpgrp};
use rinha::embedded::{Embedded, Settings};
use tempfile::TempDir;

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

#[test]
fn refusals_without_a_cluster() {
    let directory = temporary_directory();
    let base = settings(directory.path());

    let mut no_binaries = base.clone();
    no_binaries.search = vec![directory.path().join("nowhere")];
    refused(&no_binaries, &["PostgreSQL 13", "apt-get install postgresql", "dnf install postgresql-server"]);

    fs::write(directory.path().join("file"), "").unwrap();
    let mut under_a_file = base.clone();
    under_a_file.data_dir = directory.path().join("file/data");
    refused(&under_a_file, &["file/data", "--data-dir"]);

    let pgdata = base.data_dir.join("postgres");
    fs::create_dir_all(&pgdata).unwrap();
    fs::write(pgdata.join("letter.txt"), "").unwrap();
    refused(&base, &["not empty", "PG_VERSION"]);

    // A cluster of a version that is not installed. It is never opened, so one file is cluster enough.
    fs::write(pgdata.join("PG_VERSION"), "9.6\n").unwrap();
    refused(&base, &["PostgreSQL 9.6", "apt-get install postgresql-9.6"]);
    no_binaries.search.clear();
    refused(&no_binaries, &["apt-get install postgresql"]);
}

#[test]
fn an_unfinished_initdb_is_removed() {
    let directory = temporary_directory();
    let data = directory.path().join("data");
    let leftover = data.join("postgres.tmp-1-1");
    fs::create_dir_all(leftover.join("base")).unwrap();
    fs::write(leftover.join("PG_VERSION"), "15\n").unwrap();
    // An empty directory in the cluster's place is not in the way.
    fs::create_dir(data.join("postgres")).unwrap();
    let cluster = Cluster::start_in(directory);
    assert!(!leftover.exists());
    let rest: Vec<String> = fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("postgres.tmp"))
        .collect();
    assert_eq!(rest, [] as [String; 0]);
    assert_eq!(cluster.query("select 1"), ["1"]);
}

#[test]
fn a_data_directory_out_of_reach() {
    if !is_root_or_skip("a directory that only root enters") {
        return;
    }
    let directory = temporary_directory();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let settings = settings(&closed.join("deeper"));
    refused(&settings, &[&format!("may not enter {}:", closed.display()), "chmod o+x"]);
    // What the message advises helps.
    fs::set_permissions(&closed, Permissions::from_mode(0o701)).unwrap();
    let embedded = Embedded::start(&settings).unwrap();
    // As root the files belong to another user, and from then on that owner counts.
    let pgdata = settings.data_dir.join("postgres");
    assert_ne!(fs::metadata(&pgdata).unwrap().uid(), 0);
    drop(embedded);
    std::os::unix::fs::chown(&pgdata, Some(0), Some(0)).unwrap();
    refused(&settings, &["belongs to root", "chown -R"]);
}

/// A small file system of its own.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let directory = temporary_directory();
        let options = format!("size={size},mode=755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "rinha-test"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(directory)),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }

    /// Takes all the space that is left, except for `mib` MiB.
    fn fill_but(&self, mib: u64) -> io::Result<PathBuf> {
        let path = self.0.path().join("filler");
        let disk = nix::sys::statvfs::statvfs(self.0.path())?;
        let free = disk.blocks_available() * disk.fragment_size();
        let filler = usize::try_from(free.saturating_sub(mib << 20)).expect("a small disk");
        let filler = vec![1; filler];
        fs::write(&path, filler)?;
        Ok(path)
    }

    /// Gives the space back at once: a child that another test is just forking shares the descriptor that wrote the
    /// file until its exec, and a removed file keeps its blocks for as long.
    fn empty(filler: &Path) {
        fs::write(filler, "").expect("a truncated file");
        fs::remove_file(filler).expect("a removed file");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk() {
    if !is_root_or_skip("a small disk") {
        return;
    }
    let Some(disk) = Tmpfs::mount("96m") else {
        return;
    };
    let settings = settings(disk.0.path());
    let told = ["no space left", disk.0.path().to_str().unwrap(), "MiB free"];

    // Full from the start, then in the middle of initdb: nothing half made stays.
    for free in [0, 8, 30] {
        let filler = disk.fill_but(free).unwrap();
        refused(&settings, &told);
        Tmpfs::empty(&filler);
        assert!(!settings.data_dir.join("postgres").exists());
    }
    let embedded = Embedded::start(&settings).unwrap();
    drop(embedded);

    // Full when an existing cluster starts.
    let filler = disk.fill_but(0).unwrap();
    refused(&settings, &told);
    Tmpfs::empty(&filler);
    let embedded = Embedded::start(&settings).unwrap();
    assert_eq!(cluster::query(&embedded.config(), "select 1"), ["1"]);
}

/// In namespaces of its own, where this test may make them: the server as the init of a container, and with a small
/// `/dev/shm`.
#[test]
fn as_in_a_container() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can make namespaces here");
    }
    let directory = temporary_directory();
    let serve = |prefix: &[&str], name: &str| {
        let mut command = Command::new("unshare");
        command.args(prefix).arg(env!("CARGO_BIN_EXE_rinha"));
        let socket = format!("unix:{}/{name}.sock", directory.path().display());
        command.args(["--listen", &socket, "--cores=1", "--data-dir"]).arg(directory.path().join(name));
        Killed(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("unshare"))
    };

    let mut child = serve(&["--pid", "--fork", "--mount-proc", "--kill-child"], "init");
    let socket = directory.path().join("init.sock");
    wait_until("the server", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let children = |parent: i32| -> Vec<(i32, char)> {
        let pids = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
            (fields[1].parse() == Ok(parent)).then(|| (pid, fields[0].chars().next().unwrap_or('?')))
        })
        .collect()
    };
    let server = children(i32::try_from(child.0.id()).unwrap())[0].0;
    let postmaster = children(server)[0].0;
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    wait_until("another postmaster and no zombie", || {
        let children = children(server);
        children.len() == 1 && children[0].0 != postmaster && children[0].1 != 'Z'
    });
    kill(Pid::from_raw(server), Signal::SIGTERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));

    let mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec \"$0\" \"$@\"";
    let mut child = serve(&["--mount", "sh", "-c", mount], "shm");
    let mut log = String::new();
    io::Read::read_to_string(child.0.stderr.as_mut().unwrap(), &mut log).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    assert!(log.contains("/dev/shm is too small"), "{log}");
}
