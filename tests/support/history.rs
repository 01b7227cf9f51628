//! What clients asked and were told, with the times of both, and the judge that holds it against the table in the end.
//! It does no I/O and knows neither the fault nor the system: whoever breaks something records a history and asks here
//! whether anybody was told a lie.
//!
//! The rules are the contract's. A `201` is in the table in the end, with its content, and was the only one for its
//! apelido. An id that was shown once is never `404` later. A `422` names an apelido that the table has in the end, and
//! that somebody could have taken before. A search shows what was acknowledged a second before it. The count is between
//! what was acknowledged before it and what was sent before its end. Nothing is in the table that nobody sent, or of
//! which it was said that nothing was stored. `503` says nothing and so is never a lie.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::load::Pessoa;

/// A search that starts so long after a `201` shows the pessoa, on whichever instance.
pub(crate) const FRESH_MAX: Duration = Duration::from_secs(1);
/// Clients write down the end of an answer a moment after it came, and the begin of a question a moment before.
pub(crate) const CLOCK_SLACK: Duration = Duration::from_millis(50);

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
    /// A `200` that shows what the table does not have.
    Vanished,
    /// A count that cannot be.
    WrongCount,
    /// A row of which it was said that nothing was stored.
    StoredAllTheSame,
    /// A row that nobody sent.
    Stranger,
    /// A status that no rule allows.
    Unexpected,
}

/// What the judge found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Each lie, with what a person needs to find it in the history.
    pub(crate) lies: Vec<(Lie, String)>,
}

impl Verdict {
    fn accuse(&mut self, lie: Lie, evidence: impl fmt::Display) {
        self.lies.push((lie, evidence.to_string()));
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

    /// Each kind with its number and a few examples.
    pub(crate) fn explain(&self) -> String {
        const EXAMPLES: usize = 3;
        let mut kinds: BTreeMap<&Lie, Vec<&str>> = BTreeMap::new();
        for (lie, evidence) in &self.lies {
            kinds.entry(lie).or_default().push(evidence);
        }
        let lines = kinds.iter().map(|(lie, evidence)| {
            let examples: Vec<&str> = evidence.iter().take(EXAMPLES).copied().collect();
            format!("   {lie:?}: {}, such as {}\n", evidence.len(), examples.join("; "))
        });
        lines.collect()
    }
}

/// What was there before the history began: how many rows, and their apelidos.
#[derive(Clone, Debug, Default)]
pub(crate) struct Before {
    pub(crate) rows: usize,
    pub(crate) apelidos: HashSet<String>,
}

/// Holds a history against the table as it is in the end: each row as the API would show it.
pub(crate) fn judge(history: &[Entry], table: &[Value], before: &Before) -> Verdict {
    let mut verdict = Verdict::default();
    let rows: HashMap<&str, &Value> = table.iter().map(|row| (text(row, "apelido"), row)).collect();
    let ids: HashSet<&str> = table.iter().map(|row| text(row, "id")).collect();
    if ids.len() < table.len() || rows.len() < table.len() {
        verdict.accuse(Lie::SecondWinner, "the table has an id or an apelido twice");
    }
    let stories = Stories::of(history);
    creates(&mut verdict, &stories, &rows);
    refusals(&mut verdict, &stories, &rows, before);
    strangers(&mut verdict, &stories, table, before);
    reads(&mut verdict, history, &stories, &ids);
    counts(&mut verdict, history, &stories, before, table);
    verdict
}

fn text<'a>(pessoa: &'a Value, member: &str) -> &'a str {
    pessoa[member].as_str().unwrap_or_default()
}

/// The history in the orders in which the rules look at it.
struct Stories<'a> {
    /// The creates of each apelido.
    creates: HashMap<&'a str, Vec<(&'a Pessoa, &'a Entry)>>,
    /// When an id was first shown, and how.
    shown: HashMap<&'a str, Duration>,
    /// Each 201: its id, when it came, what was sent.
    acknowledged: HashMap<&'a str, (&'a str, Duration, &'a Pessoa)>,
}

impl<'a> Stories<'a> {
    fn of(history: &'a [Entry]) -> Stories<'a> {
        let mut stories =
            Stories { creates: HashMap::new(), shown: HashMap::new(), acknowledged: HashMap::new() };
        for entry in history {
            if let Asked::Create(pessoa) = &entry.asked {
                stories.creates.entry(&pessoa.apelido).or_default().push((pessoa, entry));
                if let Told::Created { id, .. } = &entry.told {
                    stories.acknowledged.insert(&pessoa.apelido, (id, entry.ended, pessoa));
                }
            }
            let ids: Vec<&str> = match &entry.told {
                Told::Created { id, .. } => vec![id],
                Told::Found(body) => vec![text(body, "id")],
                Told::List(list) => list.iter().map(|body| text(body, "id")).collect(),
                _ => Vec::new(),
            };
            for id in ids {
                let since = stories.shown.entry(id).or_insert(entry.ended);
                *since = (*since).min(entry.ended);
            }
        }
        stories
    }
}

/// Every 201 is in the table with its content, and was the only one.
fn creates(verdict: &mut Verdict, stories: &Stories, rows: &HashMap<&str, &Value>) {
    for (apelido, creates) in &stories.creates {
        let mut winner: Option<&str> = None;
        for (pessoa, entry) in creates {
            match &entry.told {
                Told::Created { id, body } => {
                    if winner.is_some() {
                        verdict.accuse(Lie::SecondWinner, format!("{apelido} as {id} at {:?}", entry.ended));
                    }
                    winner = Some(id);
                    let expected = pessoa.shown(id);
                    if *body != expected {
                        verdict.accuse(Lie::Changed, format!("201 of {apelido}: {body}"));
                    }
                    match rows.get(apelido) {
                        Some(row) if **row == expected => {}
                        Some(row) if text(row, "id") == id => {
                            verdict.accuse(Lie::Changed, format!("the row of {apelido}: {row}"));
                        }
                        other => verdict.accuse(
                            Lie::Lost,
                            format!(
                                "{apelido} as {id}, by {} at {:?}; there is {other:?}",
                                entry.instance, entry.ended
                            ),
                        ),
                    }
                }
                Told::Refused | Told::Nothing | Told::Unavailable | Told::Lost => {}
                other => verdict.accuse(Lie::Unexpected, format!("POST of {apelido}: {other:?}")),
            }
        }
    }
}

/// A 422 names an apelido that the table has, and that another create could have taken before the answer.
fn refusals(verdict: &mut Verdict, stories: &Stories, rows: &HashMap<&str, &Value>, before: &Before) {
    for (apelido, creates) in &stories.creates {
        for (at, (_, entry)) in creates.iter().enumerate() {
            if entry.told != Told::Refused {
                continue;
            }
            let taken = before.apelidos.contains(*apelido)
                || creates.iter().enumerate().any(|(other, (_, rival))| {
                    let may_have_stored =
                        matches!(rival.told, Told::Created { .. } | Told::Unavailable | Told::Lost);
                    other != at && may_have_stored && rival.began < entry.ended
                });
            if !taken || !rows.contains_key(apelido) {
                let there = if taken { "nobody has it in the end" } else { "nobody could have it" };
                verdict.accuse(
                    Lie::WrongRefusal,
                    format!("{apelido} by {} at {:?}: {there}", entry.instance, entry.ended),
                );
            }
        }
    }
}

/// Nothing is there that was not sent as it is there.
fn strangers(verdict: &mut Verdict, stories: &Stories, table: &[Value], before: &Before) {
    for row in table {
        let apelido = text(row, "apelido");
        if before.apelidos.contains(apelido) {
            continue;
        }
        let Some(creates) = stories.creates.get(apelido) else {
            verdict.accuse(Lie::Stranger, row);
            continue;
        };
        let id = text(row, "id");
        if creates.iter().all(|(_, entry)| matches!(entry.told, Told::Nothing | Told::Refused)) {
            verdict.accuse(Lie::StoredAllTheSame, row);
        } else if creates.iter().all(|(pessoa, _)| pessoa.shown(id) != *row) {
            verdict.accuse(Lie::Changed, format!("nobody sent this: {row}"));
        }
    }
}

fn reads(verdict: &mut Verdict, history: &[Entry], stories: &Stories, ids: &HashSet<&str>) {
    let by_id: HashMap<&str, &Pessoa> =
        stories.acknowledged.values().map(|(id, _, pessoa)| (*id, *pessoa)).collect();
    for entry in history {
        let when = format!("by {} from {:?} to {:?}", entry.instance, entry.began, entry.ended);
        let mut shown = |body: &Value| {
            let id = text(body, "id");
            if !ids.contains(id) {
                // A 201 whose row is lost is told as that.
                if !by_id.contains_key(id) {
                    verdict.accuse(Lie::Vanished, format!("{body} {when}"));
                }
            } else if by_id.get(id).is_some_and(|pessoa| pessoa.shown(id) != *body) {
                verdict.accuse(Lie::Changed, format!("{body} {when}"));
            }
        };
        match (&entry.asked, &entry.told) {
            (Asked::Get { id, .. }, Told::Found(body)) => {
                shown(body);
                if text(body, "id") != id {
                    verdict.accuse(Lie::Changed, format!("GET of {id}: {body} {when}"));
                }
            }
            (Asked::Get { id, .. }, Told::Absent) => {
                if stories.shown.get(id.as_str()).is_some_and(|since| *since < entry.began) {
                    verdict.accuse(Lie::WrongAbsence, format!("{id} {when}"));
                }
            }
            (Asked::Search { apelido }, Told::List(list)) => {
                list.iter().for_each(&mut shown);
                let due = stories.acknowledged.get(apelido.as_str());
                let due = due.filter(|(_, since, _)| *since + FRESH_MAX + CLOCK_SLACK < entry.began);
                if let Some((id, since, _)) = due
                    && list.iter().all(|body| text(body, "id") != *id)
                {
                    verdict.accuse(Lie::StaleSearch, format!("{apelido}, 201 at {since:?}, {when}"));
                }
            }
            (Asked::Create(_), _)
            | (Asked::Count, Told::Number(_))
            | (_, Told::Unavailable | Told::Nothing | Told::Lost) => {}
            (asked, told) => verdict.accuse(Lie::Unexpected, format!("{asked:?}: {told:?} {when}")),
        }
    }
}

/// A count is no less than what was acknowledged before it, and no more than what was sent before its end.
fn counts(verdict: &mut Verdict, history: &[Entry], stories: &Stories, before: &Before, table: &[Value]) {
    let mut acknowledged: Vec<Duration> = stories.acknowledged.values().map(|(_, at, _)| *at).collect();
    acknowledged.sort();
    let sent = stories.creates.values();
    let mut sent: Vec<Duration> =
        sent.filter_map(|creates| creates.iter().map(|(_, entry)| entry.began).min()).collect();
    sent.sort();
    // What an earlier history left in doubt may have come since.
    let old =
        table.iter().filter(|row| before.apelidos.contains(text(row, "apelido"))).count().max(before.rows);
    for entry in history {
        if let Told::Number(number) = entry.told {
            let least = before.rows + acknowledged.partition_point(|at| *at < entry.began);
            let most = old + sent.partition_point(|at| *at < entry.ended);
            if number < least || number > most {
                verdict.accuse(
                    Lie::WrongCount,
                    format!(
                        "{number}, expected {least} to {most}, by {} at {:?}",
                        entry.instance, entry.ended
                    ),
                );
            }
        }
    }
}

/// The longest time within `from..to` in which nothing of `times` falls: its begin and its end.
pub(crate) fn longest_gap(
    times: impl IntoIterator<Item = Duration>,
    from: Duration,
    to: Duration,
) -> (Duration, Duration) {
    let mut times: Vec<Duration> = times.into_iter().filter(|at| *at > from && *at < to).collect();
    times.sort();
    let mut longest = (from, from);
    let mut last = from;
    for at in times.into_iter().chain([to]) {
        if at - last > longest.1 - longest.0 {
            longest = (last, at);
        }
        last = at;
    }
    longest
}
