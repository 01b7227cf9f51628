//! What containers and plain processes have in common: a service of a topology, and how it is asked whatever runs it.

use std::time::Duration;

/// Limit of a start; it includes the build of images or programs.
pub(super) const UP_TIME_MAX: Duration = Duration::from_secs(20 * 60);
pub(super) const DOWN_TIME_MAX: Duration = Duration::from_secs(90);
/// Limit of a short command of an engine, of psql or of the balancer.
pub(super) const COMMAND_TIME_MAX: Duration = Duration::from_secs(30);

/// Prints the rows of the statement on its standard input, columns joined by `|`.
pub(super) const PSQL: &str = "psql -XAt -U rinha -d rinha -v ON_ERROR_STOP=1";

/// A service's main process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// As compose.yml calls it.
    pub name: String,
    /// As this process sees it.
    pub pid: u32,
    /// How often it was started again, as far as an engine counts that.
    pub restarts: u32,
}
