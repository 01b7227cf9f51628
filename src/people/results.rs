//! Bodies on their way to a client that is not served where they live: copies, counted in the ledger of the core that
//! asked for them.

use std::ops::Range;

use uuid::Uuid;

use crate::ledger::Held;
use crate::limits::SEARCH_RESULTS_MAX;

/// Bodies of pessoas, as the API shows them.
#[derive(Debug, Default)]
pub struct Bodies {
    bytes: Vec<u8>,
    /// For each pessoa, where its body is in `bytes`.
    found: Vec<(Uuid, Range<usize>)>,
}

impl Bodies {
    /// Adds one.
    pub fn push(&mut self, id: Uuid, body: &[u8]) {
        self.push_with(id, |out| out.extend_from_slice(body));
    }

    /// Adds one that `write` appends.
    pub fn push_with(&mut self, id: Uuid, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.found.push((id, start..self.bytes.len()));
    }

    /// Each one's id and body, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, &[u8])> {
        self.found.iter().map(|(id, body)| (*id, &self.bytes[body.clone()]))
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What a search found, on all cores.
pub struct Results {
    parts: Vec<Bodies>,
    _held: Option<Held>,
}

impl Results {
    /// Nothing was found.
    pub(super) fn none() -> Results {
        Results { parts: Vec::new(), _held: None }
    }

    /// The results in `parts`, whose bytes are `held`.
    pub(super) fn new(parts: Vec<Bodies>, held: Held) -> Results {
        Results { parts, _held: Some(held) }
    }

    /// The bodies of at most 50 pessoas, in ascending order of id.
    pub fn bodies(&self) -> Vec<&[u8]> {
        let mut found: Vec<(Uuid, &[u8])> = self.parts.iter().flat_map(Bodies::iter).collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        found.truncate(SEARCH_RESULTS_MAX);
        found.into_iter().map(|(_, body)| body).collect()
    }
}
