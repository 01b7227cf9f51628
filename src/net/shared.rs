//! What the connections of one core share, and the registration of each connection.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::clock::Clock;
use super::connections::{Connections, Key, Phase};
use super::drain::Drain;
use crate::ledger::{Account, Held, Ledger};
use crate::limits::{CONNECTION_BYTES, REFUSALS_MAX};

/// Shared by the connections of one core.
pub struct Shared {
    /// The open connections.
    pub connections: Connections,
    /// The time of the core.
    pub clock: Clock,
    /// How far the drain of the core has come.
    pub drain: Drain,
    /// How many connections were accepted, and how many a panic ended.
    pub counters: Counters,
    /// The bytes that are held for them.
    pub ledger: Rc<Ledger>,
    /// Newcomers that are being refused.
    refusals: Cell<usize>,
}

/// Counts of connections since the core started.
#[derive(Default)]
pub struct Counters {
    accepted: Cell<u64>,
    panicked: Cell<u64>,
    refused: Cell<u64>,
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

    /// Connections for which there was no room.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    fn count_accepted(&self) {
        self.accepted.set(self.accepted.get() + 1);
    }

    fn count_refused(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    pub(super) fn count_panic(&self) {
        self.panicked.set(self.panicked.get() + 1);
    }
}

impl Shared {
    /// There is room for `connections_max` connections at once.
    pub fn new(connections_max: usize, ledger: Rc<Ledger>) -> Rc<Shared> {
        Rc::new(Shared {
            connections: Connections::new(connections_max),
            clock: Clock::new(),
            drain: Drain::new(),
            counters: Counters::default(),
            ledger,
            refusals: Cell::new(0),
        })
    }

    /// Begins the next period of the clock, and ends the connections whose deadline has come.
    pub fn tick(&self) {
        self.connections.end_late(self.clock.tick());
    }

    /// Counts a connection that was accepted, and registers it; `None` when there is no room for it.
    pub(super) fn admit(self: &Rc<Self>, fd: RawFd) -> Option<Registration> {
        self.counters.count_accepted();
        let held = self.ledger.hold(Account::Connections, CONNECTION_BYTES)?;
        let key = self.connections.add(fd, self.clock.now())?;
        Some(Registration { shared: Rc::clone(self), key, _held: held })
    }

    /// Whether a connection is open or may still be handed over.
    pub(super) fn expects_more(&self) -> bool {
        self.drain.expects_acceptors() || self.connections.count() > 0
    }

    /// A newcomer is refused, until the guard is dropped; `None` when so many are that this one is closed at once.
    pub(super) fn refuse(self: &Rc<Self>) -> Option<Refusal> {
        self.counters.count_refused();
        if self.refusals.get() >= REFUSALS_MAX {
            return None;
        }
        self.refusals.set(self.refusals.get() + 1);
        Some(Refusal(Rc::clone(self)))
    }
}

/// A newcomer that is being refused.
pub(super) struct Refusal(Rc<Shared>);

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.refusals.set(self.0.refusals.get() - 1);
    }
}

/// A connection's entry in the table. Dropping this removes the entry, however the connection ended.
pub(super) struct Registration {
    pub(super) shared: Rc<Shared>,
    key: Key,
    _held: Held,
}

impl Registration {
    /// Notes that the connection enters `phase`.
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
