//! Searches that memory cannot answer: Postgres reads the whole table for each, one search at a time. They have a
//! connection of their own, made when the first search comes. This module knows nothing of commits and point reads.

use std::rc::Rc;

use super::connector::Connector;
use super::counters::Operation;
use super::failure::Failure;
use super::job::Job;
use super::proof::Proofs;
use super::queue::Queue;
use super::report::Report;
use super::session::Session;
use super::sql;

/// Answers what arrives in `queue`, for ever.
pub(super) async fn run(mut queue: Queue<Box<[u8]>>, proofs: Rc<Proofs>, connector: Connector<sql::Search>) {
    let mut session: Option<Session<sql::Search>> = None;
    // At most one: the search under way. It changes nothing, so after a failure it simply goes again.
    let mut current: Vec<Job<Box<[u8]>>> = Vec::new();
    loop {
        if current.is_empty() {
            queue.holds(1).await;
            queue.fill(&mut current, 1, usize::MAX, |_| 0);
        }
        let live = match session.take() {
            Some(live) if live.is_open() => live,
            _ => queue.until_answered(current.iter(), connector.connect()).await,
        };
        queue.drop_late(&mut current);
        let Some(search) = current.first() else {
            session = Some(live);
            continue;
        };
        let searched = async {
            let found = connector.counters().time(Operation::Search, live.search(&search.asked)).await?;
            live.is_still_primary(&proofs).await?;
            live.is_still_placed().await?;
            Ok::<_, Failure>((found, live.here().clone()))
        };
        match queue.until_answered(current.iter(), searched).await {
            Ok((found, here)) => {
                if let Some(ticket) = search.ticket.take() {
                    queue.outbox().push(Report::Searched { ticket, found, here });
                    queue.outbox().wake();
                }
                current.clear();
                connector.worked();
                session = Some(live);
            }
            Err(failure) => connector.lost(&failure.to_string()),
        }
    }
}
