//! A service of a topology, and how it is asked whatever runs it: this much containers and plain processes have in common.

use std::time::Duration;

/// Images are built within this.
pub(super) const UP_TIME_MAX: Duration = Duration::from_secs(20 * 60);
pub(super) const DOWN_TIME_MAX: Duration = Duration::from_secs(90);
/// Something short of an engine, of psql or of the balancer.
pub(super) const COMMAND_TIME_MAX: Duration = Duration::from_secs(30);

/// The rows of a statement on its standard input, columns joined by `|`.
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
