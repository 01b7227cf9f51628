//! What a core asks of its Postgres thread: jobs, each with the ticket of whoever waits for the answer and with a
//! deadline. This module knows neither who answers nor how.

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Instant;

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::channel::Ticket;
use crate::channel::ring;
use crate::pessoa::Record;

/// Something that a client waits for.
pub(super) struct Job<T> {
    /// Taken by whoever answers first: the database or the deadline.
    pub(super) ticket: Cell<Option<Ticket>>,
    /// Past it the answer is `Unavailable`.
    pub(super) deadline: Instant,
    /// An earlier attempt may have done what is asked.
    pub(super) in_doubt: Cell<bool>,
    /// What is asked.
    pub(super) asked: T,
}

impl<T> Job<T> {
    pub(super) fn new(ticket: Ticket, deadline: Instant, asked: T) -> Job<T> {
        Job { ticket: Cell::new(Some(ticket)), deadline, in_doubt: Cell::default(), asked }
    }

    /// Whether its client still waits.
    pub(super) fn is_open(&self) -> bool {
        self.ticket.get().is_some()
    }
}

/// A row on its way into the table.
pub(super) type Insert = Job<Box<Record>>;

/// How many rows there are: all who ask want to know the same.
pub(super) struct Count;

/// The core's ends of the rings to its Postgres thread, by connection.
pub(super) struct Jobs {
    pub(super) inserts: ring::Sender<Insert>,
    pub(super) reads: ring::Sender<Job<Uuid>>,
    pub(super) counts: ring::Sender<Job<Count>>,
    /// Each asks for a lower-cased term.
    pub(super) searches: ring::Sender<Job<Box<[u8]>>>,
    /// Dropped when the core asks nothing any more.
    pub(super) open: oneshot::Sender<Infallible>,
}
