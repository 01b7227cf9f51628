//! The grammar of `--cores`. It does not know which CPUs there are.

use std::fmt;
use std::str::FromStr;

use super::cpu_list;
use crate::limits::CORES_MAX;

/// What `--cores` says. Positions are those of physical cores, from 0; past the last one they wrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// `auto`, `auto@K`: one thread for each physical core, no more than the CPU quota rounded up.
    Auto {
        /// The position of the first core.
        first: usize,
    },
    /// `N`, `N@K`: `N` threads, whatever the quota; each has a core of its own while there are enough.
    Count {
        /// How many threads.
        count: usize,
        /// The position of the first core.
        first: usize,
    },
    /// `0,2-3`: a thread on each of these logical CPUs, in this order, whatever the quota.
    List(Vec<usize>),
}

/// The grammar of `--cores`, for its error.
pub(super) const CORES_GRAMMAR: &str = "expected auto, a number of cores (2), a list of CPUs (0,2-3), or auto@K or N@K to start at \
                             the K-th core";

impl Cores {
    /// Refuses what is wrong on every machine. The parser calls this, and so does `Machine::choose`, as a value need
    /// not come from text.
    pub(super) fn check(&self) -> Result<(), String> {
        let count = match self {
            Cores::Auto { .. } => return Ok(()),
            Cores::Count { count, .. } => *count,
            Cores::List(cpus) => cpus.len(),
        };
        if count == 0 {
            return Err(CORES_GRAMMAR.to_owned());
        }
        if count > CORES_MAX {
            return Err(format!("expected at most {CORES_MAX} cores, got {count}"));
        }
        match self.repeated() {
            Some(cpu) => Err(format!("expected each CPU once, got CPU {cpu} twice")),
            None => Ok(()),
        }
    }

    fn repeated(&self) -> Option<usize> {
        let Cores::List(cpus) = self else { return None };
        cpus.iter().enumerate().find(|(at, cpu)| cpus[..*at].contains(cpu)).map(|(_, &cpu)| cpu)
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Cores, String> {
        let cores = parse(text).ok_or(CORES_GRAMMAR)?;
        cores.check()?;
        Ok(cores)
    }
}

fn parse(text: &str) -> Option<Cores> {
    if text.contains([',', '-']) {
        return cpu_list::parse(text).map(Cores::List);
    }
    let (what, first) = match text.split_once('@') {
        Some((what, first)) => (what, cpu_list::number(first)?),
        None => (text, 0),
    };
    match what {
        "auto" => Some(Cores::Auto { first }),
        count => Some(Cores::Count { count: cpu_list::number(count)?, first }),
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cores::Auto { first: 0 } => write!(f, "auto"),
            Cores::Auto { first } => write!(f, "auto@{first}"),
            Cores::Count { count, first: 0 } => write!(f, "{count}"),
            Cores::Count { count, first } => write!(f, "{count}@{first}"),
            // One CPU is written as a range, because a number alone is a count.
            Cores::List(cpus) if cpus.len() == 1 => write!(f, "{0}-{0}", cpus[0]),
            Cores::List(cpus) => f.write_str(&cpu_list::show(cpus)),
        }
    }
}
