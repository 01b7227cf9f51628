//! Attacks on time: nobody keeps a core, an exit or the log.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::Pessoa;
use crate::polite::Polite;
use crate::server::{Connection, Server, binary, database_url};

/// The contract's bound on an end.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// A server that does not outlive a failed test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Sends `bytes` over and over, and reads what comes back, until told to stop or cut off.
fn flood(server: &Server, bytes: &[u8], stop: &AtomicBool) {
    let mut connection = server.connect();
    let mut sender = connection.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || while sender.try_send(bytes).is_ok() && !stop.load(Ordering::Relaxed) {});
        while connection.read_once().is_ok() && !stop.load(Ordering::Relaxed) {
            connection.forget();
        }
        connection.abort();
    });
}

/// A client that always has something for the core, on either driver.
#[test]
fn a_client_without_a_pause_keeps_no_core() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let chunks = "1\r\n{\r\n".repeat(4_000);
    let heads = "HEAD /pessoas/1 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000);
    for driver in ["epoll", "auto"] {
        for (what, first, bytes) in [
            (
                "chunks of one byte",
                "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                &chunks,
            ),
            ("pipelined HEADs", "", &heads),
        ] {
            let cluster = Cluster::start();
            let mut server = Server::on(&cluster.config(), &["--cores", "1", "--driver", driver]);
            let known = format!("/pessoas/{}", Pessoa::named("conhecida").post_to(&server).id());
            let polite = Polite::start(&server.addresses(), &known);
            let stop = AtomicBool::new(false);
            let (served, took) = thread::scope(|scope| {
                for _ in 0..3 {
                    let server = &server;
                    let (stop, bytes) = (&stop, &bytes);
                    scope.spawn(move || {
                        // A body has a bound, so that the chunks need a new request now and then.
                        while !stop.load(Ordering::Relaxed) {
                            flood(server, [first.as_bytes(), bytes.as_bytes()].concat().as_slice(), stop);
                        }
                    });
                }
                thread::sleep(Duration::from_secs(2));
                let served = polite.end();
                let began = Instant::now();
                server.signal(Signal::SIGTERM);
                stop.store(true, Ordering::Relaxed);
                (served, began)
            });
            let ended = server.wait(END_TIME_MAX);
            println!(
                "{driver}, {what}: polite (requests, p50, p99) {served:.1?}; SIGTERM took {:.1?}",
                took.elapsed()
            );
            assert_eq!(ended.code(), Some(0));
            assert!(served.0 > 20, "a polite client was kept waiting: {served:?}");
        }
    }
}

/// While the server drains, a client that pipelines without a pause is told to close, and can read so.
#[test]
fn a_client_without_a_pause_is_told_to_close() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for cut in [20, 0] {
        pipelined_while_draining(cut);
    }
}

/// Requests whose writes are cut after `cut` bytes of the last one; with 0 they are whole, and fill the server's reads to the
/// byte.
fn pipelined_while_draining(cut: usize) {
    let cluster = Cluster::start();
    let mut server = Server::on(&cluster.config(), &["--cores", "1"]);
    let known = format!("/pessoas/{}", Pessoa::named("conhecida").post_to(&server).id());
    let mut connection = server.connect();
    let mut sender = connection.try_clone().expect("a second handle");
    let mut request = format!("GET {known} HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n");
    // 128 bytes: reads of a power of two end where a request does.
    let padding = "x".repeat(128 - request.len());
    request = request.replace("X: ", &format!("X: {padding}"));
    let writer = thread::spawn(move || {
        let mut bytes = request.repeat(10);
        bytes.push_str(&request[..cut]);
        if sender.try_send(&bytes).is_err() {
            return;
        }
        let (rest, begin) = (request[cut..].to_owned(), request[..cut].to_owned());
        while sender.try_send(format!("{rest}{begin}")).is_ok() {}
    });
    for _ in 0..100 {
        assert_eq!(connection.receive().status, 200);
    }
    server.signal(Signal::SIGTERM);
    let began = Instant::now();
    let answered = (0..).find(|_| {
        let answer = connection.receive();
        assert_eq!(answer.status, 200);
        answer.header("Connection") == Some("close")
    });
    println!("told to close after {:.1?} and {answered:?} more answers", began.elapsed());
    drop(connection);
    writer.join().expect("the writer");
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
}

/// Whoever reads the log may go, or stand still: that is no reason to stop serving, or not to stop.
#[test]
fn a_log_that_nobody_reads() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cluster = Cluster::start();
    for reader_leaves in [true, false] {
        let mut command = binary();
        // Loud, so that a pipe is full at once.
        command.args(["--log=trace", "--listen=127.0.0.1:0", "--cores=1"]);
        let directory = temporary_directory();
        let socket = format!("unix:{}/core-{{core}}.sock", directory.path().display());
        command.args(["--listen", &socket, "--database-url", &database_url(&cluster.config())]);
        let mut child = Killed(command.stderr(Stdio::piped()).spawn().expect("a server"));
        let mut log = child.0.stderr.take();
        let path = directory.path().join("core-0.sock");
        let began = Instant::now();
        while !path.exists() {
            assert!(began.elapsed() < Duration::from_secs(30), "expected a server");
            // Reads a little, so that the start is logged.
            let _ = log.as_mut().expect("a pipe").read(&mut [0; 64]);
            thread::sleep(Duration::from_millis(1));
        }
        if reader_leaves {
            drop(log.take());
        }
        let address = crate::server::Address::Unix(path);
        let mut client = loop {
            if let Ok(client) = Connection::try_open(&address) {
                break client;
            }
            thread::sleep(Duration::from_millis(5));
        };
        for number in 0..300 {
            let pessoa = Pessoa::named(&format!("lida-{reader_leaves}-{number}"));
            assert_eq!(client.ask("POST", "/pessoas", &pessoa.body()).status, 201);
            assert_eq!(client.ask("GET", "/healthz", "").status, 200);
        }
        if let Some(pipe) = log.take() {
            // Whoever reads on is told what is missing; then the pipe fills again.
            let (report, reported) = mpsc::channel();
            thread::spawn(move || {
                let mut pipe = BufReader::new(pipe);
                let mut lines = pipe.by_ref().lines().map_while(Result::ok);
                let _ = report.send((lines.find(|line| line.contains("lines were lost")), pipe));
            });
            let (line, pipe) = reported.recv_timeout(END_TIME_MAX).expect("a report of lost lines");
            println!("{}", line.expect("a report before the end"));
            log = Some(pipe.into_inner());
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, Signal::SIGTERM).expect("a live server");
        drop(client);
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.0.try_wait().expect("its state") {
                break status;
            }
            if began.elapsed() > END_TIME_MAX {
                child.0.kill().expect("a live server");
                panic!("expected an end within {END_TIME_MAX:?}");
            }
            thread::sleep(Duration::from_millis(5));
        };
        println!("the reader leaves: {reader_leaves}: ended after {:.1?}", began.elapsed());
        assert_eq!(status.code(), Some(0));
        drop(log);
    }
}

/// A disk that takes no more: `/dev/full` refuses every line.
#[test]
fn a_log_on_a_full_disk() {
    let _alone = crate::ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let cluster = Cluster::start();
    let mut command = Command::new("sh");
    let server = binary();
    for (name, _) in server.get_envs() {
        command.env_remove(name);
    }
    let directory = temporary_directory();
    let socket = format!("unix:{}/core-{{core}}.sock", directory.path().display());
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full"]).arg(server.get_program());
    command.args(["--log=debug", "--listen", &socket, "--cores=1"]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    let mut child = Killed(command.stdout(Stdio::null()).spawn().expect("a server"));
    let address = crate::server::Address::Unix(directory.path().join("core-0.sock"));
    let began = Instant::now();
    let mut client = loop {
        if let Ok(client) = Connection::try_open(&address) {
            break client;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "expected a server");
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(client.ask("POST", "/pessoas", &Pessoa::named("Ana").body()).status, 201);
    drop(client);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.0.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("a live server");
    assert_eq!(child.0.wait().expect("its end").code(), Some(0));
}
