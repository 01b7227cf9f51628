//! What a private Postgres is started with, and what is the same for all of them.

use std::path::PathBuf;

use super::binaries::default_search;
use super::wait::Stop;
use crate::limits::SESSIONS_PER_CORE;

/// The superuser of the cluster.
pub const USER: &str = "rinha";
/// The database: the one that initdb makes, so that there is no second step that could fail.
pub const DATABASE: &str = "postgres";
/// Not a TCP port: only a part of the socket's name.
pub(super) const PORT: u16 = 5432;

/// Connections for the feed, another instance, and people with `psql`.
const CONNECTIONS_BESIDES: u32 = 30;
/// The least `max_connections`, however few the cores.
const CONNECTIONS_MIN: u32 = 50;

/// What a private Postgres is started with. `fsync` and `synchronous_commit` are no choice: they stay on.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Holds the cluster, its log, its socket and the server's lock; made if it is not there.
    pub data_dir: PathBuf,
    /// The `bin` directories where Postgres is looked for, in order.
    pub search: Vec<PathBuf>,
    /// `shared_buffers`, in MiB.
    pub shared_buffers_mib: u32,
    /// `max_connections`.
    pub max_connections: u32,
    /// Ends the waits of a start, and may hurry a stop.
    pub stop: Stop,
}

impl Settings {
    /// The defaults, for a data directory.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            search: default_search(),
            shared_buffers_mib: 128,
            max_connections: CONNECTIONS_MIN,
            stop: Stop::default(),
        }
    }

    /// A start with these settings is given up when `stop` is set; what was started is stopped at once when `stop` says so.
    #[must_use]
    pub fn until(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Makes room for an instance with so many cores, and for others besides.
    #[must_use]
    pub fn for_cores(mut self, cores: usize) -> Self {
        let own = u32::try_from(cores * SESSIONS_PER_CORE).unwrap_or(u32::MAX);
        self.max_connections = CONNECTIONS_MIN.max(own.saturating_add(CONNECTIONS_BESIDES));
        self
    }
}
