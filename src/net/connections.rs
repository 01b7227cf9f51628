//! The open connections of one core, and how long each may go on with what it does. It reads no clock: callers tell the
//! time.

use std::cell::RefCell;
use std::os::fd::RawFd;

use nix::sys::socket::{Shutdown, shutdown};
use slab::Slab;

use super::clock::{Tick, ticks};
use crate::limits::{IDLE_TIME_MAX, LINGER_TIME_MAX, REQUEST_TIME_MAX, WRITE_TIME_MAX};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// Part of a request is there.
    Receiving,
    /// The service works on an answer, and bounds its waits itself.
    Answering,
    /// An answer is on its way out.
    Writing,
    /// An error was answered; what still comes in is thrown away.
    Lingering,
}

impl Phase {
    /// How many ticks the phase may last; `None` where the service bounds it.
    const fn time_max(self) -> Option<Tick> {
        match self {
            Phase::Idle => Some(ticks(IDLE_TIME_MAX)),
            Phase::Receiving => Some(ticks(REQUEST_TIME_MAX)),
            Phase::Answering => None,
            Phase::Writing => Some(ticks(WRITE_TIME_MAX)),
            Phase::Lingering => Some(ticks(LINGER_TIME_MAX)),
        }
    }
}

/// Names an open connection.
pub(super) type Key = usize;

struct Entry {
    fd: RawFd,
    phase: Phase,
    /// The tick at which the phase is ended.
    deadline: Option<Tick>,
    /// When the first byte of the request came that is not complete.
    request_since: Option<Tick>,
    /// A phase was ended for its deadline.
    late: bool,
}

impl Entry {
    /// Begins `phase` at `now`.
    fn enter(&mut self, phase: Phase, now: Tick) {
        let since = match phase {
            // A request that trickles in, or waits for `100 Continue`, does not start its time again with every byte.
            Phase::Receiving => *self.request_since.get_or_insert(now),
            Phase::Idle | Phase::Answering => {
                self.request_since = None;
                now
            }
            Phase::Writing | Phase::Lingering => now,
        };
        self.phase = phase;
        self.deadline = phase.time_max().map(|ticks| since + ticks);
    }
}

/// The table of open connections.
pub struct Connections {
    entries: RefCell<Slab<Entry>>,
    max: usize,
}

impl Connections {
    pub(super) fn new(max: usize) -> Connections {
        Connections { entries: RefCell::new(Slab::new()), max }
    }

    /// How many may be open.
    pub fn max(&self) -> usize {
        self.max
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Adds a connection, which is idle; `None` when there are as many as there may be.
    pub(super) fn add(&self, fd: RawFd, now: Tick) -> Option<Key> {
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= self.max {
            return None;
        }
        let mut entry = Entry { fd, phase: Phase::Idle, deadline: None, request_since: None, late: false };
        entry.enter(Phase::Idle, now);
        Some(entries.insert(entry))
    }

    pub(super) fn remove(&self, key: Key) {
        self.entries.borrow_mut().remove(key);
    }

    /// Notes that a connection enters `phase`, and sets the deadline of this phase.
    pub(super) fn enter(&self, key: Key, phase: Phase, now: Tick) {
        self.entries.borrow_mut()[key].enter(phase, now);
    }

    /// What a connection is doing.
    #[cfg(test)]
    pub(super) fn phase_of(&self, key: Key) -> Phase {
        self.entries.borrow()[key].phase
    }

    /// Whether a phase of this connection was ended for its deadline.
    pub(super) fn is_late(&self, key: Key) -> bool {
        self.entries.borrow()[key].late
    }

    /// Ends every phase whose deadline has come. Shutting the socket down makes the pending operation return; dropping
    /// that operation instead could lose its completion.
    pub(super) fn end_late(&self, now: Tick) {
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            entry.deadline = None;
            entry.late = true;
            // A late request still gets its 408. An idle connection may have a request on its way: what came before
            // this is still read and answered, so that nothing is committed in silence. Otherwise there is nothing
            // left to say.
            let how = match entry.phase {
                Phase::Receiving | Phase::Idle => Shutdown::Read,
                Phase::Answering | Phase::Writing | Phase::Lingering => Shutdown::Both,
            };
            end(entry.fd, how);
        }
    }

    /// Ends the connections that are between requests; a request that has arrived meanwhile is still read.
    pub(super) fn end_idle(&self) {
        for (_, entry) in self.entries.borrow().iter() {
            if entry.phase == Phase::Idle {
                end(entry.fd, Shutdown::Read);
            }
        }
    }
}

/// Shuts a socket down. This fails if the peer has gone already, which needs no warning.
pub(super) fn end(fd: RawFd, how: Shutdown) {
    if let Err(errno) = shutdown(fd, how) {
        tracing::trace!(%errno, "shutdown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor that nothing has: shutting it down does nothing.
    const NOBODY: RawFd = -1;

    #[test]
    fn a_phase_ends_at_its_deadline_and_once() {
        let connections = Connections::new(2);
        let key = connections.add(NOBODY, 7).unwrap();
        for (phase, ticks) in
            [(Phase::Idle, 301), (Phase::Receiving, 11), (Phase::Writing, 11), (Phase::Lingering, 3)]
        {
            connections.enter(key, Phase::Answering, 7);
            connections.entries.borrow_mut()[key].late = false;
            connections.enter(key, phase, 7);
            connections.end_late(7 + ticks - 1);
            assert!(!connections.is_late(key));
            connections.end_late(7 + ticks);
            assert!(connections.is_late(key));
            assert_eq!(connections.entries.borrow()[key].deadline, None);
        }
        connections.entries.borrow_mut()[key].late = false;
        connections.enter(key, Phase::Answering, 7);
        connections.end_late(Tick::MAX);
        assert!(!connections.is_late(key), "the service's waits are its own");
    }

    #[test]
    fn a_request_that_trickles_in_keeps_its_deadline() {
        let connections = Connections::new(1);
        let key = connections.add(NOBODY, 0).unwrap();
        let deadline = || connections.entries.borrow()[key].deadline;
        for now in 0..10 {
            connections.enter(key, Phase::Receiving, now);
        }
        assert_eq!(deadline(), Some(11));
        // `100 Continue` is written in between.
        connections.enter(key, Phase::Writing, 5);
        assert_eq!(deadline(), Some(16));
        connections.enter(key, Phase::Receiving, 6);
        assert_eq!(deadline(), Some(11));
        // The next request has its own time.
        connections.enter(key, Phase::Answering, 7);
        connections.enter(key, Phase::Receiving, 8);
        assert_eq!(deadline(), Some(19));
    }

    #[test]
    fn there_are_no_more_than_there_may_be() {
        let connections = Connections::new(1);
        let key = connections.add(NOBODY, 0).unwrap();
        assert_eq!((connections.add(NOBODY, 0), connections.count()), (None, 1));
        connections.remove(key);
        assert!(connections.add(NOBODY, 0).is_some());
    }
}
