//! Requests that wait on a Postgres thread, and their deadlines. It knows tickets, not what was asked.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::Notify;

use super::thread::Outbox;
use super::{Reply, Ticket};

/// Something that a client waits for until a deadline.
pub(super) trait Waits {
    /// Past it the answer is `Unavailable`.
    fn deadline(&self) -> Instant;
    /// Taken by whoever answers first: the database or the deadline.
    fn ticket(&self) -> &Cell<Option<Ticket>>;
}

/// Requests that wait for the connection, oldest first. Bounded by the core, which holds the tickets.
pub(super) struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    arrived: Notify,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { items: RefCell::new(VecDeque::new()), arrived: Notify::new() }
    }
}

impl<T: Waits> Queue<T> {
    pub(super) fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        self.arrived.notify_one();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.borrow().is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.borrow().len()
    }

    /// Returns once so many wait.
    pub(super) async fn holds(&self, count: usize) {
        while self.len() < count {
            self.arrived.notified().await;
        }
    }

    /// Moves what waits to the end of `batch`, until that holds `max`.
    pub(super) fn fill(&self, batch: &mut Vec<T>, max: usize) {
        let mut items = self.items.borrow_mut();
        let room = max.saturating_sub(batch.len()).min(items.len());
        batch.extend(items.drain(..room));
    }

    /// Every request of a queue has the same time to live, so the front is the first to expire.
    pub(super) fn expire(&self, now: Instant, outbox: &Outbox) {
        let mut items = self.items.borrow_mut();
        while let Some(item) = items.pop_front_if(|item| item.deadline() <= now) {
            answer_late(&[item], now, outbox);
        }
    }
}

/// Removes the requests that must not be sent (again): their clients were, or are now, told that time is up.
pub(super) fn drop_late<T: Waits>(items: &mut Vec<T>, outbox: &Outbox) {
    answer_late(items, Instant::now(), outbox);
    items.retain(|item| item.ticket().get().is_some());
}

/// Runs `work` to its end, while requests whose deadline passes meanwhile are answered. The work goes on for
/// them: a statement that was sent is never cancelled.
pub(super) async fn until_answered<T: Waits, R>(
    items: &[T],
    outbox: &Outbox,
    work: impl Future<Output = R>,
) -> R {
    let mut work = std::pin::pin!(work);
    loop {
        let open = items.iter().filter(|item| item.ticket().get().is_some());
        let Some(next) = open.map(Waits::deadline).min() else { return work.await };
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep_until(next.into()) => answer_late(items, Instant::now(), outbox),
        }
    }
}

fn answer_late<T: Waits>(items: &[T], now: Instant, outbox: &Outbox) {
    let mut answered = false;
    for item in items.iter().filter(|item| item.deadline() <= now) {
        if let Some(ticket) = item.ticket().take() {
            outbox.push(Reply::Unavailable { ticket });
            answered = true;
        }
    }
    if answered {
        outbox.wake();
    }
}
