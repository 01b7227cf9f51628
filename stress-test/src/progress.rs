//! Messages to whoever waits for a run. This module knows no other, so that every other may use it.

use std::io::Write;

/// Writes a line to standard error: standard output is for verdicts and tables. Nobody may be there any more to read it,
/// as after a terminal was closed, which must not keep the run from cleaning up.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "stress-test: {line}");
}

/// Writes a verdict or a table to standard output.
pub fn show(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
