//! The rules of a history, one function each.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;

use super::{Asked, Before, CLOCK_SLACK, Entry, FRESH_MAX, Lie, REST_TIME_MAX, Told, Verdict};
use crate::load::Pessoa;

/// Holds a history against the table as it is in the end: each row as the API would show it.
pub(crate) fn judge(history: &[Entry], table: &[Value], before: &Before) -> Verdict {
    let mut verdict = Verdict::default();
    let rows: HashMap<&str, &Value> = table.iter().map(|row| (text(row, "apelido"), row)).collect();
    let stories = Stories::of(history);
    twice(&mut verdict, &stories, table);
    creates(&mut verdict, &stories, &rows);
    refusals(&mut verdict, &stories, &rows, before);
    strangers(&mut verdict, &stories, table, before);
    reads(&mut verdict, history, &stories, table);
    searches(&mut verdict, history, &stories, before);
    counts(&mut verdict, history, &stories, before, table);
    if before.counts_never_fall {
        falls(&mut verdict, history);
    }
    verdict
}

fn text<'a>(pessoa: &'a Value, member: &str) -> &'a str {
    pessoa[member].as_str().unwrap_or_default()
}

/// The history in the orders in which the rules look at it.
struct Stories<'a> {
    /// The creates of each apelido.
    creates: HashMap<&'a str, Vec<(&'a Pessoa, &'a Entry)>>,
    /// Who was first shown an id.
    shown: HashMap<&'a str, &'a Entry>,
    /// Each 201: its id, the answer, what was sent.
    acknowledged: HashMap<&'a str, (&'a str, &'a Entry, &'a Pessoa)>,
}

impl<'a> Stories<'a> {
    fn of(history: &'a [Entry]) -> Stories<'a> {
        let mut stories =
            Stories { creates: HashMap::new(), shown: HashMap::new(), acknowledged: HashMap::new() };
        for entry in history {
            if let Asked::Create(pessoa) = &entry.asked {
                stories.creates.entry(&pessoa.apelido).or_default().push((pessoa, entry));
                if let Told::Created { id, .. } = &entry.told {
                    stories.acknowledged.insert(&pessoa.apelido, (id, entry, pessoa));
                }
            }
            let ids: Vec<&str> = match &entry.told {
                Told::Created { id, .. } => vec![id],
                Told::Found(body) => vec![text(body, "id")],
                Told::List(list) => list.iter().map(|body| text(body, "id")).collect(),
                _ => Vec::new(),
            };
            for id in ids {
                let first = stories.shown.entry(id).or_insert(entry);
                if entry.ended < first.ended {
                    *first = entry;
                }
            }
        }
        stories
    }

    fn creates_of(&self, apelido: &str) -> impl Iterator<Item = &'a Entry> {
        self.creates.get(apelido).into_iter().flatten().map(|(_, entry)| *entry)
    }
}

/// The table has each id and each apelido once.
fn twice(verdict: &mut Verdict, stories: &Stories, table: &[Value]) {
    let mut seen = HashSet::new();
    for row in table {
        for member in ["id", "apelido"] {
            if !seen.insert((member, text(row, member))) {
                let why = format!("the table has this {member} twice: {row}");
                verdict.accuse(Lie::SecondWinner, why, stories.creates_of(text(row, "apelido")));
            }
        }
    }
}

/// Every 201 is in the table with its content, and was the only one.
fn creates(verdict: &mut Verdict, stories: &Stories, rows: &HashMap<&str, &Value>) {
    for (apelido, creates) in &stories.creates {
        let mut winner: Option<&Entry> = None;
        for (pessoa, entry) in creates {
            match &entry.told {
                Told::Created { id, body } => {
                    if let Some(winner) = winner {
                        verdict.accuse(Lie::SecondWinner, format!("two 201 of {apelido}"), [winner, entry]);
                    }
                    winner = Some(entry);
                    let expected = pessoa.shown(id);
                    if *body != expected {
                        verdict.accuse(Lie::Changed, "the 201 shows something else", [*entry]);
                    }
                    match rows.get(apelido) {
                        Some(row) if **row == expected => {}
                        Some(row) if text(row, "id") == id => {
                            verdict.accuse(Lie::Changed, format!("the row is {row}"), [*entry]);
                        }
                        Some(row) => {
                            let why = format!("{apelido} is another pessoa in the table: {row}");
                            verdict.accuse(Lie::Lost, why, [*entry]);
                        }
                        None => verdict.accuse(Lie::Lost, format!("{apelido} is not in the table"), [*entry]),
                    }
                }
                Told::Refused | Told::Nothing | Told::Unavailable | Told::Lost => {}
                _ => verdict.accuse(Lie::Unexpected, "no answer to a create", [*entry]),
            }
        }
    }
}

/// A 422 names an apelido that the table has, and that another create could have taken before the answer.
fn refusals(verdict: &mut Verdict, stories: &Stories, rows: &HashMap<&str, &Value>, before: &Before) {
    for (apelido, creates) in &stories.creates {
        for (_, entry) in creates {
            if entry.told != Told::Refused {
                continue;
            }
            let may_have_stored = |rival: &&Entry| {
                let stored = matches!(rival.told, Told::Created { .. } | Told::Unavailable | Told::Lost);
                stored && !std::ptr::eq(*rival, *entry)
            };
            let rivals = creates.iter().map(|(_, rival)| *rival).filter(may_have_stored);
            let taken =
                before.apelidos.contains(*apelido) || rivals.clone().any(|rival| rival.began < entry.ended);
            if !taken || !rows.contains_key(apelido) {
                let why = if taken { "nobody has it in the end" } else { "nobody could have it yet" };
                let proof = std::iter::once(*entry).chain(rivals);
                verdict.accuse(Lie::WrongRefusal, format!("{apelido}: {why}"), proof);
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
            verdict.accuse(Lie::Stranger, format!("nobody sent {row}"), []);
            continue;
        };
        let id = text(row, "id");
        let proof = stories.creates_of(apelido);
        let is_of = |(pessoa, _): &&(&Pessoa, &Entry)| pessoa.shown(id) == *row;
        let (denied, possible): (Vec<_>, Vec<_>) =
            creates.iter().partition(|(_, entry)| matches!(entry.told, Told::Nothing | Told::Refused));
        if possible.iter().any(|create| is_of(&create)) {
            continue;
        }
        // What was denied is there, whoever else may have sent the apelido.
        if possible.is_empty() || denied.iter().any(|create| is_of(&create)) {
            verdict.accuse(Lie::StoredAllTheSame, format!("there is {row}"), proof);
        } else {
            verdict.accuse(Lie::Changed, format!("nobody sent this: {row}"), proof);
        }
    }
}

/// What was shown once is never absent later, and is shown as the table has it.
fn reads(verdict: &mut Verdict, history: &[Entry], stories: &Stories, table: &[Value]) {
    let rows: HashMap<&str, &Value> = table.iter().map(|row| (text(row, "id"), row)).collect();
    let acknowledged: HashMap<&str, &Entry> =
        stories.acknowledged.values().map(|(id, entry, _)| (*id, *entry)).collect();
    for entry in history {
        let mut shown = |body: &Value| {
            let id = text(body, "id");
            let create = acknowledged.get(id).copied();
            match rows.get(id) {
                Some(row) if *row == body => {}
                Some(row) => {
                    let why = format!("the table has {row}");
                    verdict.accuse(Lie::Changed, why, create.into_iter().chain([entry]));
                }
                // A 201 whose row is lost is told as that.
                None if create.is_some() => {}
                None => {
                    let creates = stories.creates_of(text(body, "apelido"));
                    let why = format!("{id} is not in the table");
                    verdict.accuse(Lie::Vanished, why, std::iter::once(entry).chain(creates));
                }
            }
        };
        match (&entry.asked, &entry.told) {
            (Asked::Get { id, .. }, Told::Found(body)) => {
                shown(body);
                if text(body, "id") != id {
                    verdict.accuse(Lie::Changed, "another pessoa than was asked for", [entry]);
                }
            }
            (Asked::Search { .. }, Told::List(list)) => list.iter().for_each(&mut shown),
            (Asked::Get { id, .. }, Told::Absent) => {
                if let Some(first) = stories.shown.get(id.as_str()).filter(|first| first.ended < entry.began)
                {
                    verdict.accuse(Lie::WrongAbsence, format!("{id} was shown before"), [*first, entry]);
                }
            }
            (Asked::Create(_), _)
            | (Asked::Count, Told::Number(_))
            | (_, Told::Unavailable | Told::Nothing | Told::Lost) => {}
            _ => verdict.accuse(Lie::Unexpected, "no answer to that question", [entry]),
        }
    }
}

/// A search shows the one pessoa that has the apelido in its text; it shows what was acknowledged before it by the same
/// instance, and what others acknowledged a second before.
fn searches(verdict: &mut Verdict, history: &[Entry], stories: &Stories, before: &Before) {
    for entry in history {
        let (Asked::Search { apelido }, Told::List(list)) = (&entry.asked, &entry.told) else { continue };
        if list.len() > 1 || list.iter().any(|body| text(body, "apelido") != apelido) {
            verdict.accuse(Lie::WrongList, "one pessoa has this in its text", [entry]);
        }
        let Some((id, create, _)) = stories.acknowledged.get(apelido.as_str()) else { continue };
        if create.ended >= entry.began || list.iter().any(|body| text(body, "id") == *id) {
            continue;
        }
        let age = entry.began - create.ended;
        let same = create.instance == entry.instance && !before.balancers.contains(&entry.instance);
        if same || age > FRESH_MAX + CLOCK_SLACK {
            let place = if same { "the same instance" } else { "another instance" };
            verdict.accuse(Lie::StaleSearch, format!("{age:?} after the 201, on {place}"), [*create, entry]);
        }
        if !same {
            verdict.stalest = verdict.stalest.max(age);
        }
    }
}

/// A count is no less than what was acknowledged before it, and no more than what was sent before its end.
fn counts(verdict: &mut Verdict, history: &[Entry], stories: &Stories, before: &Before, table: &[Value]) {
    let mut acknowledged: Vec<&Entry> = stories.acknowledged.values().map(|(_, entry, _)| *entry).collect();
    acknowledged.sort_by_key(|entry| entry.ended);
    let firsts = stories.creates.values();
    let firsts =
        firsts.filter_map(|creates| creates.iter().map(|(_, entry)| *entry).min_by_key(|entry| entry.began));
    let mut sent: Vec<&Entry> = firsts.collect();
    sent.sort_by_key(|entry| entry.began);
    // What an earlier history left in doubt may have come since.
    let old =
        table.iter().filter(|row| before.apelidos.contains(text(row, "apelido"))).count().max(before.rows);
    for entry in history {
        let Told::Number(number) = entry.told else { continue };
        let told = acknowledged.partition_point(|create| create.ended < entry.began);
        let asked = sent.partition_point(|create| create.began < entry.ended);
        let (least, most) = (before.rows + told, old + asked);
        if number < least {
            let why = format!("expected at least {least}: the last of {told} 201 before it, and the count");
            let last = told.checked_sub(1).and_then(|last| acknowledged.get(last)).copied();
            verdict.accuse(Lie::WrongCount, why, last.into_iter().chain([entry]));
        } else if number > most {
            let why = format!("expected at most {most}: the count, and the first of those sent behind it");
            verdict.accuse(Lie::WrongCount, why, std::iter::once(entry).chain(sent.get(asked).copied()));
        }
    }
}

/// A count that begins after another one's end is no smaller.
fn falls(verdict: &mut Verdict, history: &[Entry]) {
    let number = |entry: &Entry| match entry.told {
        Told::Number(number) => number,
        _ => 0,
    };
    let mut begun: Vec<&Entry> =
        history.iter().filter(|entry| matches!(entry.told, Told::Number(_))).collect();
    let mut ended = begun.clone();
    begun.sort_by_key(|entry| entry.began);
    ended.sort_by_key(|entry| entry.ended);
    let mut ended = ended.into_iter().peekable();
    let mut most: Option<&Entry> = None;
    for entry in begun {
        while let Some(earlier) = ended.next_if(|earlier| earlier.ended < entry.began) {
            if most.is_none_or(|most| number(most) < number(earlier)) {
                most = Some(earlier);
            }
        }
        if let Some(most) = most.filter(|most| number(most) > number(entry)) {
            verdict.accuse(Lie::WrongCount, "a count that fell", [most, entry]);
        }
    }
}

/// What was asked when nothing was broken any more, nobody else asked, and the table stayed as it is: everything is answered,
/// and at once. The rules of [`judge`] hold besides.
pub(crate) fn at_rest(verdict: &mut Verdict, rest: &[Entry], table: &[Value]) {
    let ids: HashSet<&str> = table.iter().map(|row| text(row, "id")).collect();
    let last_create =
        rest.iter().filter(|entry| matches!(entry.asked, Asked::Create(_))).map(|entry| entry.ended);
    let last_create = last_create.max().unwrap_or_default();
    for entry in rest {
        let took = entry.ended - entry.began;
        if matches!(entry.told, Told::Unavailable | Told::Nothing | Told::Lost) || took > REST_TIME_MAX {
            verdict.accuse(Lie::NotAtRest, format!("after {took:?}"), [entry]);
        }
        match (&entry.asked, &entry.told) {
            (Asked::Get { id, .. }, Told::Absent) if ids.contains(id.as_str()) => {
                verdict.accuse(Lie::WrongAbsence, "at rest, and the table has it", [entry]);
            }
            (Asked::Count, Told::Number(number)) if entry.began > last_create && *number != table.len() => {
                verdict.accuse(Lie::WrongCount, format!("at rest, of {} rows", table.len()), [entry]);
            }
            (Asked::Search { apelido }, Told::List(list))
                if entry.began > last_create + FRESH_MAX
                    && table.iter().any(|row| text(row, "apelido") == apelido && !list.contains(row)) =>
            {
                verdict.accuse(Lie::StaleSearch, "at rest, and the table has it", [entry]);
            }
            _ => {}
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
