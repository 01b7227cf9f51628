//! What this instance committed itself: its rows have already reached their core, so the feed need not read them. A commit
//! is named by its history and its transaction, because another history gives the same id to another transaction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;

use super::history::Identity;
use super::sql::Xid8;
use crate::channel::ring;
use crate::limits::FEED_NOTICES_MAX;

/// A commit whose rows are on their way to the core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notice {
    of: Identity,
    tx: Xid8,
    rows: u32,
}

/// Tells the feed what one Postgres thread committed.
pub struct FeedNotice(RefCell<ring::Sender<Notice>>);

impl FeedNotice {
    /// Names a transaction whose rows, so many, are on their way to the core. When the ring is full the name is dropped, so that
    /// no commit waits for the feed: the feed then reads those rows again, which changes nothing.
    pub(super) fn committed(&self, of: Identity, tx: Xid8, rows: u32) {
        let mut notices = self.0.borrow_mut();
        let _full = notices.push(Notice { of, tx, rows }).is_err();
        notices.wake();
    }
}

/// The Postgres threads are gone.
pub(super) struct Ended;

/// The transactions that this instance committed and that no snapshot of the feed has shown yet.
pub(super) struct OwnCommits {
    inboxes: Vec<ring::Receiver<Notice>>,
    notices: Vec<Notice>,
    /// Rows of which the other instances were not told.
    untold: u32,
}

/// For each of `cores` cores its end, and the feed's.
pub(super) fn own_commits(cores: usize) -> (Vec<FeedNotice>, OwnCommits) {
    let (notices, inboxes): (Vec<_>, Vec<_>) = (0..cores).map(|_| ring::channel(FEED_NOTICES_MAX)).unzip();
    let notices = notices.into_iter().map(|sender| FeedNotice(RefCell::new(sender))).collect();
    (notices, OwnCommits { inboxes, notices: Vec::new(), untold: 0 })
}

impl OwnCommits {
    /// Waits for a commit of this instance. Commits wake the feed only while this is awaited.
    pub(super) async fn arrived(&mut self) -> Result<(), Ended> {
        poll_fn(|cx| {
            let mut ended = true;
            for inbox in &mut self.inboxes {
                match inbox.poll_pop(cx) {
                    Poll::Ready(Some(notice)) => {
                        self.untold = self.untold.saturating_add(notice.rows);
                        self.notices.push(notice);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(None) => {}
                    Poll::Pending => ended = false,
                }
            }
            if ended { Poll::Ready(Err(Ended)) } else { Poll::Pending }
        })
        .await
    }

    /// Returns when the Postgres threads are gone. The feed will read what they commit meanwhile, like the rows of
    /// others.
    pub(super) async fn ended(&mut self) {
        while self.arrived().await.is_ok() {
            self.notices.clear();
        }
    }

    /// How many rows were committed since this was asked last. Who asks tells the other instances.
    pub(super) fn told(&mut self) -> u32 {
        self.gather();
        std::mem::take(&mut self.untold)
    }

    /// Whether there are commits of which the other instances were not told, and for which nobody will be woken any more.
    pub(super) fn has_untold(&self) -> bool {
        self.untold > 0
    }

    fn gather(&mut self) {
        for inbox in &mut self.inboxes {
            while self.notices.len() < FEED_NOTICES_MAX
                && let Some(notice) = inbox.try_pop()
            {
                self.untold = self.untold.saturating_add(notice.rows);
                self.notices.push(notice);
            }
        }
    }

    /// The commits up to now in this history, whose rows a question may leave out.
    pub(super) fn known(&mut self, of: Identity) -> Vec<Xid8> {
        self.gather();
        self.notices.iter().filter(|notice| notice.of == of).map(|notice| notice.tx).collect()
    }

    /// The commits that were known when a question was asked: its answer shows them, so no later one meets their rows.
    /// Those of another history never will be met.
    pub(super) fn shown(&mut self) {
        self.notices.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also when it is heard of only once the feed has met the new history.
    #[test]
    fn a_commit_of_another_history_leaves_out_nothing() {
        let old = Identity { system: 7, timeline: 1 };
        let new = Identity { timeline: 2, ..old };
        let (notices, mut own) = own_commits(2);
        notices[0].committed(old, Xid8::from(100), 1);
        notices[1].committed(new, Xid8::from(101), 1);
        notices[0].committed(old, Xid8::from(102), 1);
        assert_eq!(own.known(new), [Xid8::from(101)]);
        own.shown();
        notices[0].committed(old, Xid8::from(103), 1);
        assert_eq!(own.known(new), []);
    }

    #[test]
    fn rows_are_told_once() {
        let of = Identity { system: 7, timeline: 1 };
        let (notices, mut own) = own_commits(2);
        notices[0].committed(of, Xid8::from(100), 3);
        notices[1].committed(of, Xid8::from(101), 2);
        assert_eq!(own.known(of).len(), 2);
        notices[1].committed(of, Xid8::from(102), 5);
        assert_eq!((own.told(), own.told()), (10, 0));
        assert!(!own.has_untold());
        // A question takes a commit out of its ring: it must be told all the same.
        notices[0].committed(of, Xid8::from(103), 1);
        assert!(!own.has_untold(), "who waits for it is woken");
        assert_eq!(own.known(of).len(), 4);
        own.shown();
        assert!(own.has_untold());
        assert_eq!(own.told(), 1);
    }
}
