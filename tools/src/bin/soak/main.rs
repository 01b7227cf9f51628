//! The contest's load for minutes or hours, and whether memory, descriptors, threads, sessions and latency stay flat.
//!
//! `perf/soak` starts the topology, calls this, and plots what it wrote.
//!
//! ```text
//! cargo run --release -p tools --bin soak -- HOST:PORT DIRECTORY MINUTES --csv FILE [--load N] [--seed N] ..
//! ```
//!
//! [`tools::users`] are the users, [`sample`] the services of the topology in DIRECTORY, [`series`] what is kept of each sample
//! and what of it must be flat, and [`verdict`] says whether it is. Exit 1 if something is not, if an answer was not one
//! of those that the contest expects, or if rows are missing in the end.

mod sample;
mod series;
mod verdict;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use progress::{Text, Wait, duration, say, show};
use tools::client::{Address, Client};
use tools::users::{Kind, Load};

use sample::Services;
use series::Series;

/// Of the contest's payloads 88 % are valid; short apelidos are taken sooner or later, which are one in ten.
const CREATED_SHARE_MIN: f64 = 0.7;

#[derive(Parser)]
struct Arguments {
    /// The balancer
    address: SocketAddr,
    /// Of the topology: it holds services.json
    directory: PathBuf,
    #[arg(value_parser = positive)]
    minutes: f64,
    /// Where the samples go
    #[arg(long)]
    csv: PathBuf,
    /// Seconds between two samples
    #[arg(long, default_value = "10", value_parser = positive)]
    period: f64,
    /// How many times the contest's users
    #[arg(long, default_value = "1", value_parser = positive)]
    load: f64,
    /// Of the users: who does what, and the payloads
    #[arg(long, default_value_t = 2023)]
    seed: u64,
    /// After so many users the first ones come again: what they create is a duplicate, and the rows are bounded
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    circle: Option<u64>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if number.is_finite() && number > 0.0 { Ok(number) } else { Err("expected more than 0".to_owned()) }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say("soak", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Whether everything is as it should be.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    // Users must come when they are due: the kernel's default slack would let each sleep up to 50 us longer.
    nix::sys::prctl::set_timerslack(1)?;

    let mut services = Services::find(&arguments.directory)?;
    let rows_before = count(arguments.address)?;
    let lasting = Duration::from_secs_f64(arguments.minutes * 60.0);
    let period = Duration::from_secs_f64(arguments.period);
    let mut csv = BufWriter::new(File::create(&arguments.csv)?);
    let mut series = Series::begin(&services)?;
    let (mut errors, mut creates, mut created) = (BTreeMap::<String, u64>::new(), 0, 0);

    let load = Load::new(arguments.address, arguments.load, lasting, arguments.seed, arguments.circle);
    let wait = Wait::new("soak", move |spent| {
        let share = spent.as_secs_f64() / lasting.as_secs_f64();
        Text::new(format!("{} of {}", duration(spent), duration(lasting))).share(share.min(1.0))
    });
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        load.start(scope)?;
        let began = Instant::now();
        let mut next = began + period;
        while next <= began + lasting {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            let answers = load.take();
            // An instance that ended is an error: the users find that out too, and come to their end.
            series.add(began.elapsed(), period, &mut services, &answers)?;
            created += answers.created;
            creates += answers.latency[Kind::Create as usize].len();
            answers.errors.into_iter().for_each(|(error, times)| *errors.entry(error).or_default() += times);
            series.write_last(&mut csv)?;
            next += period;
        }
        Ok(())
    })?;
    drop(wait);
    csv.flush()?;
    // Those that were under way.
    let answers = load.take();
    created += answers.created;
    creates += answers.latency[Kind::Create as usize].len();
    answers.errors.into_iter().for_each(|(error, times)| *errors.entry(error).or_default() += times);

    let again = arguments.circle.map(|users| format!(", again after {users} users")).unwrap_or_default();
    show(&format!(
        "{} users a second, seed {}{again}, {} samples, one each {:?}\n\n",
        load.rate(),
        arguments.seed,
        series.len(),
        period
    ));
    let flat = series.judge();
    let rows = count(arguments.address)?;
    let all_there = rows == rows_before + created;
    show(&format!("\nrows: {rows_before} before, {created} 201s, {rows} in the end{}\n", wrong(!all_there)));
    // With a circle most are duplicates, as is meant.
    let share = created as f64 / creates.max(1) as f64;
    let stored = arguments.circle.is_some() || share >= CREATED_SHARE_MIN;
    show(&format!("creates: {creates}, {:.0} % of them stored{}\n", 100.0 * share, wrong(!stored)));
    let total: u64 = errors.values().sum();
    show(&format!("errors: {total}{}\n", wrong(total > 0)));
    errors.iter().for_each(|(error, times)| show(&format!("  {times} x {error}\n")));
    let good = flat != Some(false) && all_there && stored && total == 0;
    show(match (good, flat) {
        (true, Some(_)) => "verdict: flat, nothing lost, no error\n",
        (true, None) => "verdict: nothing lost, no error; too short to see whether it is flat\n",
        (false, _) => "verdict: NOT as it should be\n",
    });
    Ok(good)
}

fn wrong(is_wrong: bool) -> &'static str {
    if is_wrong { ": WRONG" } else { "" }
}

/// How many rows the database has.
fn count(address: SocketAddr) -> Result<u64, Box<dyn Error>> {
    let mut client = Client::new(Address::Tcp(address));
    let answer = client.ask(b"GET /contagem-pessoas HTTP/1.1\r\nHost: soak\r\n\r\n", true)?;
    Ok(std::str::from_utf8(answer.body)?.parse()?)
}
