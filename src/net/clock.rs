//! A core's clock: seconds for the deadlines of its connections, and the `Date` of its answers. No request reads the
//! time of the system.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use monoio::time::sleep;

use crate::http::HttpDate;
use crate::limits::CLOCK_PERIOD;

/// Periods since the core started.
pub type Tick = u64;

/// After how many ticks a wait that may last for `duration` is over. This is one more than the periods in it, because
/// the next tick may be close and nobody may be given less time than was promised.
pub const fn ticks(duration: Duration) -> Tick {
    duration.as_secs() / CLOCK_PERIOD.as_secs() + 1
}

/// The time of one core.
pub struct Clock {
    now: Cell<Tick>,
    date: Cell<HttpDate>,
}

impl Clock {
    /// A clock at its first tick.
    pub(super) fn new() -> Clock {
        Clock { now: Cell::new(0), date: Cell::new(date()) }
    }

    /// The current tick.
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// The `Date` of what is answered now.
    pub fn date(&self) -> HttpDate {
        self.date.get()
    }

    /// Begins the next period, and returns its number.
    pub(super) fn tick(&self) -> Tick {
        self.date.set(date());
        self.now.set(self.now.get() + 1);
        self.now.get()
    }
}

fn date() -> HttpDate {
    HttpDate::from_unix(since_1970().as_secs())
}

/// Zero if the system's clock is before 1970: the dates are then wrong, and nothing worse happens.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Calls `each` for ever at the start of each second, so that a `Date` is right from its first moment on.
pub async fn every_second(mut each: impl FnMut()) {
    loop {
        let into_second = Duration::from_nanos(u64::from(since_1970().subsec_nanos()));
        sleep(CLOCK_PERIOD.saturating_sub(into_second)).await;
        each();
    }
}
