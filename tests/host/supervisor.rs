//! What the server tells whoever started it, on a real socket of a real supervisor's protocol (sd_notify(3)).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::{WAIT_MAX, wait_until};
use crate::processes::{Child, Home};
use crate::server::{Server, binary, database_url};

/// The contract's bound on an end.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// `WATCHDOG_USEC` of these tests.
const WATCHDOG: Duration = Duration::from_secs(3);

/// The end of the socket that a supervisor reads.
struct Ear {
    socket: UnixDatagram,
    name: String,
    heard: Vec<(Instant, String)>,
    _directory: TempDir,
}

impl Ear {
    fn at_path() -> Ear {
        let directory = temporary_directory();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Ear::new(socket, path.to_str().expect("UTF-8").to_owned(), directory)
    }

    fn abstract_name() -> Ear {
        let directory = temporary_directory();
        let name = format!("{}/notify", directory.path().display());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        Ear::new(UnixDatagram::bind_addr(&address).expect("a socket"), format!("@{name}"), directory)
    }

    fn new(socket: UnixDatagram, name: String, directory: TempDir) -> Ear {
        socket.set_nonblocking(true).expect("a socket");
        Ear { socket, name, heard: Vec::new(), _directory: directory }
    }

    /// The command of a server that tells this ear.
    fn server(&self) -> Command {
        let mut command = binary();
        command.args(["--log-format=json", "--listen=127.0.0.1:0", "--cores=2"]);
        command.env("NOTIFY_SOCKET", &self.name).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command
    }

    fn on(&self, cluster: &Cluster) -> Server {
        let mut command = self.server();
        command.args(["--database-url", &database_url(&cluster.config())]);
        Server::spawn(command)
    }

    fn listen(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let message = std::str::from_utf8(&bytes[..length]).expect("UTF-8").to_owned();
            self.heard.push((Instant::now(), message));
        }
    }

    /// How many messages were heard that have a line beginning so.
    fn count(&mut self, line: &str) -> usize {
        self.listen();
        let has = |message: &str| message.lines().any(|found| found.starts_with(line));
        self.heard.iter().filter(|(_, message)| has(message)).count()
    }

    fn wait_for(&mut self, line: &str, count: usize) {
        wait_until(line, || self.count(line) >= count);
    }

    fn messages(&mut self) -> Vec<&str> {
        self.listen();
        self.heard.iter().map(|(_, message)| message.as_str()).collect()
    }

    /// The place of the first message that has a line beginning so.
    fn first(&mut self, line: &str) -> usize {
        let found = self.messages().iter().position(|message| message.lines().any(|at| at.starts_with(line)));
        found.unwrap_or_else(|| panic!("expected {line}: {:#?}", self.messages()))
    }
}

#[test]
fn a_start_and_an_end_are_told_in_order() {
    let cluster = Cluster::start();
    let mut ear = Ear::at_path();
    let mut server = ear.on(&cluster);
    ear.wait_for("READY=1", 1);
    server.wait_until_serving();
    assert_eq!(server.ask("GET", "/healthz", "").status, 200);
    ear.wait_for("WATCHDOG=1", 2);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
    let (waits, loads) = (ear.first("STATUS=waiting for the database"), ear.first("STATUS=loading"));
    let (ready, lives, stops) = (ear.first("READY=1"), ear.first("WATCHDOG=1"), ear.first("STOPPING=1"));
    assert!(waits < loads && loads < ready && ready < lives && lives < stops, "{:#?}", ear.messages());
    for once in ["READY=1", "STOPPING=1"] {
        assert_eq!(ear.count(once), 1, "{:#?}", ear.messages());
    }
    let said = ear.messages()[ready].to_owned();
    assert!(said.contains(&format!("MAINPID={}\n", server.pid())), "{said}");
    assert!(said.contains("STATUS=serving 127.0.0.1:"), "{said}");
    // What is told of a start is over then.
    assert!(
        ear.messages()[ready..]
            .iter()
            .all(|message| !message.contains("EXTEND") && !message.contains("loading"))
    );
}

/// It takes as long as it takes, and is not killed meanwhile; nor does it say that it lives before it is ready.
#[test]
fn a_start_that_waits_gets_more_time() {
    let mut ear = Ear::at_path();
    let mut command = ear.server();
    let port = Child::free_port();
    command.args(["--database-url", &format!("host=127.0.0.1 port={port} user=rinha dbname=postgres")]);
    let mut server = Server::spawn(command);
    ear.wait_for("EXTEND_TIMEOUT_USEC=", 3);
    assert_eq!((ear.count("READY=1"), ear.count("WATCHDOG=1")), (0, 0), "{:#?}", ear.messages());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
    assert_eq!((ear.count("READY=1"), ear.count("STOPPING=1")), (0, 1), "{:#?}", ear.messages());
}

#[test]
fn a_start_that_fails_says_why() {
    let mut ear = Ear::at_path();
    let mut command = ear.server();
    command.args(["--listen", "unix:/nowhere/at/all.sock"]);
    let mut server = Server::spawn(command);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(1));
    ear.first("STATUS=cannot listen on unix:/nowhere/at/all.sock");
    assert_eq!(ear.count("READY=1"), 0);
}

/// A Postgres that is built for systemd would tell it that it is ready, too.
#[test]
fn nobody_else_speaks_for_the_server() {
    let home = Home::new();
    let mut ear = Ear::abstract_name();
    let mut command = ear.server();
    command.args(["--data-dir", &home.data_dir_text()]);
    let mut server = Server::spawn(command);
    ear.wait_for("READY=1", 1);
    server.wait_until_serving();
    ear.first("STATUS=starting the private Postgres");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
    assert_eq!((ear.count("READY=1"), ear.count("STOPPING=1")), (1, 1), "{:#?}", ear.messages());
    let ready = ear.first("READY=1");
    assert!(ear.messages()[ready].contains(&format!("MAINPID={}\n", server.pid())));
}

/// A core stands still, here because a debugger holds it: the watchdog is to bite.
#[test]
fn a_core_that_stands_still_is_no_life() {
    let cluster = Cluster::start();
    let mut ear = Ear::abstract_name();
    let mut server = ear.on(&cluster);
    server.wait_until_serving();
    ear.wait_for("WATCHDOG=1", 2);
    let Some(debugger) = Debugger::hold(&server, "core-1") else { return };
    let held = Instant::now();
    wait_until("a silence in which the watchdog bites", || {
        ear.listen();
        let last = ear.heard.last().expect("it was heard").0.max(held);
        last.elapsed() > WATCHDOG
    });
    assert!(!server.has_ended());
    let before = ear.count("WATCHDOG=1");
    drop(debugger);
    ear.wait_for("WATCHDOG=1", before + 2);
}

/// Its queue is full: the server serves all the same, and the supervisor hears of it once it reads.
#[test]
fn a_supervisor_that_does_not_read_holds_nobody_up() {
    let cluster = Cluster::start();
    let mut ear = Ear::at_path();
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a socket");
    while filler.send_to(b"X=1", &ear.name).is_ok() {}
    let mut server = ear.on(&cluster);
    server.wait_until_serving();
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "0");
    ear.wait_for("READY=1", 1);
    ear.wait_for("WATCHDOG=1", 1);
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let cluster = Cluster::start();
    let mut ear = Ear::at_path();
    let mut command = ear.server();
    command.args(["--database-url", &database_url(&cluster.config())]).env("WATCHDOG_PID", "1");
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    ear.wait_for("READY=1", 1);
    // Nobody is left who could say anything.
    wait_until("the end of the thread", || !threads(&server).iter().any(|name| name == "supervisor"));
    assert_eq!(ear.count("WATCHDOG=1"), 0);
}

#[test]
fn without_a_supervisor_nothing_is_said() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    assert!(!threads(&server).iter().any(|name| name == "supervisor"), "{:?}", threads(&server));
    for wrong in ["notify", "/nowhere/at/all", "vsock:2:3"] {
        let mut command = binary();
        command.args(["--log-format=json", "--listen=127.0.0.1:0"]).env("NOTIFY_SOCKET", wrong);
        command.args(["--database-url", &database_url(&cluster.config())]);
        Server::spawn(command).wait_until_serving();
    }
}

/// Holds one thread of the server. It goes on when this is dropped, before the server is: who is held cannot end.
struct Debugger(Pid);

impl Debugger {
    fn hold(server: &Server, name: &str) -> Option<Debugger> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
        let thread = tasks.flatten().find(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found.trim() == name)
        });
        let thread = thread.expect("a thread of that name").file_name();
        let thread = Pid::from_raw(thread.to_str().expect("a number").parse().expect("a number"));
        if let Err(errno) = nix::sys::ptrace::attach(thread) {
            println!("skipped: ptrace: {errno}");
            return None;
        }
        nix::sys::wait::waitpid(thread, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("a stopped thread");
        Some(Debugger(thread))
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        // One that was killed meanwhile is gone.
        let _ = nix::sys::ptrace::detach(self.0, None);
    }
}

fn threads(server: &Server) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads").flatten();
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm")).unwrap_or_default();
    tasks.map(|task| name(task.path()).trim().to_owned()).collect()
}

const _: () = assert!(WATCHDOG.as_secs() * 4 < WAIT_MAX.as_secs());
