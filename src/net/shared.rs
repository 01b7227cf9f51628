//! What the connections of one core share, and each one's place among them.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::clock::Clock;
use super::connections::{Connections, Key, Phase};
use super::drain::Drain;

/// Shared by the connections of one core.
pub struct Shared {
    /// Those that are open.
    pub connections: Connections,
    /// Their time.
    pub clock: Clock,
    /// Whether they are to end.
    pub drain: Drain,
    /// What became of them.
    pub counters: Counters,
    /// Bytes of answers that are being written.
    unsent: Cell<usize>,
}

/// What is counted from the start on.
#[derive(Default)]
pub struct Counters {
    accepted: Cell<u64>,
    panicked: Cell<u64>,
}

impl Counters {
    /// Connections that were accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// Connections that a panic ended.
    pub fn panicked(&self) -> u64 {
        self.panicked.get()
    }

    pub(super) fn panic(&self) {
        self.panicked.set(self.panicked.get() + 1);
    }
}

impl Shared {
    /// For at most `connections_max` connections at once.
    pub fn new(connections_max: usize) -> Rc<Shared> {
        Rc::new(Shared {
            connections: Connections::new(connections_max),
            clock: Clock::new(),
            drain: Drain::new(),
            counters: Counters::default(),
            unsent: Cell::new(0),
        })
    }

    /// One tick of the core's clock.
    pub fn tick(&self) {
        self.connections.end_late(self.clock.tick());
    }

    /// A connection was accepted: its place, or `None` when there is no room for it.
    pub(super) fn admit(self: &Rc<Self>, fd: RawFd) -> Option<Registration> {
        self.counters.accepted.set(self.counters.accepted.get() + 1);
        let key = self.connections.add(fd, self.clock.now())?;
        Some(Registration { shared: Rc::clone(self), key })
    }

    /// Whether a connection is open or may still be handed over.
    pub(super) fn expects_more(&self) -> bool {
        self.drain.expects_acceptors() || self.connections.count() > 0
    }

    /// Bytes that are being written.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.get()
    }

    /// Counts `bytes` as being written until the guard is dropped.
    pub(super) fn writing(&self, bytes: usize) -> Unsent<'_> {
        self.unsent.set(self.unsent.get() + bytes);
        Unsent { shared: self, bytes }
    }
}

/// Bytes on their way out, until they are gone or their connection is.
pub(super) struct Unsent<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.shared.unsent.set(self.shared.unsent.get() - self.bytes);
    }
}

/// A connection's place among the others, given back when it ends however it ends.
pub(super) struct Registration {
    pub(super) shared: Rc<Shared>,
    key: Key,
}

impl Registration {
    /// The connection does something else now.
    pub(super) fn enter(&self, phase: Phase) {
        self.shared.connections.enter(self.key, phase, self.shared.clock.now());
    }

    /// Whether the connection was ended for a deadline.
    pub(super) fn is_late(&self) -> bool {
        self.shared.connections.is_late(self.key)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.connections.remove(self.key);
    }
}
