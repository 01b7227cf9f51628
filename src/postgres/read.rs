//! Point reads and counts, on a connection of their own so that no flood of them delays a commit. One batch is in
//! flight at a time. This module answers tickets and knows nothing of commits.

use std::rc::Rc;
use std::time::Duration;

use ahash::HashMap;
use uuid::Uuid;

use super::connector::Connector;
use super::counters::{Counters, Operation};
use super::failure::Failure;
use super::fault::Fault;
use super::job::{Job, Question};
use super::outbox::Outbox;
use super::proof::Proofs;
use super::queue::Queue;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::limits::READ_BATCH_MAX;
use crate::pessoa::Record;

/// Pause before reads go again while somebody holds the table.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// Answers what arrives in `queue`, for ever. `outbox` is the queue's outbox, given separately because the queue is
/// borrowed while reads are answered.
pub(super) async fn run(
    mut queue: Queue<Question>,
    outbox: Rc<Outbox>,
    proofs: Rc<Proofs>,
    connector: Connector<sql::Read>,
) {
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
            let read = queue.until_answered(batch.iter(), read(&session, &batch, connector.counters())).await;
            match read {
                Ok(read) => {
                    connector.worked();
                    let doubtful = read.answer_certain(batch, &outbox);
                    if !doubtful.is_empty() {
                        let proof = Rc::clone(&proofs).of(session.identity());
                        let answer = read.answer_once_proven(doubtful, proof, Rc::clone(&outbox));
                        // By itself, so that other reads go on; there are no more of these than reads may wait.
                        tokio::task::spawn_local(answer);
                    }
                }
                Err(failure) => {
                    unanswered = batch;
                    match Fault::of_lookup(&failure) {
                        // Somebody holds the table. The session is as good as another one.
                        Fault::Locked => {
                            let pause = tokio::time::sleep(LOCKED_PAUSE);
                            queue.until_answered(unanswered.iter(), pause).await;
                        }
                        _ => break failure.to_string(),
                    }
                }
            }
        };
        connector.lost(&why);
    }
}

/// What Postgres said to a batch.
struct Read {
    /// `None`: the row is no pessoa.
    found: HashMap<Uuid, Option<Box<Record>>>,
    rows: u64,
    /// Commits wait for a standby, so a server may answer that is the primary no more.
    may_be_old: bool,
}

/// Asks once for all ids and once for the count.
async fn read(
    session: &Session<sql::Read>,
    batch: &[Job<Question>],
    counters: &Counters,
) -> Result<Read, Failure> {
    let ids: Vec<Uuid> = batch
        .iter()
        .filter_map(|read| match read.asked {
            Question::Row(id) => Some(id),
            Question::Count => None,
        })
        .collect();
    let found = match ids.is_empty() {
        true => HashMap::default(),
        false => counters.time(Operation::Fetch, session.fetch(&ids)).await?,
    };
    // Every count of the batch was asked for before this statement begins, so its result answers them all.
    let counts = batch.iter().any(|read| read.asked == Question::Count && read.is_open());
    let rows = if counts { counters.time(Operation::Count, session.count()).await? } else { 0 };
    let doubtful = counts || ids.iter().any(|id| !found.contains_key(id));
    Ok(Read { found, rows, may_be_old: doubtful && session.commits_wait_for_standby().await? })
}

impl Read {
    /// Answers what needs no proof, and returns the rest.
    fn answer_certain(&self, batch: Vec<Job<Question>>, outbox: &Outbox) -> Vec<Job<Question>> {
        let certain = |job: &Job<Question>| match job.asked {
            Question::Row(id) => !self.may_be_old || self.found.contains_key(&id),
            Question::Count => !self.may_be_old,
        };
        let (certain, doubtful) = batch.into_iter().partition(certain);
        self.answer(certain, outbox);
        doubtful
    }

    /// Answers the jobs once their `proof` is there. Without one in time, nothing is known.
    async fn answer_once_proven(
        self,
        jobs: Vec<Job<Question>>,
        proof: impl Future<Output = bool>,
        outbox: Rc<Outbox>,
    ) {
        let deadline = jobs.iter().map(|job| job.deadline).min().expect("there are jobs");
        let proven = tokio::time::timeout_at(deadline.into(), proof).await;
        if proven == Ok(true) {
            return self.answer(jobs, &outbox);
        }
        for ticket in jobs.iter().filter_map(|job| job.ticket.take()) {
            outbox.push(Report::Unavailable { ticket });
        }
        outbox.wake();
    }

    fn answer(&self, jobs: Vec<Job<Question>>, outbox: &Outbox) {
        for job in jobs {
            if let Some(ticket) = job.ticket.take() {
                outbox.push(match job.asked {
                    Question::Row(id) => match self.found.get(&id) {
                        Some(Some(record)) => Report::Fetched { ticket, found: Some(record.clone()) },
                        Some(None) => Report::Unfit { ticket },
                        None => Report::Fetched { ticket, found: None },
                    },
                    Question::Count => Report::Counted { ticket, rows: self.rows },
                });
            }
        }
        outbox.wake();
    }
}
