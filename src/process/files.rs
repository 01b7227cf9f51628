//! The limit on open files, and how many connections it leaves room for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use crate::limits::{CONNECTIONS_MAX, FILE_RESERVE, FILE_RESERVE_PER_CORE};

/// Raises the soft limit on open files to the hard one, and returns how many connections each core then has room for.
pub(super) fn raise_limit(cores: usize) -> Result<usize, String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| format!("getrlimit: {errno}"))?;
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(errno) => {
            warn!(%errno, soft, "the limit on open files could not be raised");
            soft
        }
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let reserve = FILE_RESERVE + cores * FILE_RESERVE_PER_CORE;
    match (files.saturating_sub(reserve) / cores).min(CONNECTIONS_MAX) {
        0 => Err(format!(
            "expected to be allowed more than {reserve} open files, got {files} (raise ulimit -n)"
        )),
        connections => Ok(connections),
    }
}
