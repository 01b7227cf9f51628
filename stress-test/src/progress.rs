//! Messages to whoever waits for a run. This module knows no other, so that every other may use it.

/// Writes a line to standard error: standard output is for verdicts and tables.
pub fn say(line: &str) {
    eprintln!("stress-test: {line}");
}
