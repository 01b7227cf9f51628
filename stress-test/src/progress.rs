//! Messages to whoever waits for a run. This module knows no other, so that every other may use it.

use ::progress::{Count, Text, Wait};

/// Who speaks.
const WHO: &str = "stress-test";

/// Writes a line to standard error: standard output is for verdicts and tables. Nobody may be there any more to read it,
/// as after a terminal was closed, which must not keep the run from cleaning up.
pub fn say(line: &str) {
    ::progress::say(WHO, line);
}

/// Writes a verdict or a table to standard output.
pub fn show(text: &str) {
    ::progress::show(text);
}

/// Says what goes on, and for how long already, until the result is dropped.
pub fn step(what: impl Into<String>) -> Wait {
    Wait::step(WHO, what)
}

/// Says again and again what `text` says, until the result is dropped.
pub(crate) fn watch(text: impl FnMut(std::time::Duration) -> Text + Send + 'static) -> Wait {
    Wait::new(WHO, text)
}

/// Says how many are done of so many, until the first result is dropped. The second one counts them.
pub(crate) fn count(what: &str, all: usize) -> (Wait, Count) {
    let done = Count::default();
    (Wait::count(WHO, what, all as u64, &done), done)
}
