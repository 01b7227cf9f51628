//! Which history of the database this process follows. After a failover two servers may both say that they are the
//! primary; the one on the higher timeline is. All sessions of the process leave the lower ones, and go to no server that
//! is still there.

use std::fmt;

use tokio::sync::watch;
use tracing::{info, warn};

/// What a server is a copy of, and which branch of its history it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster: equal for a primary and its standbys.
    pub system: i64,
    /// Goes up by one each time a standby becomes the primary.
    pub timeline: u32,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.timeline)
    }
}

/// The history that the process follows. Shared by its threads; no request touches it.
pub(super) struct History(watch::Sender<Option<Identity>>);

impl Default for History {
    fn default() -> History {
        History(watch::Sender::new(None))
    }
}

impl History {
    /// A primary was met at the end of a connection. Returns whether it may be used: it is not behind what the process
    /// follows. Another cluster is followed from now on.
    pub(super) fn follow(&self, met: Identity) -> bool {
        let mut current = true;
        self.0.send_if_modified(|known| match *known {
            Some(known) if known == met => false,
            Some(known) if known.system == met.system && known.timeline > met.timeline => {
                current = false;
                false
            }
            before => {
                match before {
                    Some(before) if before.system != met.system => {
                        warn!(%before, now = %met, "the database is another cluster");
                    }
                    Some(before) => info!(%before, now = %met, "the database has a new timeline"),
                    None => {}
                }
                *known = Some(met);
                true
            }
        });
        current
    }

    /// Whether a server belongs to another cluster than the one that the process follows.
    pub(super) fn is_foreign(&self, met: Identity) -> bool {
        self.0.borrow().is_some_and(|known| known.system != met.system)
    }

    /// A primary was seen beside the one in use. It is followed only when it is what ours has become: a cluster that has
    /// nothing to do with ours takes nobody away. Returns whether it is new.
    pub(super) fn hear(&self, seen: Identity) -> bool {
        let known = *self.0.borrow();
        let ours = known.is_some_and(|known| known.system == seen.system && known != seen);
        ours && self.follow(seen)
    }

    /// What the process follows; `None` before it has met a primary.
    pub(super) fn current(&self) -> Option<Identity> {
        *self.0.borrow()
    }

    /// Returns when the process follows another history than `mine`.
    pub(super) async fn left(&self, mine: Identity) {
        let mut known = self.0.subscribe();
        // The sender lives as long as this history, so the wait ends only so.
        let _left = known.wait_for(|known| known.is_some_and(|known| known != mine)).await.is_ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity { system: 7, timeline: 2 };

    #[test]
    fn the_highest_timeline_is_kept() {
        let history = History::default();
        assert!(history.follow(OURS));
        assert!(history.follow(OURS));
        assert!(!history.follow(Identity { timeline: 1, ..OURS }));
        let next = Identity { timeline: 3, ..OURS };
        history.hear(next);
        assert!(!history.follow(OURS));
        assert!(history.follow(next));
    }

    #[test]
    fn another_cluster_is_met_but_not_heard_of() {
        let history = History::default();
        let other = Identity { system: 8, timeline: 1 };
        history.hear(other);
        assert!(history.follow(OURS));
        history.hear(Identity { timeline: 9, ..other });
        assert!(history.follow(OURS));
        assert!(history.follow(other));
        assert!(history.follow(OURS), "it may come back");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn whoever_is_left_behind_hears_of_it() {
        let history = History::default();
        assert!(history.follow(OURS));
        let left = history.left(OURS);
        let next = async { history.hear(Identity { timeline: 3, ..OURS }) };
        tokio::join!(left, next);
        // Also who asks late.
        history.left(OURS).await;
    }
}
