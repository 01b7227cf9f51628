//! Where the server's sessions lead: of several hosts to the primary of the newest timeline, within seconds; how many
//! there are; and what a database must be to be worked with.

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/encrypted.rs"]
mod encrypted;
mod hosts;
mod leaks;
#[path = "../support/load.rs"]
mod load;
mod pooler;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/standby.rs"]
mod standby;
mod start;
mod tls;

use std::process::Output;
use std::time::{Duration, Instant};

/// Both numbers of cores: the sessions of one core, and of several.
const CORES: &[&[&str]] = &[&["--cores", "1"], &["--cores", "2"]];

/// Starts a server that is expected to end by itself; what it wrote and how it ended.
fn refused(database_url: &str) -> Output {
    let began = Instant::now();
    let mut command = server::binary();
    command.args(["--listen", "127.0.0.1:0", "--database-url", database_url]);
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the server");
    while child.try_wait().expect("its state").is_none() {
        if began.elapsed() > Duration::from_secs(30) {
            child.kill().expect("its end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// The one line that a server wrote before it ended with 1.
#[track_caller]
fn expect_refused(database_url: &str, expected: &str) {
    let output = refused(database_url);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains(expected), "expected {expected:?}: {said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}
