//! Lookups: one statement answers all who asked before it began, one batch at a time, on a connection of their own, so that
//! no flood of them delays a commit and none delays lookups of another kind. This module answers tickets; it knows neither
//! what is asked nor the statements.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::connector::Connector;
use super::counters::Counters;
use super::failure::Failure;
use super::fault::Fault;
use super::job::Job;
use super::outbox::Outbox;
use super::proof::Proofs;
use super::queue::Queue;
use super::report::Report;
use super::session::{Session, Statements};
use crate::channel::Ticket;

/// Pause before lookups go again while somebody holds the table.
const LOCKED_PAUSE: Duration = Duration::from_millis(50);

/// A kind of lookup, by the statements of its session.
pub(super) trait Lookup: Statements + 'static {
    /// What somebody asks.
    type Question: 'static;
    /// What the database said to a batch.
    type Said: 'static;
    /// Most questions of one batch.
    const BATCH_MAX: usize;

    /// How long the database is left alone after a lookup that took so long, whoever waits for the next one; nothing was said
    /// if it failed.
    fn rest(_said: Option<&Self::Said>, _took: Duration) -> Duration {
        Duration::ZERO
    }

    /// Asks the database what the batch wants to know.
    async fn look_up(
        session: &Session<Self>,
        batch: &[Job<Self::Question>],
        counters: &Counters,
    ) -> Result<Self::Said, Failure>;

    /// Whether a server that is the primary no more might have said something else to this question.
    fn may_lack(said: &Self::Said, asked: &Self::Question) -> bool;

    /// The answer to one question of the batch.
    fn report(said: &Self::Said, asked: &Self::Question, ticket: Ticket) -> Report;
}

/// Answers what arrives in `queue`, for ever. `outbox` is the queue's outbox, given separately because the queue is
/// borrowed while lookups are answered. The connection is made `at_once`, so that it stands when descriptors run out, or else
/// when somebody asks.
pub(super) async fn run<L: Lookup>(
    mut queue: Queue<L::Question>,
    outbox: Rc<Outbox>,
    proofs: Rc<Proofs>,
    connector: Connector<L>,
    at_once: bool,
) {
    // Those whose connection died: they change nothing, so they simply go again.
    let mut unanswered: Vec<Job<L::Question>> = Vec::new();
    let mut rested = Instant::now();
    loop {
        if !at_once && unanswered.is_empty() {
            queue.holds(1).await;
        }
        let mut session = queue.until_answered(unanswered.iter(), connector.connect()).await;
        let why = loop {
            let mut batch = std::mem::take(&mut unanswered);
            if batch.is_empty() {
                tokio::select! {
                    () = queue.holds(1) => {}
                    why = session.ended() => break why,
                }
            }
            if Instant::now() < rested {
                queue.until_answered(batch.iter(), tokio::time::sleep_until(rested.into())).await;
            }
            // Who is in the batch asked before its statement begins; who comes later is in the next one.
            queue.fill(&mut batch, L::BATCH_MAX, usize::MAX, |_| 0);
            queue.drop_late(&mut batch);
            if batch.is_empty() {
                continue;
            }
            let began = Instant::now();
            let looked_up =
                queue.until_answered(batch.iter(), look_up(&session, &batch, connector.counters())).await;
            let said = looked_up.as_ref().ok().map(|seen| &seen.said);
            rested = Instant::now() + L::rest(said, began.elapsed());
            match looked_up {
                Ok(seen) => {
                    connector.worked();
                    let doubtful = seen.answer_certain(batch, &outbox);
                    if !doubtful.is_empty() {
                        let proof = Rc::clone(&proofs).of(session.identity());
                        let answer = seen.answer_once_proven(doubtful, proof, Rc::clone(&outbox));
                        // By itself, so that other lookups go on; there are no more of these than lookups may wait.
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

/// What was seen of a batch.
struct Seen<L: Lookup> {
    said: L::Said,
    /// Commits wait for a standby, so a server may answer that is the primary no more.
    may_be_old: bool,
}

async fn look_up<L: Lookup>(
    session: &Session<L>,
    batch: &[Job<L::Question>],
    counters: &Counters,
) -> Result<Seen<L>, Failure> {
    let said = L::look_up(session, batch, counters).await?;
    let may_lack = batch.iter().any(|job| L::may_lack(&said, &job.asked));
    Ok(Seen { said, may_be_old: may_lack && session.commits_wait_for_standby().await? })
}

impl<L: Lookup> Seen<L> {
    /// Answers what needs no proof, and returns the rest.
    fn answer_certain(&self, batch: Vec<Job<L::Question>>, outbox: &Outbox) -> Vec<Job<L::Question>> {
        let certain = |job: &Job<L::Question>| !(self.may_be_old && L::may_lack(&self.said, &job.asked));
        let (certain, doubtful) = batch.into_iter().partition(certain);
        self.answer(certain, outbox);
        doubtful
    }

    /// Answers the jobs once their `proof` is there. Those without one in time are told that nothing is known, each at its
    /// deadline.
    async fn answer_once_proven(
        self,
        mut jobs: Vec<Job<L::Question>>,
        proof: impl Future<Output = bool>,
        outbox: Rc<Outbox>,
    ) {
        jobs.sort_by_key(|job| std::cmp::Reverse(job.deadline));
        let mut proof = std::pin::pin!(proof);
        while let Some(first) = jobs.last() {
            match tokio::time::timeout_at(first.deadline.into(), &mut proof).await {
                Ok(true) => return self.answer(jobs, &outbox),
                Ok(false) => return outbox.unavailable(jobs.iter()),
                Err(_late) => {
                    let now = Instant::now();
                    let late = jobs.split_off(jobs.partition_point(|job| job.deadline > now));
                    outbox.unavailable(late.iter());
                }
            }
        }
    }

    fn answer(&self, jobs: Vec<Job<L::Question>>, outbox: &Outbox) {
        for job in jobs {
            if let Some(ticket) = job.ticket.take() {
                outbox.push(L::report(&self.said, &job.asked, ticket));
            }
        }
        outbox.wake();
    }
}
