//! Rows that were set aside because somebody's open transaction holds their apelido: nobody can know yet whether they
//! are duplicates, and the other creates shall not wait for them. They are tried again, each alone, until their deadlines.
//! So are those of a partition whose table somebody holds, while others are free: of these one is tried for all.

use std::time::Instant;

use super::job::Insert;
use super::layout::{Partition, Partitions};
use crate::limits::{ASIDE_PERIOD, ASIDE_TRIES_MAX};

/// The rows, who waits longest for a try first. Each holds a place of the core's queue, which bounds their number.
pub(super) struct Aside {
    rows: Vec<Insert>,
    /// Partitions whose table is held.
    held: Vec<Partition>,
    try_at: Instant,
}

impl Default for Aside {
    fn default() -> Aside {
        Aside { rows: Vec::new(), held: Vec::new(), try_at: Instant::now() }
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

    /// Sets aside rows of a partition whose table is held.
    pub(super) fn hold(&mut self, partition: Partition, rows: Vec<Insert>) {
        if !self.held.contains(&partition) {
            self.held.push(partition);
        }
        self.set(rows);
    }

    /// The table of this partition is free again: its rows may go.
    pub(super) fn release(&mut self, partition: Partition) -> Vec<Insert> {
        let Some(at) = self.held.iter().position(|held| *held == partition) else { return Vec::new() };
        self.held.swap_remove(at);
        self.rows.extract_if(.., |row| of(row, partition.of()) == partition).collect()
    }

    /// Sets aside the rows of `batch` that would meet the same lock.
    pub(super) fn take_kin(&mut self, batch: &mut Vec<Insert>, partitions: Partitions) {
        // Of those nobody waits any more for a held partition's.
        self.held.retain(|held| self.rows.iter().any(|row| of(row, partitions) == *held));
        if self.rows.is_empty() {
            return;
        }
        let held = |row: &mut Insert| {
            self.held.contains(&of(row, partitions))
                || self.rows.iter().any(|held| held.asked.pessoa.apelido == row.asked.pessoa.apelido)
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
    pub(super) fn take_due(&mut self, partitions: Partitions) -> Vec<Insert> {
        let now = Instant::now();
        if now < self.try_at {
            return Vec::new();
        }
        self.try_at = now + ASIDE_PERIOD;
        let mut probed: Vec<Partition> = Vec::new();
        let mut taken = 0;
        let due = |row: &mut Insert| {
            let partition = of(row, partitions);
            let is_probe = self.held.contains(&partition) && !probed.contains(&partition);
            let is_due = taken < ASIDE_TRIES_MAX && (is_probe || !self.held.contains(&partition));
            if is_probe && is_due {
                probed.push(partition);
            }
            taken += usize::from(is_due);
            is_due
        };
        self.rows.extract_if(.., due).collect()
    }
}

fn of(row: &Insert, partitions: Partitions) -> Partition {
    partitions.of_id(&row.asked.pessoa.id)
}
