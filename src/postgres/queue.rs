//! Jobs that wait on a Postgres thread, and their deadlines. It knows tickets, not what was asked.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::job::Job;
use super::outbox::Outbox;
use crate::channel::ring;

/// How often the queue of a connection that is busy, or not there, is searched for jobs past their deadline.
const EXPIRY_PERIOD: Duration = Duration::from_millis(50);

/// Jobs that wait for one connection, oldest first. The core bounds their number by the tickets that it gives out, and
/// wakes this thread for a job only while the connection's task waits for jobs.
pub(super) struct Queue<T> {
    waiting: ring::Receiver<Job<T>>,
    outbox: Rc<Outbox>,
    /// When to look for late jobs next.
    look_at: Instant,
}

impl<T> Queue<T> {
    pub(super) fn new(waiting: ring::Receiver<Job<T>>, outbox: Rc<Outbox>) -> Queue<T> {
        Queue { waiting, outbox, look_at: Instant::now() }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.queued()
    }

    /// Returns once `count` jobs wait.
    pub(super) async fn holds(&mut self, count: usize) {
        self.waiting.holds(count).await;
    }

    /// Moves waiting jobs to the end of `batch`, until that holds `max` of them or, by `bytes_of`, about `bytes_max`: at
    /// least one, however long it is.
    pub(super) fn fill(
        &mut self,
        batch: &mut Vec<Job<T>>,
        max: usize,
        bytes_max: usize,
        bytes_of: impl Fn(&T) -> usize,
    ) {
        let mut bytes: usize = batch.iter().map(|job| bytes_of(&job.asked)).sum();
        while batch.len() < max
            && (batch.is_empty() || bytes < bytes_max)
            && let Some(job) = self.waiting.try_pop()
        {
            bytes += bytes_of(&job.asked);
            batch.push(job);
        }
    }

    /// Answers the jobs that are past their deadline, and removes every answered job, so that none is sent (again).
    pub(super) fn drop_late(&self, items: &mut Vec<Job<T>>) {
        self.answer_late(items.iter(), Instant::now());
        items.retain(Job::is_open);
    }

    /// Runs `work` to its end. Jobs whose deadline passes meanwhile are answered: those in hand at once, those in the
    /// queue within [`EXPIRY_PERIOD`]. The work goes on even when all its jobs are answered, because a statement that
    /// was sent is never cancelled.
    pub(super) async fn until_answered<'a, R>(
        &mut self,
        in_hand: impl Iterator<Item = &'a Job<T>> + Clone,
        work: impl Future<Output = R>,
    ) -> R
    where
        T: 'a,
    {
        let mut work = std::pin::pin!(work);
        loop {
            let open = in_hand.clone().filter(|item| item.is_open());
            let next = open.map(|item| item.deadline).fold(self.look_at, Instant::min);
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(next.into()) => {
                    let now = Instant::now();
                    self.answer_late(in_hand.clone(), now);
                    self.expire(now);
                    self.look_at = now + EXPIRY_PERIOD;
                }
            }
        }
    }

    /// Answers the late jobs of the queue. All jobs of one queue have the same time to live, so the front expires
    /// first; but a create that goes again under another id has less, and may be answered later than it was promised.
    fn expire(&mut self, now: Instant) {
        let late: Vec<Job<T>> =
            std::iter::from_fn(|| self.waiting.pop_if(|item| item.deadline <= now)).collect();
        self.answer_late(late.iter(), now);
    }

    fn answer_late<'a>(&self, items: impl Iterator<Item = &'a Job<T>>, now: Instant)
    where
        T: 'a,
    {
        self.outbox.unavailable(items.filter(|item| item.deadline <= now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_by_number_and_by_bytes() {
        let batches = |lengths: &[usize], max, bytes_max| {
            let (mut asking, waiting) = ring::channel(lengths.len());
            for (ticket, length) in lengths.iter().enumerate() {
                assert!(asking.push(Job::new(ticket, Instant::now(), *length)).is_ok());
            }
            let mut queue = Queue::new(waiting, Rc::new(Outbox::new(ring::channel(1).0)));
            let mut batches = Vec::new();
            while queue.len() > 0 {
                let mut batch = Vec::new();
                queue.fill(&mut batch, max, bytes_max, |length| *length);
                batches.push(batch.iter().map(|job| job.asked).collect::<Vec<usize>>());
            }
            batches
        };
        assert_eq!(batches(&[1, 1, 1, 1, 1], 2, 100), [vec![1, 1], vec![1, 1], vec![1]]);
        // Who reaches the bound is the last.
        assert_eq!(batches(&[40, 40, 40, 40, 20], 9, 100), [vec![40, 40, 40], vec![40, 20]]);
        assert_eq!(batches(&[60, 40, 1], 9, 100), [vec![60, 40], vec![1]]);
        // One that is longer than the bound goes alone.
        assert_eq!(batches(&[500, 500, 1], 9, 100), [vec![500], vec![500], vec![1]]);
    }

    #[test]
    fn what_goes_again_counts() {
        let (mut asking, waiting) = ring::channel(2);
        for length in [30, 1] {
            assert!(asking.push(Job::new(0, Instant::now(), length)).is_ok());
        }
        let mut queue = Queue::new(waiting, Rc::new(Outbox::new(ring::channel(1).0)));
        let mut batch = vec![Job::new(1, Instant::now(), 80)];
        queue.fill(&mut batch, 9, 100, |length| *length);
        assert_eq!((batch.len(), queue.len()), (2, 1));
        queue.fill(&mut batch, 9, 100, |length| *length);
        assert_eq!((batch.len(), queue.len()), (2, 1));
    }
}
