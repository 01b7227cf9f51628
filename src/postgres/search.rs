//! Searches that memory cannot answer: Postgres reads the whole table, one search at a time, on a connection of
//! their own that is made when the first one comes. It knows nothing of commits and point reads.

use std::cell::Cell;
use std::time::Instant;

use super::queue::{Queue, Waits};
use super::session::{Connector, Session};
use super::{Reply, Ticket, sql};

/// A search that waits for its answer.
pub(super) struct Search {
    ticket: Cell<Option<Ticket>>,
    deadline: Instant,
    term: Box<[u8]>,
}

impl Search {
    pub(super) fn new(ticket: Ticket, deadline: Instant, term: Box<[u8]>) -> Search {
        Search { ticket: Cell::new(Some(ticket)), deadline, term }
    }
}

impl Waits for Search {
    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn ticket(&self) -> &Cell<Option<Ticket>> {
        &self.ticket
    }
}

/// Answers what arrives in `queue`, for ever.
pub(super) async fn run(mut queue: Queue<Search>, connector: Connector) {
    let mut session: Option<Session> = None;
    // At most one: the search under way. It changes nothing, so after a failure it simply goes again.
    let mut current: Vec<Search> = Vec::new();
    loop {
        if current.is_empty() {
            queue.holds(1).await;
            queue.fill(&mut current, 1);
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
        match queue.until_answered(current.iter(), sql::search(&live, &search.term)).await {
            Ok(found) => {
                if let Some(ticket) = search.ticket.take() {
                    queue.outbox().push(Reply::Searched { ticket, found });
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
