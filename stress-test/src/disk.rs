//! How long the disk took to make a write durable while a load went on, in the filesystem of the database: the floor of
//! a create's tail. It does not know what the database is.

use std::path::PathBuf;

use ::disk::{Probe, WRITE_BYTES};
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What its times are called wherever they are shown.
pub const LABEL: &str = "disk: fdatasync of 8 KiB";
const _: () = assert!(WRITE_BYTES == 8 * 1024);
/// The probe's file. That of a run that was killed is written over, and removed, by the next one.
const FILE: &str = "disk-probe";
const MICROS_IN_MS: f64 = 1e3;

/// What is known of the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disk {
    /// How long it took.
    Sampled(DiskTimes),
    /// Why that is not known.
    NotSampled(String),
}

/// How long writes took to be durable, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskTimes {
    /// How many writes.
    pub samples: u64,
    /// Half of them took no longer.
    pub p50: f64,
    /// 95 % of them took no longer.
    pub p95: f64,
    /// 99 % of them took no longer.
    pub p99: f64,
    /// 99.9 % of them took no longer.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Disk {
    /// Its times for a table whose column names them: `p50 / p99 / p99.9 / max (samples)`.
    pub fn figures(&self) -> String {
        match self {
            Disk::Sampled(times) => {
                let each = [times.p50, times.p99, times.p999, times.max].map(ms);
                format!("{} ({})", each.join(" / "), times.samples)
            }
            Disk::NotSampled(_) => "not sampled".to_owned(),
        }
    }

    /// All that is known, in words.
    pub fn said(&self) -> String {
        match self {
            Disk::Sampled(times) => format!(
                "p50 {} ms, p99 {} ms, p99.9 {} ms, max {} ms, of {} writes",
                ms(times.p50),
                ms(times.p99),
                ms(times.p999),
                ms(times.max),
                times.samples
            ),
            Disk::NotSampled(why) => format!("not sampled: {why}"),
        }
    }
}

impl DiskTimes {
    fn of(micros: &Histogram<u64>) -> Self {
        let at = |quantile: f64| micros.value_at_quantile(quantile) as f64 / MICROS_IN_MS;
        Self {
            samples: micros.len(),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: micros.max() as f64 / MICROS_IN_MS,
        }
    }
}

/// Milliseconds with three digits, or with all before the point.
pub(crate) fn ms(millis: f64) -> String {
    let decimals = match millis {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{millis:.decimals$}")
}

/// Samples the disk until it is stopped. Where it cannot, that is no reason to end a run.
pub struct Sampler(Result<Probe>);

impl Sampler {
    /// Writes into this directory, if one is known.
    pub fn start(directory: Result<PathBuf>) -> Self {
        Self(directory.and_then(|directory| {
            let file = directory.join(FILE);
            Probe::begin(&file).with_context(|| file.display().to_string())
        }))
    }

    /// Ends it.
    pub fn stop(self) -> Disk {
        match self.0.and_then(|probe| Ok(probe.end()?)) {
            Ok(micros) => Disk::Sampled(DiskTimes::of(&micros)),
            Err(error) => {
                // What a command printed has lines, and a row has none.
                let why = format!("{error:#}");
                Disk::NotSampled(why.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn times_are_shown_with_three_digits() {
        let mut micros = Histogram::new_with_bounds(1, 60_000_000, 3).expect("a histogram");
        micros.record_n(420, 990).expect("within bounds");
        micros.record_n(12_300, 9).expect("within bounds");
        micros.record(150_000).expect("within bounds");
        let disk = Disk::Sampled(DiskTimes::of(&micros));
        assert_eq!(disk.figures(), "0.42 / 0.42 / 12.3 / 150 (1000)");
        assert_eq!(disk.said(), "p50 0.42 ms, p99 0.42 ms, p99.9 12.3 ms, max 150 ms, of 1000 writes");
    }

    #[test]
    fn what_was_written_down_is_read_again() {
        let times = DiskTimes { samples: 9, p50: 0.25, p95: 0.5, p99: 1.0, p999: 2.0, max: 12.125 };
        for (disk, text) in [
            (
                Disk::Sampled(times),
                r#"{"sampled":{"samples":9,"p50":0.25,"p95":0.5,"p99":1.0,"p999":2.0,"max":12.125}}"#,
            ),
            (Disk::NotSampled("why".to_owned()), r#"{"not_sampled":"why"}"#),
        ] {
            assert_eq!(serde_json::to_string(&disk).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<Disk>(text).expect("a disk"), disk);
        }
    }

    #[test]
    fn a_disk_is_sampled_and_nothing_of_it_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = Sampler::start(Ok(directory.path().to_owned()));
        assert!(directory.path().join(FILE).exists());
        std::thread::sleep(std::time::Duration::from_millis(200));
        let Disk::Sampled(times) = disk.stop() else { panic!("expected samples") };
        assert!(times.samples > 0 && 0.0 < times.p50 && times.p50 <= times.max, "{times:?}");
        assert!(!directory.path().join(FILE).exists());
    }

    #[test]
    fn why_it_was_not_sampled_is_one_line() {
        let check = |directory: Result<PathBuf>, expected: &str| {
            let disk = Sampler::start(directory).stop();
            assert!(disk.said().starts_with(expected), "{}", disk.said());
            assert_eq!(disk.figures(), "not sampled");
        };
        check(Err(anyhow!("docker volume\n  no such volume\n")), "not sampled: docker volume no such volume");
        check(Ok("/nowhere".into()), "not sampled: /nowhere/disk-probe: No such file");
    }
}
