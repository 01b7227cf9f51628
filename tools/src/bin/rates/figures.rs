//! What one measurement leaves: names and numbers, a line each.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use tools::users::{Answers, Kind};

use crate::usage::Usage;

/// The percentiles that are shown, and their names.
pub(crate) const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p95", 95.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];
pub(crate) const RATE: &str = "rate";
pub(crate) const CPU: &str = "cpu";
pub(crate) const SWITCHES: &str = "switches";
pub(crate) const LATENCY: &str = "latency";

/// What was measured, under names of words with `/` between them.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) values: BTreeMap<String, f64>,
    /// What came that should not have.
    pub(crate) errors: BTreeMap<String, u64>,
    requests: f64,
}

impl Figures {
    pub(crate) fn took(&mut self, time: Duration, requests: u64) {
        self.requests = requests as f64;
        self.values.insert(RATE.to_owned(), self.requests / time.as_secs_f64());
    }

    /// Microseconds of CPU and switches a request, of each part and of each service.
    pub(crate) fn used(&mut self, before: &Usage, after: &Usage) {
        for ((service, part), now) in after {
            let then = before.get(&(service.clone(), part.clone())).copied().unwrap_or_default();
            // Less than before only if a process ended meanwhile.
            let cpu = now.cpu_ns.saturating_sub(then.cpu_ns) as f64 / 1000.0 / self.requests;
            let switches = now.switches.saturating_sub(then.switches) as f64 / self.requests;
            for (kind, value) in [(CPU, cpu), (SWITCHES, switches)] {
                self.values.insert(format!("{kind}/{service}/{part}"), value);
                for sum in [format!("{kind}/{service}"), kind.to_owned()] {
                    *self.values.entry(sum).or_default() += value;
                }
            }
        }
    }

    pub(crate) fn disk(&mut self, times: &Histogram<u64>) {
        self.latency("disk", times);
    }

    pub(crate) fn answers(&mut self, answers: &Answers) {
        for kind in [Kind::Create, Kind::Get, Kind::Search, Kind::Refused] {
            self.latency(kind.name(), &answers.latency[kind as usize]);
        }
        let mut all = Histogram::new_from(&answers.latency[0]);
        answers.latency.iter().for_each(|latency| all.add(latency).expect("histograms of the same bounds"));
        self.latency("all", &all);
        self.errors = answers.errors.clone();
    }

    /// In milliseconds.
    fn latency(&mut self, of: &str, micros: &Histogram<u64>) {
        for (name, percentile) in PERCENTILES {
            if !micros.is_empty() {
                let value = micros.value_at_percentile(percentile) as f64 / 1000.0;
                self.values.insert(format!("{LATENCY}/{of}/{name}"), value);
            }
        }
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        let lines: String = self.values.iter().map(|(name, value)| format!("{name}\t{value}\n")).collect();
        Ok(fs::write(file, lines)?)
    }

    pub(crate) fn read(file: &Path) -> Result<BTreeMap<String, f64>, Box<dyn Error>> {
        let text = fs::read_to_string(file)?;
        text.lines()
            .map(|line| {
                let (name, value) = line.split_once('\t').ok_or_else(|| format!("a figure: {line}"))?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect()
    }
}
