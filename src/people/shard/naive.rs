//! The plain version of a shard: every field of every pessoa, scanned for each search. The fuzzer takes this file too, so
//! it knows only what `shard` shows to all.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::limits::SEARCH_RESULTS_MAX;
use crate::people::shard::{Lookup, NoAnswer, Shard};
use crate::pessoa::{SEPARATOR, lower};

/// Every field of every pessoa, by id, and its body.
#[derive(Default)]
pub(super) struct Naive {
    pub(super) pessoas: HashMap<Uuid, (Vec<Vec<u8>>, Vec<u8>)>,
}

impl Naive {
    fn matches(&self, term: &[u8]) -> HashSet<Uuid> {
        let contains =
            |field: &Vec<u8>| term.is_empty() || field.windows(term.len()).any(|window| window == term);
        let pessoas = self.pessoas.iter();
        pessoas.filter(|(_, (fields, _))| fields.iter().any(contains)).map(|(id, _)| *id).collect()
    }
}

pub(super) fn lowered(input: &str) -> Vec<u8> {
    let mut out = Vec::new();
    lower(input, &mut out);
    out
}

/// Puts a pessoa into both; whether it was new to the shard.
pub(super) fn insert(shard: &mut Shard, naive: &mut Naive, id: u128, fields: &[String]) -> bool {
    let id = Uuid::from_u128(id);
    let fields: Vec<Vec<u8>> = fields.iter().map(|field| lowered(field)).collect();
    let number = naive.pessoas.len();
    // Some as pessoas are rendered, some not.
    let body = match number % 3 {
        0 => format!("{{{id} {number}}}"),
        _ => format!(
            "{{\"id\":\"{id}\",\"apelido\":\"a\",\"nome\":\"{number}\",\"nascimento\":\"2000-10-01\",\"stack\":[\"Go\",\"{}\"]}}",
            number % 300
        ),
    }
    .into_bytes();
    let new = shard.insert(id, &fields.join(&SEPARATOR), &body);
    // What was forgotten may come back with another body.
    if new {
        naive.pessoas.insert(id, (fields, body));
    }
    new
}

/// Compares one search with the scan.
pub(super) fn check(shard: &Shard, naive: &Naive, term: &str) {
    let term = String::from_utf8(lowered(term)).expect("text");
    let mut found = Vec::new();
    match shard.search(term.as_bytes(), &mut found) {
        Ok(()) => {
            let expected = naive.matches(term.as_bytes());
            assert!(found.is_sorted_by(|a, b| a.id < b.id), "ascending, each once: {term:?}");
            let ids: HashSet<Uuid> = found.iter().map(|found| found.id).collect();
            assert!(ids.is_subset(&expected), "{term:?} found what does not match");
            assert_eq!(ids.len(), expected.len().min(SEARCH_RESULTS_MAX), "{term:?}");
            for one in &found {
                let body = shard.body(one);
                assert!(body.is_none_or(|body| body == naive.pessoas[&one.id].1[..]));
                assert_eq!(body.map_or(Lookup::Dropped, Lookup::Body), shard.get(&one.id));
            }
        }
        Err(NoAnswer::Incomplete) => {
            assert!(found.is_empty() && !shard.memory().complete);
        }
        Err(NoAnswer::Loading) => panic!("{term:?}: no bulk load is under way"),
        Err(NoAnswer::TooCostly) => panic!("{term:?}: nothing here is costly"),
    }
}
