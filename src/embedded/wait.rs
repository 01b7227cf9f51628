//! Waiting for a condition that nobody announces.

use std::thread;
use std::time::{Duration, Instant};

use crate::limits::EMBEDDED_POLL_PERIOD;

/// Polls a condition until it holds; false when the time is over first.
pub(super) fn wait_until(time_max: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= time_max {
            return false;
        }
        thread::sleep(EMBEDDED_POLL_PERIOD);
    }
}
