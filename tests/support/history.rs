//! What clients asked and were told, with the times of both, and the judge that holds it against the table in the end.
//! It does no I/O and knows neither the fault nor the system: whoever breaks something records a history and asks here
//! whether anybody was told a lie.
//!
//! The rules are the contract's. A `201` is in the table in the end, with its content, and was the only one for its
//! apelido. An id that was shown once is never `404` later. A `422` names an apelido that the table has in the end, and
//! that somebody could have taken before. A search shows what the same instance acknowledged before it, and others a second
//! before it. The count is between what was acknowledged before it and what was sent before its end, and never falls where
//! the database keeps all that it shows. Nothing is in the table that nobody sent, or of
//! which it was said that nothing was stored, or that another has it. `503` says nothing and so is never a lie.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::load::Pessoa;

#[path = "rules.rs"]
mod rules;

#[allow(unused_imports, reason = "each test file uses its own part of this")]
pub(crate) use rules::{at_rest, judge, longest_gap};

/// A search that starts so long after a `201` shows the pessoa, on whichever instance.
pub(crate) const FRESH_MAX: Duration = Duration::from_secs(1);
/// Clients write down the end of an answer a moment after it came, and the begin of a question a moment before.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_millis(50);

/// At rest every question is answered within this time, on a machine that may be busy with something else.
pub(crate) const REST_TIME_MAX: Duration = Duration::from_secs(2);

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// POST.
    Create(Pessoa),
    /// GET by id; whether the pessoa was known to every instance before the history began.
    Get { id: String, known: bool },
    /// A search for one apelido, which no other pessoa's text contains.
    Search { apelido: String },
    /// How many there are.
    Count,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// 201, with the id of its `Location` and its body.
    Created { id: String, body: Value },
    /// 422.
    Refused,
    /// 200 of a GET by id.
    Found(Value),
    /// 404.
    Absent,
    /// 200 of a search.
    List(Vec<Value>),
    /// 200 of a count.
    Number(usize),
    /// 503 that says that nothing was stored, or the question never left.
    Nothing,
    /// 502, 503 or 504.
    Unavailable,
    /// The question left, and no answer came.
    Lost,
    /// What no rule allows: a status and a text.
    Other(u16, String),
}

/// A question and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Which instance was asked.
    pub(crate) instance: usize,
    /// From the start of the history.
    pub(crate) began: Duration,
    /// From the start of the history.
    pub(crate) ended: Duration,
    pub(crate) asked: Asked,
    pub(crate) told: Told,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { instance, began, ended, asked, told } = self;
        write!(f, "{began:.6?} to {ended:.6?} at instance {instance}: {asked}: ")?;
        match (asked, told) {
            (Asked::Create(pessoa), Told::Created { id, body }) if *body == pessoa.shown(id) => {
                write!(f, "201 {id}, as sent")
            }
            _ => told.fmt(f),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Create(pessoa) => write!(f, "POST {}", pessoa.body()),
            Asked::Get { id, .. } => write!(f, "GET {id}"),
            Asked::Search { apelido } => write!(f, "search {apelido}"),
            Asked::Count => f.write_str("count"),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Created { id, body } => write!(f, "201 {id} {body}"),
            Told::Refused => f.write_str("422"),
            Told::Found(body) => write!(f, "200 {body}"),
            Told::Absent => f.write_str("404"),
            Told::List(list) => write!(f, "200 {}", Value::from(list.clone())),
            Told::Number(number) => write!(f, "200 {number}"),
            Told::Nothing => f.write_str("nothing was stored"),
            Told::Unavailable => f.write_str("unavailable"),
            Told::Lost => f.write_str("lost"),
            Told::Other(status, text) => write!(f, "{status} {text}"),
        }
    }
}

/// Something that a client was told and that is not so, or a row that must not be there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// A `201` whose row is not in the table.
    Lost,
    /// A `201`, a `200` or a row with another content than was sent.
    Changed,
    /// A second `201` of one apelido.
    SecondWinner,
    /// A `404` of an id that was shown before.
    WrongAbsence,
    /// A `422` of an apelido that nobody could have, or that the table has not.
    WrongRefusal,
    /// A search without what was acknowledged more than a second before.
    StaleSearch,
    /// A search that shows something else than what was asked for, or something twice.
    WrongList,
    /// A `200` that shows what the table does not have.
    Vanished,
    /// A count that cannot be.
    WrongCount,
    /// A row of which it was said that nothing was stored.
    StoredAllTheSame,
    /// A row that nobody sent.
    Stranger,
    /// No answer within what the contract allows, and nothing that excuses it.
    Late,
    /// At rest: no answer, one that says nothing, or one that took its time.
    NotAtRest,
    /// A status that no rule allows.
    Unexpected,
}

/// What the judge found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Each lie, with why it is one and the operations that prove it, a line each.
    pub(crate) lies: Vec<(Lie, String)>,
    /// The oldest 201 that a search on another instance did not show, at the search's begin.
    pub(crate) stalest: Duration,
}

impl Verdict {
    /// `proof` are the operations without which it would be no lie.
    pub(crate) fn accuse<'a>(
        &mut self,
        lie: Lie,
        why: impl fmt::Display,
        proof: impl IntoIterator<Item = &'a Entry>,
    ) {
        let mut evidence = why.to_string();
        for entry in proof {
            evidence.push_str(&format!("\n         {entry}"));
        }
        self.lies.push((lie, evidence));
    }

    /// How many of one kind.
    pub(crate) fn count(&self, lie: &Lie) -> usize {
        self.lies.iter().filter(|(found, _)| found == lie).count()
    }

    /// Rows that were acknowledged and are gone.
    pub(crate) fn lost(&self) -> usize {
        self.count(&Lie::Lost)
    }

    /// All other lies.
    pub(crate) fn wrong(&self) -> usize {
        self.lies.len() - self.lost()
    }

    /// Each kind with its number and a few examples, each with its proof.
    pub(crate) fn explain(&self) -> String {
        const EXAMPLES: usize = 3;
        self.explain_with(EXAMPLES)
    }

    /// Each kind with its number and so many examples, each with its proof.
    pub(crate) fn explain_with(&self, examples: usize) -> String {
        let mut kinds: BTreeMap<&Lie, Vec<&str>> = BTreeMap::new();
        for (lie, evidence) in &self.lies {
            kinds.entry(lie).or_default().push(evidence);
        }
        let mut lines = String::new();
        for (lie, evidence) in kinds {
            lines.push_str(&format!("   {lie:?}: {}, such as\n", evidence.len()));
            for example in evidence.iter().take(examples) {
                lines.push_str(&format!("      {example}\n"));
            }
        }
        lines
    }
}

/// What the judge must know besides: what was there before the history began, and what kind of place it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    pub(crate) rows: usize,
    pub(crate) apelidos: HashSet<String>,
    /// The database is one that keeps what it has shown to anybody, acknowledged or not: a count never falls.
    pub(crate) counts_never_fall: bool,
    /// Instances that are balancers: one question goes here and the next one there.
    pub(crate) balancers: Vec<usize>,
}
