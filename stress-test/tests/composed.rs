//! How Compose projects are treated, with a `docker` that only notes what it is told: which project is taken for the
//! target, and that a displaced project is started again, also after a signal.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The project `rinha` runs, and publishes 9999; `rinha-stress` runs between `up` and `down`.
const DOCKER: &str = r#"#!/bin/sh
echo "$*" >>"$HERE/log"
case "$*" in
  *"-p rinha-stress up -d") : >"$HERE/up" ;;
  *"-p rinha-stress down --volumes") rm -f "$HERE/up" ;;
  *"-p rinha stop") test ! -e "$HERE/slow" || sleep 60 ;;
  "ps "*"project=rinha "*Ports*) echo "0.0.0.0:9999->9999/tcp, [::]:9999->9999/tcp" ;;
  "ps "*"project=rinha "*) test -e "$HERE/stopped" || echo "1 haproxy" ;;
  "ps "*"project=rinha-stress "*) test ! -e "$HERE/up" || echo "2 haproxy" ;;
  inspect*) echo "$$ 0" ;;
esac
"#;
const DEADLINE: Duration = Duration::from_secs(30);

struct Engine {
    here: TempDir,
}

impl Engine {
    fn new() -> Self {
        let engine = Self { here: tempfile::tempdir().expect("a directory") };
        for (name, text) in [("docker", DOCKER), ("mvn", "#!/bin/sh\n: >\"$HERE/maven\"\n")] {
            let path = engine.here.path().join(name);
            fs::write(&path, text).expect("a script");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
        }
        engine.write("log", "");
        engine
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.here.path().join(name), text).expect("a file");
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.start_with(arguments, None)
    }

    fn start_with(&self, arguments: &[&str], variable: Option<(&str, &str)>) -> Child {
        let here = self.here.path();
        let path = format!("{}:{}", here.display(), std::env::var("PATH").expect("a PATH"));
        // A project of the environment must not be taken for one of the test.
        Command::new(env!("CARGO_BIN_EXE_stress-test"))
            .current_dir("..")
            .args(arguments)
            .envs([("PATH", path.as_str()), ("HERE", &here.to_string_lossy()), ("LOCAL_DIR", "/nowhere")])
            .env_remove("PORT")
            .envs(variable)
            .env("STRESS_LEFT", here.join("left.json"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program")
    }

    /// What Compose was told.
    fn compose(&self) -> Vec<String> {
        let log = fs::read_to_string(self.here.path().join("log")).expect("a log");
        log.lines().filter_map(|line| line.strip_prefix("compose -p ")).map(str::to_owned).collect()
    }

    /// What is left in the directory of the results.
    fn results(&self) -> Vec<String> {
        let entries = fs::read_dir(self.here.path().join("results")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().display().to_string()).collect()
    }

    fn wait_for(&self, command: &str) {
        let began = Instant::now();
        while !self.compose().iter().any(|line| line == command) {
            assert!(began.elapsed() < DEADLINE, "{command}: {:?}", self.compose());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn end(child: Child) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("an end");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port()
}

/// Starts a run, and signals it after this command. Nothing ever listens on the run's port, so that it waits after
/// `up`.
fn interrupted(engine: &Engine, command: &str, signal: Signal, expected: &[&str]) {
    let base = format!("http://127.0.0.1:{}", free_port());
    let results = engine.here.path().join("results");
    let results = results.to_string_lossy();
    let run = ["run", "--topology=compose", "--payloads=10", "--terms=10"];
    let run = engine.start(&[&run[..], &["--base", &base, "--results", &results]].concat());
    engine.wait_for(command);
    kill(Pid::from_raw(run.id().cast_signed()), signal).expect("sent");
    let began = Instant::now();
    let (code, text) = end(run);
    assert!(began.elapsed() < DEADLINE, "{text}");
    assert!(code == Some(2) && text.contains("stopped by a signal"), "{code:?}: {text}");
    assert_eq!(engine.compose(), expected, "{signal}: {text}");
    // Nothing of what it had made.
    assert_eq!(engine.results(), Vec::<String>::new(), "{text}");
}

#[test]
fn what_was_displaced_is_started_again_after_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let expected = [
            "rinha-stress version",
            "rinha stop",
            "rinha-stress down --volumes",
            "rinha-stress build",
            "rinha-stress up -d",
            "rinha-stress down --volumes",
            "rinha start",
        ];
        interrupted(&Engine::new(), "rinha-stress up -d", signal, &expected);
    }
}

#[test]
fn what_was_being_displaced_is_started_again_after_a_signal() {
    let engine = Engine::new();
    engine.write("slow", "");
    let expected = ["rinha-stress version", "rinha stop", "rinha start"];
    interrupted(&engine, "rinha stop", Signal::SIGINT, &expected);
}

/// Another project on another port is not what listens here.
#[test]
fn a_project_is_the_target_only_on_its_port() {
    let check = |port: u16, expected: bool| {
        let engine = Engine::new();
        records(engine.here.path());
        let base = format!("http://127.0.0.1:{port}");
        let directory = engine.here.path().to_string_lossy().into_owned();
        let (_, text) = end(engine.start(&["check", "--base", &base, &directory]));
        let unknown = text.contains("the topology is unknown");
        assert_eq!(!unknown, expected, "{port}: {text}");
    };
    check(9999, true);
    check(free_port(), false);
}

/// Writes the records of a run with one request, which was refused.
fn records(run: &Path) {
    for directory in ["records", "feeders"] {
        fs::create_dir(run.join(directory)).expect("a directory");
    }
    for (file, text) in [
        ("records/requests.tsv", "create\t1\t1\t422\ttrue\n"),
        ("records/acknowledged.tsv", ""),
        ("records/count.tsv", "5\t200\t0\n"),
        ("feeders/pessoas-payloads.tsv", ""),
    ] {
        fs::write(run.join(file), text).expect("a file");
    }
}

/// `PORT` is the variable of compose.yml: a run asks on the port that compose.yml publishes.
#[test]
fn the_port_of_compose_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let run = tempfile::tempdir().expect("a directory");
    records(run.path());
    let acknowledged = "1\t00000000-0000-7000-8000-000000000000\t0\n";
    fs::write(run.path().join("records/acknowledged.tsv"), acknowledged).expect("a file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .args(["check", "--topology=unknown"])
        .arg(run.path())
        .env("PORT", format!("127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .spawn()
        .expect("the program");
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a question");
        let mut first = String::new();
        BufReader::new(&stream).read_line(&mut first).expect("a line");
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0")
            .expect("sent");
        assert!(first.starts_with("GET /pessoas/"), "{first}");
    });
    let began = Instant::now();
    while !asked.is_finished() && began.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().and_then(|()| child.wait()).expect("its end");
    assert!(asked.is_finished(), "nobody asked");
}

/// A sweep shows only its own runs, and says when there are none.
#[test]
fn an_older_run_is_no_result_of_a_sweep() {
    let place = tempfile::tempdir().expect("a directory");
    let results = place.path().join("results");
    let older = results.join("1.5-cpus/20200101-000000-1.5-cpus");
    fs::create_dir_all(&older).expect("a directory");
    fs::write(older.join("run.json"), "{}").expect("a file");
    // From here no run can start: it is not the repository's root.
    let output = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .current_dir(place.path())
        .args(["sweep", "small", "--results"])
        .arg(&results)
        .output()
        .expect("an end");
    let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("came to no verdict").count(), 4, "{text}");

    let output = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .arg("compare")
        .arg(&results)
        .output()
        .expect("an end");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no such run") && text.contains("expected at least one run"), "{text}");
}

/// One broken run.json is left out, and named; the others are compared.
#[test]
fn a_broken_run_is_left_out_of_a_comparison() {
    let place = tempfile::tempdir().expect("a directory");
    let run = |name: &str, text: &str| {
        let directory = place.path().join(name);
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join("run.json"), text).expect("a file");
        directory
    };
    let whole = r#"{"name":"whole","date":"2026-11-24T12:00:00Z","command":"","scale":1.0,"load":1.0,"target":"unknown",
        "machine":[],"versions":[],"before":0,"percentiles":[["all",{"count":1,"ko":0,"p50":1,"p95":1,"p99":1,
        "p999":null,"max":1}]],"statuses":[],"totals":[],"verdict":{"checks":[],"score":1},"gatling":""}"#;
    let [whole, broken, torn] =
        [("whole", whole), ("broken", "{"), ("torn", "")].map(|(name, text)| run(name, text));
    let output = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .arg("compare")
        .args([&whole, &broken, &torn, &place.path().join("nowhere")])
        .arg("--out")
        .arg(place.path().join("comparison.html"))
        .output()
        .expect("an end");
    let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("| whole |") && text.matches("left out: ").count() == 3, "{text}");
    assert!(place.path().join("comparison.html").exists());
}

/// Before anything is prepared: the fake Maven would note it, and no directory is made.
#[test]
fn wrong_values_are_said_before_anything_is_prepared() {
    for (arguments, variable, code, expected) in [
        (&["--name", "a/b"][..], None, 2, "expected at most 100 letters"),
        (&["--name", "two words"], None, 2, "expected at most 100 letters"),
        (&["--load", "0"], None, 2, "expected a number from"),
        (&["--load", "inf"], None, 2, "expected a number from"),
        (&["--seconds", "NaN"], None, 2, "expected a number from"),
        (&["--payloads", "0"], None, 2, "--payloads"),
        (&["--base", "localhost:9999"], None, 2, "expected a base URL"),
        (&["--as-is", "--topology=unknown"], None, 2, "expected a people API there"),
        (&["--baseline", "--topology=compose"], None, 2, "expected --topology local"),
        (&["--limit", "--topology=unknown"], None, 2, "expected --topology local"),
        (&["--baseline", "--limit"], None, 2, "cannot be used with"),
        (&["--baseline", "--as-is"], None, 2, "cannot be used with"),
        (&["--limit", "--drain"], None, 2, "cannot be used with"),
        (&["--topology=compose"], Some(("API_CPUS", "0")), 2, "API_CPUS: expected 0.01"),
        (&["--topology=local"], Some(("API_CORES", "3")), 2, "API_CORES: expected 1, 2 or 4"),
    ] {
        let engine = Engine::new();
        let base = format!("http://127.0.0.1:{}", free_port());
        let results = engine.here.path().join("results");
        let results = results.to_string_lossy().into_owned();
        let run = [&["run", "--results", &results, "--base", &base], arguments].concat();
        let (status, text) = end(engine.start_with(&run, variable));
        assert_eq!(status, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(!engine.here.path().join("results").exists(), "{arguments:?}: {text}");
        assert!(!engine.here.path().join("maven").exists(), "{arguments:?}: {text}");
        assert!(
            !engine.compose().iter().any(|line| line.contains("stop") || line.contains("up")),
            "{arguments:?}"
        );
    }
}

/// A target of the Makefile sets some, and `ARGS` may set them again.
#[test]
fn the_last_of_an_argument_counts() {
    let engine = Engine::new();
    let base = format!("http://127.0.0.1:{}", free_port());
    let run = [
        "run",
        "--name",
        "smoke",
        "--seconds",
        "20",
        "--seconds",
        "5",
        "--name",
        "other",
        "--topology=unknown",
    ];
    let (_, text) = end(engine.start(&[&run[..], &["--base", &base]].concat()));
    assert!(text.contains("expected a people API there"), "{text}");
}

/// What takes connections and never answers is something else too, and is said at once, before anything is prepared or
/// stopped.
#[test]
fn a_port_that_is_held_by_a_mute_is_said_at_once() {
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", mute.local_addr().expect("an address"));
    for topology in ["compose", "local"] {
        let engine = Engine::new();
        let results = engine.here.path().join("results");
        let results = results.to_string_lossy().into_owned();
        let began = Instant::now();
        let run = ["run", "--topology", topology, "--base", &base, "--results", &results];
        let (code, text) = end(engine.start(&run));
        assert!(began.elapsed() < DEADLINE, "{text}");
        assert!(
            code == Some(2) && text.contains("something else listens on"),
            "{topology}: {code:?}: {text}"
        );
        assert!(
            !engine.here.path().join("maven").exists() && !Path::new(&results).exists(),
            "{topology}: {text}"
        );
        assert!(!engine.compose().iter().any(|line| line == "rinha stop"), "{topology}: {text}");
    }
}

/// A load that was cut is no load that failed.
#[test]
fn a_cut_run_has_nothing_to_judge() {
    for missing in ["records/count.tsv", "records/requests.tsv"] {
        let run = tempfile::tempdir().expect("a directory");
        records(run.path());
        fs::write(run.path().join(missing), "").expect("a file");
        let mut check = Command::new(env!("CARGO_BIN_EXE_stress-test"));
        check.args(["check", "--topology=unknown", "--base", "http://127.0.0.1:1"]).arg(run.path());
        let output = check.output().expect("an end");
        let text = String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{missing}: {text}");
        assert!(text.contains("nothing to judge") && !text.contains("FAILED"), "{missing}: {text}");
    }
}

/// What a killed run had stopped is started again by the next one.
#[test]
fn what_a_killed_run_displaced_is_started_again() {
    let engine = Engine::new();
    let base = format!("http://127.0.0.1:{}", free_port());
    let results = engine.here.path().join("results");
    let results = results.to_string_lossy().into_owned();
    let run =
        ["run", "--topology=compose", "--payloads=10", "--terms=10", "--base", &base, "--results", &results];
    let mut killed = engine.start(&run);
    engine.wait_for("rinha-stress up -d");
    killed.kill().and_then(|()| killed.wait()).expect("its end");
    // It has been stopped and nobody started it again: it does not run any more.
    engine.write("stopped", "");
    engine.write("log", "");
    let next = engine.start(&run);
    engine.wait_for("rinha-stress up -d");
    kill(Pid::from_raw(next.id().cast_signed()), Signal::SIGTERM).expect("sent");
    let (_, text) = end(next);
    assert_eq!(engine.compose().last().map(String::as_str), Some("rinha start"), "{text}");
    assert!(!engine.compose().contains(&"rinha stop".to_owned()), "{text}");
}
