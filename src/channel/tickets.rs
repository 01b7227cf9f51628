//! Requests of one core that wait for an answer from another thread: a ticket each, and the future that the
//! answer resolves. It knows neither what was asked nor who answers.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

#[cfg(test)]
mod tests;

/// Names one request; unique among those that are not answered yet.
pub type Ticket = usize;

/// The tickets of one core: `K` is what the core remembers of a request, `A` its answer.
pub struct Tickets<K, A> {
    waiters: RefCell<Slab<Waiter<K, A>>>,
}

struct Waiter<K, A> {
    kind: K,
    state: State<A>,
}

enum State<A> {
    Waiting(Option<Waker>),
    Answered(A),
    /// Nobody waits for the answer any more. Either the asker is gone, and the answer frees the ticket when it comes; or
    /// the answer was taken, and dropping its future frees the ticket.
    Abandoned,
}

impl<K: Copy, A> Tickets<K, A> {
    /// No ticket is taken yet; up to `capacity` tickets at once need no allocation.
    pub fn with_capacity(capacity: usize) -> Self {
        Tickets { waiters: RefCell::new(Slab::with_capacity(capacity)) }
    }

    /// Takes a ticket, and returns the future of its answer. The ticket stays taken until it is answered, even if the
    /// future is dropped first: so the number of tickets bounds what travels between the threads.
    pub fn take(&self, kind: K) -> Awaited<'_, K, A> {
        let ticket = self.waiters.borrow_mut().insert(Waiter { kind, state: State::Waiting(None) });
        Awaited { tickets: self, ticket }
    }

    /// Answers a ticket, which may happen once, and returns what was remembered of its request.
    pub fn answer(&self, ticket: Ticket, answer: A) -> K {
        let mut waiters = self.waiters.borrow_mut();
        let waiter = &mut waiters[ticket];
        let kind = waiter.kind;
        match std::mem::replace(&mut waiter.state, State::Answered(answer)) {
            State::Waiting(Some(waker)) => waker.wake(),
            State::Waiting(None) => {}
            State::Abandoned => {
                waiters.remove(ticket);
            }
            State::Answered(_) => unreachable!("a ticket is answered once"),
        }
        kind
    }

    /// How many tickets are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.waiters.borrow().len()
    }
}

/// The future of one answer.
pub struct Awaited<'a, K: Copy, A> {
    tickets: &'a Tickets<K, A>,
    ticket: Ticket,
}

impl<K: Copy, A> Awaited<'_, K, A> {
    /// The ticket that the answer must name.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<K: Copy, A> Future for Awaited<'_, K, A> {
    type Output = A;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A> {
        let mut waiters = self.tickets.waiters.borrow_mut();
        let state = &mut waiters[self.ticket].state;
        match std::mem::replace(state, State::Waiting(None)) {
            State::Answered(answer) => {
                // The answer is delivered; the drop of this future frees the ticket.
                *state = State::Abandoned;
                Poll::Ready(answer)
            }
            State::Waiting(_) => {
                *state = State::Waiting(Some(cx.waker().clone()));
                Poll::Pending
            }
            State::Abandoned => unreachable!("an answer is awaited once"),
        }
    }
}

impl<K: Copy, A> Drop for Awaited<'_, K, A> {
    fn drop(&mut self) {
        let mut waiters = self.tickets.waiters.borrow_mut();
        match waiters[self.ticket].state {
            State::Waiting(_) => waiters[self.ticket].state = State::Abandoned,
            State::Answered(_) | State::Abandoned => {
                waiters.remove(self.ticket);
            }
        }
    }
}
