//! What a request costs each service at a rate that stays, and how long it takes beside the disk.
//!
//! `perf/rates` starts the topologies, calls `measure` for each, and `table` in the end.
//!
//! ```text
//! cargo run --release -p tools --bin rates -- measure HOST:PORT DIRECTORY RATE SECONDS --out FILE
//! cargo run --release -p tools --bin rates -- table FILE..
//! ```
//!
//! The load is that of [`tools::users`], a connection each. [`usage`] reads what the kernel says of the processes in
//! DIRECTORY ([`backends`] knows which of Postgres' are whose), [`disk`] measures the disk meanwhile, and [`figures`] is
//! what one measurement leaves in its file. [`table`] shows medians over files side by side. Exit 1 if an answer was not
//! one of those that the contest expects.

mod backends;
mod figures;
mod table;
mod usage;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use disk::Probe;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use progress::{say, show};
use tools::users::Load;

use figures::Figures;
use usage::Services;

/// Before the measurement begins: connections are made, caches have what they need.
const WARM: Duration = Duration::from_secs(2);
/// After it.
const REST: Duration = Duration::from_millis(500);
/// Longer than the longest round.
const ROUND_SECONDS_MAX: f64 = 600.0;
/// Far beyond what a machine starts of users.
const RATE_MAX: f64 = 100_000.0;

#[derive(Parser)]
enum Arguments {
    /// Measures a topology that runs
    Measure(Measure),
    /// Shows what was measured: of each file name without its number, the median
    Table { files: Vec<PathBuf> },
}

#[derive(clap::Args)]
struct Measure {
    /// The balancer
    address: SocketAddr,
    /// Of the topology: it holds services.json
    directory: PathBuf,
    /// Requests a second
    rate: f64,
    seconds: f64,
    /// Where the figures go
    #[arg(long)]
    out: PathBuf,
    /// Of the users: who does what, and the payloads
    #[arg(long, default_value_t = 2023)]
    seed: u64,
}

fn main() -> ExitCode {
    let done = match Arguments::parse() {
        Arguments::Measure(arguments) => measure(&arguments),
        Arguments::Table { files } => table::of(&files).map(|table| show(&table)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say("rates", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Measure) -> Result<(), Box<dyn Error>> {
    let Measure { address, directory, rate, seconds, out, seed } = arguments;
    if !(*rate > 0.0 && *rate <= RATE_MAX && *seconds > 0.0 && *seconds <= ROUND_SECONDS_MAX) {
        return Err(format!(
            "expected a rate above 0 and up to {RATE_MAX}, and up to {ROUND_SECONDS_MAX} seconds"
        )
        .into());
    }
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    // Users must come when they are due: the kernel's default slack would let each sleep up to 50 us longer.
    nix::sys::prctl::set_timerslack(1)?;

    let mut services = Services::find(directory)?;
    let lasting = Duration::from_secs_f64(*seconds);
    let disk = Probe::begin(&probe_in(directory))?;
    // It goes on a little longer than it is measured.
    let load = Load::new(*address, Load::times_for(*rate), WARM + lasting + REST, *seed, None);
    let mut figures = Figures::default();
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        load.start(scope)?;
        thread::sleep(WARM);
        let (before, began) = (services.usage()?, Instant::now());
        drop(load.take());
        thread::sleep(lasting);
        let after = services.usage()?;
        let answers = load.take();
        figures.took(began.elapsed(), answers.requests());
        figures.used(&before, &after);
        figures.disk(&disk.end()?);
        figures.answers(&answers);
        Ok(())
    })?;
    let late = load.take();
    if let Some((error, times)) = figures.errors.iter().chain(&late.errors).next() {
        return Err(format!("{times} x {error}: expected the contest's answers").into());
    }
    figures.write(out)?;
    Ok(())
}

/// Beside the database: in its filesystem.
fn probe_in(directory: &Path) -> PathBuf {
    directory.join("disk-probe")
}
