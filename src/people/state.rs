//! What one core says of itself.

use super::partition::PartitionState;
use crate::ledger::LedgerState;

/// One core.
#[derive(Clone, Copy, Debug)]
pub struct CoreState {
    /// Its part of the people.
    pub partition: PartitionState,
    /// Its clients.
    pub connections: ConnectionState,
    /// The bytes that it holds for them.
    pub ledger: LedgerState,
}

/// The connections of one core.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionState {
    /// Those that are open.
    pub open: usize,
    /// Those that were ever accepted.
    pub accepted: u64,
    /// Those for which there was no room.
    pub refused: u64,
    /// Those that a panic ended.
    pub panics: u64,
    /// Whether they are to end: no balancer should send more.
    pub draining: bool,
}
