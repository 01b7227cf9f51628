//! Numbers that only grow.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread counts in.
pub trait Count: Default {
    /// Adds `more`. Only the thread that counts may call this.
    fn add(&self, more: u64);

    /// The number so far.
    fn get(&self) -> u64;
}

impl Count for Cell<u64> {
    fn add(&self, more: u64) {
        self.set(Cell::get(self).wrapping_add(more));
    }

    fn get(&self) -> u64 {
        Cell::get(self)
    }
}

/// A number that one thread counts in and others may read at any time. It costs the one that counts no more than a plain
/// number: a load and a store, neither of which locks anything.
#[derive(Debug, Default)]
pub struct Shared(AtomicU64);

impl Count for Shared {
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
