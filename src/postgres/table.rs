//! The table as whoever settles a batch sees it: what may be asked of it, and what each answer promises. It knows neither SQL
//! nor sessions; the session that commits is one such table, and the tests have another.

use std::time::Duration;

use ahash::{HashMap, HashSet};
use uuid::Uuid;

use super::failure::Failure;
use super::history::Identity;
use super::job::Insert;
use super::layout::Partitions;
use super::sql::Xid8;

/// What one insert committed.
pub(super) struct Inserted {
    pub(super) ids: HashSet<Uuid>,
    /// The insert's transaction; `None` when it inserted nothing.
    pub(super) tx: Option<Xid8>,
}

/// The table, over one session.
pub(super) trait Table {
    /// How many tables there are: rows of two partitions are never in one statement.
    fn partitions(&self) -> Partitions;

    /// The history that the session's server writes.
    fn identity(&self) -> Identity;

    /// What the server has warned of since this was last asked.
    fn take_warning(&self) -> Option<String>;

    /// Inserts the rows; those whose ids are returned are now committed, if the server [warned](Self::take_warning) of
    /// nothing meanwhile.
    async fn insert(&self, rows: &[Insert]) -> Result<Inserted, Failure>;

    /// Which id owns each of the rows' apelidos, by rows that are durable: the answer has waited for that.
    async fn holders(&self, rows: &[Insert]) -> Result<HashMap<Box<str>, Uuid>, Failure>;

    /// Returns when all that this session has seen committed is durable.
    ///
    /// # Errors
    ///
    /// Also a warning, which the server gives when it was told to wait for the standby no longer.
    async fn barrier(&self) -> Result<(), Failure>;

    /// How long a statement may wait for a lock.
    async fn wait_for_locks(&self, time_max: Duration) -> Result<(), Failure>;

    /// Whether nobody holds the whole table of these rows against inserts.
    async fn table_is_free(&self, rows: &[Insert]) -> Result<bool, Failure>;
}
