//! Several runs in a row, each in a process of its own and with limits of its own: how small the box may be, how large
//! the load.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::process::{mortal, terminate, undisturbed};
use crate::progress::say;
use crate::run::Run;

/// A run that was stopped by a signal stops its topology and starts the displaced one again.
const CLEAN_UP_TIME_MAX: Duration = Duration::from_secs(5 * 60);
const POLL: Duration = Duration::from_millis(100);

/// Which runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Series {
    /// The contest's load on 1.5, 1.0, 0.5 and 0.3 CPUs, the last two with 300 MB
    Small,
    /// 1, 2, 4 and 8 times the contest's load, until a run fails
    Large,
}

/// One run: its name, its load, and the variables that compose.yml is given.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    name: &'static str,
    load: f64,
    limits: &'static [(&'static str, &'static str)],
}

/// The shares are roughly those of compose.yml: a third for the balancer, a third for the two instances, a third for
/// Postgres.
const SMALL: [Step; 4] = [
    Step { name: "1.5-cpus", load: 1.0, limits: &[] },
    Step {
        name: "1.0-cpu",
        load: 1.0,
        limits: &[("HAPROXY_CPUS", "0.34"), ("API_CPUS", "0.16"), ("POSTGRES_CPUS", "0.34")],
    },
    Step {
        name: "0.5-cpus-300MB",
        load: 1.0,
        limits: &[
            ("HAPROXY_CPUS", "0.17"),
            ("API_CPUS", "0.08"),
            ("POSTGRES_CPUS", "0.17"),
            ("HAPROXY_MEMORY", "70M"),
            ("API_MEMORY", "50M"),
            ("POSTGRES_MEMORY", "130M"),
        ],
    },
    Step {
        name: "0.3-cpus-300MB",
        load: 1.0,
        limits: &[
            ("HAPROXY_CPUS", "0.1"),
            ("API_CPUS", "0.05"),
            ("POSTGRES_CPUS", "0.1"),
            ("HAPROXY_MEMORY", "70M"),
            ("API_MEMORY", "50M"),
            ("POSTGRES_MEMORY", "130M"),
        ],
    },
];
const LARGE: [Step; 4] = [
    Step { name: "k1", load: 1.0, limits: &[] },
    Step { name: "k2", load: 2.0, limits: &[] },
    Step { name: "k4", load: 4.0, limits: &[] },
    Step { name: "k8", load: 8.0, limits: &[] },
];

/// Does all runs of a series, each with these `arguments` of `run`. Returns the directory that is the sweep's own, and
/// those of the runs that came to a verdict.
pub fn carry_out(series: Series, arguments: &[OsString], results: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let steps = match series {
        Series::Small => &SMALL,
        Series::Large => &LARGE,
    };
    let name = format!("{}-{series:?}", Timestamp::now().strftime("%Y%m%d-%H%M%S"));
    let results = results.join(name.to_lowercase());
    fs::create_dir_all(&results)?;
    let mut runs = Vec::new();
    for step in steps {
        say(&format!("{}: {} times the contest's load, {:?}", step.name, step.load, step.limits));
        let own = results.join(step.name);
        let mut command = mortal(Signal::SIGTERM, std::env::current_exe()?);
        command.arg("run").args(arguments).args(["--name", step.name]);
        command
            .arg(format!("--load={}", step.load))
            .arg("--results")
            .arg(&own)
            .envs(step.limits.iter().copied());
        let status = finish(&mut command)?;
        let Some((run, passed)) = latest(&own) else {
            say(&format!("{}: came to no verdict ({status})", step.name));
            // Unless something in it says why.
            let _ = fs::remove_dir(&own);
            continue;
        };
        runs.push(run);
        if series == Series::Large && !passed {
            say(&format!("{}: failed; larger loads are left out", step.name));
            break;
        }
    }
    if runs.is_empty() {
        let _ = fs::remove_dir(&results);
    }
    Ok((results, runs))
}

/// Waits for the end of a run. There is no limit here, as everything that a run waits for has one. A signal is passed
/// on to the run.
fn finish(command: &mut Command) -> Result<ExitStatus> {
    let mut run = command.process_group(0).spawn().context("could not start a run")?;
    loop {
        if let Some(status) = run.try_wait()? {
            return Ok(status);
        }
        if let Err(signal) = undisturbed() {
            terminate(&mut run, CLEAN_UP_TIME_MAX)?;
            return Err(signal);
        }
        thread::sleep(POLL);
    }
}

/// The last run that came to a verdict, and whether it passed.
fn latest(results: &Path) -> Option<(PathBuf, bool)> {
    let runs = fs::read_dir(results).ok()?.flatten().map(|entry| entry.path());
    runs.filter_map(|run| Some((run.clone(), Run::read(&run).ok()?.verdict.passed()))).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_what_the_names_say() {
        let check = |step: &Step, cpus: f64, megabytes: u32| {
            let of =
                |name: &str| step.limits.iter().find(|(limit, _)| *limit == name).map(|(_, value)| *value);
            let sum = |unit: &str, of: &dyn Fn(&str) -> f64| {
                of(&format!("HAPROXY_{unit}"))
                    + 2.0 * of(&format!("API_{unit}"))
                    + of(&format!("POSTGRES_{unit}"))
            };
            let total = sum("CPUS", &|name| of(name).expect("a limit").parse().expect("a number"));
            assert!((total - cpus).abs() < 0.001, "{}: {total} CPUs", step.name);
            if megabytes > 0 {
                let total = sum("MEMORY", &|name| {
                    of(name).expect("a limit").trim_end_matches('M').parse().expect("a number")
                });
                assert!((total - f64::from(megabytes)).abs() < 0.001, "{}: {total} MB", step.name);
            }
        };
        check(&SMALL[1], 1.0, 0);
        check(&SMALL[2], 0.5, 300);
        check(&SMALL[3], 0.3, 300);
    }
}
