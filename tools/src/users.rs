//! The contest's users, at a rate that stays. It knows what they ask and what must be answered, not who answers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::client::{Address, Client};
use contest::Random;
use hdrhistogram::Histogram;

/// Users a second who create, who search, and who search without a term: what the contest's three ramps, from 6 to 600, 100
/// and 40 a second, are in the mean of their 180 s.
const USERS: [f64; 3] = [303.0, 53.0, 23.0];
/// Users at one time: a tenth of a second of them would do, and a stall of a second must not hold up those after it.
const USERS_AT_ONCE: usize = 512;
/// Stack of a user's thread.
const STACK_BYTES: usize = 128 * 1024;
/// GETs for each user who creates, as the contest has them: 46,576 of 54,635 creates are stored.
const GETS_A_CREATE: f64 = 0.8525;
/// Pessoas that a circle remembers.
const KNOWN_MAX: usize = 10_000;
/// Milliseconds from a 201 until its pessoa is asked for: 1 to so many.
const PAUSE_MS_MAX: usize = 30;
/// Finest steps and longest latency of the histograms, in microseconds.
const MICROS: (u64, u64) = (1, 60_000_000);

/// What is measured: its latency.
#[derive(Clone, Copy)]
pub enum Kind {
    /// `POST /pessoas`.
    Create,
    /// `GET` of what was created.
    Get,
    /// `GET /pessoas?t=..`.
    Search,
    /// A search without a term, which is refused.
    Refused,
}

impl Kind {
    /// Those that a server answers with more than a refusal.
    pub const MEASURED: [Kind; 3] = [Kind::Create, Kind::Get, Kind::Search];

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Create => "create",
            Kind::Get => "GET",
            Kind::Search => "search",
            Kind::Refused => "search without t",
        }
    }
}

/// What came back in some time.
pub struct Answers {
    /// In microseconds, of each [`Kind`].
    pub latency: [Histogram<u64>; 4],
    /// How often each answer came that should not have: the first words of it.
    pub errors: BTreeMap<String, u64>,
    /// 201s.
    pub created: u64,
}

impl Answers {
    fn new() -> Answers {
        let histogram = || Histogram::new_with_bounds(MICROS.0, MICROS.1, 3).expect("bounds of a histogram");
        Answers { latency: std::array::from_fn(|_| histogram()), errors: BTreeMap::new(), created: 0 }
    }

    /// Answers of all kinds.
    pub fn requests(&self) -> u64 {
        self.latency.iter().map(Histogram::len).sum()
    }

    /// Milliseconds; `None` if there was no such answer.
    pub fn percentile(&self, kind: Kind, percentile: f64) -> Option<f64> {
        let latency = &self.latency[kind as usize];
        (!latency.is_empty()).then(|| latency.value_at_percentile(percentile) as f64 / 1000.0)
    }
}

/// The users of one run.
pub struct Load {
    address: SocketAddr,
    start: Instant,
    /// A second.
    rate: f64,
    users: u64,
    next: AtomicU64,
    seed: u64,
    /// After so many users the first ones come again, as the lines of the contest's file do.
    circle: Option<u64>,
    /// With a circle: where the pessoas of its first round are, up to [`KNOWN_MAX`].
    known: Mutex<Vec<String>>,
    answers: Mutex<Answers>,
}

impl Load {
    /// `times` the contest's users, for so long; they are the same ones for the same seed, and again after `circle`.
    pub fn new(address: SocketAddr, times: f64, lasting: Duration, seed: u64, circle: Option<u64>) -> Load {
        let rate = times * USERS.iter().sum::<f64>();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of users"
        )]
        let users = (rate * lasting.as_secs_f64()) as u64;
        let answers = Mutex::new(Answers::new());
        Load {
            address,
            start: Instant::now(),
            rate,
            users,
            next: AtomicU64::new(0),
            seed,
            circle,
            known: Mutex::default(),
            answers,
        }
    }

    /// How many times the contest's users make so many requests a second.
    pub fn times_for(requests: f64) -> f64 {
        requests / (USERS.iter().sum::<f64>() + USERS[0] * GETS_A_CREATE)
    }

    /// Users a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// What came back since this was asked last.
    pub fn take(&self) -> Answers {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *answers, Answers::new())
    }

    /// Starts [`USERS_AT_ONCE`] threads that work until all users have come.
    ///
    /// # Errors
    ///
    /// A thread cannot be started.
    pub fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> io::Result<()> {
        (0..USERS_AT_ONCE).try_for_each(|_| {
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            thread.spawn_scoped(scope, || self.work()).map(drop)
        })
    }

    /// One user after the other, until all have come. What each asks first counts from when the user was due, not from
    /// when this thread was free.
    fn work(&self) {
        let mut client = Client::new(Address::Tcp(self.address));
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.users {
                return;
            }
            let due = self.start + Duration::from_secs_f64(number as f64 / self.rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut random = Random(self.seed.wrapping_add(number % self.circle.unwrap_or(u64::MAX)));
            // Neighbouring seeds have draws in common.
            random = Random(random.next());
            match self.kind(&mut random) {
                Kind::Create | Kind::Get => self.create(&mut client, &mut random, due),
                Kind::Search => {
                    let request = format!("GET /pessoas?t={} HTTP/1.1\r\nHost: soak\r\n\r\n", random.term());
                    let _ = self.ask(&mut client, Kind::Search, &request, &[200], due);
                }
                Kind::Refused => {
                    let request = "GET /pessoas HTTP/1.1\r\nHost: soak\r\n\r\n";
                    let _ = self.ask(&mut client, Kind::Refused, request, &[400], due);
                }
            }
            // A connection a user, as Gatling has it.
            client.close();
        }
    }

    fn kind(&self, random: &mut Random) -> Kind {
        const STEPS: usize = 1_000_000;
        let at = random.below(STEPS) as f64 / STEPS as f64 * USERS.iter().sum::<f64>();
        if at < USERS[0] {
            Kind::Create
        } else if at < USERS[0] + USERS[1] {
            Kind::Search
        } else {
            Kind::Refused
        }
    }

    fn create(&self, client: &mut Client, random: &mut Random, due: Instant) {
        let body = random.payload();
        let length = body.len();
        let request = format!(
            "POST /pessoas HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let Some(created) = self.ask(client, Kind::Create, &request, &[201, 422, 400], due) else { return };
        if created.status == 201 && self.circle.is_some() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() < KNOWN_MAX {
                known.push(created.location.clone());
            }
        }
        let location = match created.status {
            201 => Some(created.location),
            422 => self.known(random),
            _ => None,
        };
        let Some(location) = location else { return };
        let pause = Duration::from_millis(1 + random.below(PAUSE_MS_MAX) as u64);
        thread::sleep(pause);
        let request = format!("GET {} HTTP/1.1\r\nHost: soak\r\n\r\n", location);
        let Some(found) = self.ask(client, Kind::Get, &request, &[200], Instant::now()) else { return };
        if created.status == 201 && found.body != created.body {
            self.count(|answers| *answers.errors.entry("GET: another body".to_owned()).or_default() += 1);
        }
    }

    /// In a circle a duplicate's user asks for a pessoa of the first round, so that there are as many GETs as ever.
    fn known(&self, random: &mut Random) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (!known.is_empty()).then(|| known[random.below(known.len())].clone())
    }

    /// What came back, if it is one of those that are expected.
    fn ask(
        &self,
        client: &mut Client,
        kind: Kind,
        request: &str,
        expected: &[u16],
        due: Instant,
    ) -> Option<Kept> {
        let answer = client.ask(request.as_bytes(), false);
        let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        let kept: Result<Kept, String> = match answer {
            Ok(answer) if expected.contains(&answer.status) => Ok(Kept {
                status: answer.status,
                location: answer.field("location").unwrap_or_default().to_owned(),
                body: answer.body.to_vec(),
            }),
            Ok(answer) => Err(format!("{}: {}", kind.name(), answer.status)),
            Err(error) => Err(format!("{}: {}", kind.name(), described(&error))),
        };
        self.count(|answers| {
            answers.latency[kind as usize].saturating_record(micros);
            match &kept {
                Ok(kept) => answers.created += u64::from(kept.status == 201),
                Err(error) => *answers.errors.entry(error.clone()).or_default() += 1,
            }
        });
        kept.ok()
    }

    fn count(&self, change: impl FnOnce(&mut Answers)) {
        change(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The kind alone: its number must not make two errors of one.
fn described(error: &io::Error) -> String {
    error.kind().to_string()
}

/// What is needed of an answer when the next one is read.
struct Kept {
    status: u16,
    location: String,
    body: Vec<u8>,
}
