//! What one core answered, by method, route and status, and how long that took. It knows no clock: callers measure.

use std::cell::RefCell;
use std::time::Duration;

use crate::http::{Method, Status};
use crate::metrics::{Histogram, TIME, Tally};

/// What the requests of one histogram have in common. There are few of them: methods, routes and statuses are all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// `GET`, `HEAD` or `POST`; any other is `_OTHER`, as OpenTelemetry has it.
    pub method: &'static str,
    /// The path with its variables by name, or nothing where no path is known.
    pub route: &'static str,
    /// The code.
    pub status: u16,
}

/// The requests of one core.
#[derive(Default)]
pub struct Requests(RefCell<Counted>);

#[derive(Default)]
struct Counted {
    /// In the order in which they were first met; apart from the histograms, so that the search stays in one or two lines
    /// of the processor's cache.
    keys: Vec<(Method, &'static str, Status)>,
    series: Vec<(Series, Histogram)>,
}

impl Requests {
    /// Counts an answer that took `time`, from the last byte of the request that was read.
    pub fn count(&self, method: Method, route: &'static str, status: Status, time: Duration) {
        let mut counted = self.0.borrow_mut();
        let key = (method, route, status);
        let position = counted.keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            let method = match method {
                Method::Get => "GET",
                Method::Head => "HEAD",
                Method::Post => "POST",
                _ => "_OTHER",
            };
            counted.keys.push(key);
            let series = Series { method, route, status: status.code() };
            counted.series.push((series, Histogram::new(&TIME)));
            counted.series.len() - 1
        });
        counted.series[position].1.observe_time(time);
    }

    /// A copy of what was counted.
    pub fn tallies(&self) -> Vec<(Series, Tally)> {
        self.0.borrow().series.iter().map(|(series, histogram)| (*series, histogram.tally())).collect()
    }
}
