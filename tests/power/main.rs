//! Power cuts: the real server with its private Postgres on a disk that forgets what was not synced (`forgetful`), cut at
//! random moments while clients are at work, again and again. Whatever was acknowledged is there afterwards.
//!
//! [`machine`] is what has the power: the disk, the server, Postgres. `clients` ask and write down, `history` judges, as for
//! a database that moves. The last tests lie: they must be caught, or the first ones show nothing.
//!
//! `make power` runs it for as long as it is told. A failure is seen again with its `TEST_SEED`: the same choices are made at the
//! same moments, but what the machine did until then is not the same to the microsecond.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/clients.rs"]
mod clients;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/history.rs"]
mod history;
#[path = "../support/load.rs"]
mod load;
mod machine;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;

use std::env;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use forgetful::Names;
use rand::RngExt;

use machine::{Lie, Luck, Machine, Moment};

/// How long each honest test cuts, unless `POWER_SECONDS` says otherwise; and it makes so many cuts at least.
const SECONDS: u64 = 10;
const CUTS_MIN: usize = 3;
/// A lie is caught by so many cuts.
const LIE_CUTS_MAX: usize = 8;
/// One machine at a time: each keeps two cores busy.
static TURN: Mutex<()> = Mutex::new(());

fn honest(names: Names) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = load::seed();
    let Some(mut machine) = Machine::build(names, Lie::None, Luck::Any, seed) else { return };
    let seconds =
        env::var("POWER_SECONDS").map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    let until = Instant::now() + Duration::from_secs(seconds);
    while machine.cuts < CUTS_MIN || machine.acknowledged() == 0 || Instant::now() < until {
        let moment = if machine.random.random_ratio(1, 4) { Moment::Start } else { Moment::Load };
        machine.run_until_cut(moment).expect("a database that starts");
        let verdict = machine.come_back().expect("a database that starts");
        assert!(verdict.lies.is_empty(), "TEST_SEED={seed}\n{}", verdict.explain());
    }
    machine.examine();
    println!("{names:?}: {} cuts, {} acknowledged, none lost", machine.cuts, machine.acknowledged());
}

#[test]
fn what_was_acknowledged_is_there_after_a_cut() {
    honest(Names::Journal);
}

#[test]
fn what_was_acknowledged_is_there_where_names_are_lost_one_by_one() {
    honest(Names::Files);
}

/// Nothing that a first start made is kept by luck.
#[test]
fn a_first_start_syncs_the_names_of_all_that_it_makes() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = load::seed();
    let Some(mut machine) = Machine::build(Names::Files, Lie::None, Luck::Worst, seed) else { return };
    for _ in 0..CUTS_MIN {
        machine.run_until_cut(Moment::Load).expect("a database that starts");
        let verdict = machine.come_back().expect("a database that starts");
        assert!(verdict.lies.is_empty(), "TEST_SEED={seed}\n{}", verdict.explain());
    }
}

fn caught(lie: Lie) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = load::seed();
    let Some(mut machine) = Machine::build(Names::Journal, lie, Luck::Any, seed) else { return };
    let began = Instant::now();
    while machine.cuts < LIE_CUTS_MAX {
        // A database that does not even start before the first cut has lost nothing.
        let run = machine.run_until_cut(Moment::Load);
        if machine.cuts == 0 || machine.acknowledged() == 0 {
            run.expect("a database that starts");
        }
        let lost = match machine.come_back() {
            Ok(verdict) if verdict.lost() == 0 => continue,
            Ok(verdict) => format!("{} acknowledged rows are gone", verdict.lost()),
            Err(why) => format!(
                "the database does not come back, and with it none of {} rows: {why}",
                machine.acknowledged()
            ),
        };
        println!("{lie:?}: caught by cut {} after {:.1?}: {lost}", machine.cuts, began.elapsed());
        return;
    }
    panic!("TEST_SEED={seed}: {lie:?} was not caught by {LIE_CUTS_MAX} cuts: the honest tests show nothing");
}

#[test]
fn a_commit_that_is_not_waited_for_is_caught() {
    caught(Lie::AsynchronousCommit);
}

#[test]
fn a_database_that_does_not_sync_is_caught() {
    caught(Lie::NoSync);
}
