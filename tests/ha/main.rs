//! The server on a database that moves: three nodes under Patroni with a synchronous standby, instances that find the
//! primary in each way that is promised, and everything that can happen to a node while clients are at work. `make ha`
//! runs it; `make ha ARGS=short` in a few minutes.
//!
//! [`lab`] is what is up, with a [`pooler`]; [`clients`] ask and write down; [`engine`] measures what no server could have had; [`faults`]
//! are what happens; `history`, in the support directory, judges; [`report`] is the table in the end. [`judge`] are the
//! report's own tests, which need nothing; those of the judge are in `tests/torture`.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/clients.rs"]
mod clients;
#[path = "../support/cluster.rs"]
mod cluster;
mod engine;
mod faults;
#[path = "../support/history.rs"]
mod history;
mod judge;
mod lab;
#[path = "../support/load.rs"]
mod load;
mod pooler;
#[path = "../support/processes.rs"]
mod processes;
mod report;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/turns.rs"]
mod turns;

use std::env;
use std::time::Duration;

use ha::programs::Programs;

use faults::{FAULTS, Fault};
use lab::Lab;
use report::Line;
use turns::Turns;

/// Creates are back so soon after the engine.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Memory answers at least so often, whatever happens to the database.
const READS_GAP_MAX: Duration = Duration::from_secs(3);

/// The faults that `HA_FAULTS` names: `short`, or parts of their names with commas between; all without it.
#[test]
#[ignore = "needs etcd, Patroni, nftables and a network namespace of its own: make ha"]
fn every_fault() {
    let chosen = env::var("HA_FAULTS").unwrap_or_default();
    let programs = Programs::find().expect("the programs");
    let is_chosen = |fault: &&Fault| {
        chosen == "short" && fault.short || chosen.split(',').any(|part| fault.name.contains(part))
    };
    let faults: Vec<&Fault> = FAULTS.iter().filter(is_chosen).collect();
    let seed = load::seed();
    let mut turns = Turns::new("ha", faults.len() + 2);
    let mut lab = turns.turn("three nodes, four instances", || Lab::start(&programs, seed));
    let refused = turns.turn("transaction pooling", || lab.refuses_transaction_pooling());
    for fault in &faults {
        turns.turn(fault.name, || lab.run(fault.name, fault.strike));
    }
    assert!(turns.are_over(), "another number of turns than was told");
    // A machine that stalls for some seconds makes anybody late: what was late, and nothing worse, has one more try.
    let was_late = |line: &Line, fault: &Fault| line.fault == fault.name && !is_kept(line) && is_true(line);
    let late: Vec<&Fault> =
        faults.into_iter().filter(|fault| lab.report.iter().any(|line| was_late(line, fault))).collect();
    let mut excused = Vec::new();
    for fault in late {
        tell!("once more, as it was late: {}", fault.name);
        excused.extend(lab.report.extract_if(.., |line| was_late(line, fault)));
        lab.run(fault.name, fault.strike);
    }
    tell!("\n{}", Line::head());
    for line in &lab.report {
        tell!("{line}");
    }
    for line in &excused {
        tell!("late, and tried once more: {line}");
    }
    assert!(refused, "expected that transaction pooling is refused");
    let failed: Vec<&Line> = lab.report.iter().filter(|line| !is_kept(line)).collect();
    assert!(failed.is_empty(), "{} lines of the table break a promise: {failed:#?}", failed.len());
}

/// Whether a fault cost no more than is promised.
fn is_kept(line: &Line) -> bool {
    is_true(line) && line.reads_gap <= READS_GAP_MAX && line.behind <= BEHIND_MAX
}

/// Whether nothing was lost, wrong or refused that is in memory, however long it took.
fn is_true(line: &Line) -> bool {
    line.lost == 0 && line.wrong == 0 && line.reads_failed == 0
}
