//! Which apelidos of memory are known from a row that somebody saw, and that may not be durable yet: where a commit waits
//! for a standby, a row whose wait was cut short is shown to everybody all the same. What this core's own commits and
//! lookups prove afterwards is durable: they waited themselves, behind all that was seen before they began.

use std::collections::VecDeque;

use ahash::RandomState;

use crate::limits::UNPROVEN_MAX;

/// Apelidos that were seen since the last proof. Of more than [`UNPROVEN_MAX`] only the number is known, and then none of
/// memory counts as proven.
pub(super) struct Unproven {
    /// Their hashes, the oldest first. Two apelidos with one hash cost a question to the database.
    seen: VecDeque<u64>,
    /// How many were seen before the first of `seen`.
    before: u64,
    /// How many a proof must cover before `seen` says all.
    forgotten: u64,
    hasher: RandomState,
}

/// A moment: what was seen before it is proven by what begins at it.
#[derive(Clone, Copy)]
pub(super) struct Seen(u64);

impl Default for Unproven {
    fn default() -> Unproven {
        Unproven { seen: VecDeque::new(), before: 0, forgotten: 0, hasher: RandomState::new() }
    }
}

impl Unproven {
    /// A row with this apelido was seen.
    pub(super) fn see(&mut self, apelido: &str) {
        if self.seen.len() == UNPROVEN_MAX {
            self.forgotten = self.before + self.seen.len() as u64;
            self.before = self.forgotten;
            self.seen.clear();
        }
        self.seen.push_back(self.hasher.hash_one(apelido));
    }

    /// Now, for a commit or a lookup that begins.
    pub(super) fn now(&self) -> Seen {
        Seen(self.before + self.seen.len() as u64)
    }

    /// What began at `then` has waited until it was durable.
    pub(super) fn prove(&mut self, then: Seen) {
        let proven = usize::try_from(then.0.saturating_sub(self.before)).unwrap_or(usize::MAX);
        let proven = proven.min(self.seen.len());
        self.seen.drain(..proven);
        self.before += proven as u64;
        if then.0 >= self.forgotten {
            self.forgotten = 0;
        }
    }

    /// Whether a row with this apelido, which memory knows, is certainly durable.
    pub(super) fn is_proven(&self, apelido: &str) -> bool {
        self.forgotten == 0 && (self.seen.is_empty() || !self.seen.contains(&self.hasher.hash_one(apelido)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_covers_what_was_seen_before_it_began() {
        let mut unproven = Unproven::default();
        assert!(unproven.is_proven("a"));
        unproven.see("a");
        let then = unproven.now();
        unproven.see("b");
        assert!(!unproven.is_proven("a") && !unproven.is_proven("b") && unproven.is_proven("c"));
        unproven.prove(then);
        assert!(unproven.is_proven("a") && !unproven.is_proven("b"));
        // An older proof that comes late takes nothing back.
        unproven.prove(then);
        assert!(!unproven.is_proven("b"));
        unproven.prove(unproven.now());
        assert!(unproven.is_proven("b"));
    }

    #[test]
    fn when_too_many_were_seen_none_is_proven() {
        let mut unproven = Unproven::default();
        let early = unproven.now();
        for number in 0..=UNPROVEN_MAX {
            unproven.see(&number.to_string());
        }
        assert!(!unproven.is_proven("0") && !unproven.is_proven("never seen"));
        unproven.prove(early);
        assert!(!unproven.is_proven("0"), "that proof began before");
        let late = unproven.now();
        unproven.see("later");
        unproven.prove(late);
        assert!(unproven.is_proven("0") && !unproven.is_proven("later"));
        assert!(unproven.seen.len() <= UNPROVEN_MAX);
    }
}
