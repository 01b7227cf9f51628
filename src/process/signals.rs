//! The signals that end the server. They are caught from the start on, and wait until somebody asks for them.

use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::events::{Event, Events};
use crate::embedded::Stop;
use crate::limits::SIGNAL_REPEAT_TIME;

/// The signals that came and that nobody asked for yet.
pub(super) struct Signals(Receiver<i32>);

impl Signals {
    /// From now on these signals do not end the process by themselves; the first one sets `stop`. Supervisors signal the
    /// process and its group, so that a repetition within [`SIGNAL_REPEAT_TIME`] is the same request, which nobody hears; a
    /// later one says "at once". A signal that whoever started the process wanted to be ignored, as `nohup` does, stays
    /// ignored.
    ///
    /// # Errors
    ///
    /// One line: the kernel refuses, or the thread that waits for them cannot start.
    pub(super) fn catch(stop: Stop) -> Result<Signals, String> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored(&status);
        let caught = [SIGTERM, SIGINT, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = signal_hook::iterator::Signals::new(caught)
            .map_err(|error| format!("cannot handle signals: {error}"))?;
        let (tell, caught) = mpsc::channel();
        spawn(move || {
            let mut first: Option<Instant> = None;
            for signal in signals.forever() {
                match first {
                    None => first = Some(Instant::now()),
                    Some(first) if first.elapsed() < SIGNAL_REPEAT_TIME => continue,
                    Some(_) => stop.set_at_once(),
                }
                // In this order: who finds that it was stopped finds the signal too. At the very end nobody asks any more.
                let _ = tell.send(signal);
                stop.set();
            }
        })?;
        Ok(Signals(caught))
    }

    /// A signal that came, if there is one.
    pub(super) fn next(&mut self) -> Option<i32> {
        self.0.try_recv().ok()
    }

    /// Sends every signal from now on as an event.
    ///
    /// # Errors
    ///
    /// One line: the thread that does so cannot start.
    pub(super) fn forward(self, events: Events) -> Result<(), String> {
        spawn(move || self.0.into_iter().for_each(|signal| events.tell(Event::Signal(signal))))
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let spawned = thread::Builder::new().name("signals".to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// The signals that are ignored, a bit each from that of signal 1 on, as `/proc/PID/status` says it.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        for (status, expected) in [
            ("Name:\trinha\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", 0x1001),
            ("SigIgn:\tgarbage\n", 0),
            ("", 0),
        ] {
            assert_eq!(ignored(status), expected, "{status:?}");
        }
    }
}
