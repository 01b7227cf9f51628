//! Samples what each service uses, once a second while a run goes on, writes the samples to `samples.tsv`, and sums
//! them up.

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
use crate::target::service::Service;

/// What the load generator is called among the services.
pub const GATLING: &str = "gatling";
/// What the whole machine is called among the services.
pub const MACHINE: &str = "machine";
/// Between two samples.
const PERIOD: Duration = Duration::from_millis(PERIOD_MS);
pub(crate) const PERIOD_MS: u64 = 1_000;
const MICROS: f64 = 1e6;

/// What one service had used at one time: since its start, except for the memory, which is what it held then.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at: u64,
    /// The service's name.
    pub service: String,
    /// See [`Usage`].
    pub usage: Usage,
}

/// One service over a whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// As compose.yml calls it, or [`GATLING`] or [`MACHINE`].
    pub service: String,
    /// Its limits.
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
    /// How often it was started again within the run; at least once if its process is another one.
    #[serde(default)]
    pub restarts: u32,
    /// Processes of it that were killed because its memory was used up.
    #[serde(default)]
    pub oom_kills: u64,
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
    /// The service has no group of its own: its process and all that this started.
    Processes(u32),
    /// All that runs on this machine, with neighbours that are no part of the test.
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
    /// Samples these services and the machine into this file.
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

    /// Ends the sampling, and returns the limits of each service.
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
        "{at}\t{service}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
        usage.cpu.as_micros(),
        usage.throttled.as_micros(),
        usage.periods,
        usage.throttled_periods,
        usage.memory,
        usage.anonymous,
        usage.peak,
        usage.oom_kills
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
        // A file may lack the column of the kills.
        let (&[cpu, throttled, periods, throttled_periods, memory, anonymous, peak], kills) =
            numbers.split_first_chunk()?;
        let oom_kills = kills.first().copied().unwrap_or(0);
        let (cpu, throttled) = (Duration::from_micros(cpu), Duration::from_micros(throttled));
        let usage = Usage { cpu, throttled, periods, throttled_periods, memory, anonymous, peak, oom_kills };
        Some(Sample { at: at.parse().ok()?, service: service.to_owned(), usage })
    };
    text.lines().map(|line| sample(line).ok_or_else(|| anyhow!("unexpected sample: {line}"))).collect()
}

/// The restarts of each service between two lists of all services.
pub fn restarts(before: &[Service], after: &[Service]) -> BTreeMap<String, u32> {
    let of = |service: &Service| {
        let now = after.iter().find(|now| now.name == service.name);
        let counted = now.map_or(0, |now| now.restarts.saturating_sub(service.restarts));
        // A service that is gone counts too.
        let other = now.is_none_or(|now| now.pid != service.pid);
        (service.name.clone(), counted.max(u32::from(other)))
    };
    before.iter().map(of).collect()
}

/// Sums up the samples of each service.
pub fn totals(
    samples: &[Sample],
    limits: &BTreeMap<String, Limits>,
    restarts: &BTreeMap<String, u32>,
) -> Vec<Total> {
    let mut services: BTreeMap<&str, Vec<&Usage>> = BTreeMap::new();
    for sample in samples {
        services.entry(&sample.service).or_default().push(&sample.usage);
    }
    let total = |(service, usages): (&str, Vec<&Usage>)| {
        let most = |value: fn(&Usage) -> u64| usages.iter().map(|usage| value(usage)).max().unwrap_or(0);
        // A container that is started again counts from 0 again: only what was added is summed up.
        let sum = |value: fn(&Usage) -> u64| -> u64 {
            usages.windows(2).map(|pair| value(pair[1]).saturating_sub(value(pair[0]))).sum()
        };
        let (periods, hit) = (sum(|usage| usage.periods), sum(|usage| usage.throttled_periods));
        Total {
            service: service.to_owned(),
            limits: limits.get(service).copied().unwrap_or_default(),
            cpu_seconds: sum(|usage| whole_micros(usage.cpu)) as f64 / MICROS,
            throttled_seconds: sum(|usage| whole_micros(usage.throttled)) as f64 / MICROS,
            throttled_periods: if periods == 0 { 0.0 } else { hit as f64 / periods as f64 },
            memory_peak: most(|usage| usage.memory.max(usage.peak)),
            anonymous_peak: most(|usage| usage.anonymous),
            restarts: restarts.get(service).copied().unwrap_or(0),
            oom_kills: sum(|usage| usage.oom_kills),
        }
    };
    let mut totals: Vec<Total> = services.into_iter().map(total).collect();
    // What is tested comes first.
    totals.sort_by_key(|total| !total.is_service());
    totals
}

fn whole_micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("less than 500,000 years")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_before_a_restart_is_not_lost() {
        let sample = |seconds: u64, periods: u64, oom_kills: u64| Sample {
            at: 0,
            service: "api1".to_owned(),
            usage: Usage {
                cpu: Duration::from_secs(seconds),
                throttled: Duration::from_secs(seconds / 2),
                periods,
                throttled_periods: periods / 4,
                oom_kills,
                ..Usage::default()
            },
        };
        // The counter goes from 10 to 30. Then the service is started again: at first nothing can be read, and the
        // counter begins at 0.
        let samples =
            [sample(10, 100, 0), sample(30, 300, 1), sample(0, 0, 0), sample(0, 0, 0), sample(4, 40, 0)];
        let restarts = BTreeMap::from([("api1".to_owned(), 1)]);
        let totals = totals(&samples, &BTreeMap::new(), &restarts);
        let [total] = totals.as_slice() else { panic!("{totals:?}") };
        assert_eq!((total.cpu_seconds, total.throttled_seconds), (24.0, 12.0));
        assert_eq!((total.throttled_periods, total.restarts, total.oom_kills), (0.25, 1, 1));
    }

    #[test]
    fn another_process_or_a_greater_number_is_a_restart() {
        let service = |pid: u32, restarts: u32| Service { name: "api1".to_owned(), pid, restarts };
        let check = |after: &[Service], expected: u32| {
            assert_eq!(restarts(&[service(5, 1)], after), BTreeMap::from([("api1".to_owned(), expected)]));
        };
        check(&[service(5, 1)], 0);
        check(&[service(6, 3)], 2);
        check(&[service(6, 1)], 1);
        check(&[], 1);
    }

    #[test]
    fn samples_of_older_runs_are_understood() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "1\tapi1\t1\t2\t3\t4\t5\t6\t7\n1\tapi1\t1\t2\t3\t4\t5\t6\t7\t8\n")
            .expect("a file");
        let samples = read(file.path()).expect("samples");
        assert_eq!(samples.iter().map(|sample| sample.usage.oom_kills).collect::<Vec<_>>(), [0, 8]);
        fs::write(file.path(), "1\tapi1\t1\t2\t3\t4\t5\t6\n").expect("a file");
        assert!(read(file.path()).is_err());
    }

    #[test]
    fn a_busy_process_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("samples.tsv");
        let own = Service { name: "own".to_owned(), pid: std::process::id(), restarts: 0 };
        let monitor = Monitor::start(&[own], &file).expect("a monitor");
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1300) {
            std::hint::spin_loop();
        }
        let limits = monitor.stop().expect("an end");
        let totals = totals(&read(&file).expect("samples"), &limits, &BTreeMap::new());
        let [own, machine] = totals.as_slice() else { panic!("{totals:?}") };
        assert!((0.3..10.0).contains(&own.cpu_seconds), "{own:?}");
        assert!(own.anonymous_peak > 100_000, "{own:?}");
        assert!(machine.cpu_seconds > 0.3 && machine.limits.cpus >= Some(1.0), "{machine:?}");
    }
}
