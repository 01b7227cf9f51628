//! How much a connection did since it last waited. A socket that always has bytes, on epoll, or a buffer full of short
//! requests, on either driver, would otherwise keep the core from everybody else, from its timers and its orders.

use monoio::time::sleep;

use crate::limits::{TURN_ANSWERS_MAX, TURN_BYTES_MAX, TURN_PAUSE, TURN_READS_MAX};

/// What was done in this turn.
#[derive(Default)]
pub(super) struct Turn {
    reads: u32,
    answers: u32,
    bytes: usize,
}

impl Turn {
    /// An answer was gathered, which made the write buffer so many bytes longer.
    pub(super) fn answered(&mut self, bytes: usize) {
        self.answers += 1;
        self.bytes += bytes;
    }

    /// A read returned; if it had to wait, others had their turn meanwhile.
    pub(super) fn read(&mut self, waited: bool) {
        if waited {
            *self = Turn::default();
        } else {
            self.reads += 1;
        }
    }

    /// Whether it is time to let others go first.
    pub(super) fn is_over(&self) -> bool {
        self.reads >= TURN_READS_MAX || self.answers >= TURN_ANSWERS_MAX || self.bytes >= TURN_BYTES_MAX
    }

    /// Lets the others go first.
    pub(super) async fn end(&mut self) {
        *self = Turn::default();
        sleep(TURN_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_by_reads_answers_or_bytes() {
        for (reads, answers, bytes, over) in [
            (TURN_READS_MAX - 1, TURN_ANSWERS_MAX - 1, 0, false),
            (TURN_READS_MAX, 0, 0, true),
            (0, TURN_ANSWERS_MAX, 0, true),
            (0, 2, TURN_BYTES_MAX / 2, true),
        ] {
            let mut turn = Turn::default();
            (0..reads).for_each(|_| turn.read(false));
            (0..answers).for_each(|_| turn.answered(bytes));
            assert_eq!(turn.is_over(), over, "{reads} {answers} {bytes}");
            turn.read(true);
            assert!(!turn.is_over(), "a read that waited begins another turn");
        }
    }
}
