//! Where the tasks of a Postgres thread put what its core is to hear.

use std::cell::RefCell;

use super::job::Job;
use super::report::Report;
use crate::channel::ring;

/// The thread's end of the report ring.
pub(super) struct Outbox {
    reports: RefCell<ring::Sender<Report>>,
}

impl Outbox {
    pub(super) fn new(reports: ring::Sender<Report>) -> Outbox {
        Outbox { reports: RefCell::new(reports) }
    }

    /// Queues a report. The core hears of it at the next [`wake`](Self::wake), which the caller owes once a batch.
    pub(super) fn push(&self, report: Report) {
        let pushed = self.reports.borrow_mut().push(report);
        assert!(pushed.is_ok(), "the ring holds a report for every ticket");
    }

    /// Tells those who still wait for these jobs that nothing is known, and wakes the core if there were any.
    pub(super) fn unavailable<'a, T: 'a>(&self, jobs: impl Iterator<Item = &'a Job<T>>) {
        let mut any = false;
        for ticket in jobs.filter_map(|job| job.ticket.take()) {
            self.push(Report::Unavailable { ticket });
            any = true;
        }
        if any {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.reports.borrow().wake();
    }
}
