//! Which lie this process tells: the one that `RINHA_LIE` names.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether this lie is told.
pub(crate) fn told(name: &str) -> bool {
    static LIE: OnceLock<Option<String>> = OnceLock::new();
    LIE.get_or_init(|| std::env::var("RINHA_LIE").ok()).as_deref() == Some(name)
}

/// Whether it is told this time: once in `often`.
pub(crate) fn told_once_in(often: u64, name: &str) -> bool {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    told(name) && TIMES.fetch_add(1, Ordering::Relaxed) % often == often - 1
}
