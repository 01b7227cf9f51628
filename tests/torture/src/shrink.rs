//! Fewer faults that still fail. What fails may fail only sometimes, as the machine's timing is not the plan's: a smaller plan
//! that does not fail is tried again before its faults are called needed.

use crate::plan::Plan;

/// Runs of one smaller plan before it counts as one that does not fail.
const TRIES: usize = 2;

/// Halves first, then quarters, then single faults are left out for as long as the rest fails. Prints what is left.
pub(crate) fn shrink(plan: &Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    let mut size = best.steps.len().div_ceil(2).max(1);
    while !best.steps.is_empty() {
        let mut at = 0;
        let mut smaller = false;
        while at < best.steps.len() {
            let mut less = best.clone();
            less.steps.drain(at..(at + size).min(less.steps.len()));
            println!("-- with {} of {} faults", less.steps.len(), best.steps.len());
            if (0..TRIES).any(|_| fails(&less)) {
                best = less;
                smaller = true;
            } else {
                at += size;
            }
        }
        if size == 1 && !smaller {
            break;
        }
        size = if smaller { size.min(best.steps.len()).max(1) } else { size.div_ceil(2) };
    }
    println!(
        "the fewest faults that still fail; again: make torture ARGS='--plan FILE', with this in FILE:\n{best}"
    );
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FAULTS;

    #[test]
    fn only_the_faults_that_are_needed_are_left() {
        let plan = Plan::draw(7, 40, &FAULTS.iter().collect::<Vec<_>>());
        let needed: Vec<String> = [3, 17].map(|at: usize| plan.steps[at].to_string()).to_vec();
        let has = |plan: &Plan, step: &String| plan.steps.iter().any(|other| other.to_string() == *step);
        let least = shrink(&plan, |plan| needed.iter().all(|step| has(plan, step)));
        assert_eq!(least.steps.iter().map(ToString::to_string).collect::<Vec<_>>(), needed);
        assert!(shrink(&plan, |_| true).steps.is_empty(), "it fails without any");
        assert_eq!(shrink(&plan, |_| false).steps.len(), plan.steps.len(), "it fails with all of them only");
    }
}
