//! Standard error, which all waits share with whatever else is said. Only the newest wait has the line.

use std::io::{self, IsTerminal, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::text::Text;

/// Back to the first column, and nothing in the line.
const CLEAR: &str = "\r\x1b[2K";
/// Where nothing says how wide it is.
const COLUMNS: usize = 80;

static SCREEN: LazyLock<Mutex<Screen>> = LazyLock::new(|| Mutex::new(Screen::new()));

pub(crate) struct Screen {
    /// Whether a line can be written over.
    pub(crate) live: bool,
    /// The waits that are open, the newest last.
    waits: Vec<u64>,
    next: u64,
    /// What stands in the live line.
    line: String,
}

pub(crate) fn screen() -> MutexGuard<'static, Screen> {
    // Whoever panicked left a line at worst.
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Screen {
    fn new() -> Self {
        let term = std::env::var("TERM").unwrap_or_default();
        // Who watches a build's log sees no line that is written over, even if the log is made by a terminal.
        let live = io::stderr().is_terminal()
            && !["", "dumb"].contains(&&*term)
            && std::env::var_os("CI").is_none_or(|value| value.is_empty());
        Self { live, waits: Vec::new(), next: 0, line: String::new() }
    }

    pub(crate) fn open(&mut self) -> u64 {
        self.next += 1;
        self.waits.push(self.next);
        self.next
    }

    pub(crate) fn close(&mut self, wait: u64) {
        self.waits.retain(|open| *open != wait);
        self.draw("");
    }

    /// Whether this wait is the newest, so that the line is its own.
    pub(crate) fn is_top(&self, wait: u64) -> bool {
        self.waits.last() == Some(&wait)
    }

    /// Makes this the live line.
    pub(crate) fn tell(&mut self, who: &str, text: &Text) {
        let who = format!("{who}: ");
        // The last column stays free: a terminal may wrap there.
        let columns = columns().saturating_sub(1);
        let line = [&*who, &text.fitted(columns.saturating_sub(who.len()))].concat();
        self.draw(&line[..line.len().min(columns)]);
    }

    fn draw(&mut self, line: &str) {
        if self.line != line {
            write(&format!("{CLEAR}{line}"));
            line.clone_into(&mut self.line);
        }
    }

    /// Writes whole lines above the live line.
    pub(crate) fn line(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.past(|| write(&line));
    }

    fn past(&mut self, write_it: impl FnOnce()) {
        if self.line.is_empty() {
            return write_it();
        }
        write(CLEAR);
        write_it();
        write(&self.line);
    }
}

/// Nobody may be there any more to read it, as after a terminal was closed, which must not keep anything from its end.
fn write(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn columns() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let asked = || rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| usize::from(size.ws_col));
    said.or_else(asked).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// Writes a line to standard error: standard output is for results.
pub fn say(who: &str, line: &str) {
    screen().line(&format!("{who}: {line}"));
}

/// Writes a result to standard output, with its own end of line.
pub fn show(text: &str) {
    screen().past(|| {
        let mut out = io::stdout();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    });
}
