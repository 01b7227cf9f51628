//! More than a server can answer: steady requests at a modest rate, and beside them for a while a flood. What became of each,
//! how long answers and refusals took, and how soon after the flood the steady ones are served as before.
//!
//! ```text
//! cargo run --release -p tools --bin flood -- HOST:PORT --steady create=200 --flood count=5000 ..
//! ```
//!
//! Both are open loops: a request is due when its time has come, whatever became of those before it, and its latency counts
//! from then. One that is due while all connections of its stream wait for answers is not sent, and counted: so a client
//! that is held back by the kernel is told from one that is refused. One thread does it all; its own ceiling is that of
//! a flood against `constant`, and its own lateness stands in the column `lag`.
//!
//! Prints a line for each stream and phase, its fields as the first line names them, separated by tabs; then the recovery.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Parser;
use contest::Random;
use hdrhistogram::Histogram;
use rinha::limits::{COMMIT_TIME_MAX, READ_TIME_MAX};
use rinha::people::Minter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Limit of one answer: longer than any deadline of the server and of the balancer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// What a deadline may be late on the way: the balancer and this thread.
const SLACK: Duration = Duration::from_millis(250);
/// The steady ones are served as before when each is answered within this time.
const RECOVERED: Duration = Duration::from_millis(250);
/// Pause of a stream between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);
/// Finest steps and longest latency of the histograms, in microseconds.
const MICROS: (u64, u64) = (1, 60_000_000);

#[derive(Parser)]
struct Arguments {
    address: SocketAddr,
    /// Requests of the whole run: KIND=RATE, a second; repeatable
    #[arg(long)]
    steady: Vec<Stream>,
    /// Requests of the flood
    #[arg(long)]
    flood: Vec<Stream>,
    /// Seconds before the flood
    #[arg(long, default_value_t = 3.0)]
    before: f64,
    /// Seconds of the flood
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds after the flood
    #[arg(long, default_value_t = 4.0)]
    after: f64,
    /// Targets of `get`, a line each
    #[arg(long)]
    targets: Option<PathBuf>,
    /// Connections of each stream
    #[arg(long, default_value_t = 512)]
    connections: usize,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Valid pessoas with unique apelidos.
    Create,
    /// Lookups of `--targets`.
    Get,
    /// Lookups of ids that nobody has.
    Unknown,
    /// Searches that match nothing.
    Miss,
    /// Counts.
    Count,
}

impl Kind {
    const ALL: [(&str, Kind); 5] = [
        ("create", Kind::Create),
        ("get", Kind::Get),
        ("unknown", Kind::Unknown),
        ("miss", Kind::Miss),
        ("count", Kind::Count),
    ];

    fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(_, kind)| *kind == self).expect("all are there").0
    }

    fn expected(self) -> u16 {
        match self {
            Kind::Create => 201,
            Kind::Unknown => 404,
            Kind::Get | Kind::Miss | Kind::Count => 200,
        }
    }

    fn time_max(self) -> Duration {
        SLACK + if self == Kind::Create { COMMIT_TIME_MAX } else { READ_TIME_MAX }
    }
}

#[derive(Clone, Copy)]
struct Stream {
    kind: Kind,
    rate: f64,
}

impl FromStr for Stream {
    type Err = String;

    fn from_str(text: &str) -> Result<Stream, String> {
        let wrong = || {
            let kinds = Kind::ALL.map(|(name, _)| name).join(", ");
            format!("expected KIND=RATE, KIND one of {kinds}, got {text}")
        };
        let (kind, rate) = text.split_once('=').ok_or_else(wrong)?;
        let (_, kind) = Kind::ALL.into_iter().find(|(name, _)| *name == kind).ok_or_else(wrong)?;
        let rate: f64 = rate.parse().map_err(|_| wrong())?;
        if rate > 0.0 { Ok(Stream { kind, rate }) } else { Err(wrong()) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let targets = arguments.targets.as_ref().map(fs::read_to_string).transpose()?.unwrap_or_default();
    let targets: Rc<[String]> = targets.lines().map(str::to_owned).collect();
    let streams = || arguments.steady.iter().chain(&arguments.flood);
    if targets.is_empty() && streams().any(|stream| stream.kind == Kind::Get) {
        return Err("expected --targets for `get`".into());
    }
    nix::sys::prctl::set_timerslack(1)?;
    let run = Minter::new()?.mint("").as_u64_pair().1;
    let start = Instant::now() + Duration::from_millis(100);
    let flood_begins = start + Duration::from_secs_f64(arguments.before);
    let flood_ends = flood_begins + Duration::from_secs_f64(arguments.seconds);
    let end = flood_ends + Duration::from_secs_f64(arguments.after);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let phases =
        [("before", start, flood_begins), ("flood", flood_begins, flood_ends), ("after", flood_ends, end)];
    let (steady, flood) = LocalSet::new().block_on(&runtime, async {
        let flow = |number: usize, stream: Stream, from, until| {
            let seed = run ^ (number as u64) << 40;
            let flow = Rc::new(Flow {
                stream,
                address: arguments.address,
                connections_max: arguments.connections,
                requests: RefCell::new(Requests {
                    targets: Rc::clone(&targets),
                    random: Random(seed),
                    apelidos: format!("{:x}-{number}", run & 0xff_ffff_ffff),
                    sent: 0,
                }),
                free: RefCell::default(),
                open: Cell::new(0),
                on_their_way: Cell::new(0),
                phases: phases.map(|(_, from, _)| (from, RefCell::new(Outcome::new()))),
                last_bad: Cell::new(None),
            });
            tokio::task::spawn_local(Rc::clone(&flow).run(from, until));
            flow
        };
        let steady: Vec<_> = arguments
            .steady
            .iter()
            .enumerate()
            .map(|(number, stream)| flow(number, *stream, start, end))
            .collect();
        let flood: Vec<_> = arguments
            .flood
            .iter()
            .enumerate()
            .map(|(number, stream)| flow(100 + number, *stream, flood_begins, flood_ends))
            .collect();
        tokio::time::sleep_until(end.into()).await;
        let is_under_way = || steady.iter().chain(&flood).any(|flow| flow.on_their_way.get() > 0);
        while is_under_way() && end.elapsed() < ANSWER_TIME_MAX {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (steady, flood)
    });

    println!(
        "stream\tphase\toffered/s\tsent/s\tgood/s\tshed/s\tbare\tother\tlate\tgood p50\tgood p99\tshed p50\tshed p99\tlag p99"
    );
    for (name, flows) in [("steady", &steady), ("flood", &flood)] {
        for flow in flows {
            for ((phase, from, until), (_, outcome)) in phases.iter().zip(&flow.phases) {
                if name == "steady" || *phase == "flood" {
                    let seconds = until.duration_since(*from).as_secs_f64();
                    println!(
                        "{name} {}\t{phase}\t{}",
                        flow.stream.kind.name(),
                        outcome.borrow().line(seconds)
                    );
                }
            }
        }
    }
    for flow in &steady {
        let recovery =
            flow.last_bad.get().map_or(Duration::ZERO, |bad| bad.saturating_duration_since(flood_ends));
        println!("recovery {}\t{:.2} s", flow.stream.kind.name(), recovery.as_secs_f64());
    }
    Ok(())
}

/// One stream at work.
struct Flow {
    stream: Stream,
    address: SocketAddr,
    connections_max: usize,
    requests: RefCell<Requests>,
    /// Those that nobody uses.
    free: RefCell<Vec<Client>>,
    /// Those that there are.
    open: Cell<usize>,
    on_their_way: Cell<usize>,
    /// By when they begin.
    phases: [(Instant, RefCell<Outcome>); 3],
    /// When the last one was due that was not answered as it should be, within `RECOVERED`.
    last_bad: Cell<Option<Instant>>,
}

impl Flow {
    async fn run(self: Rc<Self>, from: Instant, until: Instant) {
        tokio::time::sleep_until(from.into()).await;
        for number in 0_u32.. {
            let due = from + Duration::from_secs_f64(f64::from(number) / self.stream.rate);
            if due >= until {
                return;
            }
            while Instant::now() < due {
                tokio::time::sleep(TICK).await;
            }
            // What is late is sent at once, and the others get their turn meanwhile.
            if number % 64 == 63 {
                tokio::task::yield_now().await;
            }
            self.ask(due);
        }
    }

    fn outcome(&self, due: Instant) -> &RefCell<Outcome> {
        let (_, outcome) = self.phases.iter().rev().find(|(from, _)| *from <= due).expect("after the start");
        outcome
    }

    fn ask(self: &Rc<Self>, due: Instant) {
        self.outcome(due).borrow_mut().offered += 1;
        let free = self.free.borrow_mut().pop();
        let client = match free {
            Some(client) => client,
            None if self.open.get() < self.connections_max => {
                self.open.set(self.open.get() + 1);
                Client { stream: None, buffer: vec![0; 16 * 1024] }
            }
            None => {
                self.outcome(due).borrow_mut().unsent += 1;
                self.bad(due);
                return;
            }
        };
        self.on_their_way.set(self.on_their_way.get() + 1);
        tokio::task::spawn_local(Rc::clone(self).send(client, due));
    }

    async fn send(self: Rc<Self>, mut client: Client, due: Instant) {
        let request = self.requests.borrow_mut().next(self.stream.kind);
        self.outcome(due).borrow_mut().lag.saturating_record(micros(due.elapsed()));
        let answer =
            tokio::time::timeout(ANSWER_TIME_MAX, client.ask(self.address, request.as_bytes())).await;
        let took = due.elapsed();
        let micros = micros(took);
        let mut outcome = self.outcome(due).borrow_mut();
        match answer {
            Ok(Ok(Answer { status, .. })) if status == self.stream.kind.expected() => {
                outcome.good.saturating_record(micros);
                if took > self.stream.kind.time_max() {
                    outcome.late += 1;
                }
                if took > RECOVERED {
                    self.bad(due);
                }
            }
            Ok(Ok(Answer { status: 503, retry_after })) => {
                outcome.shed.saturating_record(micros);
                outcome.bare += u64::from(!retry_after);
                self.bad(due);
            }
            _ => {
                outcome.other += 1;
                self.bad(due);
                client.stream = None;
            }
        }
        self.on_their_way.set(self.on_their_way.get() - 1);
        self.free.borrow_mut().push(client);
    }

    fn bad(&self, due: Instant) {
        self.last_bad.set(self.last_bad.get().max(Some(due)));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What came back in one phase.
struct Outcome {
    offered: u64,
    /// No connection was free.
    unsent: u64,
    /// Microseconds until an answer as it should be.
    good: Histogram<u64>,
    /// Microseconds until a 503.
    shed: Histogram<u64>,
    /// 503 without `Retry-After`.
    bare: u64,
    /// Other answers, and connections that broke or timed out.
    other: u64,
    /// Good ones after their deadline.
    late: u64,
    /// Microseconds from when a request was due until this program began to send it: its own lateness.
    lag: Histogram<u64>,
}

impl Outcome {
    fn new() -> Outcome {
        let histogram = || Histogram::new_with_bounds(MICROS.0, MICROS.1, 3).expect("bounds of a histogram");
        Outcome {
            offered: 0,
            unsent: 0,
            good: histogram(),
            shed: histogram(),
            bare: 0,
            other: 0,
            late: 0,
            lag: histogram(),
        }
    }

    fn line(&self, seconds: f64) -> String {
        let rate = |count: u64| format!("{:.0}", count as f64 / seconds);
        let ms = |of: &Histogram<u64>, percentile| match of.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.1}", of.value_at_percentile(percentile) as f64 / 1000.0),
        };
        [
            rate(self.offered),
            rate(self.offered - self.unsent),
            rate(self.good.len()),
            rate(self.shed.len()),
            self.bare.to_string(),
            self.other.to_string(),
            self.late.to_string(),
            ms(&self.good, 50.0),
            ms(&self.good, 99.0),
            ms(&self.shed, 50.0),
            ms(&self.shed, 99.0),
            ms(&self.lag, 99.0),
        ]
        .join("\t")
    }
}

/// What a stream asks.
struct Requests {
    targets: Rc<[String]>,
    random: Random,
    /// What its apelidos begin with.
    apelidos: String,
    sent: u64,
}

impl Requests {
    fn next(&mut self, kind: Kind) -> String {
        self.sent += 1;
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: flood\r\n\r\n");
        match kind {
            Kind::Create => {
                let (nome, stack) = (self.random.nome(), self.random.stack());
                let stack = serde_json::json!(stack);
                let body = format!(
                    r#"{{"apelido":"{}-{}","nome":"{nome}","nascimento":"2000-10-01","stack":{stack}}}"#,
                    self.apelidos, self.sent
                );
                format!(
                    "POST /pessoas HTTP/1.1\r\nHost: flood\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Kind::Get => get(&self.targets[self.random.below(self.targets.len())]),
            Kind::Unknown => {
                let mut part = || self.random.below(1 << 30);
                let (time, home, rest) = (part() & 0xffff, part() & 0xffff, part());
                get(&format!("/pessoas/018f4a52-{time:04x}-7000-9{:03x}-0000{rest:08x}", home & 0xfff))
            }
            // Trigrams that are common, in an order that nobody has.
            Kind::Miss => get(&format!("/pessoas?t=mysqlite{:x}", self.random.below(1 << 30))),
            Kind::Count => get("/contagem-pessoas"),
        }
    }
}

/// One connection, made when it is needed.
struct Client {
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

struct Answer {
    status: u16,
    retry_after: bool,
}

impl Client {
    /// After an error the next request has a new connection.
    async fn ask(&mut self, address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(request).await?;
        let (answer, stays) = self.answer(&mut stream).await?;
        if stays {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// And whether the connection stays open.
    async fn answer(&mut self, stream: &mut TcpStream) -> io::Result<(Answer, bool)> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let (mut filled, mut whole) = (0, None);
        loop {
            match stream.read(&mut self.buffer[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
            if whole.is_none() {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                let mut head = httparse::Response::new(&mut fields);
                if let httparse::Status::Complete(length) =
                    head.parse(&self.buffer[..filled]).map_err(|_| malformed())?
                {
                    let status = head.code.ok_or_else(malformed)?;
                    let field =
                        |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
                    let body = field("content-length")
                        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
                    let stays =
                        field("connection").is_none_or(|field| !field.value.eq_ignore_ascii_case(b"close"));
                    // The balancer's own answers have no length, and end with the connection.
                    whole = Some((status, field("retry-after").is_some(), length + body.unwrap_or(0), stays));
                }
            }
            match whole {
                Some((status, retry_after, length, stays)) if filled >= length => {
                    return Ok((Answer { status, retry_after }, stays));
                }
                Some((.., length, _)) if self.buffer.len() < length => self.buffer.resize(length, 0),
                _ if filled == self.buffer.len() => return Err(malformed()),
                _ => {}
            }
        }
    }
}
