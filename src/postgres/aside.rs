//! Rows that were set aside because somebody's open transaction holds their apelido: nobody can know yet whether they
//! are duplicates, and the other creates shall not wait for them. They are tried again, each alone, until their deadlines.

use std::time::Instant;

use super::job::Insert;
use crate::limits::{ASIDE_PERIOD, ASIDE_TRIES_MAX};

/// The rows, who waits longest for a try first. Each holds a place of the core's queue, which bounds their number.
pub(super) struct Aside {
    rows: Vec<Insert>,
    try_at: Instant,
}

impl Default for Aside {
    fn default() -> Aside {
        Aside { rows: Vec::new(), try_at: Instant::now() }
    }
}

impl Aside {
    pub(super) fn rows(&self) -> &[Insert] {
        &self.rows
    }

    pub(super) fn rows_mut(&mut self) -> &mut Vec<Insert> {
        &mut self.rows
    }

    pub(super) fn set(&mut self, rows: Vec<Insert>) {
        if self.rows.is_empty() {
            self.try_at = Instant::now() + ASIDE_PERIOD;
        }
        self.rows.extend(rows);
    }

    /// Sets aside the rows of `batch` that would meet the same lock.
    pub(super) fn take_kin(&mut self, batch: &mut Vec<Insert>) {
        if self.rows.is_empty() {
            return;
        }
        let held = |row: &mut Insert| {
            self.rows.iter().any(|held| held.asked.pessoa.apelido == row.asked.pessoa.apelido)
        };
        let kin: Vec<Insert> = batch.extract_if(.., held).collect();
        self.rows.extend(kin);
    }

    /// Returns when it is time to try some again; never while there are none.
    pub(super) async fn due(&self) {
        if self.rows.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.try_at.into()).await;
    }

    /// The rows whose turn it is, if it is time.
    pub(super) fn take_due(&mut self) -> Vec<Insert> {
        let now = Instant::now();
        if now < self.try_at {
            return Vec::new();
        }
        self.try_at = now + ASIDE_PERIOD;
        self.rows.drain(..self.rows.len().min(ASIDE_TRIES_MAX)).collect()
    }
}
