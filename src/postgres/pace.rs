//! How long the next create would wait for its answer, learnt from those that had theirs. It knows no rows, only how many
//! wait.
//!
//! A queue that is bounded by number alone is too long for a database that is slow: whoever enters it waits until the
//! deadline, and the rows that are committed at last are those whose clients have just been told nothing. Whoever would wait
//! for too long is better told so at once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MAX, COMMIT_QUEUE_MIN, COMMIT_WAIT_MAX};

/// The share of the latest answer in the average: a row that waited for a stranger's lock says little, a batch much.
const SHARE: f64 = 1.0 / 64.0;

/// When somebody began to wait, and behind how many.
#[derive(Clone, Copy)]
pub(super) struct Entered {
    pub(super) at: Instant,
    pub(super) ahead: usize,
}

/// The pace of one queue of creates.
#[derive(Default)]
pub(super) struct Pace {
    /// Seconds that an answer took for each row that was ahead, with a batch besides: that in which it went itself.
    seconds_a_row: Cell<f64>,
}

impl Pace {
    /// One who entered so was told an outcome at `now`.
    pub(super) fn answered(&self, entered: Entered, now: Instant) {
        let took = now.saturating_duration_since(entered.at).as_secs_f64();
        let latest = took / rows(entered.ahead);
        let before = self.seconds_a_row.get();
        self.seconds_a_row.set(before + (latest - before) * SHARE);
    }

    /// Whether one more may wait behind `waiting`.
    pub(super) fn has_room(&self, waiting: usize) -> bool {
        waiting < COMMIT_QUEUE_MIN
            || (waiting < COMMIT_QUEUE_MAX && self.expected(waiting) <= COMMIT_WAIT_MAX)
    }

    fn expected(&self, waiting: usize) -> Duration {
        Duration::try_from_secs_f64(self.seconds_a_row.get() * rows(waiting)).unwrap_or(Duration::MAX)
    }
}

fn rows(ahead: usize) -> f64 {
    (ahead + COMMIT_BATCH_MAX) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue whose batches take so long, offered so many times what it can commit. Returns the share of that which it
    /// committed, and the longest wait.
    fn overloaded(batch: Duration, times: usize) -> (f64, Duration) {
        let (began, pace) = (Instant::now(), Pace::default());
        let (mut now, mut queue) = (began, std::collections::VecDeque::new());
        let (mut answered, mut longest) = (0, Duration::ZERO);
        const BATCHES: usize = 60;
        for turn in 0..BATCHES {
            let under_way: Vec<Entered> = queue.drain(..queue.len().min(COMMIT_BATCH_MAX)).collect();
            let arrivals = times * COMMIT_BATCH_MAX;
            for number in 0..arrivals {
                let ahead = under_way.len() + queue.len();
                if pace.has_room(ahead) {
                    let at = now + batch * u32::try_from(number).unwrap() / u32::try_from(arrivals).unwrap();
                    queue.push_back(Entered { at, ahead });
                }
            }
            now += batch;
            answered += under_way.len();
            for entered in under_way {
                // At first nobody knows how slow it is.
                if turn > BATCHES / 4 {
                    longest = longest.max(now - entered.at);
                }
                pace.answered(entered, now);
            }
        }
        (answered as f64 / (BATCHES * COMMIT_BATCH_MAX) as f64, longest)
    }

    #[test]
    fn an_overloaded_queue_commits_all_it_can_and_nobody_waits_for_long() {
        for times in [2, 5, 20] {
            for millis in [5, 50, 200, 600, 1_200] {
                let (share, longest) = overloaded(Duration::from_millis(millis), times);
                println!("{millis} ms a batch, {times} times: {share:.2}, {longest:?}");
                assert!(share > 0.9, "{millis} ms, {times} times: {share}");
                let longest_max = (COMMIT_WAIT_MAX * 3 / 2).max(Duration::from_millis(millis) * 3);
                assert!(longest <= longest_max, "{millis} ms, {times} times: {longest:?}");
            }
        }
    }

    #[test]
    fn one_that_was_held_up_closes_no_queue() {
        let pace = Pace::default();
        let now = Instant::now();
        let entered = |millis, ahead| Entered { at: now - Duration::from_millis(millis), ahead };
        for _ in 0..1000 {
            pace.answered(entered(20, 100), now);
        }
        assert!(pace.has_room(COMMIT_QUEUE_MAX - 1) && !pace.has_room(COMMIT_QUEUE_MAX));
        // A row that waited for a stranger's lock.
        pace.answered(entered(4_000, 100), now);
        assert!(pace.has_room(COMMIT_QUEUE_MAX - 1));
        // A database that stood still: what it says of a long queue is forgotten with the next batches.
        for _ in 0..COMMIT_BATCH_MAX {
            pace.answered(entered(4_000, 100), now);
        }
        assert!(pace.has_room(COMMIT_QUEUE_MIN - 1) && !pace.has_room(COMMIT_QUEUE_MAX - 1));
        for _ in 0..COMMIT_BATCH_MAX {
            pace.answered(entered(20, 1000), now);
        }
        assert!(pace.has_room(COMMIT_QUEUE_MAX - 1));
    }
}
