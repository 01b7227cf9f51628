//! What whoever waits is told meanwhile. It knows nothing of the rest, so that all of it may speak.

/// A line on the error stream: the output is for verdicts and tables.
pub fn say(line: &str) {
    eprintln!("stress-test: {line}");
}
