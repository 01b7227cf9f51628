//! Whether a series of samples is flat. It knows numbers, not what they measure.
//!
//! Only the second half is judged: what warms up does so in the first. Its slope is the median of the slopes between any
//! two samples (Theil and Sen), which a few outliers do not move, and with it comes the interval that holds the true one
//! with 95 % (from Kendall's rank correlation, as Sen has it). A series is flat if what it surely grew by, from the first
//! to the last sample of that half, is within its tolerance: the near end of the interval counts, so that noise is no
//! growth. A noise that is wider than the tolerance would hide one; that is said. What must not change at all has no slope:
//! each sample of it must be within the tolerance.

use std::fmt::{self, Display};

/// Samples of a second half that can be judged.
pub(crate) const JUDGED_MIN: usize = 12;
/// Standard deviations to each side that hold 95 %.
const DEVIATIONS: f64 = 1.96;

/// What of a series would be a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// A growth: memory, descriptors, latency.
    Growth,
    /// Any change, and be it of one sample: threads and connections that are there for good.
    Change,
}

/// How much a flat series may move within the half that is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub(crate) fault: Fault,
    /// Of the median.
    pub(crate) relative: f64,
    /// In the series' unit, beside the relative part.
    pub(crate) absolute: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    Flat,
    /// As far as can be seen: a change of more than the tolerance could hide in the noise.
    FlatWithinNoise,
    Moves,
}

/// What was found of one series: all in its unit, over the whole half.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) outcome: Outcome,
    pub(crate) median: f64,
    /// The likely change.
    pub(crate) drift: f64,
    /// The least and the most that it may have been.
    pub(crate) between: (f64, f64),
    pub(crate) allowed: f64,
}

/// Judges the second half of `samples`, which are equally far apart; `None` if there are too few.
pub(crate) fn judge(samples: &[f64], tolerance: Tolerance) -> Option<Verdict> {
    let half = &samples[samples.len() / 2..];
    if half.len() < JUDGED_MIN {
        return None;
    }
    let mut sorted = half.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = median(&sorted);
    let allowed = tolerance.relative * middle.abs() + tolerance.absolute;
    let (drift, least, most) = match tolerance.fault {
        Fault::Growth => growth(half),
        Fault::Change => {
            let (least, most) = (sorted[0] - middle, sorted[sorted.len() - 1] - middle);
            (if most > -least { most } else { least }, least, most)
        }
    };
    let outcome = match tolerance.fault {
        Fault::Growth if least > allowed => Outcome::Moves,
        Fault::Growth if most > allowed => Outcome::FlatWithinNoise,
        Fault::Change if most > allowed || -least > allowed => Outcome::Moves,
        _ => Outcome::Flat,
    };
    Some(Verdict { outcome, median: middle, drift, between: (least, most), allowed })
}

/// What the samples likely grew by, from the first to the last, and the least and the most.
fn growth(half: &[f64]) -> (f64, f64, f64) {
    let mut slopes = Vec::with_capacity(half.len() * (half.len() - 1) / 2);
    for (at, first) in half.iter().enumerate() {
        slopes.extend(
            half[at + 1..].iter().zip(1u32..).map(|(later, apart)| (later - first) / f64::from(apart)),
        );
    }
    slopes.sort_by(f64::total_cmp);
    let count = half.len() as f64;
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let pairs = slopes.len() as f64;
    let least = rank(&slopes, (pairs - DEVIATIONS * deviation) / 2.0 - 1.0);
    let most = rank(&slopes, (pairs + DEVIATIONS * deviation) / 2.0);
    let span = count - 1.0;
    (median(&slopes) * span, least * span, most * span)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the ranks that there are"
)]
fn rank(sorted: &[f64], at: f64) -> f64 {
    sorted[at.round().clamp(0.0, (sorted.len() - 1) as f64) as usize]
}

fn median(sorted: &[f64]) -> f64 {
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Flat => "flat",
            Outcome::FlatWithinNoise => "flat within its noise",
            Outcome::Moves => "NOT FLAT",
        })
    }
}

#[cfg(test)]
mod tests {
    use contest::Random;

    use super::*;

    /// Half an hour, a sample every 10 s.
    const SAMPLES: u32 = 180;
    const TOLERANCE: Tolerance = Tolerance { fault: Fault::Growth, relative: 0.05, absolute: 0.0 };

    /// From 0 to 1.
    fn unit(random: &mut Random) -> f64 {
        f64::from(u32::try_from(random.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }

    fn series(mut value: impl FnMut(f64) -> f64) -> Vec<f64> {
        (0..SAMPLES).map(|at| value(f64::from(at) / f64::from(SAMPLES - 1))).collect()
    }

    fn moves(samples: &[f64]) -> bool {
        judge(samples, TOLERANCE).unwrap().outcome == Outcome::Moves
    }

    #[test]
    fn what_grows_is_not_flat() {
        for (what, samples) in [
            ("a straight line", series(|time| 100.0 + 20.0 * time)),
            ("in the second half alone", series(|time| 100.0 + 40.0 * (time - 0.5).max(0.0))),
            ("by steps", series(|time| 100.0 + 4.0 * (time * 8.0).floor())),
            ("ever slower, and still", series(|time| 100.0 + 60.0 * time.sqrt())),
            ("ever faster", series(|time| 100.0 + 20.0 * time * time)),
        ] {
            assert!(moves(&samples), "{what}: {:?}", judge(&samples, TOLERANCE));
        }
    }

    #[test]
    fn what_is_flat_may_warm_up_have_noise_and_spikes_and_fall() {
        for (what, samples) in [
            ("nothing moves", series(|_| 100.0)),
            ("zero", series(|_| 0.0)),
            ("a warm-up", series(|time| 100.0 - 90.0 * (0.4 - time).max(0.0))),
            ("a spike in ten", {
                let mut at = 0;
                series(move |_| {
                    at += 1;
                    if at % 10 == 0 { 1_000.0 } else { 100.0 }
                })
            }),
            ("a spike at the end", series(|time| if time > 0.95 { 1_000.0 } else { 100.0 })),
            ("less and less", series(|time| 100.0 - 50.0 * time)),
            ("a growth within the tolerance", series(|time| 100.0 + 8.0 * time)),
        ] {
            assert!(!moves(&samples), "{what}: {:?}", judge(&samples, TOLERANCE));
        }
    }

    /// A growth of half as much again within the noise of a latency is found nearly always, and no growth nearly never.
    #[test]
    fn noise_is_no_growth_and_hides_none() {
        let (mut alarms, mut misses) = (0, 0);
        for seed in 0..200 {
            let mut random = Random(seed);
            // Skewed as latencies are: half of the samples within a third of the lowest, a few at several times that.
            let mut noisy = |level: f64| level * (0.8 + 0.2 / (0.05 + unit(&mut random)).sqrt());
            alarms += u32::from(moves(&series(|_| noisy(100.0))));
            misses += u32::from(!moves(&series(|time| noisy(100.0) * (1.0 + time))));
        }
        assert!(alarms <= 4 && misses <= 4, "{alarms} false alarms and {misses} misses in 200");
    }

    #[test]
    fn a_count_that_is_there_for_good_moves_neither_up_nor_down() {
        let strict = Tolerance { fault: Fault::Change, relative: 0.0, absolute: 0.0 };
        let outcome = |samples: &[f64], tolerance| judge(samples, tolerance).unwrap().outcome;
        for late in [8.0, 10.0] {
            let changed = series(|time| if time > 0.97 { late } else { 9.0 });
            assert_eq!(outcome(&changed, strict), Outcome::Moves, "{late}");
            assert_eq!(
                outcome(&changed, Tolerance { fault: Fault::Growth, ..strict }),
                Outcome::Flat,
                "{late}"
            );
        }
        assert_eq!(outcome(&series(|_| 9.0), strict), Outcome::Flat);
        assert_eq!(
            outcome(&series(|time| if time < 0.4 { 0.0 } else { 9.0 }), strict),
            Outcome::Flat,
            "a start"
        );
    }

    #[test]
    fn what_noise_could_hide_is_said() {
        let said = (0..20).filter(|&seed| {
            let mut random = Random(seed);
            let wild = series(|_| 100.0 * unit(&mut random));
            judge(&wild, TOLERANCE).unwrap().outcome == Outcome::FlatWithinNoise
        });
        assert!(said.count() >= 10);
    }

    #[test]
    fn too_few_samples_are_not_judged() {
        assert!(judge(&[1.0; 2 * JUDGED_MIN - 2], TOLERANCE).is_none());
        assert!(judge(&[1.0; 2 * JUDGED_MIN - 1], TOLERANCE).is_some());
        assert!(judge(&[], TOLERANCE).is_none());
    }
}
