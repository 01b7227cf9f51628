//! What one thread of the database side counts: how long its statements took, and what went wrong. Others read it while it
//! counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::role::Role;
use crate::metrics::{Count, Histogram, Scale, Shared, TIME, Tally};

/// Rows of one insert. The last bound is what a batch may hold.
static ROWS: Scale = Scale::new(&[1, 2, 4, 8, 16, 32, 64, 128, 256, 512], 1);

const _: () = assert!(crate::limits::COMMIT_BATCH_MAX == 512, "the last bound of ROWS");

/// What a thread asks the database for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The insert of a batch; it waits for the disk, and for a standby where there is one.
    Insert,
    /// The rows with some ids.
    Fetch,
    /// How many rows there are.
    Count,
    /// The rows that contain a term.
    Search,
    /// What others committed.
    Feed,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 5] =
        [Operation::Insert, Operation::Fetch, Operation::Count, Operation::Search, Operation::Feed];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Fetch => "fetch",
            Operation::Count => "count",
            Operation::Search => "search",
            Operation::Feed => "feed",
        }
    }
}

/// What one thread counts.
pub struct Counters {
    operations: [Histogram<Shared>; Operation::ALL.len()],
    batches: Histogram<Shared>,
    /// Of sessions that were lost, by role.
    losses: [Shared; Role::ALL.len()],
    /// That the database gave while it committed.
    pub(super) warnings: Shared,
    /// Rows that the feed handed to the cores, those of a load included.
    pub(super) rows_fed: Shared,
    /// How often the feed read the whole table.
    pub(super) loads: Shared,
    /// Rows that the load under way is expected to have; 0: nobody knows.
    expected: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            operations: std::array::from_fn(|_| Histogram::new(&TIME)),
            batches: Histogram::new(&ROWS),
            losses: Default::default(),
            warnings: Shared::default(),
            rows_fed: Shared::default(),
            loads: Shared::default(),
            expected: AtomicU64::default(),
        }
    }
}

impl Counters {
    /// Runs `statement`, and counts how long it took, whatever became of it. One that is given up is not counted.
    pub(super) async fn time<T>(&self, operation: Operation, statement: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let result = statement.await;
        self.operations[operation as usize].observe_time(began.elapsed());
        result
    }

    /// A batch of so many rows was sent.
    pub(super) fn batch(&self, rows: usize) {
        self.batches.observe(rows as u64);
    }

    pub(super) fn lost(&self, role: Role) {
        self.losses[role as usize].add(1);
    }

    /// A load begins that should have so many rows, if that is known.
    pub(super) fn expect(&self, rows: Option<u64>) {
        self.expected.store(rows.unwrap_or(0), Ordering::Relaxed);
    }

    /// About how many rows the last load was expected to have, by the table's statistics.
    pub fn expected_rows(&self) -> Option<u64> {
        Some(self.expected.load(Ordering::Relaxed)).filter(|&rows| rows > 0)
    }

    /// How long the statements of `operation` took.
    pub fn operation(&self, operation: Operation) -> Tally {
        self.operations[operation as usize].tally()
    }

    /// The rows of each batch that was sent.
    pub fn batches(&self) -> Tally {
        self.batches.tally()
    }

    /// For each kind of connection its name, and how many were lost.
    pub fn losses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Role::ALL.iter().map(|&role| (role.name(), self.losses[role as usize].get()))
    }

    /// Warnings that the database gave while it committed.
    pub fn warnings(&self) -> u64 {
        self.warnings.get()
    }

    /// Rows that the feed handed to the cores, those of a load included.
    pub fn rows_fed(&self) -> u64 {
        self.rows_fed.get()
    }

    /// How often the feed read the whole table.
    pub fn loads(&self) -> u64 {
        self.loads.get()
    }
}
