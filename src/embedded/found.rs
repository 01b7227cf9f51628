//! What a start finds before it makes or starts anything: which Postgres is to run, and as whom.

use std::path::{Path, PathBuf};

use super::account::Account;
use super::binaries::{self, Binaries};
use super::error::EmbeddedError;
use super::layout::cluster_version;

pub(super) struct Found {
    /// What made the cluster; `None` when there is none yet.
    pub(super) version: Option<String>,
    pub(super) binaries: Binaries,
    pub(super) account: Account,
}

impl Found {
    /// Looks for the programs of the cluster in `pgdata`, and for a user that may run them and get to `data_dir`.
    pub(super) fn look(pgdata: &Path, data_dir: &Path, search: &[PathBuf]) -> Result<Found, EmbeddedError> {
        let version = cluster_version(pgdata)?;
        let binaries = binaries::find(search, pgdata, version.as_deref())?;
        let account = Account::choose(pgdata, version.is_some())?;
        account.check_reach(&binaries.postgres, data_dir)?;
        Ok(Found { version, binaries, account })
    }
}
