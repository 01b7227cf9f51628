//! Point reads and counts, on a connection of their own so that no flood of them delays a commit. One batch is in
//! flight at a time. This module answers tickets and knows nothing of commits.

use std::rc::Rc;
use std::time::Duration;

use uuid::Uuid;

use super::connector::Connector;
use super::failure::Failure;
use super::fault::Fault;
use super::job::{Job, Question};
use super::outbox::Outbox;
use super::queue::Queue;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::limits::READ_BATCH_MAX;

/// Pause before reads go again while somebody holds the table.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// Answers what arrives in `queue`, for ever. `outbox` is the queue's outbox, given separately because the queue is
/// borrowed while reads are answered.
pub(super) async fn run(mut queue: Queue<Question>, outbox: Rc<Outbox>, connector: Connector<sql::Read>) {
    // Reads whose connection died: they change nothing, so they simply go again.
    let mut unanswered: Vec<Job<Question>> = Vec::new();
    loop {
        let mut session = queue.until_answered(unanswered.iter(), connector.connect()).await;
        let why = loop {
            let mut batch = std::mem::take(&mut unanswered);
            if batch.is_empty() {
                tokio::select! {
                    () = queue.holds(1) => {}
                    why = session.ended() => break why,
                }
            }
            queue.fill(&mut batch, READ_BATCH_MAX, usize::MAX, |_| 0);
            queue.drop_late(&mut batch);
            if batch.is_empty() {
                continue;
            }
            let answered = queue.until_answered(batch.iter(), answer(&session, &batch, &outbox)).await;
            let Err(failure) = answered else {
                connector.worked();
                continue;
            };
            unanswered = batch;
            match Fault::of_lookup(&failure) {
                // Somebody holds the table. The session is as good as another one.
                Fault::Locked => {
                    let pause = tokio::time::sleep(LOCKED_PAUSE);
                    queue.until_answered(unanswered.iter(), pause).await;
                }
                _ => break failure.to_string(),
            }
        };
        connector.lost(&why);
    }
}

/// Asks once for all ids and once for the count, and answers.
async fn answer(
    session: &Session<sql::Read>,
    batch: &[Job<Question>],
    outbox: &Outbox,
) -> Result<(), Failure> {
    let ids: Vec<Uuid> = batch
        .iter()
        .filter_map(|read| match read.asked {
            Question::Row(id) => Some(id),
            Question::Count => None,
        })
        .collect();
    if !ids.is_empty() {
        let found = session.fetch(&ids).await?;
        for read in batch {
            if let Question::Row(id) = read.asked
                && let Some(ticket) = read.ticket.take()
            {
                outbox.push(Report::Fetched { ticket, found: found.get(&id).cloned() });
            }
        }
        outbox.wake();
    }
    // Every count of the batch was asked for before this statement begins, so its result answers them all.
    if batch.iter().any(|read| read.asked == Question::Count && read.is_open()) {
        let rows = session.count().await?;
        for read in batch.iter().filter(|read| read.asked == Question::Count) {
            if let Some(ticket) = read.ticket.take() {
                outbox.push(Report::Counted { ticket, rows });
            }
        }
        outbox.wake();
    }
    Ok(())
}
