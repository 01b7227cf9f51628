//! Counts: Postgres reads the whole table for each, one at a time. It is for all who asked before it began; whoever asks
//! later shares the next one, because the count that is under way may lack what was committed since. After a count comes
//! a pause, some times as long as it took. A long count has that pause within itself, in pieces: a database under a quota
//! of CPU would otherwise spend all of it at once, and creates would wait for the next period. This module knows nothing
//! of point reads.

use std::time::{Duration, Instant};

use super::counters::{Counters, Operation};
use super::failure::Failure;
use super::job::{Count, Job};
use super::lookup::Lookup;
use super::placement::Placement;
use super::report::Report;
use super::session::Session;
use super::sql;
use crate::channel::Ticket;
use crate::limits::{
    COUNT_BURST_MAX, COUNT_PART_ROWS, COUNT_QUEUE_MAX, COUNT_REST, COUNT_REST_MAX, READ_TIME_MAX,
};

/// The core whose thread counts for all.
pub const COUNTING_CORE: usize = 0;

/// What a count found, and of which partitions.
pub(super) struct Said {
    counted: Counted,
    here: Placement,
}

/// What a count found, and what it cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    rows: u64,
    /// How long the database was at it.
    busy: Duration,
    /// How long it was left alone in between.
    paused: Duration,
}

impl Lookup for sql::Count {
    type Question = Count;
    type Said = Said;

    // All of them: one count is waited for, and not more.
    const BATCH_MAX: usize = COUNT_QUEUE_MAX;

    fn rest(said: Option<&Said>, took: Duration) -> Duration {
        // One that failed may have been at work all the time.
        rest_after(said.map_or(Counted { busy: took, ..Counted::default() }, |said| said.counted))
    }

    async fn look_up(
        session: &Session<sql::Count>,
        _batch: &[Job<Count>],
        counters: &Counters,
    ) -> Result<Said, Failure> {
        let counted = counters.time(Operation::Count, count(session)).await?;
        session.is_still_placed().await?;
        Ok(Said { counted, here: session.here().clone() })
    }

    fn may_lack(_said: &Said, _asked: &Count) -> bool {
        true
    }

    fn report(said: &Said, _asked: &Count, ticket: Ticket) -> Report {
        Report::Counted { ticket, rows: said.counted.rows, here: said.here.clone() }
    }
}

/// The pause behind a count.
fn rest_after(counted: Counted) -> Duration {
    rest_of(counted.busy).saturating_sub(counted.paused)
}

async fn count(session: &Session<sql::Count>) -> Result<Counted, Failure> {
    let counted = parts(session).await;
    match &counted {
        Ok(counted) => {
            session.statements().busy.set(counted.busy);
            session.end_count().await?;
        }
        // What the database refused, such as a table that is locked, is tried again in the same session.
        Err(failure) if failure.sqlstate().is_some() => session.end_count().await?,
        Err(_) => {}
    }
    counted
}

async fn parts(session: &Session<sql::Count>) -> Result<Counted, Failure> {
    let (began, last_busy) = (Instant::now(), session.statements().busy.get());
    let mut counted = Counted::default();
    loop {
        let part = Instant::now();
        let rows = match counted.rows {
            0 => session.count_first().await?,
            _ => session.count_more().await?,
        };
        let busy = part.elapsed();
        counted.rows += rows;
        counted.busy += busy;
        if rows < COUNT_PART_ROWS {
            return Ok(counted);
        }
        if began.elapsed() > READ_TIME_MAX {
            return Err(Failure::Lost(format!("no count within {READ_TIME_MAX:?}")));
        }
        let pause = pause_after(busy, last_busy, &counted);
        if !pause.is_zero() {
            let paused = Instant::now();
            tokio::time::sleep(pause).await;
            counted.paused += paused.elapsed();
        }
    }
}

/// For how long the database is left alone, in all, for a count that keeps it busy for so long. Else a flood of counts would
/// keep a CPU of the database for itself. Whoever has just missed a count waits for it, for the rest and for the next one:
/// all of that, with the pauses within, must fit its deadline.
fn rest_of(busy: Duration) -> Duration {
    (busy * COUNT_REST).min(COUNT_REST_MAX).min(READ_TIME_MAX.saturating_sub(4 * busy) / 2)
}

/// The pause after a part that took so long: its share of the rest of the whole count, which is expected to be as long as
/// the last one. A short count has none.
fn pause_after(part: Duration, last_busy: Duration, counted: &Counted) -> Duration {
    // Of the first count nobody knows how long it will be.
    let expected = if last_busy.is_zero() { 4 * counted.busy } else { last_busy.max(counted.busy) };
    if expected <= COUNT_BURST_MAX {
        return Duration::ZERO;
    }
    let rest = rest_of(expected);
    rest.mul_f64(part.div_duration_f64(expected).min(1.0)).min(rest.saturating_sub(counted.paused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_missed_a_count_has_time_for_the_rest_and_the_next_one() {
        for millis in [1, 25, 26, 100, 500, 900, 1_200, 3_000] {
            let busy = Duration::from_millis(millis);
            let rest = rest_of(busy);
            assert!(rest <= COUNT_REST * busy && rest <= COUNT_REST_MAX, "{millis} ms: {rest:?}");
            // All of the rest within the one count, and within the next one.
            assert!(rest.is_zero() || 2 * (busy + rest) < READ_TIME_MAX, "{millis} ms: {rest:?}");
        }
        assert_eq!(rest_of(Duration::from_millis(10)), Duration::from_millis(190));
        assert_eq!(rest_of(Duration::from_millis(100)), COUNT_REST_MAX);
    }

    #[test]
    fn a_long_count_rests_in_between_and_a_short_one_behind() {
        let part = Duration::from_millis(1);
        for (parts, first) in [(5, false), (100, false), (100, true), (1_000, false)] {
            let busy = part * parts;
            let last_busy = if first { Duration::ZERO } else { busy };
            let mut counted = Counted::default();
            for _ in 1..parts {
                counted.busy += part;
                let pause = pause_after(part, last_busy, &counted);
                assert!(pause <= COUNT_REST * part, "{pause:?}");
                counted.paused += pause;
            }
            counted.busy += part;
            let behind = rest_after(counted);
            assert!(counted.paused + behind <= COUNT_REST_MAX, "{counted:?}, {behind:?}");
            match parts {
                5 => assert_eq!((counted.paused, behind), (Duration::ZERO, COUNT_REST * busy)),
                _ if first => assert!(counted.paused > COUNT_REST_MAX / 2, "{counted:?}"),
                _ => assert!(behind <= rest_of(busy) / 20, "{counted:?}, {behind:?}"),
            }
        }
    }

    #[test]
    fn one_that_failed_is_rested_after_as_if_it_had_worked() {
        let rest = |took| <sql::Count as Lookup>::rest(None, took);
        assert_eq!(rest(Duration::from_millis(10)), Duration::from_millis(190));
        assert_eq!(rest(READ_TIME_MAX), Duration::ZERO);
    }
}
