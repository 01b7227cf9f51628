//! Point reads: a batch of ids at a time, from Postgres what memory does not know. This module knows nothing of commits.

use ahash::HashMap;
use uuid::Uuid;

use super::counters::{Counters, Operation};
use super::failure::Failure;
use super::job::Job;
use super::layout::Partitions;
use super::lookup::Lookup;
use super::placement::Placement;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::channel::Ticket;
use crate::limits::READ_BATCH_MAX;
use crate::pessoa::Record;

impl Lookup for sql::Read {
    type Question = Uuid;
    type Said = Fetched;

    const BATCH_MAX: usize = READ_BATCH_MAX;

    async fn look_up(
        session: &Session<sql::Read>,
        batch: &[Job<Uuid>],
        counters: &Counters,
    ) -> Result<Self::Said, Failure> {
        let ids: Vec<Uuid> = batch.iter().map(|job| job.asked).collect();
        let found = counters.time(Operation::Fetch, session.fetch(&ids)).await?;
        if ids.iter().any(|id| !found.contains_key(id)) {
            session.is_still_placed().await?;
        }
        Ok(Fetched { found, here: session.here().clone(), partitions: session.partitions() })
    }

    fn may_lack(said: &Fetched, id: &Uuid) -> bool {
        !said.found.contains_key(id)
    }

    fn report(said: &Fetched, id: &Uuid, ticket: Ticket) -> Report {
        match said.found.get(id) {
            Some(Some(record)) => Report::Fetched { ticket, found: Some(record.clone()) },
            Some(None) => Report::Unfit { ticket },
            None if said.is_all_of(id) => Report::Fetched { ticket, found: None },
            None => Report::Unavailable { ticket },
        }
    }
}

/// What was found of a batch of ids, and where.
pub(super) struct Fetched {
    /// `None`: the row is no pessoa.
    found: HashMap<Uuid, Option<Box<Record>>>,
    here: Placement,
    partitions: Partitions,
}

impl Fetched {
    /// Whether a row with this id, if there is one, can only be here.
    fn is_all_of(&self, id: &Uuid) -> bool {
        self.here.find(self.partitions.of_id(id)).is_some_and(|placed| placed.open)
    }
}
