//! The signals that end the topology: SIGTERM, SIGINT (Ctrl-C) and SIGHUP (a terminal that is closed) are one request.

use std::cell::Cell;
use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Within this time a further signal is the same request: supervisors signal a process and its group.
const REPEAT_TIME: Duration = Duration::from_secs(1);

/// Whether the topology is to end.
pub(crate) struct Stop {
    signals: Receiver<()>,
    first: Cell<Option<Instant>>,
}

impl Stop {
    /// From now on the signals end nothing by themselves. One that was ignored at the start, as `nohup` does, stays so.
    pub(crate) fn on_signals() -> io::Result<Stop> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let heeded = [SIGTERM, SIGINT, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = signal_hook::iterator::Signals::new(heeded)?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for _ in signals.forever() {
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
        Ok(Stop { signals: receiver, first: Cell::new(None) })
    }

    /// Whether a signal came.
    pub(crate) fn is_set(&self) -> bool {
        if self.first.get().is_none() && self.signals.try_recv().is_ok() {
            self.first.set(Some(Instant::now()));
        }
        self.first.get().is_some()
    }

    /// Whether somebody has no more patience: another signal came later.
    pub(crate) fn is_repeated(&self) -> bool {
        let came = self.signals.try_iter().count() > 0;
        came && self.first.get().is_some_and(|first| first.elapsed() > REPEAT_TIME)
    }
}

/// The signals that are ignored, a bit each from that of signal 1 on, as `/proc/PID/status` says it.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
