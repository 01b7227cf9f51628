//! `local` in the states that happen: a terminal that closes, a kill, a port that is taken, a value that is wrong. With
//! the real balancer, the real Postgres and the server as the tests build it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Far above what a start or a stop takes on a busy machine; a stop alone may take 20 s by compose.yml.
const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// Whether the programs are there; a machine without them tests nothing here.
fn can_run() -> bool {
    let there = Command::new("haproxy").arg("-v").output().is_ok();
    if !there {
        println!("skipped: no HAProxy was found (make local-deps)");
    }
    there
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository's root")
}

/// The server, built as this test is.
fn server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["build", "--locked", "--quiet", "-p", "rinha", "--bin", "rinha"]);
        // Those of this package would make cargo build everything again.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PKG_")
                || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
            {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().expect("cargo").success());
        Path::new(env!("CARGO_BIN_EXE_local")).with_file_name("rinha")
    })
}

/// A directory that whoever runs Postgres may reach.
fn place() -> TempDir {
    let place = tempfile::tempdir().expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    place
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "expected {what} within {DEADLINE:?}");
        thread::sleep(POLL);
    }
}

/// Whether a process runs: a zombie does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A `local`, and what it said. It ends when this is dropped.
struct Local {
    child: Child,
    directory: PathBuf,
    said: PathBuf,
    port: u16,
}

impl Local {
    fn start(place: &Path, port: u16, variables: &[(&str, &str)], arguments: &[&str]) -> Local {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let said = std::env::temp_dir().join(format!("local-test-{}-{number}", std::process::id()));
        let out = fs::File::create(&said).expect("a file");
        let directory = place.join("local");
        // It leaves signals ignored that were ignored when it began; those of whoever runs the tests are not its own.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,TERM", env!("CARGO_BIN_EXE_local")]);
        for name in ["API_CORES", "API_CPUS", "DATABASE_URL", "DRIVER", "LOG", "POSTGRES_PASSWORD"] {
            command.env_remove(name);
        }
        command.current_dir(root()).env("PORT", port.to_string()).envs(variables.iter().copied());
        command.arg("--directory").arg(&directory).arg("--api").arg(server()).args(arguments);
        // A group of its own, as a shell makes for it: a terminal signals all of it.
        command.stdin(Stdio::null()).stdout(out.try_clone().expect("a file")).stderr(out).process_group(0);
        Local { child: command.spawn().expect("the program"), directory, said, port }
    }

    fn ready(place: &Path, port: u16) -> Local {
        let mut local = Local::start(place, port, &[], &[]);
        local.wait_until_ready();
        local
    }

    fn wait_until_ready(&mut self) {
        wait_until("a start", || {
            let ended = self.child.try_wait().expect("its state");
            assert!(ended.is_none(), "{ended:?}: {}", self.said());
            self.said().contains("local: ready")
        });
        assert!(health(self.port), "{}", self.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).expect("what it said")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("sent");
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.directory.join("services.json")).expect("a file"))
            .expect("JSON")
    }

    fn service(&self, name: &str) -> i32 {
        self.state()["services"][name]["pid"].as_i64().expect("a pid").try_into().expect("a pid")
    }

    fn services(&self) -> Vec<i32> {
        let services = self.state()["services"].as_object().expect("services").clone();
        services.keys().map(|name| self.service(name)).collect()
    }

    /// Its exit status.
    fn end(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("its end", || {
            status = self.child.try_wait().expect("its state");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGCONT);
            let _ = kill(self.pid(), Signal::SIGTERM);
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("{}", self.said());
        }
        let _ = fs::remove_file(&self.said);
    }
}

/// Whether `/healthz` answers 200.
fn health(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(answer.ends_with(b" 200"))
    };
    ask().unwrap_or(false)
}

/// All of an answer on a connection that it ends.
fn answer(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn status(port: u16, request: &str) -> std::io::Result<u16> {
    let text = answer(port, request)?;
    Ok(text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"))
}

/// A terminal that is closed sends SIGHUP, and can no longer be written to; Ctrl-C reaches the whole group.
#[test]
fn every_signal_of_a_terminal_ends_everything_in_order() {
    if !can_run() {
        return;
    }
    let place = place();
    let port = free_port();
    for (signal, group) in [(Signal::SIGHUP, false), (Signal::SIGINT, true)] {
        let mut local = Local::ready(place.path(), port);
        let services = local.services();
        match group {
            true => killpg(local.pid(), signal).expect("sent"),
            false => local.signal(signal),
        }
        assert_eq!(local.end(), Some(0), "{signal}: {}", local.said());
        assert!(services.iter().all(|&pid| !runs(pid)), "{signal}: {services:?}");
        assert!(local.said().ends_with("local: stopping\nlocal: stopped\n"), "{signal}: {}", local.said());
        assert!(!local.directory.join("services.json").exists());
        // In their order: nothing of Postgres' was cut off.
        let log = fs::read_to_string(local.directory.join("postgres.log")).expect("a log");
        assert!(log.contains("database system is shut down"), "{signal}: {log}");
    }
}

#[test]
fn a_terminal_that_cannot_be_written_to_keeps_nothing_running() {
    if !can_run() {
        return;
    }
    let place = place();
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let port = free_port();
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command
        .current_dir(root())
        .env("PORT", port.to_string())
        .arg("--directory")
        .arg(place.path().join("local"));
    command.arg("--api").arg(server()).stdin(Stdio::null());
    command.stdout(writer.try_clone().expect("a pipe")).stderr(writer);
    let mut child = command.spawn().expect("the program");
    drop(command);
    wait_until("a start", || health(port));
    let state = fs::read(place.path().join("local/services.json")).expect("a file");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    drop(reader);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).expect("sent");
    let mut status = None;
    wait_until("its end", || {
        status = child.try_wait().expect("its state");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    for name in ["haproxy", "api1", "api2", "postgres"] {
        let pid = state["services"][name]["pid"].as_i64().expect("a pid");
        assert!(!runs(pid.try_into().expect("a pid")), "{name}");
    }
}

/// The kernel tells the services to end; the next start waits for what is left of them.
#[test]
fn after_a_kill_nothing_runs_on_and_the_next_start_takes_over() {
    if !can_run() {
        return;
    }
    let place = place();
    let port = free_port();
    let mut local = Local::ready(place.path(), port);
    let services = local.services();
    // A client that keeps its connection keeps the balancer, too, for some seconds.
    let client = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    (&client).write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    (&client).read_exact(&mut [0; 12]).expect("an answer");
    local.signal(Signal::SIGKILL);
    local.end();
    let next = Local::ready(place.path(), port);
    assert!(next.said().contains("an earlier start was killed; ending what it left: "), "{}", next.said());
    assert!(services.iter().all(|&pid| !runs(pid)), "{services:?}");
    drop(next);

    let mut local = Local::ready(place.path(), port);
    let services = local.services();
    local.signal(Signal::SIGKILL);
    local.end();
    wait_until("an end without a next start", || services.iter().all(|&pid| !runs(pid)));
}

/// deploy/scale: two primaries, each with a half of the partitions; both end, also after a kill.
#[test]
fn a_composition_with_two_primaries() {
    if !can_run() {
        return;
    }
    let place = place();
    let port = free_port();
    let start = || {
        let mut local = Local::start(place.path(), port, &[], &["--compose", "deploy/scale/compose.yml"]);
        local.wait_until_ready();
        local
    };
    let mut local = start();
    let services = local.services();
    assert_eq!(services.len(), 5);
    let pessoa = r#"{"apelido":"ana","nome":"Ana","nascimento":"2000-01-01"}"#;
    let create =
        format!("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{pessoa}", pessoa.len());
    assert_eq!(status(port, &create).expect("an answer"), 201);
    let health = answer(port, "GET /healthz HTTP/1.0\r\n\r\n").expect("an answer");
    assert!(health.contains(r#""partitions":[0,2]"#) && health.contains(r#""partitions":[1,3]"#), "{health}");
    local.signal(Signal::SIGKILL);
    local.end();
    let mut next = start();
    assert!(services.iter().all(|&pid| !runs(pid)), "{services:?}");
    assert_eq!(status(port, &create).expect("an answer"), 422, "the rows stay");
    let services = next.services();
    next.signal(Signal::SIGTERM);
    assert_eq!(next.end(), Some(0), "{}", next.said());
    assert!(services.iter().all(|&pid| !runs(pid)), "{services:?}");
}

#[test]
fn a_port_and_a_directory_have_one() {
    if !can_run() {
        return;
    }
    let (first_place, second_place) = (place(), place());
    let port = free_port();
    let mut first = Local::start(first_place.path(), port, &[], &[]);
    // While the first one starts and nobody listens yet.
    wait_until("its claim", || first.directory.join("lock").exists());
    let mut second = Local::start(second_place.path(), port, &[], &[]);
    assert_eq!(second.end(), Some(1), "{}", second.said());
    let expected =
        format!("local: port {port}: another one runs there (pid {0}): stop it (kill {0})", first.child.id());
    assert!(second.said().starts_with(&expected), "{}", second.said());
    first.wait_until_ready();
    let mut third = Local::start(first_place.path(), free_port(), &[], &[]);
    assert_eq!(third.end(), Some(1), "{}", third.said());
    let expected = format!("another one runs there (pid {0}): stop it (kill {0})", first.child.id());
    assert!(third.said().contains(&expected) && third.said().lines().count() == 1, "{}", third.said());
    assert!(health(port));
}

#[test]
fn a_port_that_is_taken_is_said_before_anything_starts() {
    if !can_run() {
        return;
    }
    let place = place();
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let mut local = Local::start(place.path(), port, &[], &[]);
    assert_eq!(local.end(), Some(1), "{}", local.said());
    let me = format!("(pid {})", std::process::id());
    assert!(local.said().contains(&me) && local.said().lines().count() == 1, "{}", local.said());
    assert!(!local.directory.join("data").exists());
}

/// The port is taken while the balancer is away: it cannot come back, which is said with its reason, and ends all.
#[test]
fn a_service_that_cannot_start_again_ends_it_with_its_reason() {
    if !can_run() {
        return;
    }
    let place = place();
    let port = free_port();
    let mut local = Local::ready(place.path(), port);
    let (services, balancer) = (local.services(), local.service("haproxy"));
    local.signal(Signal::SIGSTOP);
    kill(Pid::from_raw(balancer), Signal::SIGKILL).expect("sent");
    wait_until("the balancer's end", || !runs(balancer));
    let _taken = TcpListener::bind(("0.0.0.0", port)).expect("its port");
    local.signal(Signal::SIGCONT);
    assert_eq!(local.end(), Some(1), "{}", local.said());
    let said = local.said();
    assert!(said.contains("haproxy ended: exit status: 1") && said.contains("cannot bind socket"), "{said}");
    assert!(services.iter().all(|&pid| !runs(pid)), "{said}");
}

/// One that cannot even start, and its last words.
#[test]
fn a_start_that_fails_says_why() {
    if !can_run() {
        return;
    }
    let place = place();
    let failing = place.path().join("failing");
    fs::write(&failing, "#!/bin/sh\necho the reason >&2\nexit 3\n").expect("a script");
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
    command.current_dir(root()).env("PORT", free_port().to_string());
    command.arg("--directory").arg(place.path().join("other")).arg("--api").arg(&failing);
    let ended = command.output().expect("an end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("ended: exit status: 3") && said.contains("\n  the reason"), "{said}");
}

/// One line and exit 2, before anything is made.
#[test]
fn wrong_values_are_said_before_anything_starts() {
    let place = place();
    for (name, value) in [
        ("API_CORES", "3"),
        ("API_CPUS", "0"),
        ("API_CPUS", "9999"),
        ("POSTGRES_MEMORY", "lots"),
        ("POSTGRES_MEMORY", "1M"),
        ("DRIVER", "kqueue"),
        ("LOG", "bogus"),
        ("PORT", "99999"),
        ("PORT", "here"),
        ("POSTGRES_HOST_AUTH_METHOD", "scram-sha-256"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_local"));
        command.current_dir(root()).env("PORT", "9").env(name, value);
        let ended = command.arg("--directory").arg(place.path().join("new")).output().expect("an end");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{name}={value}: {said}");
        assert!(
            said.starts_with(&format!("check: {name}: ")) && said.lines().count() == 1,
            "{name}={value}: {said}"
        );
        assert!(!place.path().join("new").exists(), "{name}={value}");
    }
}

/// While the cluster is made: Ctrl-C is no error, and neither it nor a kill leaves half a cluster.
#[test]
fn an_interrupted_first_start_leaves_no_half_cluster() {
    if !can_run() {
        return;
    }
    let place = place();
    let port = free_port();
    for signal in [Signal::SIGINT, Signal::SIGKILL] {
        let mut local = Local::start(place.path(), port, &[], &[]);
        let making = local.directory.join("data/postgres.making");
        wait_until("a cluster in the making", || making.join("PG_VERSION").exists());
        killpg(local.pid(), signal).expect("sent");
        assert_eq!(local.end(), if signal == Signal::SIGINT { Some(0) } else { None }, "{}", local.said());
        assert!(!local.directory.join("data/postgres").exists());
    }
    drop(Local::ready(place.path(), port));
}

/// Operators have a port of this machine alone; a second topology finds it taken, and serves without.
#[test]
fn the_live_page_has_a_port_that_may_be_taken() {
    if !can_run() {
        return;
    }
    let (place, second_place) = (place(), place());
    let operators = free_port().to_string();
    let variables = [("METRICS_PORT", operators.as_str())];
    let start = |place: &TempDir| {
        let mut local = Local::start(place.path(), free_port(), &variables, &[]);
        local.wait_until_ready();
        local
    };
    let first = start(&place);
    let page = format!("live page: http://127.0.0.1:{operators}/live");
    wait_until("its live page", || first.said().contains(&page));
    let get = |path: &str| {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{operators}")).expect("the port");
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit");
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    assert!(get("/live").contains("<title>rinha, live</title>"));
    assert!(get("/api2/metrics").contains("rinha_stage{stage=\"serving\"} 1\n"));
    assert!(get("/metrics").contains("haproxy_backend_http_responses_total"));
    let second = start(&second_place);
    let taken = format!("no live page: port {operators}: ");
    wait_until("a word about the port", || second.said().contains(&taken));
    assert!(health(second.port));
}
