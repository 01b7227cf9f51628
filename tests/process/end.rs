//! Ends that were asked for, and what a health check says meanwhile.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rinha::limits::SIGNAL_REPEAT_TIME;

use crate::cluster::{Cluster, processes_with, temporary_directory};
use crate::load::{Pessoa, seed, wait_until};
use crate::processes::{Frozen, Home, family};
use crate::server::{Address, Connection, Response, Server, binary, request};
use crate::{each_server, refused, run};

/// The contract's bound on an end.
const END_TIME_MAX: Duration = Duration::from_secs(10);

fn is_stopping(server: &Server) -> bool {
    server.log().iter().any(|line| line.contains("stopping"))
}

/// Asks over and over until the answer is that the server is draining.
fn wait_until_draining(connection: &mut Connection) -> Response {
    let mut health = None;
    wait_until("a draining server", || {
        let answer = connection.ask("GET", "/healthz", "");
        let draining = answer.status == 503;
        health = Some(answer);
        draining
    });
    health.expect("an answer")
}

#[test]
fn no_request_fails_when_the_server_is_told_to_stop() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            cluster.query("drop table if exists pessoas");
            let mut server = Server::on(&cluster.config(), arguments);
            let seed = seed();
            let known = Pessoa::named("conhecida").post_to(&server).id();
            // Connections without a request yet: the backlog's and idle ones. Each is good for one last request.
            let mut idle: Vec<Connection> = (0..20).map(|_| server.connect()).collect();
            let mut probe = server.connect();
            let answered = AtomicUsize::new(0);
            let created: usize = thread::scope(|scope| {
                let clients = (0..6).map(|number| {
                    let (server, answered, known) = (&server, &answered, &known);
                    scope.spawn(move || {
                        let mut connection = server.connect();
                        for created in 1.. {
                            let pessoa = Pessoa::named(&format!("{seed:x}.{number}.{created}"));
                            let answer = pessoa.post(&mut connection).expect("an answer to every request");
                            assert_eq!(answer.status, 201, "{}", answer.text());
                            answered.fetch_add(1, Ordering::Relaxed);
                            if answer.header("Connection") == Some("close") {
                                return created;
                            }
                            let answer = connection.ask("GET", &format!("/pessoas/{known}"), "");
                            assert_eq!(answer.status, 200);
                            if answer.header("Connection") == Some("close") {
                                return created;
                            }
                        }
                        unreachable!("the server is told to stop")
                    })
                });
                let clients: Vec<_> = clients.collect();
                wait_until("a busy server", || answered.load(Ordering::Relaxed) > 200);
                server.signal(signal);
                wait_until_draining(&mut probe);
                let last = idle.iter_mut().enumerate().map(|(number, connection)| {
                    let answer =
                        Pessoa::named(&format!("última{number}")).post(connection).expect("an answer");
                    assert_eq!(answer.status, 201, "{}", answer.text());
                    answer
                });
                // Another core may hear of the drain a moment later.
                let told = last.filter(|answer| answer.header("Connection") == Some("close")).count();
                assert!(told > 0);
                clients.into_iter().map(|client| client.join().expect("a client")).sum()
            });
            let began = Instant::now();
            let status = server.wait(END_TIME_MAX);
            println!("{signal}: {created} created, ended {:?} after the last answer", began.elapsed());
            assert_eq!(status.code(), Some(0), "{signal}: {:#?}", server.log());
            let rows = (created + idle.len() + 1).to_string();
            assert_eq!(cluster.query("select count(*) from pessoas"), [rows]);
        }
    });
}

#[test]
fn draining() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let directory = temporary_directory();
        let path = directory.path().join("api-0.sock");
        let listen = format!("unix:{}", directory.path().join("api-{core}.sock").display());
        let mut server = Server::on(&cluster.config(), &[&["--listen", &listen], arguments].concat());
        let healthcheck = |listen: &str| {
            let mut command = binary();
            command.args(["healthcheck", "--listen", listen]);
            command
        };
        let Address::Tcp(tcp) = server.tcp() else { unreachable!("TCP comes first") };
        let unix = format!("unix:{}", path.display());
        for listen in [tcp.to_string(), unix.clone()] {
            let ended = run(healthcheck(&listen));
            assert_eq!(
                (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
                (Some(0), "", ""),
                "{listen}"
            );
        }
        let mut balancer = Connection::open(&Address::Unix(path.clone()));
        assert_eq!(balancer.ask("GET", "/healthz", "").status, 200);
        let mut silent = server.connect();
        assert!(silent.is_alive());

        let began = Instant::now();
        server.signal(Signal::SIGTERM);
        let health = wait_until_draining(&mut balancer);
        assert_eq!(health.header("Connection"), Some("close"));
        assert_eq!(health.json()["status"], "draining");
        // The check cannot connect or is told 503: unhealthy either way.
        refused(healthcheck(&unix), 1, &["rinha: ", &unix]);
        // A client that says nothing is let go, with a clean close.
        assert!(silent.is_closed_by_server());
        let status = server.wait(END_TIME_MAX);
        println!("drained in {:?}", began.elapsed());
        assert_eq!(status.code(), Some(0));
        assert!(!path.exists());
        for listen in [tcp.to_string(), unix] {
            refused(healthcheck(&listen), 1, &["rinha: ", &listen, "cannot connect"]);
        }
    });
}

/// Supervisors signal the process and its group: within a second that is one request.
#[test]
fn a_second_signal_ends_at_once_if_it_comes_later() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        for (first, second) in [(Signal::SIGTERM, Signal::SIGTERM), (Signal::SIGINT, Signal::SIGTERM)] {
            for (pause, code) in [(Duration::ZERO, 0), (Duration::from_millis(1_200), 1)] {
                let mut server = Server::on(&cluster.config(), arguments);
                // The drain waits for this client.
                let mut silent = server.connect();
                assert!(silent.is_alive());
                server.signal(first);
                wait_until("the drain", || is_stopping(&server));
                thread::sleep(pause);
                let began = Instant::now();
                server.signal(second);
                let status = server.wait(END_TIME_MAX);
                println!("{first}, {second} after {pause:?}: {:?}", began.elapsed());
                assert_eq!(status.code(), Some(code));
                wait_until("the last line", || server.log().len() > 1);
                let last = server.events().pop().expect("a line");
                let at_once = last["message"].as_str().expect("a text").contains("second signal");
                assert_eq!(at_once, code == 1, "{last}");
                assert!(code == 0 || began.elapsed() < Duration::from_secs(1));
            }
        }
    });
}

/// A second signal ends a private Postgres at once too, also when the server waits for nothing but its end; that is slow
/// here because one of its processes stands still. Nothing of it is left running, and nothing is lost.
#[test]
fn a_second_signal_ends_a_private_postgres_at_once() {
    for stands_still in [false, true] {
        let home = Home::new();
        let start = || Server::start(&["--cores=2", "--data-dir", &home.data_dir_text()]);
        let mut server = start();
        let created = Pessoa::named("guardada").post_to(&server);
        assert_eq!(created.status, 201);
        let tag = home.tag();
        // Either the drain waits for this client, or the stop of Postgres for its checkpointer.
        let mut silent = (!stands_still).then(|| server.connect());
        assert!(silent.as_mut().is_none_or(Connection::is_alive));
        let postmaster = home.postmaster().expect("a postmaster");
        let checkpointer = family(postmaster).into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(": checkpointer"))
        });
        let checkpointer = checkpointer.expect("a checkpointer");
        let frozen = stands_still.then(|| Frozen::freeze(vec![checkpointer]));

        server.signal(Signal::SIGTERM);
        wait_until("the drain", || is_stopping(&server));
        let stopping = Instant::now();
        if stands_still {
            wait_until("the end of the cores", || {
                let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
                !threads.flatten().any(|thread| {
                    let name = std::fs::read_to_string(thread.path().join("comm"));
                    name.is_ok_and(|name| name.starts_with("core-"))
                })
            });
        }
        wait_until("another request", || stopping.elapsed() > SIGNAL_REPEAT_TIME);
        let began = Instant::now();
        server.signal(Signal::SIGTERM);
        let status = server.wait(END_TIME_MAX);
        println!(
            "{stands_still}: signalled again after {:?}, ended {:?} later",
            began - stopping,
            began.elapsed()
        );
        assert_eq!(status.code(), Some(1), "{:#?}", server.log());
        assert!(began.elapsed() < Duration::from_secs(2));
        // A database thread may say after it that its connection is lost: until the exit all of them run on.
        wait_until("why it ended", || {
            let events = server.events();
            events.iter().any(|event| event["message"].as_str().expect("a text").contains("second signal"))
        });
        assert_eq!(processes_with(&tag), [] as [String; 0]);
        drop(frozen);

        let server = start();
        let read = server.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((read.status, &read.body), (200, &created.body));
    }
}

/// A core that does not come back, here because a debugger holds it, holds up the end for a time and no longer. What
/// was acknowledged is in the database, so the end is a good one; and the log says that it was not whole.
#[test]
fn a_stuck_core_is_left_behind() {
    let cluster = Cluster::start();
    let mut server = Server::on(&cluster.config(), &["--cores=2"]);
    server.wait_until_serving();
    let created = Pessoa::named("guardada").post_to(&server);
    assert_eq!(created.status, 201);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    let core = tasks.map(|task| task.expect("a thread").path()).find(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == "core-1")
    });
    let core = core.expect("a thread of the core").file_name().and_then(|tid| tid.to_str()?.parse().ok());
    let core = Pid::from_raw(core.expect("a thread's id"));
    if let Err(error) = ptrace::seize(core, ptrace::Options::empty()) {
        return println!("skipped: this process may not trace another: {error}");
    }
    ptrace::interrupt(core).expect("a traced thread");
    waitpid(core, Some(WaitPidFlag::__WALL)).expect("a thread that stands still");
    // A traced thread that is killed with its process waits, as the process does, until its tracer has heard of it.
    let debugger = thread::spawn(move || waitpid(core, Some(WaitPidFlag::__WALL)));

    server.signal(Signal::SIGTERM);
    let began = Instant::now();
    let status = server.wait(END_TIME_MAX);
    println!("ended after {:?}: {:?}", began.elapsed(), debugger.join().expect("a debugger"));
    assert_eq!(status.code(), Some(0));
    wait_until("the last line", || {
        server.log().iter().any(|line| line.contains("of 2 cores, 1 drained and 0 left in time"))
    });
    assert_eq!(cluster.query("select count(*) from pessoas"), ["1"]);
}

/// `nohup` ignores SIGHUP, and a shell without job control SIGINT for what it puts into the background.
#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let cluster = Cluster::start();
    let server = binary();
    let mut command = Command::new("sh");
    for (name, _) in server.get_envs() {
        command.env_remove(name);
    }
    command.args(["-c", "trap '' HUP INT; exec \"$0\" \"$@\""]).arg(server.get_program());
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--cores=1", "--database-url"]);
    command.arg(crate::server::database_url(&cluster.config()));
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        server.signal(signal);
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").status, 200);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
}

/// A start that makes a cluster, or waits for a database that is not there, is given up at once.
#[test]
fn a_start_that_waits_can_be_stopped() {
    let home = Home::new();
    for round in 0..3 {
        let mut command = binary();
        command.args(["--log-format=json", "--listen=127.0.0.1:0", "--data-dir", &home.data_dir_text()]);
        let mut server = Server::spawn(command);
        wait_until("the start of initdb", || {
            server.log().iter().any(|line| line.contains("making a Postgres cluster"))
        });
        thread::sleep(Duration::from_millis(150 * round));
        let began = Instant::now();
        server.signal(Signal::SIGTERM);
        let status = server.wait(END_TIME_MAX);
        println!("initdb after {} ms: ended in {:?}", 150 * round, began.elapsed());
        assert_eq!(status.code(), Some(0), "{:#?}", server.log());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        // Nothing of it is left, or the whole cluster.
        let left: Vec<String> = std::fs::read_dir(home.data_dir())
            .expect("the data directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("postgres.tmp"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        if home.data_dir().join("postgres").exists() {
            break;
        }
    }
    let mut command = binary();
    command.args([
        "--log-format=json",
        "--listen=127.0.0.1:0",
        "--database-url",
        "host=/nowhere user=a dbname=b",
    ]);
    let mut server = Server::spawn(command);
    wait_until("a start that waits", || {
        server.log().iter().any(|line| line.contains("waiting for the database"))
    });
    let began = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// Answers one connection with these bytes, or with silence.
fn impostor(answer: Option<&'static [u8]>) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut received = [0; 4096];
        let _ = stream.read(&mut received);
        if let Some(answer) = answer {
            let _ = stream.write_all(answer);
        } else {
            // Until the client gives up.
            let _ = stream.read(&mut received);
        }
    });
    (address, thread)
}

#[test]
fn a_health_check_of_something_else() {
    let check = |listen: &str| {
        let mut command: Command = binary();
        command.env("LISTEN", listen).arg("healthcheck");
        command
    };
    for (answer, words) in [
        (Some(&b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..]), &["503"][..]),
        (Some(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), &["404"]),
        (Some(b"+OK ready\r\n\r\n"), &[]),
        (Some(b""), &[]),
        (None, &["did not answer within 3s"]),
    ] {
        let (address, thread) = impostor(answer);
        refused(check(&address), 1, &[&["rinha: ", &address], words].concat());
        thread.join().expect("the impostor");
    }
    let directory = temporary_directory();
    let path = directory.path().join("nobody.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    for listen in
        [format!("unix:{}", path.display()), format!("unix:{}", path.with_extension("no").display())]
    {
        refused(check(&listen), 1, &["rinha: ", &listen, "cannot connect"]);
    }
    // The request is well-formed, so that the silence of an impostor is not its fault.
    assert!(request("GET", "/healthz", "").ends_with("\r\n\r\n"));
}
