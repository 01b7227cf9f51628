//! From `perf script` to a flame graph whose first frames are the service and its thread; `perf/flamegraph` and
//! `perf/offcpu` use it.
//!
//! `cargo build -p tools --bin flame`, and then
//!
//! ```text
//! perf script .. | flame fold OWNERS > FOLDED     samples
//! perf script .. | flame waits OWNERS > FOLDED    sched:sched_switch: microseconds from a thread's leave to its return
//! flame draw TITLE SUBTITLE [UNIT] < FOLDED > SVG
//! ```
//!
//! OWNERS has a line `PID SERVICE` for each process; other processes are left out.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io::{self, BufRead, Write};

use clap::Parser;
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
/// Service by process.
type Owners = HashMap<String, String>;

/// From `perf script` to a flame graph.
#[derive(Parser)]
enum Task {
    /// Samples on standard input become folded stacks
    Fold {
        /// A file with a line `PID SERVICE` for each process
        owners: String,
    },
    /// Switches of the scheduler on standard input become folded stacks with microseconds off the CPU
    Waits {
        /// A file with a line `PID SERVICE` for each process
        owners: String,
    },
    /// Folded stacks on standard input become an SVG
    Draw {
        /// Its title
        title: String,
        /// What is written below
        subtitle: String,
        /// What is counted
        #[arg(default_value = "samples")]
        unit: String,
    },
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Fold { owners } => fold(&read(&owners)?),
        Task::Waits { owners } => waits(&read(&owners)?),
        Task::Draw { title, subtitle, unit } => draw(&title, &subtitle, &unit),
    }
}

fn read(file: &str) -> Result<Owners> {
    let text = std::fs::read_to_string(file)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(pid, service)| (pid.to_owned(), service.to_owned()))
        .collect())
}

fn fold(owners: &Owners) -> Result<()> {
    let mut options = Options::default();
    options.include_pid = true;
    let mut folded = Vec::new();
    Folder::from(options).collapse(io::stdin().lock(), &mut folded)?;
    let mut out = io::stdout().lock();
    for line in folded.lines() {
        let line = line?;
        // `thread-PID;frame;frame count`
        let (first, frames) = line.split_once(';').unwrap_or((&line, ""));
        if let Some((thread, pid)) = first.rsplit_once('-')
            && let Some(service) = owners.get(pid)
        {
            writeln!(out, "{service};{thread};{frames}")?;
        }
    }
    Ok(())
}

/// A switch away from a thread: where it was, and since when it has not run.
struct Away {
    stack: String,
    since_micros: u64,
}

fn waits(owners: &Owners) -> Result<()> {
    let mut away: HashMap<String, Away> = HashMap::new();
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines = io::stdin().lock().lines();
    while let Some(line) = lines.next().transpose()? {
        let Some(switch) = Switch::parse(&line) else { continue };
        let mut frames = Vec::new();
        for frame in lines.by_ref().map_while(std::result::Result::ok).take_while(|frame| !frame.is_empty()) {
            let frame = frame.trim_start();
            frames.push(frame.split_once(' ').map_or(frame, |(_, symbol)| symbol).replace(';', ":"));
        }
        if let Some(Away { stack, since_micros }) = away.remove(switch.next) {
            *total.entry(stack).or_default() += switch.micros.saturating_sub(since_micros);
        }
        if let Some(service) = owners.get(switch.pid) {
            frames.extend([switch.thread.to_owned(), service.clone()]);
            frames.reverse();
            let left = Away { stack: frames.join(";"), since_micros: switch.micros };
            away.insert(switch.tid.to_owned(), left);
        }
    }
    let mut out = io::stdout().lock();
    for (stack, micros) in total {
        writeln!(out, "{stack} {micros}")?;
    }
    Ok(())
}

/// The first line of a `sched:sched_switch`:
/// `core-0  71/73  12.345678: sched:sched_switch: prev_comm=core-0 .. ==> next_comm=swapper/0 next_pid=0 next_prio=120`.
struct Switch<'a> {
    thread: &'a str,
    pid: &'a str,
    tid: &'a str,
    micros: u64,
    /// The thread that runs from now on.
    next: &'a str,
}

impl Switch<'_> {
    fn parse(line: &str) -> Option<Switch<'_>> {
        let (head, event) = line.split_once(": sched:sched_switch:")?;
        // A thread's name may have spaces.
        let (head, seconds) = head.trim_end().rsplit_once(' ')?;
        let (thread, ids) = head.trim_end().rsplit_once(' ')?;
        let (pid, tid) = ids.split_once('/')?;
        let (seconds, micros) = seconds.split_once('.')?;
        let micros = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
        let next = event.split_once("next_pid=")?.1.split(' ').next()?;
        Some(Switch { thread: thread.trim(), pid, tid, micros, next })
    }
}

fn draw(title: &str, subtitle: &str, unit: &str) -> Result<()> {
    let mut options = flamegraph::Options::default();
    title.clone_into(&mut options.title);
    options.subtitle = Some(subtitle.to_owned());
    unit.clone_into(&mut options.count_name);
    options.deterministic = true;
    Ok(flamegraph::from_reader(&mut options, io::stdin().lock(), io::stdout().lock())?)
}
