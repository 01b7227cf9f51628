//! Histograms with fixed buckets: equal bounds everywhere, so that those of several cores and instances add up.

use std::cell::Cell;
use std::ops::AddAssign;
use std::time::Duration;

use super::count::Count;

/// Most buckets of a histogram, the one without a bound included.
const BUCKETS_MAX: usize = 20;

/// The bounds of a histogram's buckets, and in what they are shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Scale {
    bounds: &'static [u64],
    /// How many of what is counted in make one of what is shown.
    per_unit: u64,
}

impl Scale {
    /// Buckets up to each of `bounds`, which ascend, and one for all that is beyond.
    pub const fn new(bounds: &'static [u64], per_unit: u64) -> Scale {
        assert!(bounds.len() < BUCKETS_MAX);
        let mut next = 1;
        while next < bounds.len() {
            assert!(bounds[next - 1] < bounds[next]);
            next += 1;
        }
        Scale { bounds, per_unit }
    }
}

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const S: u64 = 1_000 * MS;

/// Times, counted in nanoseconds and shown in seconds. The bounds from 5 ms on are those that OpenTelemetry's conventions
/// advise for HTTP servers; those for databases are among them; below, they begin where this server answers.
pub static TIME: Scale = Scale::new(
    &[
        100 * US,
        250 * US,
        500 * US,
        MS,
        5 * MS / 2,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        75 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        750 * MS,
        S,
        5 * S / 2,
        5 * S,
        15 * S / 2,
        10 * S,
    ],
    S,
);

/// A histogram that is being filled.
#[derive(Debug)]
pub struct Histogram<C = Cell<u64>> {
    scale: &'static Scale,
    counts: [C; BUCKETS_MAX],
    sum: C,
}

impl<C: Count> Histogram<C> {
    /// An empty one.
    pub fn new(scale: &'static Scale) -> Histogram<C> {
        Histogram { scale, counts: std::array::from_fn(|_| C::default()), sum: C::default() }
    }

    /// Counts one `value`. Only the thread that fills the histogram may call this.
    pub fn observe(&self, value: u64) {
        let bounds = self.scale.bounds;
        let bucket = bounds.iter().position(|&bound| value <= bound).unwrap_or(bounds.len());
        self.counts[bucket].add(1);
        self.sum.add(value);
    }

    /// Counts one time; the scale is [`TIME`].
    pub fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A copy of what was counted.
    pub fn tally(&self) -> Tally {
        Tally {
            scale: self.scale,
            counts: std::array::from_fn(|bucket| self.counts[bucket].get()),
            sum: self.sum.get(),
        }
    }
}

/// A histogram as it was at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    scale: &'static Scale,
    counts: [u64; BUCKETS_MAX],
    sum: u64,
}

impl Tally {
    /// Nothing was counted.
    pub fn empty(scale: &'static Scale) -> Tally {
        Tally { scale, counts: [0; BUCKETS_MAX], sum: 0 }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, as it is shown.
    pub fn sum(&self) -> f64 {
        self.shown(self.sum)
    }

    /// Each bound, as it is shown, and how many values are no greater.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut so_far = 0;
        self.scale.bounds.iter().zip(self.counts).map(move |(&bound, count)| {
            so_far += count;
            (self.shown(bound), so_far)
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "what is shown is approximate")]
    fn shown(&self, value: u64) -> f64 {
        value as f64 / self.scale.per_unit as f64
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        assert_eq!(self.scale, other.scale, "only histograms with the same buckets add up");
        for (own, other) in self.counts.iter_mut().zip(other.counts) {
            *own += other;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::count::Shared;
    use super::*;

    static FEW: Scale = Scale::new(&[1, 10, 100], 10);

    /// How many of `values` are no greater than each bound, counted one by one.
    fn naive(values: &[u64]) -> Vec<(f64, u64)> {
        let below = |bound: u64| values.iter().filter(|&&value| value <= bound).count() as u64;
        [(0.1, 1), (1.0, 10), (10.0, 100)].map(|(shown, bound)| (shown, below(bound))).to_vec()
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(parts: [Vec<u8>; 3]) {
            let mut all = Tally::empty(&FEW);
            for part in &parts {
                let (own, shared) = (Histogram::<Cell<u64>>::new(&FEW), Histogram::<Shared>::new(&FEW));
                part.iter().for_each(|&value| {
                    own.observe(value.into());
                    shared.observe(value.into());
                });
                prop_assert_eq!(own.tally(), shared.tally());
                all += own.tally();
            }
            let values: Vec<u64> = parts.iter().flatten().map(|&value| value.into()).collect();
            prop_assert_eq!(all.count(), values.len() as u64);
            prop_assert_eq!(all.cumulative().collect::<Vec<_>>(), naive(&values));
            prop_assert!((all.sum() - values.iter().sum::<u64>() as f64 / 10.0).abs() < 1e-9);
        }
    }

    #[test]
    fn times_are_shown_in_seconds() {
        let times = Histogram::<Cell<u64>>::new(&TIME);
        times.observe_time(Duration::from_micros(100));
        times.observe_time(Duration::from_millis(2));
        times.observe_time(Duration::from_secs(60));
        let tally = times.tally();
        let shown: Vec<(f64, u64)> = tally.cumulative().collect();
        assert_eq!((shown[0], shown[3], shown[4]), ((0.0001, 1), (0.001, 1), (0.0025, 2)));
        assert_eq!((shown.last(), tally.count()), (Some(&(10.0, 2)), 3));
        assert!((tally.sum() - 60.0021).abs() < 1e-9);
    }
}
