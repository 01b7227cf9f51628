//! Which history of the database a core's memory belongs to, and which ones it has left: what is said of those comes late and
//! may not hold any more.

use std::cell::{Cell, RefCell};

use crate::postgres::Identity;

/// Histories that are remembered once they were left: what comes late comes from the last ones.
const LEFT_MAX: usize = 8;

/// The histories of one core.
#[derive(Default)]
pub(super) struct Histories {
    current: Cell<Option<Identity>>,
    /// The last one last.
    left: RefCell<Vec<Identity>>,
}

impl Histories {
    /// Memory belongs to this one from now on.
    pub(super) fn begin(&self, of: Identity) {
        let before = self.current.replace(Some(of));
        let mut left = self.left.borrow_mut();
        left.retain(|&left| left != of);
        left.extend(before.filter(|&before| before != of));
        if left.len() > LEFT_MAX {
            left.remove(0);
        }
    }

    /// Whether memory belongs to this one.
    pub(super) fn is_in(&self, of: Identity) -> bool {
        self.current.get() == Some(of)
    }

    /// Whether this one was left, or is behind the one of today. One that is not known yet is neither: a commit may be the
    /// first to meet a new history, and its row is in memory at once.
    pub(super) fn has_left(&self, of: Identity) -> bool {
        let behind = |now: Identity| now.system == of.system && now.timeline > of.timeline;
        self.current.get().is_some_and(behind) || self.left.borrow().contains(&of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_known_until_it_is_met_again() {
        let ours = Identity { system: 7, timeline: 2 };
        let next = Identity { timeline: 3, ..ours };
        let other = Identity { system: 8, timeline: 1 };
        let histories = Histories::default();
        assert!(!histories.has_left(ours), "nothing was met");
        histories.begin(ours);
        assert!(!histories.has_left(ours) && !histories.has_left(next) && !histories.has_left(other));
        histories.begin(next);
        assert!(histories.has_left(ours) && !histories.has_left(next));
        assert!(histories.has_left(Identity { timeline: 1, ..ours }), "behind, though never met");
        histories.begin(other);
        assert!(histories.has_left(ours) && histories.has_left(next) && !histories.has_left(other));
        histories.begin(next);
        assert!(!histories.has_left(next) && histories.has_left(other));
    }
}
