//! One stress test from nothing to a verdict: start, load, judge, and what a report needs to know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use jiff::Timestamp;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::disk::{Disk, Sampler};
use crate::feeders;
use crate::floor::Floor;
use crate::foreign;
use crate::gatling::{self, Load};
use crate::http::{self, Address};
use crate::left::Left;
use crate::live::Live;
use crate::monitor::{self, GATLING, Monitor, Total};
use crate::ports::{self, Ports};
use crate::process::{clean_up, output, undisturbed};
use crate::progress::{say, step};
use crate::records::{KINDS, Percentiles, Records};
use crate::target::service::Service;
use crate::target::{Instance, Kind, Target};
use crate::verdict::{Verdict, judge, judge_floor};

/// The kernel's settings.
const SYSCTLS: &str = "/proc/sys";
/// Limit of a program that only says its version.
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
    /// The project of Compose.
    pub project: String,
    /// Whether what runs is tested as it is, with what its database holds.
    pub as_is: bool,
    /// Whether what was started goes on afterwards.
    pub keep: bool,
    /// Whether ids are read back through the balancer although the instances' own sockets can be reached.
    pub drain: bool,
    /// What stands in the server's place, if not the server is tested.
    pub floor: Option<Floor>,
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
    /// The factor of all durations of the contest.
    pub scale: f64,
    /// The factor of all rates of the contest.
    pub load: f64,
    /// What was under test.
    pub target: String,
    /// Where everything ran, the load generator included.
    pub machine: Vec<(String, String)>,
    /// The versions of all parts, as the parts say them.
    pub versions: Vec<(String, String)>,
    /// Rows that were there before.
    pub before: u64,
    /// The response times of each kind of request, then of all requests.
    pub percentiles: Vec<(String, Percentiles)>,
    /// Of each kind of request.
    pub statuses: Vec<(String, BTreeMap<u16, usize>)>,
    /// What each service used.
    pub totals: Vec<Total>,
    /// How long the disk below the database took meanwhile; none of a run that did not ask.
    #[serde(default)]
    pub disk: Option<Disk>,
    /// Whether the target kept its word.
    pub verdict: Verdict,
    /// Gatling's own report, relative to the run's directory.
    pub gatling: String,
}

impl Run {
    /// The name, with what it was a run of if not of the server.
    pub fn title(&self) -> String {
        match self.verdict.floor {
            None => self.name.clone(),
            Some(floor) => format!("{} ({})", self.name, floor.name()),
        }
    }

    /// Reads the run from its directory.
    pub fn read(directory: &Path) -> Result<Self> {
        let file = directory.join("run.json");
        let text = fs::read_to_string(&file).with_context(|| format!("{}: no such run", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}: unexpected content", file.display()))
    }

    /// Writes the run into its directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        Ok(fs::write(directory.join("run.json"), serde_json::to_string_pretty(self)?)?)
    }
}

impl Plan {
    /// Does the run, and returns it with its directory, in which everything is kept.
    pub fn carry_out(&self) -> Result<(PathBuf, Run)> {
        let date = Timestamp::now();
        let base = authority(&self.load.base)?;
        // What can be told now is told now: the preparation takes a minute, and a build several.
        let as_is = self.as_is || self.topology == Kind::Unknown;
        let target = Target::find(self.topology, &self.project, &base, as_is)?;
        if self.floor.is_some() {
            target.check_floor()?;
        }
        if as_is {
            http::count(&base).context("expected a people API there, to test it as it is")?;
        } else {
            target.check(&base)?;
        }
        let mut left = Left::take_over(&left_file())?;
        if let Err(error) = ports::recover(Path::new(SYSCTLS), Path::new(ports::NOTE)) {
            say(&format!("net.ipv4.tcp_tw_reuse is as a killed run left it: {error:#}"));
        }
        let directory = self.results.join(format!("{}-{}", date.strftime("%Y%m%d-%H%M%S"), self.name));
        fs::create_dir_all(&directory)?;
        let run = self.within_directory(&target, &base, &directory, date, as_is, &mut left);
        if run.is_err() {
            tidy(&directory);
        }
        Ok((directory, run?))
    }

    fn within_directory(
        &self,
        target: &Target,
        base: &Address,
        directory: &Path,
        date: Timestamp,
        as_is: bool,
        left: &mut Left,
    ) -> Result<Run> {
        let making =
            step(format!("making {} payloads and {} terms", self.feeders.payloads, self.feeders.terms));
        self.feeders.write(&directory.join("feeders"))?;
        drop(making);
        let preparing = step("Maven: downloads and compiles what is missing");
        gatling::prepare()?;
        drop(preparing);

        // Plain processes are reached by loopback, where ports are reused anyway.
        let _ports = if matches!(target, Target::Local(_)) { None } else { self.provide_ports() };
        let run = if as_is {
            say(&format!(
                "testing what listens on {base} ({}) as it is: its database is not emptied",
                target.name()
            ));
            self.measure(target, base, directory, date, left)
        } else {
            self.within(target, base, directory, left, |left| {
                self.measure(target, base, directory, date, left)
            })
        };
        let run = run?;
        run.write(directory)?;
        Ok(run)
    }

    /// Provides the ports that one connection for each user takes, and says what was done. Ports are reused until the
    /// result is dropped.
    fn provide_ports(&self) -> Option<Ports> {
        let needed = ports::needed(self.load.multiplier, self.load.seconds());
        let ports = match ports::provide(Path::new(SYSCTLS), Path::new(ports::NOTE), needed) {
            Ok(ports) => ports,
            Err(error) => {
                say(&format!("ports may run out, which cannot be told: {error:#}"));
                return None;
            }
        };
        match &ports {
            Ports::Suffice => {}
            Ports::Reused(_) => say("net.ipv4.tcp_tw_reuse is 1 meanwhile: ports would run out"),
            Ports::Scarce { needed, available } => say(&format!(
                "{needed} connections a minute may run out of {available} ports where a container's port is proxied: \
                 as root, sysctl net.ipv4.tcp_tw_reuse=1"
            )),
        }
        Some(ports)
    }

    /// Starts the target with an empty database, measures, and stops the target.
    fn within<T>(
        &self,
        target: &Target,
        base: &Address,
        directory: &Path,
        left: &mut Left,
        measure: impl FnOnce(&mut Left) -> Result<T>,
    ) -> Result<T> {
        let name = target.name();
        if target.is_running(base) {
            let _stopping = step(format!("{name}: an earlier stress test still runs; stopping it"));
            target.down()?;
        }
        let mut displaced = target.in_the_way()?;
        if let Some(project) = &displaced {
            left.displace(Some(project.name()))?;
            let stopping = step(format!("{name}: stopping what runs"));
            target.displace()?;
            drop(stopping);
            say(&format!("{name}: stopped what ran, its data is kept; it is started again afterwards"));
        } else if left.displaced().is_some() {
            say(&format!("{name}: what a killed run has stopped is started again afterwards"));
            displaced = target.displaced_before();
        }
        let measured = if http::is_listened_on(base) {
            Err(anyhow!("something else listens on {base}: stop it, or test it as it is (--as-is)"))
        } else {
            let instead = self.floor.map(|floor| format!(" and no server ({})", floor.name()));
            say(&format!("{name}: starting with an empty database{}", instead.unwrap_or_default()));
            let log = directory.join("target.log");
            let measured = target.up(base, &log, self.keep, self.floor).and_then(|()| measure(left));
            // Not everything that a signal interrupts ends in an error: here the signal itself is one.
            let measured = measured.and_then(|measured| undisturbed().map(|()| measured));
            if self.keep && measured.is_ok() {
                return measured;
            }
            let _stopping = step(format!("{name}: stopping"));
            // An error of the stop must not hide one of the measurement.
            let stopped = clean_up(|| if target.is_running(base) { target.down() } else { Ok(()) });
            measured.and_then(|measured| stopped.map(|()| measured))
        };
        let started_again = clean_up(|| {
            displaced.map_or(Ok(()), |displaced| displaced.start_again())?;
            left.displace(None)
        });
        measured.and_then(|measured| started_again.map(|()| measured))
    }

    fn measure(
        &self,
        target: &Target,
        base: &Address,
        directory: &Path,
        date: Timestamp,
        left: &mut Left,
    ) -> Result<Run> {
        let before = http::count(base)?;
        say(&format!(
            "Gatling: {:.0} s, {} times the contest's load",
            self.load.seconds(),
            self.load.multiplier
        ));
        let services = target.services()?;
        let disk = Sampler::start(target.storage());
        let gatling = self.load.start(directory)?;
        left.load(gatling.pid())?;
        let generator = Service { name: GATLING.to_owned(), pid: gatling.pid(), restarts: 0 };
        let samples = directory.join("samples.tsv");
        let monitor = Monitor::start(&[&services[..], &[generator]].concat(), &samples)?;
        let live = Live::watch(directory, self.load.seconds());
        let report = gatling.finish();
        live.finish();
        let disk = disk.stop();
        let limits = monitor.stop()?;
        let report = report?;
        // If the services cannot be listed, each counts as restarted; the rest is for the verdict to judge.
        let restarts = monitor::restarts(&services, &target.services().unwrap_or_default());

        let _judging = step("the verdict: each acknowledged pessoa is asked for");
        let mut samples = monitor::read(&samples)?;
        let (percentiles, statuses, verdict) = if Records::are_in(directory) {
            let records = Records::read(directory)?;
            // Of the samples from before the first request and after the last answer only those are kept from which the
            // first and the last rate are computed.
            let began = records.requests.iter().map(|request| request.began).min().unwrap_or(0);
            let end = records.end().unwrap_or(u64::MAX - monitor::PERIOD_MS);
            samples.retain(|sample| {
                sample.at + monitor::PERIOD_MS > began && sample.at < end + monitor::PERIOD_MS
            });
            let statuses = KINDS.iter().map(|kind| ((*kind).to_owned(), records.statuses(kind))).collect();
            let verdict = match self.floor {
                None => judge(&records, target, base, before, self.drain),
                Some(floor) => judge_floor(floor, &records, target),
            };
            (records.percentiles(), statuses, verdict)
        } else {
            let kinds = foreign::read(&report)?;
            let verdict = match self.floor {
                None => foreign::judge(&kinds, target, http::count(base)?, before),
                Some(floor) => foreign::judge_floor(floor, &kinds),
            };
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
            totals: monitor::totals(&samples, &limits, &restarts),
            disk: Some(disk),
            verdict,
            gatling: format!(
                "gatling/{}/index.html",
                report.file_name().unwrap_or_default().to_string_lossy()
            ),
        })
    }
}

/// Where what a killed run left is written down; `STRESS_LEFT` is for tests.
fn left_file() -> PathBuf {
    if let Some(file) = std::env::var_os("STRESS_LEFT") {
        return file.into();
    }
    let parent = if geteuid().is_root() { "/var/lib/rinha" } else { "data" };
    Path::new(parent).join("stress-left.json")
}

/// Removes what nobody needs of a run that came to no verdict: what fed it, which can be made again, and what it recorded
/// before it was cut. What says why it failed stays, unless somebody stopped it. A load that came to its end can still be
/// judged, so that nothing of it is removed.
fn tidy(directory: &Path) {
    let stopped = undisturbed().is_err();
    if !stopped && directory.join("records/count.tsv").exists() {
        return;
    }
    let said = |name: &str| fs::metadata(directory.join(name)).is_ok_and(|metadata| metadata.len() > 0);
    let removed = if !stopped && (said("target.log") || said("gatling.log")) {
        for part in ["feeders", "records", "gatling"] {
            let _ = fs::remove_dir_all(directory.join(part));
        }
        let _ = fs::remove_file(directory.join("samples.tsv"));
        Ok(())
    } else {
        fs::remove_dir_all(directory)
    };
    if let Err(error) = removed {
        say(&format!("{}: not removed: {error}", directory.display()));
    }
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

/// The command that repeats the run: with the variables that compose.yml was given, but without secrets.
fn command_line() -> String {
    let compose = fs::read_to_string("compose.yml").unwrap_or_default();
    let words = ["cargo", "run", "-p", "stress-test", "--"].map(str::to_owned);
    let words = words.into_iter().chain(std::env::args().skip(1)).map(|word| quoted(&word));
    variables(&compose, |name| std::env::var(name).ok())
        .into_iter()
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// `NAME=VALUE` of each variable of the file that is set.
fn variables(compose: &str, value: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let names: BTreeSet<&str> =
        compose.split("${").skip(1).filter_map(|rest| Some(rest.split_once(":-")?.0)).collect();
    let shown = names.into_iter().filter(|name| !name.contains("PASSWORD") && *name != "DATABASE_URL");
    let set = shown.filter_map(|name| Some((name, value(name).filter(|value| !value.is_empty())?)));
    set.map(|(name, value)| format!("{name}={}", quoted(&value))).collect()
}

/// Quotes a word for a shell, where it needs that.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:,=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
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
    let own = target.instances(false).ok().and_then(|instances| match instances.into_iter().next()? {
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

/// What tests share that show a run.
#[cfg(test)]
pub(crate) mod written {
    use super::*;

    /// A run with creates and gets and these further members, read as `run.json` has it.
    pub(crate) fn run(members: &str) -> Run {
        let times = r#"{"count":1,"ko":0,"p50":1,"p95":2,"p99":3,"p999":4,"max":5}"#;
        let text = format!(
            r#"{{"name":"a","date":"2026-11-24T12:00:00Z","command":"","scale":1.0,"load":1.0,"target":"unknown",
            "machine":[],"versions":[],"before":0,"percentiles":[["create",{times}],["get",{times}],["all",{times}]],
            "statuses":[],"totals":[],{members}"verdict":{{"checks":[],"score":1}},"gatling":""}}"#
        );
        serde_json::from_str(&text).expect("a run")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_says_what_compose_was_told_but_no_secrets() {
        let compose = r#"DRIVER: "${DRIVER:-auto}" cpus: ${API_CPUS:-0.25} ${API_CPUS:-1} ${LOG:-info} ${EMPTY:-x}
            ${SECURITY_OPT:-seccomp=x} ${POSTGRES_PASSWORD:-} ${DATABASE_URL:-host=x}"#;
        let value = |name: &str| match name {
            "LOG" => None,
            "EMPTY" => Some(String::new()),
            "API_CPUS" => Some("0.5".to_owned()),
            "DRIVER" => Some("it's two".to_owned()),
            _ => Some("secret".to_owned()),
        };
        assert_eq!(
            variables(compose, value),
            ["API_CPUS=0.5", r"DRIVER='it'\''s two'", "SECURITY_OPT=secret"]
        );
    }
}
