//! Requests at a fixed rate, however long the answers take: the latency that a client sees who does not wait for the
//! others.
//!
//! ```text
//! cargo run --release -p tools --bin pace -- \
//!     HOST:PORT RATE SECONDS [--mix create|targets|contest] [--targets FILE] [--terms FILE] ..
//! ```
//!
//! Request n is due n / RATE seconds after the start and its latency counts from then, not from when a connection was
//! free to take it: a stall is charged to every request that was due during it (no coordinated omission). The mixes are
//! those of `perf/load.lua`. Each connection has a thread, as the kernel's timers are finer than those of the runtimes
//! at hand.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use contest::Random;
use hdrhistogram::Histogram;
use rinha::people::Minter;
use tools::client::{Address, Client};

/// How late the last answers may be before the rest is given up.
const OVERTIME: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 128 * 1024;
/// Finest steps and longest latency of the histograms, in microseconds.
const MICROS: (u64, u64) = (1, 60_000_000);

#[derive(Clone, Copy, ValueEnum)]
enum Mix {
    /// Pessoas as the contest's, all valid and with unique apelidos.
    Create,
    /// GETs of `--targets`, in random order.
    Targets,
    /// Both, searches of `--terms` and the search without a term, in the contest's shares.
    Contest,
}

#[derive(Parser)]
struct Arguments {
    address: SocketAddr,
    /// Requests a second
    rate: f64,
    seconds: f64,
    #[arg(long, value_enum, default_value = "targets")]
    mix: Mix,
    /// Targets of GETs, a line each
    #[arg(long)]
    targets: Option<PathBuf>,
    /// Targets of searches, a line each
    #[arg(long)]
    terms: Option<PathBuf>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// A connection for each request
    #[arg(long)]
    close: bool,
    /// Where the whole distribution goes: ms, percentile, requests so far
    #[arg(long)]
    histogram: Option<PathBuf>,
}

/// The contest's requests: creates, lookups, searches, and searches without a term.
const SHARES: [usize; 4] = [54_635, 46_576, 9_590, 4_190];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let lines = |file: &Option<PathBuf>| -> io::Result<Vec<String>> {
        let text = file.as_ref().map(fs::read_to_string).transpose()?.unwrap_or_default();
        Ok(text.lines().map(str::to_owned).collect())
    };
    let (targets, terms) = (lines(&arguments.targets)?, lines(&arguments.terms)?);
    if (!matches!(arguments.mix, Mix::Create) && targets.is_empty())
        || (matches!(arguments.mix, Mix::Contest) && terms.is_empty())
    {
        return Err("expected --targets, and for the contest --terms".into());
    }
    // Threads must wake when they are due: the kernel's default slack would let each sleep up to 50 us longer.
    nix::sys::prctl::set_timerslack(1)?;

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number of requests"
    )]
    let requests = (arguments.rate * arguments.seconds) as u64;
    let start = Instant::now() + Duration::from_millis(100);
    let schedule = Schedule { start, rate: arguments.rate, requests, next: AtomicU64::new(0) };
    let run = Minter::new()?.mint("").as_u64_pair().1;
    let outcome = thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.connections)
            .map(|number| {
                let requests = Requests {
                    mix: arguments.mix,
                    targets: &targets,
                    terms: &terms,
                    connection: if arguments.close { "Connection: close\r\n" } else { "" },
                    random: Random(run ^ number as u64),
                    apelidos: format!("{:x}-{number}", run & 0xff_ffff_ffff),
                    created: 0,
                };
                let client = Client::new(Address::Tcp(arguments.address));
                let (schedule, close) = (&schedule, arguments.close);
                let work = move || schedule.work(client, requests, close);
                thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).expect("a thread")
            })
            .collect();
        threads
            .into_iter()
            .fold(Outcome::new(), |all, thread| all.and(thread.join().expect("no thread panics")))
    });
    outcome.print(&arguments, &schedule)
}

/// When each request is due, and which is the next that nobody has taken.
struct Schedule {
    start: Instant,
    rate: f64,
    requests: u64,
    next: AtomicU64,
}

impl Schedule {
    fn work(&self, mut client: Client, mut requests: Requests<'_>, close: bool) -> Outcome {
        let mut outcome = Outcome::new();
        let end = self.start + Duration::from_secs_f64(self.requests as f64 / self.rate) + OVERTIME;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = self.start + Duration::from_secs_f64(number as f64 / self.rate);
            if number >= self.requests || Instant::now() > end {
                return outcome;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (request, expected) = requests.next();
            let status = client.ask(request.as_bytes(), close).map(|answer| answer.status);
            let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            outcome.latency.saturating_record(micros);
            match status {
                Ok(status) if status == expected => {}
                Ok(_) => outcome.unexpected += 1,
                Err(_) => outcome.failed += 1,
            }
        }
    }
}

/// What one connection asks.
struct Requests<'a> {
    mix: Mix,
    targets: &'a [String],
    terms: &'a [String],
    /// The `Connection` field of each request, or nothing.
    connection: &'static str,
    random: Random,
    /// What its apelidos begin with.
    apelidos: String,
    created: u64,
}

impl Requests<'_> {
    /// The request, and the status it is to be answered with.
    fn next(&mut self) -> (String, u16) {
        match self.mix {
            Mix::Create => self.create(),
            Mix::Targets => self.get(self.targets),
            Mix::Contest => {
                let [creates, lookups, searches, refused] = SHARES;
                match self.random.below(creates + lookups + searches + refused) {
                    at if at < creates => self.create(),
                    at if at < creates + lookups => self.get(self.targets),
                    at if at < creates + lookups + searches => self.get(self.terms),
                    _ => (self.head("GET", "/pessoas") + "\r\n", 400),
                }
            }
        }
    }

    fn get(&mut self, targets: &[String]) -> (String, u16) {
        let target = &targets[self.random.below(targets.len())];
        (self.head("GET", target) + "\r\n", 200)
    }

    fn create(&mut self) -> (String, u16) {
        self.created += 1;
        let (nome, stack) = (self.random.nome(), self.random.stack());
        let stack = serde_json::json!(stack);
        let body = format!(
            r#"{{"apelido":"{}-{}","nome":"{nome}","nascimento":"2000-10-01","stack":{stack}}}"#,
            self.apelidos, self.created
        );
        let length = body.len();
        let fields = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
        (self.head("POST", "/pessoas") + &fields, 201)
    }

    fn head(&self, method: &str, target: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nHost: pace\r\n{}", self.connection)
    }
}

/// What came back.
struct Outcome {
    /// In microseconds.
    latency: Histogram<u64>,
    /// Answers with another status than the request's.
    unexpected: u64,
    /// Connections that broke or timed out.
    failed: u64,
}

impl Outcome {
    fn new() -> Outcome {
        let latency = Histogram::new_with_bounds(MICROS.0, MICROS.1, 3).expect("bounds of a histogram");
        Outcome { latency, unexpected: 0, failed: 0 }
    }

    fn and(mut self, other: Outcome) -> Outcome {
        self.latency.add(other.latency).expect("equal bounds");
        Outcome { unexpected: self.unexpected + other.unexpected, failed: self.failed + other.failed, ..self }
    }

    fn print(&self, arguments: &Arguments, schedule: &Schedule) -> Result<(), Box<dyn std::error::Error>> {
        let ms = |micros: u64| micros as f64 / 1000.0;
        let done = self.latency.len();
        let rate = done as f64 / schedule.start.elapsed().as_secs_f64();
        println!("pace: {:.0} /s due, {rate:.0} /s done", arguments.rate);
        println!(
            "errors: status {}, connection {}, not sent {}",
            self.unexpected,
            self.failed,
            schedule.requests - done
        );
        print!("latency ms:");
        for percentile in [50.0, 90.0, 99.0, 99.9, 99.99] {
            print!(" p{percentile} {:.2}", ms(self.latency.value_at_percentile(percentile)));
        }
        println!(" max {:.2}", ms(self.latency.max()));
        if let Some(file) = &arguments.histogram {
            let mut out = io::BufWriter::new(fs::File::create(file)?);
            for step in self.latency.iter_quantiles(5) {
                let (value, percentile) = (step.value_iterated_to(), step.percentile());
                writeln!(out, "{:.3} {percentile:.5} {}", ms(value), self.latency.count_between(0, value))?;
            }
            out.flush()?;
        }
        Ok(())
    }
}
