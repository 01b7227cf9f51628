//! What one core says of itself.

use std::time::Duration;

use super::share::ShareState;
use crate::ledger::LedgerState;

/// One core.
#[derive(Clone, Debug)]
pub struct CoreState {
    /// Its part of the people.
    pub share: ShareState,
    /// Its clients.
    pub connections: ConnectionState,
    /// The bytes that it holds for them.
    pub ledger: LedgerState,
    /// What it asks the other cores.
    pub mesh: MeshState,
}

impl CoreState {
    /// How old the oldest memory of these cores is; `None` while one of them has no answer of the feed.
    pub fn oldest<'a>(cores: impl IntoIterator<Item = &'a CoreState>) -> Option<Duration> {
        let ages = cores.into_iter().map(|core| core.share.age);
        ages.max_by_key(|age| age.unwrap_or(Duration::MAX)).flatten()
    }
}

/// The questions of one core to the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeshState {
    /// Those that were asked, by what for: each is a hop to another core and back.
    pub asked: [(&'static str, u64); 5],
    /// Those to the core that has answered the fewest, and has not answered these yet.
    pub open_max: usize,
    /// Those for which there was no room.
    pub refused: u64,
}

/// The connections of one core.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionState {
    /// Those that are open.
    pub open: usize,
    /// How many may be open.
    pub limit: usize,
    /// Those that were ever accepted.
    pub accepted: u64,
    /// Those for which there was no room.
    pub refused: u64,
    /// Those that a panic ended.
    pub panics: u64,
    /// Whether they are to end: no balancer should send more.
    pub draining: bool,
}
