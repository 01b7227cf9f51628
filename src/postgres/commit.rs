//! Group commit: one batch is committed while the next one gathers, and a batch of few rows waits a moment for more. What
//! becomes of a batch is settled elsewhere; this module decides when one is sent, and on which session.

use std::rc::Rc;
use std::time::Instant;

use super::aside::Aside;
use super::connector::Connector;
use super::job::Insert;
use super::own::FeedNotice;
use super::proof::Proofs;
use super::queue::Queue;
use super::settle::Settling;
use super::sql;
use super::table::Table;
use crate::limits::{COMMIT_BATCH_BYTES_MAX, COMMIT_BATCH_ENOUGH, COMMIT_BATCH_MAX, COMMIT_GAP};
use crate::pessoa::Record;

/// Commits what arrives in `queue`, for ever.
pub(super) async fn run(
    mut queue: Queue<Box<Record>>,
    feed: FeedNotice,
    proofs: Rc<Proofs>,
    connector: Connector<sql::Commit>,
) {
    // Rows of a batch whose connection died: they go again before anything else.
    let mut unsettled: Vec<Insert> = Vec::new();
    let mut aside = Aside::default();
    loop {
        let in_hand = unsettled.iter().chain(aside.rows());
        let mut session = queue.until_answered(in_hand, connector.connect()).await;
        let mut last: Option<Begun> = None;
        let why = loop {
            let mut batch = std::mem::take(&mut unsettled);
            if batch.is_empty() {
                if let Some((until, rows)) = pause(last, queue.len(), Instant::now()) {
                    tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = queue.holds(rows) => {}
                    }
                }
                tokio::select! {
                    () = queue.holds(1) => {}
                    () = aside.due() => {}
                    () = proofs.are_wanted() => {}
                    why = session.ended() => break why,
                }
            }
            queue.fill(&mut batch, COMMIT_BATCH_MAX, COMMIT_BATCH_BYTES_MAX, |record| record.bytes());
            if !batch.is_empty() {
                last = Some(Begun { at: Instant::now(), rows: batch.len() });
                connector.counters().batch(batch.len());
            }
            let wanted = proofs.take();
            match Settling::new(&session, &mut queue, &feed, &mut aside, connector.counters())
                .settle(batch)
                .await
            {
                Ok(settled) if wanted.is_empty() || settled.committed => {
                    wanted.give(session.identity());
                    if settled.asked {
                        connector.worked();
                    }
                }
                Ok(_nothing_committed) => {
                    match queue.until_answered(aside.rows().iter(), session.barrier()).await {
                        Ok(()) => wanted.give(session.identity()),
                        Err(failure) => break failure.to_string(),
                    }
                    connector.worked();
                }
                Err((rest, why)) => {
                    unsettled = rest;
                    break why;
                }
            }
        };
        connector.lost(&why);
    }
}

/// A batch that was sent.
#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    rows: usize,
}

/// How long the next batch waits for company: until `COMMIT_GAP` after the last one began, or until enough rows wait.
/// Enough is `COMMIT_BATCH_ENOUGH`, or fewer when there are few clients: the rows that wait plus the rows just answered,
/// whose clients may come back. `None`: the batch goes as soon as there is a row. The rule was measured
/// (perf/results/2026-11-26.md).
fn pause(last: Option<Begun>, waiting: usize, now: Instant) -> Option<(Instant, usize)> {
    let last = last?;
    let (until, rows) = (last.at + COMMIT_GAP, COMMIT_BATCH_ENOUGH.min(last.rows + waiting));
    (until > now && (1..rows).contains(&waiting)).then_some((until, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_apart_while_rows_wait() {
        let at = Instant::now();
        let until = at + COMMIT_GAP;
        let soon = at + COMMIT_GAP / 2;
        let after = |rows| Some(Begun { at, rows });
        assert_eq!(pause(after(1), 1, soon), Some((until, 2)), "the one who was answered may come back");
        assert_eq!(pause(after(100), 1, soon), Some((until, COMMIT_BATCH_ENOUGH)));
        assert_eq!(pause(after(1), 0, soon), None, "the row to come shall not wait");
        assert_eq!(pause(after(1), COMMIT_BATCH_ENOUGH, soon), None, "they are many already");
        assert_eq!(pause(after(1), 1, until), None, "the batch took longer than the gap");
        assert_eq!(pause(None, 1, at), None, "the first batch of a connection");
    }
}
