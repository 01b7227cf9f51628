//! How far a load of the table is: a line about every second, for whoever waits. A load that takes less is not spoken of.

use std::time::{Duration, Instant};

use tracing::info;

/// How often a long load says how far it is.
const PERIOD: Duration = Duration::from_secs(1);

/// One load of the table.
pub(super) struct Progress {
    began: Instant,
    /// When it last said something, or began.
    said: Instant,
    rows: u64,
    /// Rows that it should have, by the table's statistics.
    expected: Option<u64>,
    lines: u64,
}

impl Progress {
    pub(super) fn begin(expected: Option<u64>) -> Progress {
        let began = Instant::now();
        Progress { began, said: began, rows: 0, expected, lines: 0 }
    }

    /// One more row was read.
    pub(super) fn row(&mut self) {
        self.rows += 1;
        if self.said.elapsed() < PERIOD {
            return;
        }
        self.said = Instant::now();
        self.lines += 1;
        let elapsed = self.began.elapsed();
        let rate = rows_a_second(self.rows, elapsed);
        info!(
            rows = self.rows,
            of_about = self.expected,
            rows_a_second = rate,
            seconds_left = seconds_left(self.rows, self.expected, rate),
            "loading"
        );
    }

    /// All rows were read. That is said when the load was spoken of before, or when nothing else says it: the server serves
    /// already, and loads anew.
    pub(super) fn end(self, served: bool) {
        if served || self.lines > 0 {
            let elapsed = self.began.elapsed();
            info!(
                rows = self.rows,
                rows_a_second = rows_a_second(self.rows, elapsed),
                ?elapsed,
                anew = served,
                "loaded"
            );
        }
    }
}

fn rows_a_second(rows: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    rows.saturating_mul(1000) / milliseconds
}

/// `None` when nobody knows: no estimate, or more rows than it said.
fn seconds_left(rows: u64, expected: Option<u64>, rate: u64) -> Option<u64> {
    let left = expected?.checked_sub(rows).filter(|&left| left > 0)?;
    Some(left.div_ceil(rate.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_rows_left() {
        for (rows, expected, rate, left) in [
            (100, Some(1_100), 100, Some(10)),
            (100, Some(1_101), 100, Some(11)),
            (100, Some(200), 0, Some(100)),
            (100, Some(100), 100, None),
            (100, Some(50), 100, None),
            (100, None, 100, None),
        ] {
            assert_eq!(seconds_left(rows, expected, rate), left, "{rows} of {expected:?}");
        }
        assert_eq!(rows_a_second(500, Duration::from_millis(250)), 2_000);
        assert_eq!(rows_a_second(5, Duration::ZERO), 5_000);
    }
}
