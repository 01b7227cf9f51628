//! The process as its operator sees it: command line, start, log, driver, limits, end.

mod arguments;
#[path = "../support/cluster.rs"]
mod cluster;
mod driver;
mod end;
mod limits;
#[path = "../support/load.rs"]
mod load;
mod logs;
mod panics;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;
mod start;

use std::io::Read;
use std::process::{Command, Stdio};

/// The servers under test: what holds for one holds for a server with each of these arguments.
const SERVERS: &[&[&str]] = &[&["--cores", "2"]];

/// Runs a test against every kind of server.
fn each_server(test: impl Fn(&[&str])) {
    for arguments in SERVERS {
        println!("server: {arguments:?}");
        test(arguments);
    }
}

/// What a process that ended by itself left.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs a command to its end, which must come within `load::WAIT_MAX`.
fn run(mut command: Command) -> Ended {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process to run");
    let mut pipes = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let mut child = Killed(child);
    let mut ended = None;
    load::wait_until("the end of the process", || {
        ended = child.0.try_wait().expect("its state");
        ended.is_some()
    });
    let read = |pipe: &mut dyn Read| {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("UTF-8");
        text
    };
    Ended {
        code: ended.and_then(|status| status.code()),
        stdout: read(&mut pipes.0),
        stderr: read(&mut pipes.1),
    }
}

/// A process that does not outlive a failed test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Expects a refusal: one line on stderr that holds every one of `words`, nothing on stdout, and this exit status.
fn refused(command: Command, code: i32, words: &[&str]) {
    let what = format!("{command:?}");
    let ended = run(command);
    println!("{}", ended.stderr.trim_end());
    assert_eq!(ended.code, Some(code), "{what}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{what}");
    assert_eq!(ended.stderr.lines().count(), 1, "{what}: {:?}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in {:?} ({what})", ended.stderr);
    }
}
