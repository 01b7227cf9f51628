//! Counts: Postgres reads the whole table for each, one at a time. It is for all who asked before it began; whoever asks
//! later shares the next one, because the count that is under way may lack what was committed since. After a count comes
//! a pause, some times as long as it took. This module knows nothing of point reads.

use std::time::Duration;

use super::counters::{Counters, Operation};
use super::failure::Failure;
use super::job::{Count, Job};
use super::lookup::Lookup;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::channel::Ticket;
use crate::limits::{COUNT_QUEUE_MAX, COUNT_REST, COUNT_REST_MAX, READ_TIME_MAX};

/// The core whose thread counts for all.
pub const COUNTING_CORE: usize = 0;

impl Lookup for sql::Count {
    type Question = Count;
    /// How many rows there are.
    type Said = u64;

    // All of them: one count is waited for, and not more.
    const BATCH_MAX: usize = COUNT_QUEUE_MAX;

    // Else a flood of counts would keep a CPU of the database for itself. Whoever has just missed a count waits for it, for
    // the rest and for the next one: all of that must fit its deadline.
    fn rest(took: Duration) -> Duration {
        (took * COUNT_REST).min(COUNT_REST_MAX).min(READ_TIME_MAX.saturating_sub(3 * took))
    }

    async fn look_up(
        session: &Session<sql::Count>,
        _batch: &[Job<Count>],
        counters: &Counters,
    ) -> Result<u64, Failure> {
        counters.time(Operation::Count, session.count()).await
    }

    fn may_lack(_rows: &u64, _asked: &Count) -> bool {
        true
    }

    fn report(rows: &u64, _asked: &Count, ticket: Ticket) -> Report {
        Report::Counted { ticket, rows: *rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_missed_a_count_has_time_for_the_rest_and_the_next_one() {
        for millis in [1, 25, 26, 100, 500, 900, 1_200, 3_000] {
            let took = Duration::from_millis(millis);
            let rest = <sql::Count as Lookup>::rest(took);
            assert!(rest <= COUNT_REST * took && rest <= COUNT_REST_MAX, "{millis} ms: {rest:?}");
            assert!(rest.is_zero() || took + rest + took < READ_TIME_MAX, "{millis} ms: {rest:?}");
        }
        assert_eq!(<sql::Count as Lookup>::rest(Duration::from_millis(10)), Duration::from_millis(190));
        assert_eq!(<sql::Count as Lookup>::rest(Duration::from_millis(100)), COUNT_REST_MAX);
    }
}
