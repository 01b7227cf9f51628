//! One stress test from nothing to a verdict: start, load, judge, and what a report needs to know of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::feeders;
use crate::foreign;
use crate::gatling::{self, Load};
use crate::http::{self, Address};
use crate::monitor::{self, GATLING, Monitor, Total};
use crate::process::output;
use crate::records::{KINDS, Percentiles, Records};
use crate::target::{Instance, Kind, Service, Target};
use crate::verdict::{Verdict, judge};

/// Of a program that only says its version.
const VERSION_TIME_MAX: Duration = Duration::from_secs(20);

/// What is wanted of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Part of the directory's name, and the title of the report.
    pub name: String,
    /// Where runs are kept.
    pub results: PathBuf,
    /// The load.
    pub load: Load,
    /// What the feeders are drawn from.
    pub feeders: feeders::Plan,
    /// What is under test.
    pub topology: Kind,
    /// Of Compose.
    pub project: String,
    /// Whether what runs is tested as it is, with what its database holds.
    pub as_is: bool,
    /// Whether what was started goes on afterwards.
    pub keep: bool,
}

/// Everything that is known of a run but its time series; kept as `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The title.
    pub name: String,
    /// When it began.
    pub date: Timestamp,
    /// How to do it again.
    pub command: String,
    /// Of all durations of the contest.
    pub scale: f64,
    /// Of all rates of the contest.
    pub load: f64,
    /// What was under test.
    pub target: String,
    /// Where everything ran, the load generator included.
    pub machine: Vec<(String, String)>,
    /// Of all parts, as they say themselves.
    pub versions: Vec<(String, String)>,
    /// Rows that were there before.
    pub before: u64,
    /// Of each kind of request, then of all.
    pub percentiles: Vec<(String, Percentiles)>,
    /// Of each kind of request.
    pub statuses: Vec<(String, BTreeMap<u16, usize>)>,
    /// What each service used.
    pub totals: Vec<Total>,
    /// What it comes to.
    pub verdict: Verdict,
    /// Gatling's own report, relative to the run's directory.
    pub gatling: String,
}

impl Run {
    /// Of a run's directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let file = directory.join("run.json");
        let text = fs::read_to_string(&file).with_context(|| format!("{}: no such run", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}: unexpected content", file.display()))
    }

    /// Into a run's directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        Ok(fs::write(directory.join("run.json"), serde_json::to_string_pretty(self)?)?)
    }
}

impl Plan {
    /// Does it; the directory of the run, in which all is kept.
    pub fn carry_out(&self) -> Result<(PathBuf, Run)> {
        let date = Timestamp::now();
        let base = authority(&self.load.base)?;
        let directory = self.results.join(format!("{}-{}", date.strftime("%Y%m%d-%H%M%S"), self.name));
        fs::create_dir_all(&directory)?;
        self.feeders.write(&directory.join("feeders"))?;
        say("Maven: downloads and compiles what is missing");
        gatling::prepare()?;

        let as_is = self.as_is || self.topology == Kind::Unknown;
        let target = Target::find(self.topology, &self.project, &base, as_is)?;
        let run = if as_is {
            say(&format!(
                "testing what listens on {base} ({}) as it is: its database is not emptied",
                target.name()
            ));
            self.measure(&target, &base, &directory, date)
        } else {
            self.within(&target, &base, &directory, || self.measure(&target, &base, &directory, date))
        };
        let run = run?;
        run.write(&directory)?;
        Ok((directory, run))
    }

    /// Between a start with an empty database and a stop.
    fn within<T>(
        &self,
        target: &Target,
        base: &Address,
        directory: &Path,
        measure: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let name = target.name();
        if target.is_running(base) {
            say(&format!("{name}: an earlier stress test still runs; stopping it"));
            target.down()?;
        }
        let displaced = target.displace()?;
        if displaced.is_some() {
            say(&format!("{name}: stopped what ran, its data is kept; it is started again afterwards"));
        }
        let measured = if http::get(base, "/contagem-pessoas").is_ok() {
            Err(anyhow!("something else listens on {base}: stop it, or test it as it is (--as-is)"))
        } else {
            say(&format!("{name}: starting with an empty database"));
            let measured = target.up(base, &directory.join("target.log")).and_then(|()| measure());
            if self.keep && measured.is_ok() {
                return measured;
            }
            say(&format!("{name}: stopping"));
            // Its own error would hide the one that matters.
            let stopped = if target.is_running(base) { target.down() } else { Ok(()) };
            measured.and_then(|measured| stopped.map(|()| measured))
        };
        displaced.map_or(Ok(()), |displaced| displaced.start_again())?;
        measured
    }

    fn measure(&self, target: &Target, base: &Address, directory: &Path, date: Timestamp) -> Result<Run> {
        let before = http::count(base)?;
        say(&format!(
            "Gatling: {:.0} s, {} times the contest's load",
            self.load.seconds(),
            self.load.multiplier
        ));
        let mut services = target.services()?;
        let gatling = self.load.start(directory)?;
        services.push(Service { name: GATLING.to_owned(), pid: gatling.pid() });
        let samples = directory.join("samples.tsv");
        let monitor = Monitor::start(&services, &samples)?;
        let report = gatling.finish();
        let limits = monitor.stop()?;
        let report = report?;

        say("the verdict: each acknowledged pessoa is asked for");
        let mut samples = monitor::read(&samples)?;
        let (percentiles, statuses, verdict) = if Records::are_in(directory) {
            let records = Records::read(directory)?;
            // Of what was before the first request only the sample that the first rate is reckoned from.
            let began = records.requests.iter().map(|request| request.began).min().unwrap_or(0);
            samples.retain(|sample| sample.at + monitor::PERIOD_MS > began);
            let statuses = KINDS.iter().map(|kind| ((*kind).to_owned(), records.statuses(kind))).collect();
            (records.percentiles(), statuses, judge(&records, target, base, before))
        } else {
            let kinds = foreign::read(&report)?;
            let rows = http::count(base)?.saturating_sub(before);
            let verdict = foreign::judge(&kinds, target, rows);
            (kinds.clone(), foreign::statuses(&kinds), verdict)
        };
        Ok(Run {
            name: self.name.clone(),
            date,
            command: command_line(),
            scale: self.load.scale,
            load: self.load.multiplier,
            target: target.name(),
            machine: machine(),
            versions: versions(target, base),
            before,
            percentiles,
            statuses,
            totals: monitor::totals(&samples, &limits),
            verdict,
            gatling: format!(
                "gatling/{}/index.html",
                report.file_name().unwrap_or_default().to_string_lossy()
            ),
        })
    }
}

/// A line for whoever waits.
pub fn say(line: &str) {
    eprintln!("stress-test: {line}");
}

/// Host and port of the base URL.
pub fn authority(base: &str) -> Result<Address> {
    let authority = base.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match authority {
        Some(authority) if authority.contains(':') && !authority.contains('/') => {
            Ok(Address::Tcp(authority.to_owned()))
        }
        _ => bail!("expected a base URL such as http://localhost:9999, got {base}"),
    }
}

/// Without the directories of this machine.
fn command_line() -> String {
    let arguments = std::env::args().skip(1);
    ["cargo run -p stress-test --".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

fn machine() -> Vec<(String, String)> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
    vec![
        ("Linux".to_owned(), read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("CPUs".to_owned(), format!("{cpus} × {}", field(&read("/proc/cpuinfo"), "model name"))),
        ("memory".to_owned(), format!("{:.0} GiB", kib / f64::from(1 << 20))),
    ]
}

fn versions(target: &Target, base: &Address) -> Vec<(String, String)> {
    let printed = |program: &str, arguments: &[&str]| {
        let text = output(Command::new(program).args(arguments), VERSION_TIME_MAX).unwrap_or_default();
        text.lines().next().unwrap_or_default().trim().to_owned()
    };
    let own = target.instances().ok().and_then(|instances| match instances.into_iter().next()? {
        Instance::Socket(_, address) => Some(address),
        Instance::Drained(..) => None,
    });
    let health =
        http::get(&own.unwrap_or_else(|| base.clone()), "/healthz").map(|(_, body)| body).unwrap_or_default();
    let health: Value = serde_json::from_str(&health).unwrap_or_default();
    let text = |pointer: &str| health.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let versions = [
        ("rinha", text("/version")),
        ("commit", printed("git", &["describe", "--always", "--dirty"])),
        ("driver", [text("/driver/name"), text("/driver/reason")].join(" ")),
        ("Postgres", text("/database/version")),
        ("HAProxy", target.balancer_version()),
        ("Gatling", gatling::version()),
        ("Java", printed("java", &["--version"])),
    ];
    let known = versions.into_iter().map(|(name, version)| (name.to_owned(), version.trim().to_owned()));
    known.filter(|(_, version)| !version.is_empty()).collect()
}
