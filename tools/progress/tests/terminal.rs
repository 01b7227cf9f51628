//! What a real pseudo-terminal and a pipe get. The test starts itself again with its standard error there.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use progress::{Count, Text, Wait, say, show};

/// Many looks of a step, whose own are not counted.
const STEP: Duration = Duration::from_secs(3);

/// What the other tests start: a step, within it a wait, a line and a result meanwhile.
#[test]
#[ignore = "started by the other tests"]
fn work() {
    let step = Wait::step("work", "the first step");
    thread::sleep(STEP);
    let looks = Count::default();
    let looked = looks.clone();
    let wait = Wait::new("work", move |_| {
        looked.add(1);
        Text::new("7 of 9 are done").and("as many again").share(0.75)
    });
    // At the second look the first one has been told.
    let tell = |count| {
        while looks.get() < count {
            thread::sleep(Duration::from_millis(10));
        }
    };
    tell(2);
    say("work", "something happened");
    show("a result\n");
    tell(4);
    drop(wait);
    drop(step);
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["--ignored", "--exact", "work", "--nocapture", "--quiet"]);
    for name in ["COLUMNS", "CI", "NO_COLOR"] {
        command.env_remove(name);
    }
    // A plain line a second, so that nobody waits longer than a test should.
    command.env("TERM", "xterm").env("PROGRESS_SECONDS", "1").envs(variables.iter().copied());
    command
}

/// What a terminal of so many columns is sent.
fn on_a_terminal(columns: u16, variables: &[(&str, &str)]) -> String {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).expect("a pseudo-terminal");
    let mut command = command(variables);
    let stdout = terminal.slave.try_clone().expect("the same terminal");
    let mut child = command.stdout(stdout).stderr(terminal.slave).spawn().expect("this test again");
    // It holds the other end too, which would keep it from ever ending.
    drop(command);
    let mut master = File::from(terminal.master);
    let mut sent = Vec::new();
    // Linux says EIO when the other end is closed.
    let _ = master.read_to_end(&mut sent);
    assert!(child.wait().expect("an end").success());
    String::from_utf8(sent).expect("UTF-8")
}

/// What empties a line.
const CLEAR: &str = "\r\x1b[2K";

/// The lines as they stand in the end.
fn lines(sent: &str) -> Vec<&str> {
    sent.split("\r\n").map(|line| line.rsplit(CLEAR).next().unwrap_or_default()).collect()
}

/// The longest line that ever stood there.
fn longest(sent: &str) -> usize {
    sent.split("\r\n").flat_map(|line| line.split(CLEAR)).map(str::len).max().unwrap_or(0)
}

#[test]
fn a_terminal_has_one_line_that_is_gone_in_the_end() {
    let sent = on_a_terminal(100, &[]);
    assert!(sent.contains("work: the first step, 2 s"), "{sent:?}");
    assert!(sent.contains("work: 7 of 9 are done, as many again [####"), "{sent:?}");
    let mut lines = lines(&sent);
    // The rest is the harness' own.
    lines.retain(|line| line.contains("work: ") || line.contains("a result"));
    let [happened, result, step] = lines[..] else { panic!("{sent:?}") };
    assert_eq!((happened, result), ("work: something happened", "a result"));
    assert!(step.starts_with("work: the first step (") && step.ends_with(" s)"), "{step}");
    assert!(longest(&sent) < 100, "{sent:?}");
    // Nothing but the one sequence: no colours, and the cursor is where it was.
    assert_eq!(sent.matches('\x1b').count(), sent.matches(CLEAR).count(), "{sent:?}");
}

#[test]
fn a_narrow_terminal_has_a_short_line() {
    for (columns, variables, most) in [(30, &[][..], 29), (100, &[("COLUMNS", "25")], 24)] {
        let sent = on_a_terminal(columns, variables);
        assert!(sent.contains("work: 7 of 9 are don"), "{sent:?}");
        let live = sent.split(CLEAR).skip(1).filter(|line| !line.contains('\n'));
        assert!(live.map(str::len).max().is_some_and(|longest| longest <= most), "{sent:?}");
    }
}

#[test]
fn who_watches_no_terminal_gets_lines() {
    let output = command(&[]).stdin(Stdio::null()).output().expect("an end");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("a result\n") && !out.contains("work:"), "{out}");
    assert!(err.starts_with("work: the first step\nwork: the first step, "), "{err}");
    let before = err.split("work: something happened\n").next().unwrap_or_default();
    assert!(before.len() < err.len(), "{err}");
    assert!(before.contains("\nwork: 7 of 9 are done, as many again\n"), "{err}");
    assert!(!err.contains(|letter: char| letter.is_control() && letter != '\n'), "{err:?}");
    for variables in [[("TERM", "dumb")], [("CI", "true")]] {
        let sent = on_a_terminal(100, &variables);
        assert!(
            !sent.contains('\x1b') && sent.contains("work: the first step\r\n"),
            "{variables:?}: {sent:?}"
        );
    }
}

/// Nobody reads any more: that must not be the end of the work.
#[test]
fn a_terminal_that_is_closed_ends_nothing() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = command(&[]).stderr(writer).stdout(Stdio::null()).status().expect("an end");
    assert!(status.success(), "{status}");
}
