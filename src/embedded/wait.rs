//! Waiting for a condition that nobody announces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Tells a start that it is to be given up, and a stop that it is to be quick, from another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    stop: AtomicBool,
    at_once: AtomicBool,
}

impl Stop {
    /// The start is to be given up.
    pub fn set(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    /// Whether the start is to be given up.
    pub fn is_set(&self) -> bool {
        self.0.stop.load(Ordering::Acquire)
    }

    /// A stop is not to wait until Postgres has written everything out.
    pub fn set_at_once(&self) {
        self.0.at_once.store(true, Ordering::Release);
    }

    /// Whether a stop is not to wait until Postgres has written everything out.
    pub fn is_at_once(&self) -> bool {
        self.0.at_once.load(Ordering::Acquire)
    }
}
