//! What the threads of an instance tell the main one.

use std::sync::mpsc::{self, Receiver, Sender};

use crate::core;

/// What happens to a running server.
pub(super) enum Event {
    /// Somebody sent a signal.
    Signal(i32),
    /// A core got on.
    Core(core::CoreEvent),
    /// A core left as it was told to.
    Left,
    /// A thread ended that must not; one line.
    Died(String),
}

/// A thread's end.
#[derive(Clone)]
pub(super) struct Events(Sender<Event>);

impl Events {
    /// The end that the threads share, and the main thread's.
    pub(super) fn channel() -> (Events, Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        (Events(sender), receiver)
    }

    pub(super) fn tell(&self, event: Event) {
        if self.0.send(event).is_err() {
            // Only while the process is already leaving.
            tracing::debug!("an event came after the end");
        }
    }
}
