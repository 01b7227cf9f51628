//! How the program fails and what it says: one sentence for whoever started it.

use std::io::Write;

/// A value, or the sentence that the program ends with.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Says a line, if anybody still listens: a terminal that was closed is no reason to fail, least of all in the middle of
/// a stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "local: {line}");
}
