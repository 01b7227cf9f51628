//! A plan: which fault strikes what, when, and for how long. It is drawn from a seed, written as text, and read again.
//!
//! ```text
//! seed 7
//! seconds 30
//! 1200 800 kill instance 0
//! 4000 1500 lock-table table 0
//! ```
//!
//! A line is the fault's begin and its length in milliseconds, its name, and what it strikes. Faults of one lane (one
//! process, one proxy, the table) follow each other; those of different lanes may meet.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::faults::{FAULTS, Fault};

/// Nothing strikes before clients are at work, nor so late that nothing is asked behind it, in milliseconds.
const QUIET_AT_BEGIN: u64 = 1000;
const QUIET_AT_END: u64 = 1000;
/// No plan lasts longer: a day.
const MILLIS_MAX: u64 = 86_400_000;
/// Between two faults of one lane, in milliseconds.
const GAP: u64 = 500;
/// One fault is drawn for so many milliseconds of a plan; what meets another of its lane is thrown away.
const PERIOD: u64 = 700;

/// A fault of a plan.
#[derive(Clone)]
pub(crate) struct Step {
    /// From the start of the clients, in milliseconds.
    pub(crate) at: u64,
    /// In milliseconds.
    pub(crate) length: u64,
    pub(crate) fault: &'static Fault,
    /// Which one of its kind.
    pub(crate) target: usize,
}

impl Step {
    pub(crate) fn end(&self) -> u64 {
        self.at + self.length
    }

    /// The time from its begin to its end.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_millis(self.length)
    }

    fn shares_lane_with(&self, other: &Step) -> bool {
        self.fault.lane() == other.fault.lane() && self.target == other.target
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { at, length, fault, target } = self;
        write!(f, "{at} {length} {} {} {target}", fault.name, fault.lane())
    }
}

/// Faults in the order of their begin.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Also what the clients send.
    pub(crate) seed: u64,
    pub(crate) seconds: u64,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    /// The plan of a seed: the same for the same seed, length and choice of faults.
    pub(crate) fn draw(seed: u64, seconds: u64, chosen: &[&'static Fault]) -> Plan {
        let mut random = StdRng::seed_from_u64(seed);
        let mut steps: Vec<Step> = Vec::new();
        let end = seconds * 1000;
        for _ in 0..end / PERIOD {
            if chosen.is_empty() {
                break;
            }
            let fault = chosen[random.random_range(0..chosen.len())];
            let length = random.random_range(fault.length.0..=fault.length.1);
            let target = random.random_range(0..fault.targets());
            let latest = end.saturating_sub(length + QUIET_AT_END);
            if latest <= QUIET_AT_BEGIN {
                continue;
            }
            let step = Step { at: random.random_range(QUIET_AT_BEGIN..latest), length, fault, target };
            let meets = |other: &Step| step.at < other.end() + GAP && other.at < step.end() + GAP;
            if !steps.iter().any(|other| step.shares_lane_with(other) && meets(other)) {
                steps.push(step);
            }
        }
        steps.sort_by_key(|step| step.at);
        Plan { seed, seconds, steps }
    }

    /// Reads what [`Display`](fmt::Display) wrote. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    ///
    /// The line that is none.
    pub(crate) fn parse(text: &str) -> Result<Plan, String> {
        let mut plan = Plan { seed: 0, seconds: 0, steps: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let wrong = || format!("expected `MILLISECONDS LENGTH FAULT KIND NUMBER`, got {line:?}");
            let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["seed", seed] => plan.seed = number(seed)?,
                ["seconds", seconds] => plan.seconds = number(seconds)?,
                [at, length, name, lane, target] => {
                    let fault = FAULTS.iter().find(|fault| fault.name == name && fault.lane() == lane);
                    let fault = fault.ok_or_else(wrong)?;
                    let target = usize::try_from(number(target)?).map_err(|_| wrong())?;
                    if target >= fault.targets() {
                        return Err(wrong());
                    }
                    let (at, length) = (number(at)?, number(length)?);
                    if at.max(length) > MILLIS_MAX {
                        return Err(wrong());
                    }
                    plan.steps.push(Step { at, length, fault, target });
                }
                _ => return Err(wrong()),
            }
        }
        plan.steps.sort_by_key(|step| step.at);
        let end = plan.steps.iter().map(|step| step.end().div_ceil(1000)).max().unwrap_or(0);
        plan.seconds = plan.seconds.max(end);
        Ok(plan)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}\nseconds {}", self.seed, self.seconds)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<&'static Fault> {
        FAULTS.iter().collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_plan_and_another_one_another() {
        let text = |seed| Plan::draw(seed, 40, &all()).to_string();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn what_is_printed_is_read_again() {
        for seed in 0..100 {
            let text = Plan::draw(seed, 40, &all()).to_string();
            let again = Plan::parse(&format!("# a remark\n\n{text}")).unwrap().to_string();
            assert_eq!(again, text, "seed {seed}");
        }
        for wrong in [
            "1 2 kill instance",
            "1 2 kill instance 2",
            "1 2 cough instance 0",
            "1 2 kill proxy 0",
            "18446744073709551615 5 kill instance 0",
            "5 18446744073709551615 kill instance 0",
            "seed x",
            "-1 2 kill instance 0",
        ] {
            assert!(Plan::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn faults_of_one_lane_do_not_meet_and_those_of_others_do() {
        let mut met = 0;
        for seed in 0..100 {
            let plan = Plan::draw(seed, 40, &all());
            for (at, step) in plan.steps.iter().enumerate() {
                assert!(
                    step.at >= QUIET_AT_BEGIN && step.end() + QUIET_AT_END <= 40_000,
                    "seed {seed}: {step}"
                );
                for other in &plan.steps[at + 1..] {
                    let apart = step.end() + GAP <= other.at;
                    assert!(apart || !step.shares_lane_with(other), "seed {seed}: {step}, {other}");
                    met += usize::from(!apart);
                }
            }
        }
        assert!(met > 1000, "{met} pairs of faults met in 100 plans");
    }

    #[test]
    fn every_fault_is_drawn() {
        for fault in FAULTS {
            let drawn =
                |seed| Plan::draw(seed, 40, &all()).steps.iter().any(|step| step.fault.name == fault.name);
            assert!((0..100).any(drawn), "{}", fault.name);
        }
    }
}
