//! Whatever was answered with 502 to 504, too late, or not at all, has an alibi: a fault under which it may fail, or one that
//! was over just before. A fault that could not be made is none.

use std::time::Duration;

use crate::faults::Fault;
use rinha::limits::{BALANCER_TIME_MAX, COMMIT_TIME_MAX, READ_TIME_MAX, SEARCH_TIME_MAX};

use crate::history::{Asked, Entry, Told};
use crate::lab::INSTANCES;

/// How long after its last fault a system may still fail, whatever the fault: a debug build that starts, reads everything and
/// opens its sessions while a Postgres recovers, on a machine that may be busy. What a run needed is told.
pub(crate) const RECOVERY_TIME_MAX: Duration = Duration::from_secs(10);

/// A fault that struck: from when until when, by the clients' clock, and what it says it did.
pub(crate) struct Struck {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    pub(crate) fault: &'static Fault,
    pub(crate) target: usize,
    /// Or why it was none.
    pub(crate) said: Result<String, String>,
}

/// What a debug build on a machine that may be busy adds to a deadline.
const LATENESS_MAX: Duration = Duration::from_secs(2);

/// When this must have been answered, by its begin.
fn time_max(entry: &Entry) -> Duration {
    let own = match entry.asked {
        Asked::Create(_) => COMMIT_TIME_MAX,
        Asked::Get { .. } | Asked::Count => READ_TIME_MAX,
        Asked::Search { .. } => SEARCH_TIME_MAX,
    };
    LATENESS_MAX + if entry.instance == INSTANCES { BALANCER_TIME_MAX } else { own }
}

/// Whether it was answered, but after its deadline.
pub(crate) fn is_late(entry: &Entry) -> bool {
    entry.told != Told::Lost && entry.ended - entry.began > time_max(entry)
}

/// What has none, and how long after a fault the last one failed that needed it as its alibi.
pub(crate) fn without<'a>(
    history: &'a [Entry],
    struck: &[Struck],
    until: Duration,
) -> (Vec<&'a Entry>, Duration) {
    let failed = |entry: &&Entry| {
        (matches!(entry.told, Told::Unavailable | Told::Nothing | Told::Lost) || is_late(entry))
            && entry.instance <= INSTANCES
            && entry.began < until
    };
    let mut missing = Vec::new();
    let mut slowest = Duration::ZERO;
    for entry in history.iter().filter(failed) {
        let alibis = struck.iter().filter(|one| {
            one.said.is_ok()
                && one.fault.may_fail.covers(one.target, entry)
                && one.from < entry.ended
                && entry.began < one.to + RECOVERY_TIME_MAX
        });
        match alibis.map(|one| entry.began.saturating_sub(one.to)).min() {
            Some(late) => slowest = slowest.max(late),
            None => missing.push(entry),
        }
    }
    (missing, slowest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FAULTS;

    fn failed(instance: usize, began: u64) -> Entry {
        let began = Duration::from_secs(began);
        let ended = began + Duration::from_secs(1);
        Entry { instance, began, ended, asked: Asked::Count, told: Told::Unavailable }
    }

    fn struck(name: &str, from: u64, to: u64) -> Struck {
        let fault = FAULTS.iter().find(|fault| fault.name == name).expect("a fault");
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        Struck { from, to, fault, target: 0, said: Ok(String::new()) }
    }

    #[test]
    fn a_fault_is_an_alibi_for_what_it_strikes_while_it_strikes_and_a_moment_longer() {
        let kill = [struck("kill", 10, 12)];
        let has = |instance, began| without(&[failed(instance, began)], &kill, Duration::MAX).0.is_empty();
        assert!(!has(0, 8) && has(0, 10) && has(0, 12) && has(0, 21) && !has(0, 22));
        assert!(has(INSTANCES, 11), "the balancer asks it");
        assert!(!has(1, 11), "nothing was done to the other one");
        let needed = |began| without(&[failed(0, began)], &kill, Duration::MAX).1;
        assert_eq!((needed(11), needed(15)), (Duration::ZERO, Duration::from_secs(3)));
    }

    #[test]
    fn what_nothing_may_fail_under_is_no_alibi() {
        let reindex = [struck("reindex", 10, 12)];
        assert_eq!(without(&[failed(0, 11)], &reindex, Duration::MAX).0.len(), 1);
        assert_eq!(without(&[failed(0, 11)], &[struck("lock-table", 10, 12)], Duration::MAX).0.len(), 0);
        let none = Struck { said: Err("there is no disk".to_owned()), ..struck("disk-full", 10, 12) };
        assert_eq!(without(&[failed(0, 11)], &[none], Duration::MAX).0.len(), 1);
    }

    #[test]
    fn what_memory_has_needs_no_postgres() {
        let get = |known| Entry { asked: Asked::Get { id: String::new(), known }, ..failed(0, 11) };
        let lacking = |entry, name| without(&[entry], &[struck(name, 10, 12)], Duration::MAX).0.len();
        assert_eq!([lacking(get(true), "postgres-kill"), lacking(get(false), "postgres-kill")], [1, 0]);
        assert_eq!(lacking(get(true), "kill"), 0);
    }

    #[test]
    fn a_late_answer_needs_an_alibi_too() {
        let answered = |instance, seconds| {
            let began = Duration::from_secs(100);
            let ended = began + Duration::from_secs(seconds);
            Entry { instance, began, ended, asked: Asked::Count, told: Told::Number(1) }
        };
        assert!(!is_late(&answered(0, 4)) && is_late(&answered(0, 6)));
        assert!(!is_late(&answered(INSTANCES, 13)), "it may have waited for a place before");
        assert_eq!(without(&[answered(0, 6)], &[], Duration::MAX).0.len(), 1);
        assert_eq!(without(&[answered(0, 6)], &[struck("stop", 101, 104)], Duration::MAX).0.len(), 0);
        assert!(
            !is_late(&Entry { told: Told::Lost, ..answered(0, 60) }),
            "that it was lost is another thing"
        );
    }
}
