//! Whether an answer that says "there is none" may be believed. After a failover the old primary may go on for a while,
//! and it knows nothing of what the new one commits. But it cannot commit: the standby that would have to confirm is no
//! longer its own. So where commits wait for a standby, such an answer waits until a commit that began after it is
//! confirmed, in the same history. The commit connection's next batch is as good as a commit for this purpose alone.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::{Notify, oneshot};

use super::history::Identity;

/// Between the connections that want a proof and the one that commits, all of one thread.
#[derive(Default)]
pub(super) struct Proofs {
    /// No more than there are reads and searches that wait for an answer.
    wanted: RefCell<Vec<oneshot::Sender<Identity>>>,
    arrived: Notify,
}

/// Those who wanted a proof before a commit began.
pub(super) struct Wanted(Vec<oneshot::Sender<Identity>>);

impl Proofs {
    /// Waits until a commit in the history `of`, begun after this call, is confirmed. `false`: none was.
    pub(super) async fn of(self: Rc<Self>, of: Identity) -> bool {
        let (sender, proof) = oneshot::channel();
        self.add(sender);
        proof.await == Ok(of)
    }

    fn add(&self, sender: oneshot::Sender<Identity>) {
        let mut wanted = self.wanted.borrow_mut();
        wanted.retain(|sender| !sender.is_closed());
        wanted.push(sender);
        self.arrived.notify_one();
    }

    /// Returns when somebody wants a proof.
    pub(super) async fn are_wanted(&self) {
        while self.wanted.borrow().is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Takes those who want one now. Whoever drops them has none to give.
    pub(super) fn take(&self) -> Wanted {
        let mut wanted = self.wanted.take();
        wanted.retain(|sender| !sender.is_closed());
        Wanted(wanted)
    }
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A commit of this history is confirmed, which began after they were taken.
    pub(super) fn give(self, of: Identity) {
        for sender in self.0 {
            // Whoever does not wait any more has given up.
            let _gone = sender.send(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_proof_is_of_one_history_and_of_what_was_asked_before() {
        let ours = Identity { system: 7, timeline: 1 };
        let next = Identity { timeline: 2, ..ours };
        let proofs = Rc::new(Proofs::default());
        let ask = |of| {
            let proofs = Rc::clone(&proofs);
            tokio::task::spawn_local(proofs.of(of))
        };
        let asks = async {
            for (asked, given, proven) in
                [(ours, Some(ours), true), (ours, Some(next), false), (ours, None, false)]
            {
                let before = ask(asked);
                proofs.are_wanted().await;
                let wanted = proofs.take();
                let after = ask(asked);
                proofs.are_wanted().await;
                match given {
                    Some(of) => wanted.give(of),
                    None => drop(wanted),
                }
                assert_eq!(before.await.unwrap(), proven);
                assert!(!after.is_finished(), "that commit had begun before");
                proofs.take().give(ours);
                assert!(after.await.unwrap());
            }
        };
        LocalSet::new().run_until(asks).await;
    }
}
