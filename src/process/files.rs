//! The limit on open files, and how many connections it leaves room for.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::{CONNECTIONS_MAX, FILE_RESERVE, FILE_RESERVE_PER_CORE, FILE_RESERVE_PER_LANE};

/// What the limit on open files allows.
pub(super) struct Files {
    /// Open files of the process.
    pub(super) files: usize,
    /// Connections of each core.
    pub(super) connections: usize,
    /// From and to what the limit could not be raised, and why, if so.
    pub(super) not_raised: Option<String>,
}

/// Raises the soft limit on open files to the hard one, for so many cores and nodes of the database.
///
/// # Errors
///
/// One line: it leaves no room for a connection.
pub(super) fn raise_limit(cores: usize, nodes: usize) -> Result<Files, String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| format!("getrlimit: {errno}"))?;
    let (files, not_raised) = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => (hard, None),
        Err(errno) => (soft, Some(format!("from {soft} to {hard}: {errno}"))),
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let reserve = FILE_RESERVE + cores * (FILE_RESERVE_PER_CORE + (nodes - 1) * FILE_RESERVE_PER_LANE);
    match (files.saturating_sub(reserve) / cores).min(CONNECTIONS_MAX) {
        0 => Err(format!(
            "expected to be allowed more than {reserve} open files, got {files} (raise ulimit -n)"
        )),
        connections => Ok(Files { files, connections, not_raised }),
    }
}
