//! What Gatling's own report says of a simulation that records nothing for us, such as the contest's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

use crate::floor::Floor;
use crate::records::Percentiles;
use crate::target::Target;
use crate::verdict::{COUNTED, Check, Verdict};

/// What the contest's simulation calls its GET after a 201: there is one for each 201.
const GET_AFTER_201: &str = "consulta";

/// The response times of each kind of request, and last those of all requests.
pub fn read(report: &Path) -> Result<Vec<(String, Percentiles)>> {
    let file = report.join("js/stats.js");
    let text = fs::read_to_string(&file).with_context(|| format!("{}: no such report", file.display()))?;
    let mut kinds = parse(&text);
    ensure!(!kinds.is_empty(), "{}: unexpected content", file.display());
    // Gatling puts the group of all requests first.
    kinds.rotate_left(1);
    "all".clone_into(&mut kinds.last_mut().expect("at least one").0);
    Ok(kinds)
}

/// Reads the file, a JavaScript object of which each line holds one value. A value is known by its own name and the
/// name of the object around it.
fn parse(text: &str) -> Vec<(String, Percentiles)> {
    let mut kinds: Vec<(String, Percentiles)> = Vec::new();
    let (mut name, mut around) = ("", "");
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once(':') else { continue };
        let (key, value) = (key.trim_matches('"'), value.trim().trim_end_matches(',').trim_matches('"'));
        match (around, key) {
            (_, "name") => name = value,
            (_, "numberOfRequests") => kinds.push((name.to_owned(), Percentiles::default())),
            _ => {}
        }
        if value == "{" {
            around = key;
        }
        let Some((_, kind)) = kinds.last_mut() else { continue };
        match (around, key) {
            ("numberOfRequests", "total") => kind.count = number(value),
            ("numberOfRequests", "ko") => kind.ko = number(value),
            ("percentiles1", "total") => kind.p50 = number(value),
            ("percentiles3", "total") => kind.p95 = number(value),
            ("percentiles4", "total") => kind.p99 = number(value),
            ("maxResponseTime", "total") => kind.max = number(value),
            _ => {}
        }
    }
    kinds
}

/// A number of the report, which shows zero as `-`.
fn number<T: FromStr + Default>(text: &str) -> T {
    text.parse().unwrap_or_default()
}

/// How many 201s there were, as far as the names tell.
pub fn created(kinds: &[(String, Percentiles)]) -> Option<usize> {
    kinds.iter().find(|(name, _)| name == GET_AFTER_201).map(|(_, kind)| kind.count)
}

/// The statuses that are known: the 201s, or none.
pub fn statuses(kinds: &[(String, Percentiles)]) -> Vec<(String, BTreeMap<u16, usize>)> {
    let created = created(kinds).map(|count| ("create".to_owned(), BTreeMap::from([(201, count)])));
    created.into_iter().collect()
}

/// Judges by numbers alone, as the ids are not known: there are `rows` now, and there were `before` rows before the
/// run.
pub fn judge(kinds: &[(String, Percentiles)], target: &Target, rows: u64, before: u64) -> Verdict {
    let mut checks = vec![no_ko(kinds)];
    let new = rows.saturating_sub(before);
    checks.push(match created(kinds) {
        Some(created) => {
            Check::new(COUNTED, rows == before + created as u64, format!("{new} rows, {created} 201s"))
        }
        None => {
            Check::skipped(COUNTED, format!("no request is called {GET_AFTER_201}: the 201s are not known"))
        }
    });
    checks.push(in_postgres(target.sql("SELECT count(*), count(DISTINCT apelido) FROM pessoas"), rows));
    checks.push(Check::skipped("each acknowledged id read back", "this simulation does not record them"));
    Verdict { checks, score: Some(new), floor: None }
}

/// Judges what stood in the server's place, which gives nothing back of what it was given.
pub fn judge_floor(floor: Floor, kinds: &[(String, Percentiles)]) -> Verdict {
    Verdict { checks: vec![no_ko(kinds)], score: None, floor: Some(floor) }
}

fn no_ko(kinds: &[(String, Percentiles)]) -> Check {
    let (count, ko) = kinds.last().map_or((0, 0), |(_, all)| (all.count, all.ko));
    Check::new("KO = 0", ko == 0 && count > 0, format!("{ko} KO of {count} requests"))
}

fn in_postgres(answer: Result<Option<Vec<String>>>, rows: u64) -> Check {
    let name = "Postgres holds as many rows, no apelido twice";
    match answer {
        Ok(Some(found)) => Check::new(
            name,
            found == [format!("{rows}|{rows}")],
            format!("rows|apelidos: {}", found.join(" ")),
        ),
        Ok(None) => Check::skipped(name, "Postgres cannot be reached: the topology is unknown"),
        Err(error) => Check::new(name, false, format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Outcome;

    #[test]
    fn rows_of_before_are_no_rows_of_now() {
        let check = |consulta: &str, rows: u64, before: u64, expected: &str| {
            let kinds = [consulta, "all"]
                .map(|name| (name.to_owned(), Percentiles { count: 4, ..Percentiles::default() }));
            let verdict = judge(&kinds, &Target::Unknown, rows, before);
            assert_eq!(verdict.word(), expected, "{rows} rows, {before} before: {verdict:?}");
        };
        check("consulta", 4, 0, "passed");
        check("consulta", 9, 5, "passed");
        check("consulta", 8, 5, "failed");
        check("consulta", 4, 5, "failed");
        check("another", 4, 0, "not judged");
    }

    #[test]
    fn postgres_must_hold_all_rows() {
        let check = |answer: &str, rows: u64, expected: Outcome| {
            assert_eq!(in_postgres(Ok(Some(vec![answer.to_owned()])), rows).outcome, expected, "{answer}");
        };
        check("9|9", 9, Outcome::Passed);
        check("8|8", 9, Outcome::Failed);
        check("9|8", 9, Outcome::Failed);
    }

    #[test]
    fn the_report_of_gatling_is_understood() {
        let request = |name: &str, total: u32, ko: &str, p99: u32| {
            format!(
                "name: \"{name}\",\nstats: {{\n\"name\": \"{name}\",\n\"numberOfRequests\": {{\n\"total\": \"{total}\",\n\"ok\": \"1\",\n\
                 \"ko\": \"{ko}\"\n}},\n\"maxResponseTime\": {{\n\"total\": \"99\",\n\"ok\": \"5\"\n}},\n\"percentiles4\": {{\n\
                 \"total\": \"{p99}\",\n\"ok\": \"7\"\n}},\n\"group1\": {{\n\"name\": \"t < 800 ms\",\n\"count\": 3\n}}\n"
            )
        };
        let text = request("All Requests", 9, "1", 12)
            + &request("criação", 5, "-", 13)
            + &request("consulta", 4, "-", 14);
        let kinds = parse(&text);
        let short: Vec<_> =
            kinds.iter().map(|(name, kind)| (&**name, kind.count, kind.ko, kind.p99, kind.max)).collect();
        assert_eq!(
            short,
            [("All Requests", 9, 1, 12, 99), ("criação", 5, 0, 13, 99), ("consulta", 4, 0, 14, 99)]
        );
        assert_eq!(created(&kinds), Some(4));
    }
}
