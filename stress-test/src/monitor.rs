//! What each service uses while a run goes on, once a second, written to `samples.tsv`; and what that amounts to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroups, Limits, Usage};
use crate::process::{self, Family};
use crate::target::Service;

/// What the load generator is called among the services, and the whole machine.
pub const GATLING: &str = "gatling";
/// See [`GATLING`].
pub const MACHINE: &str = "machine";
/// Between two samples.
const PERIOD: Duration = Duration::from_millis(PERIOD_MS);
pub(crate) const PERIOD_MS: u64 = 1_000;
const MICROS: f64 = 1e6;

/// One service at one time; all but the memory since its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Of which service.
    pub service: String,
    /// See [`Usage`].
    pub usage: Usage,
}

/// One service over a whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// As compose.yml calls it, or [`GATLING`] or [`MACHINE`].
    pub service: String,
    /// What it might have used.
    pub limits: Limits,
    /// CPU time within the run.
    pub cpu_seconds: f64,
    /// Time that threads were kept from running by the quota.
    pub throttled_seconds: f64,
    /// Share of the quota periods that hit the quota.
    pub throttled_periods: f64,
    /// The most memory, page cache included; in bytes.
    pub memory_peak: u64,
    /// The most memory that no file backs, as sampled; in bytes.
    pub anonymous_peak: u64,
}

impl Total {
    /// Whether it is part of what is tested.
    pub fn is_service(&self) -> bool {
        ![GATLING, MACHINE].contains(&&*self.service)
    }
}

/// Where a service's usage is read.
enum Meter {
    Cgroups(Cgroups),
    /// In no group of its own.
    Processes(u32),
    /// All that runs here, neighbours that are no part of the test included.
    Machine,
}

impl Meter {
    fn of(pid: u32) -> Self {
        Cgroups::of(Path::new("/"), pid).map_or(Meter::Processes(pid), Meter::Cgroups)
    }

    fn limits(&self) -> Limits {
        match self {
            Meter::Cgroups(groups) => groups.limits(),
            Meter::Processes(_) => Limits::default(),
            Meter::Machine => process::machine_limits(),
        }
    }

    fn usage(&self) -> Usage {
        match self {
            Meter::Cgroups(groups) => groups.usage(),
            Meter::Processes(pid) => {
                let family = Family::of(*pid);
                let resident = family.resident_bytes();
                Usage { cpu: family.cpu(), memory: resident, anonymous: resident, ..Usage::default() }
            }
            Meter::Machine => process::machine_usage(),
        }
    }
}

/// Samples on a thread of its own until it is stopped.
#[derive(Debug)]
pub struct Monitor {
    limits: BTreeMap<String, Limits>,
    stop: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Monitor {
    /// Of these services, into this file.
    pub fn start(services: &[Service], file: &Path) -> Result<Self> {
        let mut meters: Vec<(String, Meter)> =
            services.iter().map(|service| (service.name.clone(), Meter::of(service.pid))).collect();
        meters.push((MACHINE.to_owned(), Meter::Machine));
        let limits = meters.iter().map(|(name, meter)| (name.clone(), meter.limits())).collect();
        let mut out = BufWriter::new(File::create(file)?);
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut next = Instant::now();
            loop {
                for (name, meter) in &meters {
                    write(&mut out, name, &meter.usage())?;
                }
                next += PERIOD;
                match stopped.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return Ok(out.flush()?),
                }
            }
        });
        Ok(Self { limits, stop, thread })
    }

    /// Ends it; what each service might have used.
    pub fn stop(self) -> Result<BTreeMap<String, Limits>> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the monitor panicked"))??;
        Ok(self.limits)
    }
}

fn write(out: &mut impl Write, service: &str, usage: &Usage) -> Result<()> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    writeln!(
        out,
        "{at}\t{service}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
        usage.cpu.as_micros(),
        usage.throttled.as_micros(),
        usage.periods,
        usage.throttled_periods,
        usage.memory,
        usage.anonymous,
        usage.peak
    )?;
    Ok(())
}

/// What a monitor wrote.
pub fn read(file: &Path) -> Result<Vec<Sample>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}: no such samples", file.display()))?;
    let sample = |line: &str| {
        let (at, rest) = line.split_once('\t')?;
        let (service, numbers) = rest.split_once('\t')?;
        let numbers: Vec<u64> = numbers.split('\t').map_while(|number| number.parse().ok()).collect();
        let &[cpu, throttled, periods, throttled_periods, memory, anonymous, peak] = numbers.as_slice()
        else {
            return None;
        };
        let (cpu, throttled) = (Duration::from_micros(cpu), Duration::from_micros(throttled));
        let usage = Usage { cpu, throttled, periods, throttled_periods, memory, anonymous, peak };
        Some(Sample { at: at.parse().ok()?, service: service.to_owned(), usage })
    };
    text.lines().map(|line| sample(line).ok_or_else(|| anyhow!("unexpected sample: {line}"))).collect()
}

/// What the samples amount to, a service each.
pub fn totals(samples: &[Sample], limits: &BTreeMap<String, Limits>) -> Vec<Total> {
    let mut services: BTreeMap<&str, Vec<&Usage>> = BTreeMap::new();
    for sample in samples {
        services.entry(&sample.service).or_default().push(&sample.usage);
    }
    let total = |(service, usages): (&str, Vec<&Usage>)| {
        let (first, last) = (usages.first()?, usages.last()?);
        let most = |value: fn(&Usage) -> u64| usages.iter().map(|usage| value(usage)).max().unwrap_or(0);
        let periods = last.periods.saturating_sub(first.periods);
        let hit = last.throttled_periods.saturating_sub(first.throttled_periods);
        Some(Total {
            service: service.to_owned(),
            limits: limits.get(service).copied().unwrap_or_default(),
            cpu_seconds: last.cpu.saturating_sub(first.cpu).as_micros() as f64 / MICROS,
            throttled_seconds: last.throttled.saturating_sub(first.throttled).as_micros() as f64 / MICROS,
            throttled_periods: if periods == 0 { 0.0 } else { hit as f64 / periods as f64 },
            memory_peak: most(|usage| usage.memory.max(usage.peak)),
            anonymous_peak: most(|usage| usage.anonymous),
        })
    };
    let mut totals: Vec<Total> = services.into_iter().filter_map(total).collect();
    // What is tested comes first.
    totals.sort_by_key(|total| !total.is_service());
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("samples.tsv");
        let own = Service { name: "own".to_owned(), pid: std::process::id() };
        let monitor = Monitor::start(&[own], &file).expect("a monitor");
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1300) {
            std::hint::spin_loop();
        }
        let limits = monitor.stop().expect("an end");
        let totals = totals(&read(&file).expect("samples"), &limits);
        let [own, machine] = totals.as_slice() else { panic!("{totals:?}") };
        assert!((0.3..10.0).contains(&own.cpu_seconds), "{own:?}");
        assert!(own.anonymous_peak > 100_000, "{own:?}");
        assert!(machine.cpu_seconds > 0.3 && machine.limits.cpus >= Some(1.0), "{machine:?}");
    }
}
