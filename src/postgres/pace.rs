//! How long the next create would wait for its answer, learnt from those that had theirs. It knows no rows, only how much
//! of the batches to come those take that wait.
//!
//! A queue that is bounded by number alone is too long for a database that is slow: whoever enters it waits until the
//! deadline, and the rows that are committed at last are those whose clients have just been told nothing. Whoever would wait
//! for too long is better told so at once.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::limits::{COMMIT_BATCH_BYTES_MAX, COMMIT_BATCH_MAX, COMMIT_QUEUE_MIN, COMMIT_WAIT_MAX};

/// The share of the latest answer in the average: a row that waited for a stranger's lock says little, a batch much.
const SHARE: f64 = 1.0 / 64.0;

/// As how many rows one of so many bytes counts: a batch is full when it has so many rows or so many bytes.
pub(super) fn weight(bytes: usize) -> usize {
    (bytes * COMMIT_BATCH_MAX / COMMIT_BATCH_BYTES_MAX).clamp(1, COMMIT_BATCH_MAX)
}

/// When somebody began to wait, and behind whom.
#[derive(Clone, Copy)]
pub(super) struct Entered {
    pub(super) at: Instant,
    /// The weights of those who waited then, summed up.
    pub(super) ahead: usize,
}

/// The pace of one queue of creates.
#[derive(Default)]
pub(super) struct Pace {
    /// Seconds that an answer took for each row that was ahead, with a batch besides: that in which it went itself.
    seconds_a_row: Cell<f64>,
}

impl Pace {
    /// One who entered so was told at `now`, an outcome or that there is none yet: it has taken as long as that, at least.
    pub(super) fn answered(&self, entered: Entered, now: Instant) {
        let took = now.saturating_duration_since(entered.at).as_secs_f64();
        let latest = took / rows(entered.ahead);
        let before = self.seconds_a_row.get();
        self.seconds_a_row.set(before + (latest - before) * SHARE);
    }

    /// Whether one more may wait behind those who weigh so much.
    pub(super) fn has_room(&self, ahead: usize) -> bool {
        ahead < COMMIT_QUEUE_MIN || self.expected(ahead) <= COMMIT_WAIT_MAX
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
    use std::collections::VecDeque;

    use super::*;
    use crate::limits::{COMMIT_QUEUE_MAX, COMMIT_TIME_MAX};

    #[test]
    fn a_long_row_weighs_as_much_as_the_short_ones_whose_place_it_takes() {
        assert_eq!([weight(0), weight(300), weight(COMMIT_BATCH_BYTES_MAX / COMMIT_BATCH_MAX)], [1, 1, 1]);
        assert_eq!(weight(COMMIT_BATCH_BYTES_MAX / 16), COMMIT_BATCH_MAX / 16);
        assert_eq!(weight(COMMIT_BATCH_BYTES_MAX * 2), COMMIT_BATCH_MAX, "a batch of its own");
    }

    /// A queue whose batches take so long, offered so many times what it can commit. Returns the share of that which it
    /// committed, and the longest wait of whom it took.
    fn overloaded(batch: Duration, times: usize) -> (f64, Duration) {
        const BATCHES: usize = 60;
        let pace = Pace::default();
        let mut now = Instant::now();
        let mut queue = VecDeque::new();
        let (mut committed, mut longest) = (0, Duration::ZERO);
        for turn in 0..BATCHES {
            let mut under_way: VecDeque<Entered> = queue.drain(..queue.len().min(COMMIT_BATCH_MAX)).collect();
            committed += under_way.len();
            let mut answered = |entered: Entered, at| {
                // At first nobody knows how slow it is.
                if turn > BATCHES / 4 {
                    longest = longest.max(at - entered.at);
                }
                pace.answered(entered, at);
            };
            // Whoever waits for too long is told so: one who still waits is not sent, one under way is committed.
            let mut tell_late = |waiting: &mut VecDeque<Entered>, now: Instant| {
                while let Some(late) = waiting.pop_front_if(|entered| entered.at + COMMIT_TIME_MAX <= now) {
                    answered(late, now);
                }
            };
            let arrivals = u32::try_from(times * COMMIT_BATCH_MAX).unwrap();
            for number in 0..arrivals {
                let at = now + batch * number / arrivals;
                tell_late(&mut under_way, at);
                tell_late(&mut queue, at);
                let ahead = under_way.len() + queue.len();
                if ahead < COMMIT_QUEUE_MAX && pace.has_room(ahead) {
                    queue.push_back(Entered { at, ahead });
                }
            }
            now += batch;
            tell_late(&mut under_way, now);
            under_way.drain(..).for_each(|entered| answered(entered, now));
        }
        (committed as f64 / (BATCHES * COMMIT_BATCH_MAX) as f64, longest)
    }

    #[test]
    fn an_overloaded_queue_commits_all_it_can_and_nobody_waits_for_long() {
        for times in [2, 5, 20] {
            for millis in [5, 50, 200, 600, 1_200, 4_000, 6_000] {
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
        assert!(pace.has_room(COMMIT_QUEUE_MAX - 1));
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
