//! What a run tells whoever sits at its terminal, and what it leaves there. Gatling is a script that writes the records of
//! some seconds, line by line, as the simulation would.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const COLUMNS: u16 = 100;
const DEADLINE: Duration = Duration::from_secs(60);
/// What empties the live line.
const CLEAR: &str = "\r\x1b[2K";

/// As long as `$HERE/end` is not there the load goes on, so that nobody must be quick.
const MAVEN: &str = r#"#!/bin/sh
for argument in "$@"; do
  case $argument in
    -Drecords=*) records=${argument#*=} ;;
    -Dgatling.resultsFolder=*) results=${argument#*=} ;;
  esac
done
test -n "$records" || exit 0
mkdir -p "$records" "$results/contest-1"
: >"$records/acknowledged.tsv"
until [ -e "$HERE/end" ]; do
  printf 'create\t%s\t7\t422\ttrue\n' "$(date +%s%3N)" >>"$records/requests.tsv"
  sleep 0.1
done
printf '%s\t200\t0\n' "$(date +%s%3N)" >"$records/count.tsv"
: >"$results/contest-1/index.html"
"#;

/// What was started ends with the test, also where that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // What has ended needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run against something that always counts no rows.
struct Run {
    here: TempDir,
    command: Command,
}

impl Run {
    fn new() -> Self {
        let here = tempfile::tempdir().expect("a directory");
        let maven = here.path().join("mvn");
        fs::write(&maven, MAVEN).expect("a script");
        fs::set_permissions(&maven, Permissions::from_mode(0o755)).expect("its mode");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n0";
                let _ = stream.write_all(answer);
            }
        });
        let path = format!("{}:{}", here.path().display(), std::env::var("PATH").expect("a PATH"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_stress-test"));
        command
            .current_dir("..")
            .args(["run", "--as-is", "--topology=unknown", "--payloads=10", "--terms=10", "--seconds=1000"])
            .args(["--base", &base, "--results"])
            .arg(here.path().join("results"))
            .envs([("PATH", path.as_str()), ("HERE", &here.path().to_string_lossy()), ("TERM", "xterm")])
            .env("STRESS_LEFT", here.path().join("left.json"))
            .stdin(Stdio::null());
        for name in ["COLUMNS", "CI", "PROGRESS_SECONDS"] {
            command.env_remove(name);
        }
        Self { here, command }
    }

    /// What its terminal is sent. When it was sent `until`, `then` is done to the run.
    fn watched(mut self, until: &str, then: impl FnOnce(&TempDir, Pid)) -> (Option<i32>, String) {
        let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).expect("a pseudo-terminal");
        let out = terminal.slave.try_clone().expect("the same terminal");
        let child = self.command.stdout(out).stderr(terminal.slave).spawn().expect("the program");
        let mut child = Ended(child);
        // It holds the other end too, which would keep it from ever ending.
        drop(self.command);
        let mut master = File::from(terminal.master);
        let (mut sent, mut bytes, began) = (String::new(), [0; 4096], Instant::now());
        let mut then = Some(then);
        // Linux says EIO when the other end is closed.
        while let Ok(read @ 1..) = master.read(&mut bytes) {
            sent.push_str(&String::from_utf8_lossy(&bytes[..read]));
            assert!(began.elapsed() < DEADLINE, "{sent:?}");
            if sent.contains(until)
                && let Some(then) = then.take()
            {
                then(&self.here, Pid::from_raw(child.0.id().cast_signed()));
            }
        }
        (child.0.wait().expect("an end").code(), sent)
    }
}

/// The lines as they stand in the end.
fn left(sent: &str) -> Vec<&str> {
    sent.split("\r\n").map(|line| line.rsplit(CLEAR).next().unwrap_or_default()).collect()
}

#[test]
fn a_load_is_told_while_it_goes_on() {
    let (code, sent) = Run::new().watched(" requests, KO 0, p99 7 ms", |here, _| {
        fs::write(here.path().join("end"), "").expect("a file");
    });
    assert_eq!(code, Some(0), "{sent:?}");
    let live: Vec<&str> = sent.split(CLEAR).filter(|line| line.contains(" of 1000 s, ")).collect();
    let told = live.last().expect("a live line");
    assert!(told.contains(" requests, KO 0, p99 7 ms, 0 201s, ") && told.contains("/s ["), "{told:?}");
    assert!(live.iter().all(|line| line.len() < usize::from(COLUMNS)), "{live:?}");
    let left = left(&sent);
    assert!(left.iter().any(|line| line.ends_with(" requests, KO 0, 0 201s")), "{left:?}");
    assert!(left.iter().any(|line| line.starts_with("verdict: passed")), "{left:?}");
    // Nothing of the live line is left.
    assert!(left.iter().all(|line| !line.contains("of 1000 s") && !line.contains('[')), "{left:?}");
    assert_eq!(left.last(), Some(&""), "{left:?}");
}

#[test]
fn a_signal_leaves_the_terminal_clean() {
    let (code, sent) = Run::new().watched(" requests, KO 0, p99 7 ms", |_, run| {
        kill(run, Signal::SIGINT).expect("sent");
    });
    assert_eq!(code, Some(2), "{sent:?}");
    let left = left(&sent);
    assert_eq!(left[left.len() - 2..], ["stress-test: stopped by a signal", ""], "{left:?}");
    assert!(left.iter().all(|line| !line.contains("of 1000 s")), "{left:?}");
}

#[test]
fn a_pipe_gets_plain_lines() {
    let run = Run::new();
    let mut command = run.command;
    let child = command.env("PROGRESS_SECONDS", "1").stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Ended(child.spawn().expect("the program"));
    let mut err = BufReader::new(child.0.stderr.take().expect("a pipe"));
    let (mut told, began) = (String::new(), Instant::now());
    while !told.contains(" requests, KO 0, p99 7 ms") {
        assert!(began.elapsed() < DEADLINE, "{told}");
        assert!(err.read_line(&mut told).expect("a line") > 0, "{told}");
    }
    fs::write(run.here.path().join("end"), "").expect("a file");
    err.read_to_string(&mut told).expect("lines");
    let mut out = String::new();
    child.0.stdout.take().expect("a pipe").read_to_string(&mut out).expect("lines");
    let status = child.0.wait().expect("an end");
    assert!(status.success() && out.starts_with("passed   KO = 0: "), "{out}");
    assert!(!told.contains(|letter: char| letter.is_control() && letter != '\n'), "{told:?}");
    assert!(told.contains(" requests, KO 0, p99 7 ms, 0 201s, "), "{told}");
}
