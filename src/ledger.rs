//! The bytes that one core holds for its clients: a limit for all of them together, and who has how many. Counts of
//! connections, requests and rows do not bound memory: each of them may be small or large.
//!
//! What is small may use all of it; what is large leaves an eighth free, so that under an attack with large requests small
//! ones are still served.

use std::cell::Cell;
use std::rc::Rc;

use crate::limits::{GIVE_BACK_BYTES, LEDGER_SMALL_BYTES};

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Open connections with their smallest buffers.
    Connections,
    /// Requests that were received, or are still coming in.
    Received,
    /// Rows that wait for the database.
    Waiting,
    /// Answers that are gathered or being written.
    Gathered,
}

const ACCOUNTS: usize = 4;

/// One core's ledger.
pub struct Ledger {
    limit: usize,
    held: [Cell<usize>; ACCOUNTS],
    /// The most that was held since the last fall.
    peak: Cell<usize>,
    /// How often a fall is still to be told.
    falls: Cell<u32>,
    refused: Cell<u64>,
}

/// A ledger's state, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerState {
    /// The most that may be held.
    pub limit: usize,
    /// [`Account::Connections`].
    pub connections: usize,
    /// [`Account::Received`].
    pub received: usize,
    /// [`Account::Waiting`].
    pub waiting: usize,
    /// [`Account::Gathered`].
    pub gathered: usize,
    /// How often there was no room.
    pub refused: u64,
}

impl LedgerState {
    /// All that is held.
    pub fn held(&self) -> usize {
        self.connections + self.received + self.waiting + self.gathered
    }
}

impl Ledger {
    /// Nothing is held, and at most `limit` bytes will be.
    pub fn new(limit: usize) -> Rc<Ledger> {
        Rc::new(Ledger {
            limit,
            held: Default::default(),
            peak: Cell::new(0),
            falls: Cell::new(0),
            refused: Cell::new(0),
        })
    }

    /// Holds `bytes` until the guard is dropped; `None`: there is no room for them.
    pub fn hold(self: &Rc<Self>, account: Account, bytes: usize) -> Option<Held> {
        let mut held = Held { ledger: Rc::clone(self), account, bytes: 0 };
        held.resize(bytes).then_some(held)
    }

    /// Whether there is room for so many more bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        let limit = if bytes <= LEDGER_SMALL_BYTES { self.limit } else { self.limit - self.limit / 8 };
        self.total().saturating_add(bytes) <= limit
    }

    /// Something else was refused for want of room.
    pub fn refuse(&self) {
        self.refused.set(self.refused.get() + 1);
    }

    /// Whether so much less is held than before that the memory is worth giving back. A fall is told three times: asked once
    /// a second, as other threads free their part of it a moment later.
    pub fn has_fallen(&self) -> bool {
        let total = self.total();
        if self.peak.get().saturating_sub(total) >= GIVE_BACK_BYTES {
            self.peak.set(total);
            self.falls.set(3);
        }
        let falls = self.falls.get();
        self.falls.set(falls.saturating_sub(1));
        falls > 0
    }

    /// What is held, by account.
    pub fn state(&self) -> LedgerState {
        let [connections, received, waiting, gathered] = self.held.each_ref().map(Cell::get);
        LedgerState {
            limit: self.limit,
            connections,
            received,
            waiting,
            gathered,
            refused: self.refused.get(),
        }
    }

    fn total(&self) -> usize {
        self.held.iter().map(Cell::get).sum()
    }
}

/// Bytes that are held.
pub struct Held {
    ledger: Rc<Ledger>,
    account: Account,
    bytes: usize,
}

impl Held {
    /// From now on `bytes` in place of those before. Fewer are always granted; `false`: there is no room for more, and
    /// those before are still held.
    pub fn resize(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 && !self.ledger.has_room(more) {
            self.ledger.refuse();
            return false;
        }
        self.set(bytes);
        true
    }

    /// From now on `bytes`, whether there is room for them or not: they are there already.
    pub fn set(&mut self, bytes: usize) {
        let held = &self.ledger.held[self.account as usize];
        held.set(held.get() - self.bytes + bytes);
        self.bytes = bytes;
        let total = self.ledger.total();
        self.ledger.peak.set(self.ledger.peak.get().max(total));
    }

    /// How many they are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl std::ops::AddAssign for LedgerState {
    fn add_assign(&mut self, other: LedgerState) {
        self.limit += other.limit;
        self.connections += other.connections;
        self.received += other.received;
        self.waiting += other.waiting;
        self.gathered += other.gathered;
        self.refused += other.refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[test]
    fn what_is_large_leaves_an_eighth_to_what_is_small() {
        let ledger = Ledger::new(768 * KIB);
        let large = ledger.hold(Account::Gathered, 672 * KIB).expect("seven eighths");
        assert!(ledger.hold(Account::Received, LEDGER_SMALL_BYTES + 1).is_none());
        let small: Vec<Held> =
            std::iter::from_fn(|| ledger.hold(Account::Received, LEDGER_SMALL_BYTES)).collect();
        assert_eq!(small.len(), 96 * KIB / LEDGER_SMALL_BYTES);
        let state = ledger.state();
        assert_eq!((state.gathered, state.received, state.refused), (672 * KIB, 96 * KIB, 2));
        drop((large, small));
        assert_eq!(ledger.state(), LedgerState { limit: 768 * KIB, refused: 2, ..LedgerState::default() });
    }

    #[test]
    fn a_fall_is_told_three_times() {
        let ledger = Ledger::new(4 * GIVE_BACK_BYTES);
        let mut held = ledger.hold(Account::Gathered, 2 * GIVE_BACK_BYTES).expect("there is room");
        assert!(!ledger.has_fallen());
        held.set(GIVE_BACK_BYTES + 1);
        assert!(!ledger.has_fallen(), "not far enough");
        held.set(GIVE_BACK_BYTES);
        let told: Vec<bool> = (0..5).map(|_| ledger.has_fallen()).collect();
        assert_eq!(told, [true, true, true, false, false]);
    }

    #[test]
    fn what_is_held_grows_only_where_there_is_room_and_always_shrinks() {
        let ledger = Ledger::new(80 * KIB);
        let mut held = ledger.hold(Account::Waiting, 10 * KIB).expect("there is room");
        assert!(held.resize(70 * KIB));
        assert!(!held.resize(80 * KIB));
        assert_eq!((held.bytes(), ledger.state().waiting), (70 * KIB, 70 * KIB));
        assert!(held.resize(1));
        assert_eq!(ledger.state().waiting, 1);
        assert!(!ledger.has_room(usize::MAX));
    }
}
