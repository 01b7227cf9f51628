//! Point reads: a batch of ids at a time, from Postgres what memory does not know. This module knows nothing of commits.

use ahash::HashMap;
use uuid::Uuid;

use super::counters::{Counters, Operation};
use super::failure::Failure;
use super::job::Job;
use super::lookup::Lookup;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::channel::Ticket;
use crate::limits::READ_BATCH_MAX;
use crate::pessoa::Record;

impl Lookup for sql::Read {
    type Question = Uuid;
    /// `None`: the row is no pessoa.
    type Said = HashMap<Uuid, Option<Box<Record>>>;

    const BATCH_MAX: usize = READ_BATCH_MAX;

    async fn look_up(
        session: &Session<sql::Read>,
        batch: &[Job<Uuid>],
        counters: &Counters,
    ) -> Result<Self::Said, Failure> {
        let ids: Vec<Uuid> = batch.iter().map(|job| job.asked).collect();
        counters.time(Operation::Fetch, session.fetch(&ids)).await
    }

    fn may_lack(found: &Self::Said, id: &Uuid) -> bool {
        !found.contains_key(id)
    }

    fn report(found: &Self::Said, id: &Uuid, ticket: Ticket) -> Report {
        match found.get(id) {
            Some(Some(record)) => Report::Fetched { ticket, found: Some(record.clone()) },
            Some(None) => Report::Unfit { ticket },
            None => Report::Fetched { ticket, found: None },
        }
    }
}
