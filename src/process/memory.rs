//! How the memory limit is shared out: the cache has its budget, the process what it needs anyway, and the rest is for
//! what the cores hold for their clients.

use crate::limits::{CORE_BYTES, LANE_BYTES, LEDGER_BYTES_DEFAULT, LEDGER_BYTES_MIN, PROCESS_BYTES};

/// How the memory limit is shared out.
pub(super) struct Budget {
    /// Bytes; `None`: no limit is known.
    pub(super) limit: Option<usize>,
    /// For pessoas and their index, on all cores together.
    pub(super) cache: usize,
    /// What each core may hold for its clients.
    pub(super) ledger: usize,
    /// Whether all of it is below the limit. The least that serves is given even where it is not.
    pub(super) fits: bool,
}

impl Budget {
    /// For so many cores, and nodes of the database.
    pub(super) fn share(limit: Option<usize>, cache: usize, cores: usize, nodes: usize) -> Budget {
        let taken = cache + PROCESS_BYTES + cores * (CORE_BYTES + (nodes - 1) * LANE_BYTES);
        let ledger = ledger_bytes(limit, taken, cores);
        let all = taken + ledger * cores;
        Budget { limit, cache, ledger, fits: limit.is_none_or(|limit| all <= limit) }
    }
}

/// Bytes that each of `cores` cores may hold for its clients, beside what is `taken` in all. A quarter of what is left goes to the allocator, whose blocks are larger than what was asked for.
fn ledger_bytes(limit: Option<usize>, taken: usize, cores: usize) -> usize {
    let Some(limit) = limit else { return LEDGER_BYTES_DEFAULT };
    let left = limit.saturating_sub(taken) / 4 * 3;
    (left / cores).clamp(LEDGER_BYTES_MIN, LEDGER_BYTES_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cache_and_the_process_leave_is_shared_by_the_cores() {
        const MIB: usize = 1 << 20;
        for (limit, cache, (cores, nodes), expected) in [
            (None, 1024, (2, 1), 256),
            (Some(512), 256, (1, 1), 171),
            (Some(512), 256, (2, 1), 81),
            (Some(128), 64, (1, 1), 27),
            (Some(512), 256, (2, 4), 74),
            // The least that serves: a smaller box must have a smaller cache.
            (Some(128), 64, (2, 1), 9),
            (Some(64), 32, (2, 1), 8),
            (Some(64), 999, (2, 1), 8),
            (Some(1 << 20), 1024, (1, 1), 256),
        ] {
            let limit = limit.map(|limit: usize| limit * MIB);
            let budget = Budget::share(limit, cache * MIB, cores, nodes);
            assert_eq!(budget.ledger / MIB, expected, "{limit:?} {cache} {cores}");
        }
    }

    #[test]
    fn what_does_not_fit_is_known() {
        const MIB: usize = 1 << 20;
        for (limit, cache, cores, fits) in [
            (None, 1024, 2, true),
            (Some(512), 256, 2, true),
            (Some(64), 32, 2, false),
            (Some(512), 511, 1, false),
        ] {
            let budget = Budget::share(limit.map(|limit: usize| limit * MIB), cache * MIB, cores, 1);
            assert_eq!(budget.fits, fits, "{limit:?} {cache} {cores}");
        }
    }
}
