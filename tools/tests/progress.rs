//! What the scripts of `perf/` tell whoever waits, on a pseudo-terminal and on a pipe. The measurements themselves are no
//! part of this.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::pty::{Winsize, openpty};
use tempfile::TempDir;

/// What empties the live line.
const CLEAR: &str = "\r\x1b[2K";

/// Three turns, of which the second takes a second, then a failure.
const TURNS: &str = r#"
doing 'starting'
turns 3
turn 'get, 64 connections'
turn 'search, 64 connections'
sleep 1.1
turn 'create, 64 connections, which takes so long a name that no terminal has room for it'
told
echo 'a result'
doing 'once more'
die 'expected something else'
"#;
/// A build that takes some seconds.
const BUILD: &str = "cargo_build --release";

/// A shell that runs this as a tool of `perf/` would.
fn tool(here: &TempDir, script: &str, variables: &[(&str, &str)]) -> Command {
    let cargo = here.path().join("cargo");
    fs::write(&cargo, "#!/bin/sh\necho \"cargo $*\"\nsleep 2.5\necho a warning >&2\nexit 7\n")
        .expect("a script");
    fs::set_permissions(&cargo, Permissions::from_mode(0o755)).expect("its mode");
    let path = format!("{}:{}", here.path().display(), std::env::var("PATH").expect("a PATH"));
    let mut command = Command::new("bash");
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository's root"))
        .args(["-c", &format!("set -euo pipefail\n. perf/arguments\n{script}"), "some/tool"])
        .envs([("PATH", path.as_str()), ("TERM", "xterm")]);
    for name in ["COLUMNS", "CI", "PROGRESS_SECONDS", "DRIVER"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

/// What a terminal of so many columns is sent, and the exit code.
fn on_a_terminal(columns: u16, script: &str, variables: &[(&str, &str)]) -> (String, Option<i32>) {
    let here = tempfile::tempdir().expect("a directory");
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a pseudo-terminal");
    let mut command = tool(&here, script, variables);
    let out = terminal.slave.try_clone().expect("the same terminal");
    let mut child = command.stdout(out).stderr(terminal.slave).spawn().expect("bash");
    // It holds the other end too, which would keep it from ever ending.
    drop(command);
    let mut sent = Vec::new();
    // Linux says EIO when the other end is closed.
    let _ = File::from(terminal.master).read_to_end(&mut sent);
    (String::from_utf8(sent).expect("UTF-8"), child.wait().expect("an end").code())
}

fn on_a_pipe(script: &str, variables: &[(&str, &str)]) -> (String, String, Option<i32>) {
    let here = tempfile::tempdir().expect("a directory");
    let Output { status, stdout, stderr } = tool(&here, script, variables).output().expect("bash");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (text(stdout), text(stderr), status.code())
}

#[test]
fn a_terminal_has_one_line() {
    let (sent, code) = on_a_terminal(80, TURNS, &[]);
    assert_eq!(code, Some(1), "{sent:?}");
    let told: Vec<&str> = sent.split(CLEAR).collect();
    // Two turns took a second or more. It is cut at the last column but one.
    let third = told.iter().find(|line| line.starts_with("perf/tool: turn 3 of 3, about "));
    assert!(third.is_some_and(|third| third.len() == 79), "{sent:?}");
    for line in ["perf/tool: starting", "perf/tool: turn 1 of 3, get, 64 connections"] {
        assert!(told.contains(&line), "{line}: {sent:?}");
    }
    let left: Vec<&str> =
        sent.split("\r\n").map(|line| line.rsplit(CLEAR).next().unwrap_or_default()).collect();
    assert_eq!(left, ["a result", "perf/tool: expected something else", ""], "{sent:?}");

    let (sent, _) = on_a_terminal(80, TURNS, &[("COLUMNS", "30")]);
    let longest = sent.split(CLEAR).filter(|line| !line.contains('\n')).map(str::len).max();
    assert_eq!(longest, Some(29), "{sent:?}");
}

#[test]
fn a_pipe_gets_lines_now_and_then() {
    let (out, err, code) = on_a_pipe(TURNS, &[]);
    assert_eq!((out.as_str(), code), ("a result\n", Some(1)));
    // The first at once, and then none within 15 s.
    assert_eq!(err, "perf/tool: starting\nperf/tool: expected something else\n");
    let (_, err, _) = on_a_pipe(TURNS, &[("PROGRESS_SECONDS", "1")]);
    assert!(err.contains("\nperf/tool: turn 3 of 3, about ") && !err.contains('\x1b'), "{err:?}");
    for variables in [[("TERM", "dumb")], [("CI", "true")]] {
        let (sent, _) = on_a_terminal(80, TURNS, &variables);
        assert!(sent.starts_with("perf/tool: starting\r\n") && !sent.contains('\x1b'), "{sent:?}");
    }
}

/// Its exit code is cargo's, and whoever waits knows that it goes on.
#[test]
fn a_build_is_not_silent() {
    let (out, err, code) = on_a_pipe(BUILD, &[("PROGRESS_SECONDS", "1")]);
    assert_eq!((out.as_str(), code), ("cargo build --quiet --release\n", Some(7)), "{err}");
    assert!(err.starts_with("perf/tool: building, 1 s\n") && err.ends_with("a warning\n"), "{err}");
    // On a terminal cargo has a line of its own.
    let (sent, code) = on_a_terminal(80, BUILD, &[]);
    assert_eq!((sent.as_str(), code), ("cargo build --release\r\na warning\r\n", Some(7)));
}
