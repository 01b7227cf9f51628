//! Clients that reset their connection, in every phase of a request. What they sent is stored once or not at all, and
//! nothing of them is left.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ground::{Ground, connect_from_anywhere, seconds};
use crate::load::{Attempt, Fate, Pessoa, seed};
use crate::processes::{Frozen, send};
use crate::server::{Connection, request};

/// Where in its life a connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    BeforeAccept,
    Head,
    Body,
    Chunks,
    /// The request was sent, and is being committed.
    Awaited,
    /// A part of a long answer was read.
    Answer,
    /// Some of many requests that were sent together were answered.
    Batch,
}

const PHASES: [Phase; 7] = [
    Phase::BeforeAccept,
    Phase::Head,
    Phase::Body,
    Phase::Chunks,
    Phase::Awaited,
    Phase::Answer,
    Phase::Batch,
];
/// Requests that are sent together.
const BATCH: usize = 40;
/// Creates that are given up while no commit can end.
const HELD_BACK: usize = 50;
/// How long the process that accepts stands still, so that a connection is reset before it is accepted.
const STILL: Duration = Duration::from_millis(5);

/// What one client did.
#[derive(Default)]
struct Tally {
    resets: [usize; PHASES.len()],
    attempts: Vec<Attempt>,
}

impl Tally {
    /// A pessoa that was sent, and whose answer nobody read.
    fn unknown(&mut self, pessoa: Pessoa) {
        self.attempts.push(Attempt { pessoa, fate: Fate::Unknown, doubted: true });
    }
}

/// Each phase in turns, at moments that the seed chooses.
pub(crate) fn every_phase(ground: &Ground) -> String {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    ground.add_long_pessoas();
    let until = Instant::now() + seconds();
    let mut tally = Tally::default();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let phase = random.random_range(0..PHASES.len());
        one(ground, PHASES[phase], number, &mut random, &mut tally);
        tally.resets[phase] += 1;
    }
    let held_back = while_no_commit_ends(ground, &mut random, &mut tally);
    let counts: Vec<String> =
        PHASES.iter().zip(tally.resets).map(|(phase, count)| format!("{phase:?} {count}")).collect();
    let (sent, again) = (tally.attempts.len(), settle(ground, tally));
    format!(
        "resets: {}, and {held_back} while no commit could end; of {sent} creates {again} were there already when sent again; \
         TEST_SEED={seed}",
        counts.join(", ")
    )
}

fn one(ground: &Ground, phase: Phase, number: usize, random: &mut StdRng, tally: &mut Tally) {
    let addresses = ground.addresses();
    let address = &addresses[number % addresses.len()];
    let pessoa = Pessoa::named(&format!("cortada{number}"));
    let body = pessoa.body();
    let create = request("POST", "/pessoas", &body);
    let head = create.len() - body.len();
    let still = (phase == Phase::BeforeAccept).then(|| {
        let front = i32::try_from(ground.front()).unwrap();
        send(front, Signal::SIGSTOP);
        (front, Instant::now())
    });
    let mut connection = connect_from_anywhere(address, random).expect("a connection");
    match phase {
        Phase::BeforeAccept => {}
        Phase::Head => connection.send(&create[..random.random_range(1..head)]),
        Phase::Body => connection.send(&create[..random.random_range(head..create.len())]),
        Phase::Chunks => {
            let framing = "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            let whole = format!("{framing}{:x}\r\n{body}\r\n0\r\n", body.len());
            connection.send(&whole[..random.random_range(framing.len()..whole.len())]);
        }
        Phase::Awaited => {
            connection.send(&create);
            thread::sleep(Duration::from_micros(random.random_range(0..3_000)));
            tally.unknown(pessoa);
        }
        Phase::Answer => {
            connection.send(request("GET", "/pessoas?t=longa", "").repeat(2));
            for _ in 0..random.random_range(1..4) {
                connection.read_once().expect("some of an answer");
            }
        }
        Phase::Batch => batch(&mut connection, number, random, tally),
    }
    connection.reset();
    if let Some((front, since)) = still {
        thread::sleep(STILL.saturating_sub(since.elapsed()));
        send(front, Signal::SIGCONT);
    }
}

/// Creates and lookups sent together, of which the first answers are read.
fn batch(connection: &mut Connection, number: usize, random: &mut StdRng, tally: &mut Tally) {
    let pessoas: Vec<Pessoa> =
        (0..BATCH / 2).map(|place| Pessoa::named(&format!("lote{number}.{place}"))).collect();
    let requests: String = pessoas
        .iter()
        .map(|pessoa| request("POST", "/pessoas", &pessoa.body()) + &request("GET", "/pessoas/1", ""))
        .collect();
    connection.send(requests);
    let read = random.random_range(0..BATCH);
    let answers: Vec<_> = (0..read).map(|_| connection.receive()).collect();
    for (place, pessoa) in pessoas.into_iter().enumerate() {
        match answers.get(2 * place) {
            Some(answer) => {
                assert_eq!(answer.status, 201, "{}", answer.text());
                tally.attempts.push(Attempt::acknowledged(&pessoa, answer));
            }
            None => tally.unknown(pessoa),
        }
    }
    assert!(answers.iter().skip(1).step_by(2).all(|answer| answer.status == 404));
}

/// Creates whose clients leave while the database's backends stand still. The polite clients' creates wait as long.
fn while_no_commit_ends(ground: &Ground, random: &mut StdRng, tally: &mut Tally) -> usize {
    let backends = "select pid from pg_stat_activity where application_name like 'rinha % commit'";
    let pids: Vec<i32> = ground.cluster.query(backends).iter().map(|pid| pid.parse().unwrap()).collect();
    assert!(!pids.is_empty());
    let frozen = Frozen::freeze(pids);
    let address = ground.addresses().swap_remove(0);
    for number in 0..HELD_BACK {
        let pessoa = Pessoa::named(&format!("retida{number}"));
        let mut connection = connect_from_anywhere(&address, random).expect("a connection");
        connection.send(request("POST", "/pessoas", &pessoa.body()));
        connection.reset();
        tally.unknown(pessoa);
    }
    drop(frozen);
    HELD_BACK
}

/// Sends again what has no outcome yet: it is created now, or was then. How many were there.
fn settle(ground: &Ground, tally: Tally) -> usize {
    let mut connection = Connection::open(&ground.addresses()[0]);
    let mut there = 0;
    for mut attempt in tally.attempts {
        if attempt.fate == Fate::Unknown {
            let answer = attempt.pessoa.post(&mut connection).expect("an answer");
            attempt.fate = match answer.status {
                201 => Fate::Acknowledged { id: answer.id(), body: answer.body },
                422 => {
                    there += 1;
                    Fate::Refused
                }
                status => panic!("{status}: {}", answer.text()),
            };
        }
        ground.note(attempt);
    }
    there
}
