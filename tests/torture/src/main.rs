//! The torture chamber: real servers and a real Postgres, faults drawn from a seed, and a judge of what clients were told.
//!
//! [`plan`] says what happens when, out of the table in [`faults`]; [`lab`] is what it happens to, with a [`proxy`] between
//! each server and Postgres and a [`balancer`] before the servers, and [`beside`] are the sessions of others and [`hand`] is
//! one that puts rows in; [`run`] does it all once, and [`shrink`] again and
//! again with less; [`lies`] are told by a server that was built for it, and must be caught. The clients and the judge are those of the other tests.

#![allow(clippy::unwrap_used, reason = "what the tests share is written for tests")]

mod alibi;
mod balancer;
mod beside;
#[path = "../../support/clients.rs"]
mod clients;
#[path = "../../support/cluster.rs"]
mod cluster;
mod ends;
mod faults;
mod hand;
#[path = "../../support/history.rs"]
mod history;
#[cfg(test)]
mod judge;
mod lab;
mod lies;
#[path = "../../support/load.rs"]
mod load;
mod plan;
mod postgres;
#[path = "../../support/processes.rs"]
mod processes;
mod proxy;
mod run;
#[path = "../../support/server.rs"]
mod server;
mod shrink;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use faults::{FAULTS, Fault, MayFail};
use lab::{Subject, beside};
use plan::Plan;
use run::{Outcome, run};

/// A longer time is split into rounds, each with a new database and a seed of its own: what fails is replayed in one.
const ROUND_SECONDS: u64 = 40;
/// A month.
const SECONDS_MAX: u64 = 31 * 86_400;

/// Lies of each kind that are printed with their proof.
const EXAMPLES: usize = 3;

/// Faults drawn from a seed, against real servers; exit 1 when a client was told a lie.
#[derive(Parser)]
#[command(name = "torture")]
struct Arguments {
    /// Draws the plan and what clients send; without it a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// How long clients are at work, in rounds of at most 40 s with the seeds N, N+1, ...
    #[arg(long, default_value_t = ROUND_SECONDS, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Runs the plan in this file, as it was printed
    #[arg(long, conflicts_with_all = ["seed", "seconds", "faults"])]
    plan: Option<PathBuf>,
    /// Only faults whose names have one of these in them, with commas between; `harmless` for those under which nothing may
    /// fail, `none` for none
    #[arg(long)]
    faults: Option<String>,
    /// A plan that fails is tried with fewer and fewer faults, until none can be left out
    #[arg(long)]
    shrink: bool,
    /// The table of faults
    #[arg(long)]
    list: bool,
    /// The program to torture; without it the server beside this one
    #[arg(long)]
    program: Option<PathBuf>,
    /// The server with lies built in tells this one
    #[arg(long, value_parser = lies::names())]
    lie: Option<String>,
    /// 2: the people are in two partitions, each at a Postgres of its own; what is done to Postgres is done to the first one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// Every lie of the server with lies built in: each must be caught within a minute, and none where none is told
    #[arg(long, conflicts_with_all = ["seconds", "plan", "faults", "shrink", "program", "lie", "nodes"])]
    lies: bool,
}

impl Arguments {
    /// What draws this plan again, for the same subject.
    fn again(&self, plan: &Plan) -> String {
        let mut words = match &self.plan {
            Some(file) => format!("--plan {}", file.display()),
            None => format!("--seed {} --seconds {}", plan.seed, plan.seconds),
        };
        let options = [
            ("faults", self.faults.clone()),
            ("lie", self.lie.clone()),
            ("program", self.program.as_ref().map(|program| program.display().to_string())),
            ("nodes", (self.nodes > 1).then(|| self.nodes.to_string())),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                words.push_str(&format!(" --{name} {value}"));
            }
        }
        words
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(why) = postgres::own_mounts() {
        println!("mounts would be seen by all, and so there are none: {why}");
    }
    ends::begin();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    if arguments.lies {
        return lies::all(arguments.seed.unwrap_or_else(load::seed));
    }
    let own = if arguments.lie.is_some() { lies::PROGRAM } else { "rinha" };
    let program = arguments.program.clone().unwrap_or_else(|| beside(own));
    if !program.is_file() {
        eprintln!("torture: {}: expected a program", program.display());
        return ExitCode::from(2);
    }
    let subject = Subject { program, lie: arguments.lie.clone(), has_two_nodes: arguments.nodes > 1 };
    let plans = match plans(&arguments) {
        Ok(plans) => plans,
        Err(why) => {
            eprintln!("torture: {why}");
            return ExitCode::from(2);
        }
    };
    for plan in &plans {
        let began = Instant::now();
        println!("{plan}");
        let outcome = run(plan, &subject);
        tell(&outcome);
        if outcome.is_clean() {
            println!("no lie, after {:.0?}\n", began.elapsed());
            continue;
        }
        println!(
            "FAILED after {:.0?}; again: make torture ARGS='{}'",
            began.elapsed(),
            arguments.again(plan)
        );
        if arguments.shrink {
            shrink::shrink(plan, |plan| !run(plan, &subject).is_clean());
        }
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn plans(arguments: &Arguments) -> Result<Vec<Plan>, String> {
    if let Some(file) = &arguments.plan {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        return Ok(vec![Plan::parse(&text)?]);
    }
    let is_chosen = |fault: &&Fault| {
        if arguments.nodes < 2 && fault.lane() == "second" {
            return false;
        }
        let Some(names) = &arguments.faults else { return true };
        let harmless = fault.may_fail == MayFail::Nothing;
        let mut names = names.split(',').filter(|name| !name.is_empty());
        names.any(|name| fault.name.contains(name) || name == "harmless" && harmless)
    };
    let chosen: Vec<&'static Fault> = FAULTS.iter().filter(is_chosen).collect();
    if chosen.is_empty() && arguments.faults.as_deref() != Some("none") {
        return Err("no fault has such a name: --list shows them".to_owned());
    }
    let seed = arguments.seed.unwrap_or_else(load::seed);
    let rounds = arguments.seconds.div_ceil(ROUND_SECONDS).max(1);
    let length = |round: u64| ROUND_SECONDS.min(arguments.seconds - round * ROUND_SECONDS);
    Ok((0..rounds).map(|round| Plan::draw(seed.wrapping_add(round), length(round), &chosen)).collect())
}

fn tell(outcome: &Outcome) {
    for note in &outcome.notes {
        println!("   {note}");
    }
    println!("   {}", outcome.summary);
    print!("{}", outcome.explain(EXAMPLES));
}

fn list() {
    for fault in FAULTS {
        let (least, most) = fault.length;
        println!(
            "{:18} {:9} {:>4} to {:>4} ms; may fail meanwhile: {}",
            fault.name,
            fault.lane(),
            least,
            most,
            fault.may_fail
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_drawn_again_by_what_is_printed() {
        let line = ["torture", "--seed", "7", "--seconds", "100", "--faults", "kill,cut", "--lie", "early"];
        let arguments = Arguments::parse_from(line);
        let plans = plans(&arguments).unwrap();
        let printed = arguments.again(&plans[2]);
        assert_eq!(printed, "--seed 9 --seconds 20 --faults kill,cut --lie early");
        let again = Arguments::parse_from(["torture"].into_iter().chain(printed.split(' ')));
        assert_eq!(self::plans(&again).unwrap()[0].to_string(), plans[2].to_string());
        let of_a_file = Arguments::parse_from(["torture", "--plan", "a.plan"]);
        assert_eq!(of_a_file.again(&plans[0]), "--plan a.plan");
    }
}
