//! Explores every schedule of `src/channel/ring.rs` under loom.
//!
//! `schedules` explores all scenarios of the ring as it is; `schedules VARIANT SCENARIO` explores one scenario of the ring
//! with a fault, in a process of its own, since loom cannot go on after one was found; `schedules --list` names them.
//!
//! PREEMPTIONS=4 explores the larger scenarios with so many interruptions of a thread in one schedule.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// A name, what is done in each schedule, and how often a thread may be interrupted in one: of more schedules than can be
/// explored those with few interruptions are, as a fault hardly ever needs three. `None`: all of them.
pub(crate) type Scenario = (&'static str, fn(), Option<usize>);

mod variants {
    #![allow(
        dead_code,
        unused,
        clippy::all,
        clippy::cast_possible_truncation,
        clippy::unwrap_used,
        missing_docs,
        unreachable_pub,
        reason = "copies of modules that are private in their crate, some with a fault"
    )]

    use crate::Scenario;

    include!(concat!(env!("OUT_DIR"), "/variants.rs"));
}

use variants::VARIANTS;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let scenarios = |of: &str| VARIANTS.iter().find(|(name, _)| *name == of).map(|(_, scenarios)| *scenarios);
    match words[..] {
        [] => scenarios("as_it_is").into_iter().flatten().for_each(explore),
        ["--list"] => {
            for (variant, scenarios) in VARIANTS {
                scenarios.iter().for_each(|(scenario, ..)| println!("{variant} {scenario}"));
            }
        }
        [variant, scenario] => {
            let found = scenarios(variant).into_iter().flatten().find(|(name, ..)| *name == scenario);
            let Some(found) = found else {
                eprintln!("schedules: expected a line of --list, got {variant} {scenario}");
                return ExitCode::from(2);
            };
            explore(found);
        }
        _ => {
            eprintln!("schedules: expected nothing, --list, or a variant and a scenario");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn explore(&(name, run, preemptions): &Scenario) {
    let began = Instant::now();
    let schedules = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&schedules);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions.map(|preemptions| {
        let wanted = std::env::var("PREEMPTIONS");
        wanted.map_or(preemptions, |wanted| wanted.parse().expect("PREEMPTIONS: expected a number"))
    });
    model.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        run();
    });
    let of = match model.preemption_bound {
        None => "all".to_owned(),
        Some(preemptions) => format!("those with at most {preemptions} interruptions"),
    };
    println!("{name}: {} schedules, {of}, in {:.1?}", schedules.load(Ordering::Relaxed), began.elapsed());
}
