//! What an instance is doing, as one JSON document: numbers since its start, of which the page takes the differences, and
//! numbers of the moment. It measures nothing.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::Serialize;

use crate::admin::board::{Asked, Board};
use crate::admin::{COMMIT, sums};
use crate::limits::{
    COMMIT_QUEUE_MAX, COUNT_QUEUE_MAX, FEED_QUEUE_BYTES_MAX, MESH_QUESTIONS_MAX, READ_QUEUE_MAX,
    SEARCH_QUEUE_MAX,
};
use crate::metrics::Tally;
use crate::people::CoreState;
use crate::postgres::Operation;

#[derive(Serialize)]
struct Snapshot<'a> {
    /// Where its clients connect.
    addresses: &'a [String],
    version: &'static str,
    /// What it was built from; nothing if the build did not know.
    commit: Option<&'static str>,
    stage: &'static str,
    /// Whether a core reads the table again while it serves.
    reloading: bool,
    uptime_seconds: f64,
    /// Of each core, while it serves.
    drivers: Vec<&'static str>,
    /// Cores that did not say in time what they counted: theirs is the last that they said.
    silent: Vec<usize>,
    requests: Vec<Requests>,
    operations: Vec<Operations>,
    batches: Histogram,
    queues: Vec<Queue>,
    pessoas: usize,
    cache: Cache,
    ledger: Room,
    connections: Room,
    /// The oldest memory of all cores; none before the table was read.
    feed_age_seconds: Option<f64>,
    refusals: Vec<Refusals>,
    panics: u64,
    log_lines_lost: u64,
    database: Database,
}

#[derive(Serialize)]
struct Requests {
    method: &'static str,
    route: &'static str,
    status: u16,
    seconds: Histogram,
}

#[derive(Serialize)]
struct Operations {
    name: &'static str,
    seconds: Histogram,
}

/// Values are counted up to each bound; those beyond the last one are in `count` only.
#[derive(Serialize)]
struct Histogram {
    count: u64,
    sum: f64,
    /// Bounds, and how many values are no greater. Only those at which the number grows, and the one before each: the ends
    /// of every bucket that holds something.
    cumulative: Vec<(f64, u64)>,
}

/// The fullest of all cores: one that is full refuses, however empty the others are.
#[derive(Serialize)]
struct Queue {
    name: &'static str,
    used: usize,
    limit: usize,
}

#[derive(Serialize)]
struct Cache {
    bytes: usize,
    budget_bytes: usize,
    bodies_dropped: usize,
    /// Whether memory answers searches.
    search_complete: bool,
}

#[derive(Serialize)]
struct Room {
    used: usize,
    limit: usize,
}

#[derive(Serialize)]
struct Refusals {
    reason: &'static str,
    count: u64,
}

#[derive(Serialize)]
struct Database {
    connected: bool,
    durable: bool,
    address: String,
    timeline: Option<u32>,
}

/// The document, in one line. `asked` is what each core said.
pub(super) fn text(board: &Board, asked: &[Asked], started: SystemTime) -> String {
    // The last that each core said, in all that follows: a sum that lacks a core would look like a loss.
    let states: Vec<&CoreState> =
        asked.iter().filter_map(|asked| Some(&asked.last.as_ref()?.state)).collect();
    let sum = |of: fn(&CoreState) -> usize| states.iter().map(|state| of(state)).sum::<usize>();
    let most = |of: fn(&CoreState) -> usize| states.iter().map(|state| of(state)).max().unwrap_or(0);
    let queue = |name, limit, of| Queue { name, used: most(of), limit };
    let mut queues = vec![
        queue("commit", COMMIT_QUEUE_MAX, |core| core.share.lines.commit.now),
        queue("read", READ_QUEUE_MAX, |core| core.share.lines.read.now),
        queue("count", COUNT_QUEUE_MAX, |core| core.share.lines.count.now),
        queue("search", SEARCH_QUEUE_MAX, |core| core.share.lines.search.now),
        queue("mesh", MESH_QUESTIONS_MAX, |core| core.mesh.open_max),
    ];
    let (mut operations, mut batches) =
        (Vec::new(), Histogram { count: 0, sum: 0.0, cumulative: Vec::new() });
    let (mut budget_bytes, mut durable, mut timeline, mut address) = (0, false, None, String::new());
    board.read(|watched| {
        let of = |operation: Operation| Operations {
            name: operation.name(),
            seconds: histogram(&sums::operation(watched, operation)),
        };
        operations = Operation::ALL.map(of).into();
        batches = histogram(&sums::batches(watched));
        let fed = watched.queued_bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).max();
        queues.push(Queue { name: "feed bytes", used: fed.unwrap_or(0), limit: FEED_QUEUE_BYTES_MAX });
        budget_bytes = watched.cache_bytes * watched.cores.len();
        durable = watched.servers.iter().all(|server| server.durable);
        // The page has room for one.
        let seen = watched.nodes[0].seen();
        timeline = seen.history.map(|history| history.timeline);
        address = seen.address;
    });
    let requests = sums::requests(asked).into_iter().map(|(series, tally)| Requests {
        method: series.method,
        route: series.route,
        status: series.status,
        seconds: histogram(&tally),
    });
    let refusals = sums::refusals(asked).into_iter();
    let snapshot = Snapshot {
        addresses: board.addresses(),
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        stage: board.stage().name(),
        reloading: states.iter().any(|core| core.share.reloading),
        uptime_seconds: started.elapsed().unwrap_or_default().as_secs_f64(),
        drivers: board.drivers().iter().map(|driver| driver.kind.name()).collect(),
        silent: board.silent_of(asked),
        requests: requests.collect(),
        operations,
        batches,
        queues,
        pessoas: sum(|core| core.share.memory.pessoas),
        cache: Cache {
            bytes: sum(|core| core.share.memory.total),
            budget_bytes,
            bodies_dropped: sum(|core| core.share.memory.bodies_dropped),
            search_complete: !states.is_empty() && states.iter().all(|core| core.share.answers_searches()),
        },
        ledger: Room { used: sum(|core| core.ledger.held()), limit: sum(|core| core.ledger.limit) },
        connections: Room {
            used: sum(|core| core.connections.open),
            limit: sum(|core| core.connections.limit),
        },
        feed_age_seconds: CoreState::oldest(states.iter().copied()).map(|age| age.as_secs_f64()),
        refusals: refusals.map(|(reason, count)| Refusals { reason, count }).collect(),
        panics: states.iter().map(|core| core.connections.panics).sum(),
        log_lines_lost: board.lost_lines(),
        database: Database {
            connected: !states.is_empty() && states.iter().all(|core| core.share.reachable),
            durable,
            address,
            timeline,
        },
    };
    sonic_rs::to_string(&snapshot).expect("numbers and texts are JSON")
}

fn histogram(tally: &Tally) -> Histogram {
    let all: Vec<(f64, u64)> = tally.cumulative().collect();
    let grows = |at: usize| {
        all.get(at).is_some_and(|(_, count)| *count != at.checked_sub(1).map_or(0, |before| all[before].1))
    };
    let kept = (0..all.len()).filter(|&at| grows(at) || grows(at + 1)).map(|at| all[at]);
    Histogram { count: tally.count(), sum: tally.sum(), cumulative: kept.collect() }
}
