//! Whether the target kept its word: what it acknowledged against what it holds. This module asks the API and Postgres,
//! and trusts neither alone. It does not know how the load was made.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use ::progress::Count;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::floor::Floor;
use crate::http::{Address, Client, block_on};
use crate::process::undisturbed;
use crate::progress;
use crate::records::{Acknowledged, Records};
use crate::target::{Instance, Target};

/// Connections over which one instance is asked for all ids.
const READERS: usize = 8;
/// Examples that a failed check names.
const EXAMPLES: usize = 3;
const MEMBERS: [&str; 4] = ["apelido", "nome", "nascimento", "stack"];

/// How the name of the check begins without which nothing is known.
pub(crate) const COUNTED: &str = "/contagem-pessoas = 201s";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// It could not be made, for a reason that is said.
    Skipped,
}

/// One line of the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What must hold.
    pub name: String,
    /// Whether it does.
    pub outcome: Outcome,
    /// The figures.
    pub found: String,
}

/// All checks, and the contest's own score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In the order in which they are shown.
    pub checks: Vec<Check>,
    /// What the contest counts: rows, as `/contagem-pessoas` says.
    pub score: Option<u64>,
    /// What stood in the server's place; none if the server was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
}

impl Verdict {
    /// Failed if a check did; passed only if the rows were held against the 201s; else it could not be judged. A constant
    /// answer has no rows, and a limit is asked for them in Postgres alone.
    pub fn outcome(&self) -> Outcome {
        let passed = |name| {
            self.checks.iter().any(|check| check.name.starts_with(name) && check.outcome == Outcome::Passed)
        };
        let judged = match self.floor {
            None => passed(COUNTED),
            Some(Floor::BareInsert) => passed(IN_POSTGRES),
            Some(Floor::ConstantAnswer) => true,
        };
        let unknown = self.score.is_none() && self.floor.is_none();
        if unknown || self.checks.iter().any(|check| check.outcome == Outcome::Failed) {
            Outcome::Failed
        } else if judged {
            Outcome::Passed
        } else {
            Outcome::Skipped
        }
    }

    /// Whether all is known to be well.
    pub fn passed(&self) -> bool {
        self.outcome() == Outcome::Passed
    }

    /// In one word or two.
    pub fn word(&self) -> &'static str {
        match self.outcome() {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Skipped => "not judged",
        }
    }
}

impl Check {
    pub(crate) fn new(name: impl Into<String>, holds: bool, found: impl Into<String>) -> Self {
        let outcome = if holds { Outcome::Passed } else { Outcome::Failed };
        Self { name: name.into(), outcome, found: found.into() }
    }

    pub(crate) fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Skipped, found: why.into() }
    }

    /// A check that ended in an error fails: what could not be read back is not known to be there.
    fn made(name: &str, check: Result<Check>) -> Self {
        check.unwrap_or_else(|error| Check::new(name, false, format!("{error:#}")))
    }
}

/// Judges a run, whose target must still run and must have stored nothing since. `before` is how many rows there were
/// before the run. With `drain` each instance is asked through the balancer, even where its own socket can be reached.
pub fn judge(records: &Records, target: &Target, base: &Address, before: u64, drain: bool) -> Verdict {
    let mut checks = vec![no_ko(records), counted(records, before)];
    checks.push(Check::made(IN_POSTGRES, in_postgres(records, target, before)));
    match target.instances(drain) {
        Ok(instances) if !instances.is_empty() => {
            for instance in &instances {
                let (name, way) = match instance {
                    Instance::Socket(name, _) => (name, ""),
                    Instance::Drained(name, _) => (name, ", the other drained"),
                };
                let name = format!("each acknowledged id read back through {name}{way}");
                checks.push(Check::made(&name, read_back_through(&name, records, target, base, instance)));
            }
        }
        Ok(_) => {
            let name = format!("each acknowledged id read back through {base}");
            checks.push(Check::made(&name, read_back(&name, records, base)));
        }
        Err(error) => checks.push(Check::new("the instances are known", false, format!("{error:#}"))),
    }
    checks.push(no_apelido_twice(records));
    Verdict { checks, score: records.count.and_then(|count| count.rows), floor: None }
}

/// Judges what stood in the server's place, beginning with an empty database: by its answers, as it gives nothing back
/// of what it was given, and a bare insert also by its rows.
pub fn judge_floor(floor: Floor, records: &Records, target: &Target) -> Verdict {
    let mut checks = vec![no_ko(records)];
    if floor == Floor::BareInsert {
        checks.push(Check::made(IN_POSTGRES, in_postgres(records, target, 0)));
    }
    Verdict { checks, score: None, floor: Some(floor) }
}

fn no_ko(records: &Records) -> Check {
    let ko: Vec<_> = records.requests.iter().filter(|request| !request.ok).collect();
    let mut kinds: HashMap<(&str, u16), usize> = HashMap::new();
    for request in &ko {
        *kinds.entry((&request.kind, request.status)).or_default() += 1;
    }
    let mut kinds: Vec<String> = kinds
        .into_iter()
        .map(|((kind, status), count)| match status {
            0 => format!("{count} {kind} without an answer"),
            status => format!("{count} {kind} answered {status}"),
        })
        .collect();
    kinds.sort();
    let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
    let count = records.requests.len();
    Check::new("KO = 0", ko.is_empty() && count > 0, format!("{} KO of {count} requests{kinds}", ko.len()))
}

fn counted(records: &Records, before: u64) -> Check {
    let name = format!("{COUNTED}, right after the last answer");
    let created = records.created() as u64;
    let Some((count, rows)) = records.count.and_then(|count| Some((count, count.rows?))) else {
        return Check::new(name, false, "no count was answered");
    };
    let waited = count.at.saturating_sub(records.end().unwrap_or(0));
    let new = rows.saturating_sub(before);
    Check::new(
        name,
        rows == before + created,
        format!("{new} rows, {created} 201s, answered {waited} ms after the last one"),
    )
}

const IN_POSTGRES: &str = "Postgres holds exactly the acknowledged ids, no apelido twice";

fn in_postgres(records: &Records, target: &Target, before: u64) -> Result<Check> {
    let Some(rows) = target.sql("SELECT id, apelido FROM pessoas")? else {
        return Ok(Check::skipped(IN_POSTGRES, "Postgres cannot be reached: the topology is unknown"));
    };
    let rows: Vec<(&str, &str)> = rows.iter().filter_map(|row| row.split_once('|')).collect();
    Ok(compared(&rows, &records.acknowledged, before))
}

/// Compares the ids and apelidos of all rows with what was acknowledged.
fn compared(rows: &[(&str, &str)], acknowledged: &[Acknowledged], before: u64) -> Check {
    let ids: HashSet<&str> = rows.iter().map(|(id, _)| *id).collect();
    let apelidos: HashSet<&str> = rows.iter().map(|(_, apelido)| *apelido).collect();
    let lost = acknowledged.iter().filter(|acknowledged| !ids.contains(&*acknowledged.id)).count() as u64;
    let (rows, acknowledged) = (rows.len() as u64, acknowledged.len() as u64);
    // Rows from before the run may have any id: only their number is known.
    let more = rows.saturating_sub(before + acknowledged - lost);
    let less = (before + acknowledged - lost).saturating_sub(rows);
    let twice = rows - apelidos.len() as u64;
    let found = format!(
        "{} rows, {acknowledged} acknowledged, {lost} of them lost, {more} never acknowledged, {twice} repeated apelidos",
        rows.saturating_sub(before)
    );
    let found = if less == 0 { found } else { format!("{found}, {less} of before gone") };
    Check::new(IN_POSTGRES, lost == 0 && more == 0 && less == 0 && twice == 0, found)
}

fn no_apelido_twice(records: &Records) -> Check {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for acknowledged in &records.acknowledged {
        if let Some(apelido) =
            records.payloads.get(acknowledged.payload).and_then(|payload| payload["apelido"].as_str())
        {
            *seen.entry(apelido).or_default() += 1;
        }
    }
    let twice: Vec<&str> =
        seen.iter().filter(|(_, count)| **count > 1).map(|(apelido, _)| *apelido).collect();
    let distinct: HashSet<&str> = records.acknowledged.iter().map(|acknowledged| &*acknowledged.id).collect();
    let repeated = records.acknowledged.len() - distinct.len();
    let example = twice.first().map(|apelido| format!(", such as {apelido}")).unwrap_or_default();
    Check::new(
        "no apelido and no id acknowledged twice",
        twice.is_empty() && repeated == 0,
        format!(
            "{} apelidos{example} and {repeated} ids twice, of {}",
            twice.len(),
            records.acknowledged.len()
        ),
    )
}

fn read_back_through(
    name: &str,
    records: &Records,
    target: &Target,
    base: &Address,
    instance: &Instance,
) -> Result<Check> {
    match instance {
        Instance::Socket(_, address) => read_back(name, records, address),
        Instance::Drained(_, others) => {
            // In state `drain` they would still be asked for their own pessoas (haproxy.cfg).
            target.drain(others, "maint")?;
            let check = read_back(name, records, base);
            target.drain(others, "ready")?;
            check
        }
    }
}

/// Asks for every acknowledged id and compares what comes with what was posted.
fn read_back(name: &str, records: &Records, address: &Address) -> Result<Check> {
    let acknowledged = &records.acknowledged;
    let share = acknowledged.len().div_ceil(READERS).max(1);
    let payloads = Rc::new(records.payloads.clone());
    let (_wait, read) = progress::count(name, acknowledged.len());
    let wrong = block_on(tokio::task::LocalSet::new().run_until(async {
        let readers: Vec<_> = acknowledged
            .chunks(share)
            .map(|part| {
                let (part, payloads, client, read) =
                    (part.to_vec(), Rc::clone(&payloads), Client::new(address.clone()), read.clone());
                tokio::task::spawn_local(async move { wrong_ones(client, &part, &payloads, &read).await })
            })
            .collect();
        let mut wrong = Vec::new();
        for reader in readers {
            wrong.extend(reader.await.context("a reader panicked")??);
        }
        anyhow::Ok(wrong)
    }))?;
    let examples: String = wrong.iter().take(EXAMPLES).map(|example| format!("; {example}")).collect();
    let found = format!("{} of {} missing or different{examples}", wrong.len(), acknowledged.len());
    Ok(Check::new(name, wrong.is_empty(), found))
}

/// A sentence for each acknowledged pessoa that is missing or different.
async fn wrong_ones(
    mut client: Client,
    part: &[Acknowledged],
    payloads: &[Value],
    read: &Count,
) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for Acknowledged { id, payload, .. } in part {
        undisturbed()?;
        read.add(1);
        if !is_id(id) {
            wrong.push(format!("{id} is no UUID"));
            continue;
        }
        let (status, body) = client.get(&format!("/pessoas/{id}")).await?;
        let posted = payloads.get(*payload).unwrap_or(&Value::Null);
        match status {
            200 if same(&body, id, posted) => {}
            200 => wrong.push(format!("{id} has another content")),
            404 => wrong.push(format!("{id} is not found")),
            status => bail!("{id}: answered {status}"),
        }
    }
    Ok(wrong)
}

/// Whether an acknowledged id has the form of a UUID, as it becomes part of a path.
fn is_id(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn same(body: &[u8], id: &str, posted: &Value) -> bool {
    let Ok(answered) = serde_json::from_slice::<Value>(body) else { return false };
    answered["id"] == id && MEMBERS.iter().all(|member| answered[member] == posted[member])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Count, Request};

    #[test]
    fn rows_are_held_against_what_was_acknowledged() {
        let check = |rows: &[(&str, &str)], before: u64, expected: Result<&str, &str>| {
            let acknowledged: Vec<Acknowledged> =
                ["1", "2", "3"].map(|id| Acknowledged { at: 0, id: id.to_owned(), payload: 0 }).into();
            let check = compared(rows, &acknowledged, before);
            let (outcome, found) = match expected {
                Ok(found) => (Outcome::Passed, found),
                Err(found) => (Outcome::Failed, found),
            };
            assert_eq!(check.outcome, outcome, "{rows:?}: {}", check.found);
            assert!(check.found.contains(found), "{rows:?}: {}", check.found);
        };
        let all = [("1", "a"), ("2", "b"), ("3", "c")];
        check(&all, 0, Ok("3 rows, 3 acknowledged, 0 of them lost, 0 never acknowledged, 0 repeated"));
        check(&[&all[..], &[("0", "z")]].concat(), 1, Ok("3 rows, 3 acknowledged"));
        check(&all[..2], 0, Err("1 of them lost, 0 never acknowledged"));
        check(&[], 0, Err("3 of them lost"));
        // As many as there should be, but not the same.
        check(&[("1", "a"), ("2", "b"), ("4", "d")], 0, Err("1 of them lost, 1 never acknowledged"));
        check(&[&all[..], &[("4", "d")]].concat(), 0, Err("0 of them lost, 1 never acknowledged"));
        check(&[&all[..2], &[("3", "a")]].concat(), 0, Err("0 never acknowledged, 1 repeated"));
        check(&[&all[..], &[("3", "c")]].concat(), 0, Err("1 never acknowledged, 1 repeated"));
        // Fewer than there were before, which is no reason to panic.
        check(
            &all,
            9,
            Err(
                "0 rows, 3 acknowledged, 0 of them lost, 0 never acknowledged, 0 repeated apelidos, 9 of before gone",
            ),
        );
        check(&[], 9, Err("3 of them lost"));
    }

    #[test]
    fn rows_of_before_that_are_gone_are_no_rows_of_now() {
        let records = |rows| Records {
            requests: Vec::new(),
            acknowledged: Vec::new(),
            count: Some(Count { at: 0, rows: Some(rows) }),
            payloads: Vec::new(),
        };
        assert_eq!(counted(&records(7), 7).outcome, Outcome::Passed);
        assert_eq!(counted(&records(5), 7).outcome, Outcome::Failed);
    }

    #[test]
    fn a_floor_is_judged_by_its_answers_alone() {
        let check = |statuses: &[u16], expected: &str| {
            let request = |status: &u16| Request {
                kind: "create".to_owned(),
                began: 0,
                millis: 1,
                status: *status,
                ok: *status == 201,
            };
            let records = Records {
                requests: statuses.iter().map(request).collect(),
                acknowledged: vec![Acknowledged { at: 0, id: "1".to_owned(), payload: 0 }],
                count: Some(Count { at: 0, rows: Some(0) }),
                payloads: Vec::new(),
            };
            let verdict = judge_floor(Floor::ConstantAnswer, &records, &Target::Unknown);
            assert_eq!((verdict.word(), verdict.checks.len(), verdict.score), (expected, 1, None));
            let text = serde_json::to_string(&verdict).expect("JSON");
            assert!(text.contains(r#""floor":"baseline: a constant answer""#), "{text}");
            assert_eq!(serde_json::from_str::<Verdict>(&text).expect("a verdict"), verdict);
        };
        check(&[201, 201], "passed");
        check(&[201, 503], "failed");
        check(&[], "failed");
    }

    #[test]
    fn what_was_not_counted_is_not_judged() {
        let check = |outcomes: [Outcome; 2], score: Option<u64>, expected: &str| {
            let [ko, counted] = outcomes;
            let names = ["KO = 0", COUNTED];
            let checks = [ko, counted].into_iter().zip(names).map(|(outcome, name)| Check {
                name: name.to_owned(),
                outcome,
                found: String::new(),
            });
            let verdict = Verdict { checks: checks.collect(), score, floor: None };
            assert_eq!((verdict.word(), verdict.passed()), (expected, expected == "passed"));
        };
        check([Outcome::Passed, Outcome::Passed], Some(1), "passed");
        check([Outcome::Passed, Outcome::Skipped], Some(1), "not judged");
        check([Outcome::Failed, Outcome::Skipped], Some(1), "failed");
        check([Outcome::Passed, Outcome::Failed], Some(1), "failed");
        check([Outcome::Passed, Outcome::Passed], None, "failed");
    }
}
