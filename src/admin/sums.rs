//! What all cores and threads counted together. It knows no name of a metric.

use std::collections::BTreeMap;

use super::board::{Asked, Watched};
use crate::api::Series;
use crate::metrics::{TIME, Tally};
use crate::people::CoreState;
use crate::postgres::{Counters, Operation};

/// The requests that were answered, and how long they took.
pub(super) fn requests(asked: &[Asked]) -> BTreeMap<Series, Tally> {
    let mut sums: BTreeMap<Series, Tally> = BTreeMap::new();
    for (series, tally) in
        asked.iter().filter_map(|asked| asked.last.as_ref()).flat_map(|last| &last.requests)
    {
        *sums.entry(*series).or_insert_with(|| Tally::empty(&TIME)) += *tally;
    }
    sums
}

/// How many were told 503, by what there was no room, no database or no time for. None before the cores run.
pub(super) fn refusals(asked: &[Asked]) -> Vec<(&'static str, u64)> {
    let last: Vec<&CoreState> = asked.iter().filter_map(|asked| Some(&asked.last.as_ref()?.state)).collect();
    if last.is_empty() {
        return Vec::new();
    }
    let sum = |of: fn(&CoreState) -> u64| last.iter().map(|state| of(state)).sum();
    vec![
        ("connections", sum(|core| core.connections.refused)),
        ("memory", sum(|core| core.ledger.refused)),
        ("mesh_queue", sum(|core| core.mesh.refused)),
        ("commit_queue", sum(|core| core.share.lines.commit.refused)),
        ("read_queue", sum(|core| core.share.lines.read.refused)),
        ("count_queue", sum(|core| core.share.lines.count.refused)),
        ("search_queue", sum(|core| core.share.lines.search.refused)),
        ("commit_timeout", sum(|core| core.share.lines.commit.timed_out)),
        ("read_timeout", sum(|core| core.share.lines.read.timed_out)),
        ("count_timeout", sum(|core| core.share.lines.count.timed_out)),
        ("search_timeout", sum(|core| core.share.lines.search.timed_out)),
        ("not_stored", sum(|core| core.share.lines.not_stored)),
    ]
}

/// How long the statements of `operation` took.
pub(super) fn operation(watched: &Watched, operation: Operation) -> Tally {
    sum(watched, |counters| counters.operation(operation))
}

/// The rows of each batch that was sent to be committed.
pub(super) fn batches(watched: &Watched) -> Tally {
    sum(watched, Counters::batches)
}

fn sum(watched: &Watched, of: impl Fn(&Counters) -> Tally) -> Tally {
    let mut tallies = watched.counters.iter().map(|counters| of(counters));
    let mut sum = tallies.next().expect("the feed counts");
    tallies.for_each(|tally| sum += tally);
    sum
}
