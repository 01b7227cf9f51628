//! What the threads of an instance tell the main one.

use std::sync::mpsc::{self, Receiver, Sender};

use crate::core;

/// What happens to a running server.
pub(super) enum Event {
    /// Somebody sent a signal.
    Signal(i32),
    /// A core reached its next stage.
    Core(core::CoreEvent),
    /// A core left as it was told to.
    Left,
    /// A thread ended that must not; one line says which and why.
    Died(String),
}

/// Sends events to the main thread; each thread has a clone.
#[derive(Clone)]
pub(super) struct Events(Sender<Event>);

impl Events {
    /// The sender for the threads, and the main thread's receiver.
    pub(super) fn channel() -> (Events, Receiver<Event>) {
        let (sender, receiver) = mpsc::channel();
        (Events(sender), receiver)
    }

    pub(super) fn tell(&self, event: Event) {
        if self.0.send(event).is_err() {
            // The main thread drops its receiver only when the process is leaving.
            tracing::debug!("an event came after the end");
        }
    }
}
