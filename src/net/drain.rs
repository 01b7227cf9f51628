//! How far the drain of a core has come: whether answers close their connections, whether listeners are being shut
//! down, and whether acceptors may still hand connections over.

use std::cell::Cell;

/// The stages of a drain, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Answers close their connections; new connections are still accepted.
    Draining,
    /// The listeners are being shut down.
    ListenersEnding,
}

/// The state of one core's drain.
pub struct Drain {
    stage: Cell<Stage>,
    /// Acceptors that may still hand connections over.
    acceptors: Cell<usize>,
}

impl Drain {
    pub(super) fn new() -> Drain {
        Drain { stage: Cell::new(Stage::Serving), acceptors: Cell::new(0) }
    }

    /// From now on answers close their connections.
    pub fn begin(&self) {
        self.stage.set(self.stage.get().max(Stage::Draining));
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.stage.get() >= Stage::Draining
    }

    /// From now on an accept that fails means that its listener was shut down.
    pub(super) fn expect_listeners_to_end(&self) {
        self.stage.set(Stage::ListenersEnding);
    }

    /// Whether the listeners are being shut down.
    pub(super) fn listeners_are_ending(&self) -> bool {
        self.stage.get() == Stage::ListenersEnding
    }

    /// An acceptor will hand connections over.
    pub(super) fn acceptor_began(&self) {
        self.acceptors.set(self.acceptors.get() + 1);
    }

    /// An acceptor will hand nothing more over.
    pub(super) fn acceptor_ended(&self) {
        self.acceptors.set(self.acceptors.get() - 1);
    }

    /// Whether an acceptor may still hand a connection over.
    pub(super) fn expects_acceptors(&self) -> bool {
        self.acceptors.get() > 0
    }
}
