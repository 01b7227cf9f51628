//! How the memory limit is shared out: the cache has its budget, the process what it needs anyway, and the rest is for
//! what the cores hold for their clients.

use crate::limits::{CORE_BYTES, LEDGER_BYTES_DEFAULT, LEDGER_BYTES_MIN, PROCESS_BYTES};

/// Bytes that each of `cores` cores may hold for its clients, beside a cache of `cache` bytes in all. A quarter of what is
/// left goes to the allocator, whose blocks are larger than what was asked for.
pub(super) fn ledger_bytes(limit: Option<usize>, cache: usize, cores: usize) -> usize {
    let Some(limit) = limit else { return LEDGER_BYTES_DEFAULT };
    let taken = cache + PROCESS_BYTES + cores * CORE_BYTES;
    let left = limit.saturating_sub(taken) / 4 * 3;
    (left / cores).clamp(LEDGER_BYTES_MIN, LEDGER_BYTES_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cache_and_the_process_leave_is_shared_by_the_cores() {
        const MIB: usize = 1 << 20;
        for (limit, cache, cores, expected) in [
            (None, 1024, 2, 256),
            (Some(512), 256, 1, 171),
            (Some(512), 256, 2, 81),
            (Some(128), 64, 1, 27),
            // The least that serves: a smaller box must have a smaller cache.
            (Some(128), 64, 2, 9),
            (Some(64), 32, 2, 8),
            (Some(64), 999, 2, 8),
            (Some(1 << 20), 1024, 1, 256),
        ] {
            let bytes = ledger_bytes(limit.map(|limit: usize| limit * MIB), cache * MIB, cores);
            assert_eq!(bytes / MIB, expected, "{limit:?} {cache} {cores}");
        }
    }
}
