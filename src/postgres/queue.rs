//! Requests that wait on a Postgres thread, and their deadlines. It knows tickets, not what was asked.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::thread::Outbox;
use super::{Reply, Ticket};
use crate::ring;

/// How often the queue of a connection that is busy, or not there, is searched for requests past their deadline.
const EXPIRY_PERIOD: Duration = Duration::from_millis(50);

/// Something that a client waits for until a deadline.
pub(super) trait Waits {
    /// Past it the answer is `Unavailable`.
    fn deadline(&self) -> Instant;
    /// Taken by whoever answers first: the database or the deadline.
    fn ticket(&self) -> &Cell<Option<Ticket>>;
}

/// Requests that wait for one connection, oldest first. Bounded by the core, which holds the tickets. The core wakes this
/// thread for them only while the connection waits for them.
pub(super) struct Queue<T> {
    waiting: ring::Receiver<T>,
    outbox: Rc<Outbox>,
}

impl<T: Waits> Queue<T> {
    pub(super) fn new(waiting: ring::Receiver<T>, outbox: Rc<Outbox>) -> Queue<T> {
        Queue { waiting, outbox }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns once so many wait.
    pub(super) async fn holds(&mut self, count: usize) {
        self.waiting.holds(count).await;
    }

    /// Moves what waits to the end of `batch`, until that holds `max`.
    pub(super) fn fill(&mut self, batch: &mut Vec<T>, max: usize) {
        while batch.len() < max
            && let Some(item) = self.waiting.try_pop()
        {
            batch.push(item);
        }
    }

    /// Removes the requests that must not be sent (again): their clients were, or are now, told that time is up.
    pub(super) fn drop_late(&self, items: &mut Vec<T>) {
        self.answer_late(items, Instant::now());
        items.retain(|item| item.ticket().get().is_some());
    }

    /// Runs `work` to its end, while requests whose deadline passes meanwhile are answered: those of `items`, which it is
    /// about, and those that wait. The work goes on for them: a statement that was sent is never cancelled.
    pub(super) async fn until_answered<R>(&mut self, items: &[T], work: impl Future<Output = R>) -> R {
        let mut work = std::pin::pin!(work);
        loop {
            let open = items.iter().filter(|item| item.ticket().get().is_some());
            let look_again = Instant::now() + EXPIRY_PERIOD;
            let next = open.map(Waits::deadline).fold(look_again, Instant::min);
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(next.into()) => {
                    let now = Instant::now();
                    self.answer_late(items, now);
                    self.expire(now);
                }
            }
        }
    }

    /// Every request of a queue has the same time to live, so the front is the first to expire.
    fn expire(&mut self, now: Instant) {
        while let Some(item) = self.waiting.pop_if(|item| item.deadline() <= now) {
            self.answer_late(&[item], now);
        }
    }

    fn answer_late(&self, items: &[T], now: Instant) {
        let mut answered = false;
        for item in items.iter().filter(|item| item.deadline() <= now) {
            if let Some(ticket) = item.ticket().take() {
                self.outbox.push(Reply::Unavailable { ticket });
                answered = true;
            }
        }
        if answered {
            self.outbox.wake();
        }
    }
}
