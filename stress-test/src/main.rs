//! The command line of the stress test. Run it from the repository's root.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use stress_test::disk::{Disk, LABEL};
use stress_test::floor::Floor;
use stress_test::gatling::{CONTEST_SECONDS, Load};
use stress_test::progress::{self as out, say};
use stress_test::records::Records;
use stress_test::run::{Plan, Run, authority};
use stress_test::sweep::Series;
use stress_test::target::compose::OWN;
use stress_test::target::{Kind, Target};
use stress_test::verdict::{Outcome, Verdict, judge, judge_floor};
use stress_test::{browser, compare, feeders, process, report, sweep};

/// Lines of a feeder: at most a gigabyte or two.
const LINES_MAX: i64 = 10_000_000;
/// Room for the date before it, within the 255 bytes that file systems allow.
const NAME_BYTES_MAX: usize = 100;
/// Picture sizes, in CSS pixels.
const REPORT_SIZE: (u32, u32) = (1160, 2830);
const COMPARISON_SIZE: (u32, u32) = (1160, 1570);

/// The contest's load against what listens on 9999, the verdict, and a report.
#[derive(Parser)]
// The last one counts of several: a target of the Makefile sets some, and ARGS may set them again.
#[command(version, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start what does not run, load it, judge it, and write the report
    Run(Wanted),
    /// Several runs in a row, and a table of them
    Sweep {
        /// Which runs
        series: Series,
        /// Where they are kept
        #[arg(long, default_value = "stress-test/results")]
        results: PathBuf,
        /// Further arguments of `run` for each of them
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Judge a run again, whose target must not have been asked to store anything since
    Check {
        /// The run's directory
        run: PathBuf,
        /// The balancer; compose.yml's PORT, if not said
        #[arg(long, default_value_t = usual_base())]
        base: String,
        /// What is behind it
        #[arg(long, default_value = "auto")]
        topology: Kind,
        /// Rows that were there before the run
        #[arg(long, default_value_t = 0)]
        before: u64,
        /// Ask each instance through the balancer, with the others taken out, also where its own socket can be reached
        #[arg(long)]
        drain: bool,
    },
    /// Write the report of a run again
    Report {
        /// The run's directory
        run: PathBuf,
        /// Take its pictures too
        #[arg(long)]
        pictures: bool,
    },
    /// Put several runs side by side in one page
    Compare {
        /// The runs' directories
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where to
        #[arg(long, default_value = "comparison.html")]
        out: PathBuf,
        /// Take its pictures too
        #[arg(long)]
        pictures: bool,
    },
    /// Only make the two files that feed the simulation
    Feeders {
        /// Where to
        directory: PathBuf,
        #[command(flatten)]
        wanted: FeedersWanted,
    },
}

#[derive(Args, Clone)]
struct Wanted {
    /// What the run is called, and the end of its directory's name
    #[arg(long, default_value = "contest", value_parser = run_name)]
    name: String,
    /// The multiplier k of all rates
    #[arg(long, default_value_t = 1.0, value_parser = |text: &str| between(text, 0.01, 100.0))]
    load: f64,
    /// How long, with all durations scaled; the contest takes 205 s
    #[arg(long, default_value_t = CONTEST_SECONDS, value_parser = |text: &str| between(text, 1.0, 86_400.0))]
    seconds: f64,
    #[command(flatten)]
    feeders: FeedersWanted,
    /// What to test
    #[arg(long, default_value = "auto")]
    topology: Kind,
    /// The Compose project that is started, or with --as-is the one that runs
    #[arg(long, default_value = OWN)]
    project: String,
    /// Where it listens; compose.yml's PORT, if not said
    #[arg(long, default_value_t = usual_base())]
    base: String,
    /// Test what runs, with what its database holds; any entry's that listens on the port
    #[arg(long)]
    as_is: bool,
    /// A constant answer in the server's place, for the floor of all other reports (local topology only)
    #[arg(long, conflicts_with_all = ["limit", "as_is", "drain"])]
    baseline: bool,
    /// The same, with a bare insert for each create
    #[arg(long, conflicts_with_all = ["as_is", "drain"])]
    limit: bool,
    /// Leave running what was started
    #[arg(long)]
    keep: bool,
    /// Ask each instance through the balancer, with the others taken out, also where its own socket can be reached
    #[arg(long)]
    drain: bool,
    /// Take pictures of the report too
    #[arg(long)]
    pictures: bool,
    /// Another simulation, such as the contest's own in stress-test/gatling/contest/simulations
    #[arg(long, default_value = "rinha.Contest")]
    simulation: String,
    /// Where runs are kept
    #[arg(long, default_value = "stress-test/results")]
    results: PathBuf,
}

#[derive(Args, Clone, Copy)]
struct FeedersWanted {
    /// Payloads to make; 100,000 times the load, rounded up, if not said
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=LINES_MAX))]
    payloads: Option<u32>,
    /// Terms to make
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=LINES_MAX))]
    terms: u32,
    /// The same seed makes the same files
    #[arg(long, default_value_t = 2023)]
    seed: u64,
}

impl Wanted {
    fn floor(&self) -> Option<Floor> {
        match (self.baseline, self.limit) {
            (true, _) => Some(Floor::ConstantAnswer),
            (_, true) => Some(Floor::BareInsert),
            _ => None,
        }
    }
}

impl FeedersWanted {
    fn plan(&self, load: f64) -> feeders::Plan {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let payloads = self.payloads.unwrap_or(100_000 * load.ceil().max(1.0) as u32);
        feeders::Plan { payloads: payloads as usize, terms: self.terms as usize, seed: self.seed }
    }
}

/// A number within bounds.
fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

/// A name that is one directory.
fn run_name(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    match !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => {
            Err(format!("expected at most {NAME_BYTES_MAX} letters, digits, dots, dashes and underscores"))
        }
    }
}

/// The base URL of what compose.yml publishes: `PORT` may be an address and a port.
fn usual_base() -> String {
    let port = std::env::var("PORT").ok().filter(|port| !port.is_empty());
    let port = port.unwrap_or_else(|| "9999".to_owned());
    format!("http://localhost:{}", port.rsplit(':').next().unwrap_or_default())
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Does the task, and says whether every verdict is good.
fn run(task: Task) -> Result<bool> {
    match task {
        Task::Run(wanted) => {
            process::heed_signals()?;
            Ok(one(&wanted)?.verdict.passed())
        }
        Task::Sweep { series, results, arguments } => sweep(series, &results, &arguments),
        Task::Check { run, base, topology, before, drain } => {
            // Whatever it drained it must give back its requests.
            process::heed_signals()?;
            let base = authority(&base)?;
            let records = Records::read(&run)?;
            ensure!(
                records.are_whole(),
                "{}: its load was cut before its end, so that there is nothing to judge",
                run.display()
            );
            let target = Target::find(topology, OWN, &base, true)?;
            // A run that failed before its verdict has no more than its records.
            let judged = Run::read(&run).ok();
            let verdict = match judged.as_ref().and_then(|run| run.verdict.floor) {
                None => judge(&records, &target, &base, before, drain),
                Some(floor) => judge_floor(floor, &records, &target),
            };
            print(&verdict, judged.and_then(|run| run.disk).as_ref());
            Ok(verdict.passed())
        }
        Task::Report { run, pictures } => {
            let page = report::write(&run)?;
            show(&page, pictures.then_some(REPORT_SIZE))?;
            Ok(true)
        }
        Task::Compare { runs, out, pictures } => {
            let mut whole = Vec::new();
            for run in runs {
                // With its requests, which the page needs too.
                match Run::read(&run).and_then(|_| Records::requests_of(&run)) {
                    Ok(_) => whole.push(run),
                    Err(error) => say(&format!("left out: {error:#}")),
                }
            }
            ensure!(!whole.is_empty(), "expected at least one run that came to a verdict");
            compare::write(&whole, &out)?;
            out::show(&compare::markdown(
                &whole.iter().map(|run| Run::read(run)).collect::<Result<Vec<_>>>()?,
            ));
            show(&out, pictures.then_some(COMPARISON_SIZE))?;
            Ok(true)
        }
        Task::Feeders { directory, wanted } => {
            wanted.plan(1.0).write(&directory)?;
            Ok(true)
        }
    }
}

fn one(wanted: &Wanted) -> Result<Run> {
    ensure!(
        Path::new("stress-test/gatling/pom.xml").exists(),
        "expected stress-test/gatling/pom.xml: run it from the repository's root"
    );
    let plan = Plan {
        name: wanted.name.clone(),
        results: wanted.results.clone(),
        load: Load {
            scale: wanted.seconds / CONTEST_SECONDS,
            multiplier: wanted.load,
            base: wanted.base.clone(),
            simulation: wanted.simulation.clone(),
            compare: wanted.floor().is_none(),
        },
        feeders: wanted.feeders.plan(wanted.load),
        topology: wanted.topology,
        project: wanted.project.clone(),
        as_is: wanted.as_is,
        keep: wanted.keep,
        drain: wanted.drain,
        floor: wanted.floor(),
    };
    let (directory, run) = plan.carry_out()?;
    print(&run.verdict, run.disk.as_ref());
    out::show(&compare::markdown(std::slice::from_ref(&run)));
    show(&report::write(&directory)?, wanted.pictures.then_some(REPORT_SIZE))?;
    Ok(run)
}

fn sweep(series: Series, results: &Path, arguments: &[OsString]) -> Result<bool> {
    process::heed_signals()?;
    let (directory, runs) = sweep::carry_out(series, arguments, results)?;
    if runs.is_empty() {
        return Ok(false);
    }
    let page = directory.join("comparison.html");
    compare::write(&runs, &page)?;
    let table = compare::markdown(&runs.iter().map(|run| Run::read(run)).collect::<Result<Vec<_>>>()?);
    out::show(&format!("\n{table}"));
    show(&page, None)?;
    // A run that fails is no failure of the sweep, which looks for the box that is too small or the load that is too
    // large.
    Ok(true)
}

fn print(verdict: &Verdict, disk: Option<&Disk>) {
    for check in &verdict.checks {
        let outcome = match check.outcome {
            Outcome::Passed => "passed ",
            Outcome::Failed => "FAILED ",
            Outcome::Skipped => "skipped",
        };
        out::show(&format!("{outcome}  {}: {}\n", check.name, check.found));
    }
    if let Some(disk) = disk {
        out::show(&format!("beside   {LABEL}: {}\n", disk.said()));
    }
    let score = verdict.score.map_or_else(|| "unknown".to_owned(), |score| score.to_string());
    let of = match verdict.floor {
        None => format!("the contest's score: {score}"),
        Some(floor) => format!("not the server, {}", floor.name()),
    };
    out::show(&format!("verdict: {}; {of}\n", verdict.word()));
}

fn show(page: &Path, pictures: Option<(u32, u32)>) -> Result<()> {
    say(&format!("written: {}", page.display()));
    if let Some((width, height)) = pictures {
        let taking = out::step("pictures of the page");
        let taken = browser::pictures(page, width, height);
        drop(taking);
        match taken {
            Ok((pictures, faults)) => {
                pictures.iter().for_each(|picture| say(&format!("written: {}", picture.display())));
                if !faults.is_empty() {
                    bail!("{}: not as it should be in a browser: {}", page.display(), faults.join("; "));
                }
            }
            // A verdict is worth more than its picture.
            Err(error) => say(&format!("no pictures: {error:#}")),
        }
    }
    Ok(())
}
