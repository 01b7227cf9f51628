//! What `fill` tells while it fills a real Postgres, on a pseudo-terminal and on a pipe, and how it ends.

#[path = "../../tests/support/cluster.rs"]
mod cluster;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cluster::{Cluster, query};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What empties the live line.
const CLEAR: &str = "\r\x1b[2K";
/// So many that nobody waits for their end.
const ENDLESS: &str = "2000000";
const DEADLINE: Duration = Duration::from_secs(60);

/// What was started ends with the test, also where that fails.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // What has ended needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cluster() -> Cluster {
    let cluster = Cluster::start();
    query(&cluster.config(), include_str!("../../schema.sql"));
    cluster
}

fn fill(cluster: &Cluster, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fill"));
    let socket = cluster.embedded.socket_dir().display();
    command.arg(format!("host={socket} user=rinha dbname=postgres")).args(arguments);
    for name in ["COLUMNS", "CI", "PROGRESS_SECONDS"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm");
    command
}

fn rows(cluster: &Cluster) -> usize {
    query(&cluster.config(), "select count(*) from pessoas")[0].parse().expect("a number")
}

#[test]
fn a_pipe_gets_lines_and_the_result_is_as_ever() {
    let cluster = cluster();
    let output = fill(&cluster, &["100"]).output().expect("an end");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.starts_with("fill: 100 pessoas in "), "{output:?}");
    assert_eq!(out.lines().count(), 1, "{out}");
    // Too quick for anybody to wait.
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(rows(&cluster), 100);

    // The same pessoas again.
    let output = fill(&cluster, &["100"]).output().expect("an end");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), err.lines().count()), (Some(1), 1), "{output:?}");
    assert!(
        err.starts_with("fill: 0 of 100 pessoas were stored: ") && err.contains("duplicate key"),
        "{err}"
    );
    assert_eq!(rows(&cluster), 100);

    // Other seeds have some of the shortest apelidos too.
    query(&cluster.config(), "truncate pessoas");
    let mut endless = fill(&cluster, &[ENDLESS]);
    let child = endless.env("PROGRESS_SECONDS", "1").stderr(Stdio::piped()).spawn().expect("fill");
    let mut child = Ended(child);
    let mut lines = BufReader::new(child.0.stderr.take().expect("a pipe")).lines();
    let line = lines.next().expect("a line").expect("UTF-8");
    assert!(line.starts_with("fill: pessoas ") && line.contains(&format!(" of {ENDLESS}, ")), "{line}");
    assert!(line.ends_with(" left") && line.contains("/s, about "), "{line}");
    kill(Pid::from_raw(child.0.id().cast_signed()), Signal::SIGTERM).expect("sent");
    let last = lines.last().expect("a line").expect("UTF-8");
    assert!(last.ends_with(" pessoas were stored: stopped by a signal"), "{last}");
    assert_eq!(child.0.wait().expect("an end").code(), Some(1));
    let stored: usize = last.split(' ').nth(1).and_then(|number| number.parse().ok()).expect("a number");
    assert_eq!(rows(&cluster), stored, "{last}");
}

#[test]
fn a_terminal_has_one_line_and_is_clean_after_ctrl_c() {
    let cluster = cluster();
    let size = Winsize { ws_row: 24, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a pseudo-terminal");
    let mut command = fill(&cluster, &[ENDLESS]);
    let mut child = Ended(command.stdout(Stdio::null()).stderr(terminal.slave).spawn().expect("fill"));
    // It holds the other end too, which would keep it from ever ending.
    drop(command);
    let mut master = File::from(terminal.master);
    let (mut sent, mut bytes, began) = (String::new(), [0; 4096], Instant::now());
    while sent.matches(" left").count() < 2 {
        assert!(began.elapsed() < DEADLINE, "{sent:?}");
        let read = master.read(&mut bytes).expect("more");
        sent.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    kill(Pid::from_raw(child.0.id().cast_signed()), Signal::SIGINT).expect("sent");
    // Linux says EIO when the other end is closed.
    let mut rest = Vec::new();
    let _ = master.read_to_end(&mut rest);
    sent.push_str(&String::from_utf8_lossy(&rest));
    assert_eq!(child.0.wait().expect("an end").code(), Some(1), "{sent:?}");

    let drawn: Vec<&str> = sent.split(CLEAR).collect();
    assert!(drawn.iter().all(|line| line.trim_end().len() < 90), "{sent:?}");
    assert!(drawn.iter().any(|line| line.starts_with("fill: pessoas ") && line.ends_with(']')), "{sent:?}");
    let last = drawn.last().expect("a line");
    assert!(last.starts_with("fill: ") && last.ends_with("stored: stopped by a signal\r\n"), "{sent:?}");
    while !query(&cluster.config(), "select 1 from pg_stat_activity where query like 'COPY%'").is_empty() {
        assert!(began.elapsed() < DEADLINE, "its session goes on");
        thread::sleep(Duration::from_millis(20));
    }
}
