//! Runs Gatling by Maven. This module knows the simulation's properties and where Gatling leaves its report, but not
//! what came of the load.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::process::{kill_all, logged, mortal, output, tail, wait};

/// The Maven project.
const PROJECT: &str = "stress-test/gatling";
/// Where the contest's own files may be put.
pub const DROP_IN: &str = "stress-test/gatling/contest";
/// The contest's length.
pub const CONTEST_SECONDS: f64 = 205.0;
/// What a run may take beyond its load: Maven's downloads and compilation, slow answers (at most 60 s each), and
/// Gatling's report.
const OVERHEAD: Duration = Duration::from_secs(5 * 60);
const PREPARE_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Load {
    /// The factor of all durations.
    pub scale: f64,
    /// The factor of all rates.
    pub multiplier: f64,
    /// The base URL.
    pub base: String,
    /// A class of the project, or one of the drop-in directory.
    pub simulation: String,
    /// Whether the body of a GET must be what was posted.
    pub compare: bool,
}

/// Gatling at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Gatling {
    child: Child,
    limit: Duration,
    log: PathBuf,
    results: PathBuf,
}

/// Downloads and compiles, so that the run itself does neither.
pub fn prepare() -> Result<()> {
    output(maven(mortal(Signal::SIGKILL, "mvn")).arg("test-compile"), PREPARE_TIME_MAX).map(drop)
}

impl Load {
    /// How long users arrive.
    pub fn seconds(&self) -> f64 {
        CONTEST_SECONDS * self.scale
    }

    /// Starts Gatling, which reads `feeders` in the run's directory and writes `records` and `gatling` there.
    pub fn start(&self, run: &Path) -> Result<Gatling> {
        let run = run.canonicalize()?;
        let log = run.join("gatling.log");
        let results = run.join("gatling");
        let mut command = maven(mortal(Signal::SIGKILL, "mvn"));
        command
            .arg("gatling:test")
            .arg(format!("-Dgatling.simulationClass={}", self.simulation))
            .arg(format!("-Dgatling.resultsFolder={}", results.display()))
            .arg(format!("-Dbase={}", self.base))
            .arg(format!("-Dscale={}", self.scale))
            .arg(format!("-Dload={}", self.multiplier))
            .arg(format!("-Dcompare={}", self.compare))
            .arg(format!("-Dfeeders={}", run.join("feeders").display()))
            .arg(format!("-Drecords={}", run.join("records").display()));
        let child = logged(&mut command, &File::create(&log)?)?;
        let limit = Duration::from_secs_f64(self.seconds()) + OVERHEAD;
        Ok(Gatling { child, limit, log, results })
    }
}

impl Gatling {
    /// The process of Maven, whose child Gatling is.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, and returns the directory of Gatling's own report.
    pub fn finish(mut self) -> Result<PathBuf> {
        let status = wait(&mut self.child, self.limit)?;
        if !status.success() {
            bail!("Gatling: {status}, see {}\n{}", self.log.display(), tail(&fs::read_to_string(&self.log)?));
        }
        let reports = fs::read_dir(&self.results)?.flatten().map(|entry| entry.path());
        let report = reports.filter(|path| path.join("index.html").exists()).max();
        report.map_or_else(|| bail!("Gatling left no report in {}", self.results.display()), Ok)
    }
}

impl Drop for Gatling {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_all(&mut self.child);
        }
    }
}

/// Gatling's version, as the project pins it.
pub fn version() -> String {
    let pom = fs::read_to_string(Path::new(PROJECT).join("pom.xml")).unwrap_or_default();
    let version = pom.split("<gatling.version>").nth(1).and_then(|rest| rest.split('<').next());
    version.unwrap_or_default().to_owned()
}

fn maven(mut command: Command) -> Command {
    command.args(["-B", "-q", "-f", PROJECT]);
    if Path::new(DROP_IN).join("simulations").exists() {
        command.arg("-Pcontest");
    }
    command
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::process::children::{CHILD, has_ended};

    #[test]
    fn it_does_not_outlive_what_waits_for_it() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut shell = Command::new("sh");
        shell.args(["-c", CHILD, "sh"]).arg(file.path());
        let child = logged(&mut shell, &tempfile::tempfile().expect("a log")).expect("a shell");
        while fs::read_to_string(file.path()).is_ok_and(|pid| !pid.ends_with('\n')) {
            thread::sleep(Duration::from_millis(10));
        }
        drop(Gatling { child, limit: Duration::ZERO, log: PathBuf::new(), results: PathBuf::new() });
        assert!(has_ended(file.path()));
    }
}
