//! The signals that end the server. They are caught from the start on, and wait until somebody asks for them.

use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::events::{Event, Events};

/// The signals that came and that nobody asked for yet.
pub(super) struct Signals(signal_hook::iterator::Signals);

impl Signals {
    /// From now on these signals do not end the process by themselves.
    ///
    /// # Errors
    ///
    /// One line: the kernel refuses.
    pub(super) fn catch() -> Result<Signals, String> {
        signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])
            .map(Signals)
            .map_err(|error| format!("cannot handle signals: {error}"))
    }

    /// A signal that came, if there is one.
    pub(super) fn next(&mut self) -> Option<i32> {
        self.0.pending().next()
    }

    /// Sends every signal from now on as an event.
    ///
    /// # Errors
    ///
    /// One line: the thread that waits for them cannot start.
    pub(super) fn forward(mut self, events: Events) -> Result<(), String> {
        let forward = move || self.0.forever().for_each(|signal| events.tell(Event::Signal(signal)));
        let spawned = thread::Builder::new().name("signals".to_owned()).spawn(forward);
        spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
    }
}
