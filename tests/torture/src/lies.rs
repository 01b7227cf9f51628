//! Every lie is told by a server that was built for it, and must be caught as what it is; and where the same server tells
//! none, none may be found.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::{FAULTS, Fault};
use crate::history::Lie;
use crate::lab::{Subject, beside};
use crate::plan::Plan;
use crate::run::run;

#[path = "../lies/src/table.rs"]
mod table;

/// The server with lies built in.
pub(crate) const PROGRAM: &str = "rinha-lies";
/// What both servers would have in them, if the real one had the switch too.
const SWITCH: &[u8] = b"RINHA_LIE";
/// A lie is caught by then.
const CAUGHT_TIME_MAX: Duration = Duration::from_secs(60);
/// Clients at work in one round.
const ROUND_SECONDS: u64 = 8;
/// Lies that are told at once: each has servers and a Postgres of its own.
const SIDE_BY_SIDE: usize = 3;

/// What the lies are called.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = table::LIES.iter().map(|lie| lie.name).collect();
    names.dedup();
    names
}

/// As what a lie is caught: whatever else is found proves nothing of it.
fn proof(name: &str) -> &'static [Lie] {
    match name {
        "early" => &[Lie::Lost, Lie::SecondWinner, Lie::WrongAbsence],
        "no-index" => &[Lie::SecondWinner],
        "nudge-only" => &[Lie::StaleSearch],
        "no-fall-through" => &[Lie::WrongAbsence],
        "lost-wake" => &[Lie::Late, Lie::NotAtRest],
        "drop-last" => &[Lie::Lost],
        "guess" => &[Lie::WrongRefusal],
        name => panic!("{name}: nobody said what proves it"),
    }
}

/// Tells all of them, and says when each was caught.
pub(crate) fn all(seed: u64) -> ExitCode {
    let mut names: Vec<(&str, &str)> = table::LIES.iter().map(|lie| (lie.name, lie.what)).collect();
    names.dedup();
    let held = holds_the_switch(PROGRAM) && !holds_the_switch("rinha");
    println!("the switch for lies is in {PROGRAM}, and not in rinha: {held}");
    let honest = run(&plan("", seed), &Subject { program: beside(PROGRAM), lie: None, has_two_nodes: false });
    println!(
        "{PROGRAM}, telling none: {} found",
        if honest.is_clean() { "none".to_owned() } else { honest.explain(1) }
    );
    let held = held && honest.is_clean();
    let next = AtomicUsize::new(0);
    let missed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some((name, what)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (caught, said) = tell(name, seed);
                    println!("{name} ({what}): {said}");
                    if !caught {
                        missed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner();
    println!("{} of {} lies were caught within {CAUGHT_TIME_MAX:?}", names.len() - missed, names.len());
    if held && missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells one lie until it is caught: whether it was in time, and in which words.
fn tell(name: &str, seed: u64) -> (bool, String) {
    let subject = Subject { program: beside(PROGRAM), lie: Some(name.to_owned()), has_two_nodes: false };
    let began = Instant::now();
    for round in 0.. {
        let plan = plan(name, seed.wrapping_add(round));
        let outcome = run(&plan, &subject);
        let took = began.elapsed();
        if proof(name).iter().any(|lie| outcome.verdict.count(lie) > 0) {
            let seed = plan.seed;
            let said = format!("caught after {took:.1?}, seed {seed}\n{}", outcome.explain(1));
            return (took <= CAUGHT_TIME_MAX, said);
        }
        if took > CAUGHT_TIME_MAX {
            return (false, format!("NOT CAUGHT in {} rounds, {took:.1?}", round + 1));
        }
    }
    unreachable!("the loop returns")
}

fn plan(name: &str, seed: u64) -> Plan {
    // It is told of creates that have no outcome, which most faults leave none of.
    let suits =
        |fault: &&Fault| name != "guess" || ["read-only", "lock-table", "half-open"].contains(&fault.name);
    let faults: Vec<&'static Fault> = FAULTS.iter().filter(suits).collect();
    Plan::draw(seed, ROUND_SECONDS, &faults)
}

fn holds_the_switch(name: &str) -> bool {
    let program = std::fs::read(beside(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    program.windows(SWITCH.len()).any(|window| window == SWITCH)
}
