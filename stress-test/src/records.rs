//! What the simulation recorded: requests and acknowledged pessoas. The files are described in `Recorder.java`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kinds of requests, in the order in which they are shown.
pub const KINDS: [&str; 4] = ["create", "get", "search", "invalid search"];

/// One request. Gatling's clock counts whole milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// One of `KINDS`.
    pub kind: String,
    /// Milliseconds since 1970.
    pub began: u64,
    /// Milliseconds from before the connection was made to the end of the answer.
    pub millis: u32,
    /// 0 if there was no answer.
    pub status: u16,
    /// Whether each check of the simulation held.
    pub ok: bool,
}

impl Request {
    /// A line of the records.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        Self::of(&mut line.split('\t'))
    }

    fn of(columns: &mut Columns<'_>) -> Option<Self> {
        Some(Self {
            kind: columns.next()?.to_owned(),
            began: parse(columns)?,
            millis: parse(columns)?,
            status: parse(columns)?,
            ok: parse(columns)?,
        })
    }

    /// When its answer was there, in milliseconds since 1970.
    pub fn ended(&self) -> u64 {
        self.began + u64::from(self.millis)
    }
}

/// One pessoa that was answered 201.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Milliseconds since 1970.
    pub at: u64,
    /// Its id, from `Location`.
    pub id: String,
    /// Which payload it was, from 0.
    pub payload: usize,
}

/// What `/contagem-pessoas` answered after the last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Milliseconds since 1970.
    pub at: u64,
    /// None without a 200 and a number.
    pub rows: Option<u64>,
}

/// All of one run.
#[derive(Debug)]
pub struct Records {
    /// In the order of their ends.
    pub requests: Vec<Request>,
    /// In the order of their answers.
    pub acknowledged: Vec<Acknowledged>,
    /// None if the simulation could not ask.
    pub count: Option<Count>,
    /// All payloads; `Acknowledged::payload` is an index into them.
    pub payloads: Vec<Value>,
}

/// Response times of one kind of request, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many requests.
    pub count: usize,
    /// How many of them failed a check.
    pub ko: usize,
    /// Half of the requests took no longer.
    pub p50: u32,
    /// 95 % of the requests took no longer.
    pub p95: u32,
    /// 99 % of the requests took no longer.
    pub p99: u32,
    /// 99.9 % of the requests took no longer; None if only Gatling's own report is known.
    pub p999: Option<u32>,
    /// The longest.
    pub max: u32,
}

impl Records {
    /// Whether the simulation left any.
    pub fn are_in(run: &Path) -> bool {
        run.join("records/requests.tsv").exists()
    }

    /// The requests of a run; none if the simulation left no records.
    pub fn requests_of(run: &Path) -> Result<Vec<Request>> {
        if Self::are_in(run) { Ok(Self::read(run)?.requests) } else { Ok(Vec::new()) }
    }

    /// Reads the records and the feeders of a run.
    pub fn read(run: &Path) -> Result<Self> {
        let records = run.join("records");
        let count = fs::read_to_string(records.join("count.tsv")).ok();
        let payloads = fs::read_to_string(run.join("feeders/pessoas-payloads.tsv"))?;
        Ok(Self {
            requests: lines(&records.join("requests.tsv"), Request::of)?,
            acknowledged: lines(&records.join("acknowledged.tsv"), |columns| {
                let at = parse(columns)?;
                Some(Acknowledged { at, id: columns.next()?.to_owned(), payload: parse(columns)? })
            })?,
            count: count.as_deref().and_then(parse_count),
            // The contest's own file has lines that are no JSON.
            payloads: payloads
                .lines()
                .skip(1)
                .map(|line| serde_json::from_str(line).unwrap_or_default())
                .collect(),
        })
    }

    /// Whether the simulation came to its end: its last deed is to count.
    pub fn are_whole(&self) -> bool {
        self.count.is_some() && !self.requests.is_empty()
    }

    /// How many creates were answered 201.
    pub fn created(&self) -> usize {
        self.requests.iter().filter(|request| request.kind == "create" && request.status == 201).count()
    }

    /// When the last answer arrived, in milliseconds since 1970.
    pub fn end(&self) -> Option<u64> {
        self.requests.iter().map(Request::ended).max()
    }

    /// The response times of each kind that was sent, in the order of `KINDS`, and then of all requests.
    pub fn percentiles(&self) -> Vec<(String, Percentiles)> {
        let of = |kind: Option<&str>| {
            let requests =
                self.requests.iter().filter(|request| kind.is_none_or(|kind| request.kind == kind));
            Percentiles::of(requests)
        };
        let kinds =
            KINDS.iter().map(|kind| ((*kind).to_owned(), of(Some(kind)))).filter(|(_, kind)| kind.count > 0);
        kinds.chain([("all".to_owned(), of(None))]).collect()
    }

    /// Statuses and how often each came, 0 for no answer.
    pub fn statuses(&self, kind: &str) -> BTreeMap<u16, usize> {
        let mut statuses = BTreeMap::new();
        for request in self.requests.iter().filter(|request| request.kind == kind) {
            *statuses.entry(request.status).or_default() += 1;
        }
        statuses
    }
}

impl Percentiles {
    /// The nearest-rank percentiles: each is a time that a request took.
    pub fn of<'a>(requests: impl Iterator<Item = &'a Request>) -> Self {
        let (mut millis, mut ko) = (Vec::new(), 0);
        for request in requests {
            millis.push(request.millis);
            ko += usize::from(!request.ok);
        }
        millis.sort_unstable();
        let at = |permille: usize| match millis.len() {
            0 => 0,
            count => millis[(count * permille).div_ceil(1000).max(1) - 1],
        };
        Self {
            count: millis.len(),
            ko,
            p50: at(500),
            p95: at(950),
            p99: at(990),
            p999: (!millis.is_empty()).then(|| at(999)),
            max: at(1000),
        }
    }
}

type Columns<'a> = std::str::Split<'a, char>;

fn lines<T>(file: &Path, row: impl Fn(&mut Columns<'_>) -> Option<T>) -> Result<Vec<T>> {
    let text = fs::read_to_string(file).with_context(|| format!("{}: no such records", file.display()))?;
    let rows = text.lines().enumerate().map(|(number, line)| {
        row(&mut line.split('\t'))
            .ok_or_else(|| anyhow!("{} line {}: unexpected columns: {line}", file.display(), number + 1))
    });
    rows.collect()
}

fn parse<T: FromStr>(columns: &mut Columns<'_>) -> Option<T> {
    columns.next()?.parse().ok()
}

fn parse_count(text: &str) -> Option<Count> {
    let mut columns = text.trim_end().split('\t');
    let (at, status): (u64, u16) = (parse(&mut columns)?, parse(&mut columns)?);
    Some(Count { at, rows: parse(&mut columns).filter(|_| status == 200) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentiles(millis: impl IntoIterator<Item = u32>) -> Percentiles {
        let requests: Vec<Request> = millis
            .into_iter()
            .map(|millis| Request { kind: "get".to_owned(), began: 0, millis, status: 200, ok: millis != 7 })
            .collect();
        Percentiles::of(requests.iter())
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let expected =
            Percentiles { count: 1000, ko: 1, p50: 500, p95: 950, p99: 990, p999: Some(999), max: 1000 };
        assert_eq!(percentiles((1..=1000).rev()), expected);
        let one = Percentiles { count: 1, ko: 0, p50: 3, p95: 3, p99: 3, p999: Some(3), max: 3 };
        assert_eq!(percentiles([3]), one);
        assert_eq!(percentiles([]), Percentiles::default());
        assert_eq!(percentiles([1, 1, 9]).p99, 9);
    }

    #[test]
    fn a_count_without_a_200_is_no_count() {
        assert_eq!(parse_count("5\t200\t17\n"), Some(Count { at: 5, rows: Some(17) }));
        assert_eq!(parse_count("5\t503\t{}\n"), Some(Count { at: 5, rows: None }));
        assert_eq!(parse_count(""), None);
    }
}
