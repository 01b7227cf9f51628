//! Runs the exploration of the ring: as it is, and with each fault, in processes of their own and two at a time.

use std::process::{Command, Output};
use std::sync::Mutex;

#[path = "../src/mutations.rs"]
mod mutations;

use mutations::{MUTATIONS, Verdict};

fn schedules(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_schedules"))
        .args(words)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

fn list() -> Vec<(String, String)> {
    let listed = said(&schedules(&["--list"]));
    let pair = |line: &str| line.split_once(' ').map(|(variant, scenario)| (variant.into(), scenario.into()));
    listed.lines().map(|line| pair(line).expect("a variant and a scenario")).collect()
}

/// Does `work` for each of `jobs`, two at a time; returns what went wrong.
fn each<J: Send>(
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(J) -> Result<(), String> + Sync,
) -> Vec<String> {
    let jobs = Mutex::new(jobs.into_iter().collect::<Vec<J>>());
    let wrong = Mutex::new(Vec::new());
    let next = || jobs.lock().expect("nobody panics with it").pop();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(job) = next() {
                    if let Err(why) = work(job) {
                        wrong.lock().expect("nobody panics with it").push(why);
                    }
                }
            });
        }
    });
    wrong.into_inner().expect("nobody panicked with it")
}

#[test]
fn in_no_schedule_is_a_wake_or_an_item_lost() {
    let scenarios = list().into_iter().filter(|(variant, _)| variant == "as_it_is");
    let wrong = each(scenarios, |(variant, scenario)| {
        let explored = schedules(&[&variant, &scenario]);
        match explored.status.success() {
            true => {
                print!("{}", said(&explored));
                Ok(())
            }
            false => Err(format!("{scenario}: {}", said(&explored))),
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each fence and each ordering is needed, and is missed: what is found without it is what it is there for.
#[test]
fn each_weakening_is_found() {
    let scenarios = list();
    let wrong = each(MUTATIONS, |mutation| match mutation.verdict {
        Verdict::Found { scenario, said: expected } => {
            let explored = schedules(&[mutation.name, scenario]);
            match said(&explored) {
                said if !explored.status.success() && said.contains(expected) => Ok(()),
                said => Err(format!("{}: expected {expected:?} in {scenario}, got: {said}", mutation.name)),
            }
        }
        Verdict::Harmless => scenarios.iter().filter(|(variant, _)| variant == mutation.name).try_for_each(
            |(variant, scenario)| match schedules(&[variant, scenario]) {
                explored if explored.status.success() => Ok(()),
                explored => Err(format!("{variant} in {scenario}: {}", said(&explored))),
            },
        ),
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The queue and the place of the waker are modelled after these versions; another one is to be read first.
#[test]
fn what_is_modelled_is_what_is_built() {
    let lock = std::fs::read_to_string("../../Cargo.lock").expect("the workspace has one");
    for (name, version) in [("rtrb", "0.4.1"), ("futures-core", "0.3.34")] {
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(
            lock.contains(&entry),
            "{name} is no longer {version}: hold tests/schedules/src against its source"
        );
    }
}
