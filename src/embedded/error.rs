//! Why the private Postgres is not there. Each message is one line: what was expected, what was found, what to do.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use thiserror::Error;

use crate::limits::POSTGRES_MAJOR_MIN;

/// What Postgres says when `/dev/shm` is full. Less telling lines follow it.
pub(super) const SHARED_MEMORY: &str = "could not resize shared memory segment";

/// Why the private Postgres could not be started, kept or stopped. A start-up error: printed once, never matched on a
/// hot path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No usable binaries in any of the places that were searched.
    #[error(
        "no PostgreSQL {POSTGRES_MAJOR_MIN} or newer found (initdb and postgres in PATH, /usr/lib/postgresql/*/bin or /usr/pgsql-*/bin): \
         install it (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server), \
         or name a database with --database-url"
    )]
    NoPostgres,
    /// The cluster was made by a major version that is not installed.
    #[error(
        "{} was made by PostgreSQL {version} and only that version can open it (installed: {installed}): \
         install it (Debian, Ubuntu: apt-get install postgresql-{version}), or name another --data-dir", .pgdata.display()
    )]
    Version {
        /// The cluster's directory.
        pgdata: PathBuf,
        /// What its `PG_VERSION` says.
        version: String,
        /// The major versions found, for the reader.
        installed: String,
    },
    /// Another server holds the lock of the data directory.
    #[error(
        "another rinha server ({holder}) uses {}: stop it, or name another --data-dir", .data_dir.display()
    )]
    Locked {
        /// The data directory.
        data_dir: PathBuf,
        /// `process N`, from the lock file.
        holder: String,
    },
    /// A file or directory of the data directory cannot be made or written.
    #[error(
        "cannot write {}: {cause}: the data directory must be writable by this user, see --data-dir", .path.display()
    )]
    Unwritable {
        /// The path that refused.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The user that Postgres runs as cannot get into the data directory.
    #[error(
        "Postgres runs as user {user} (it refuses root), who may not enter {}: chmod o+x {}, or name another --data-dir",
        .ancestor.display(), .ancestor.display()
    )]
    Unreachable {
        /// The highest directory that blocks the way.
        ancestor: PathBuf,
        /// The user that Postgres runs as.
        user: String,
    },
    /// A Postgres program could not be executed.
    #[error("cannot run {} as user {user}: {cause}", .program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// The user it was to run as.
        user: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Started as root, and there is no user to drop to.
    #[error(
        "Postgres refuses root, and there is no user postgres or nobody to run it as: create one (useradd --system postgres), \
         or start this server as another user"
    )]
    NoAccount,
    /// The cluster belongs to a user that Postgres cannot run as.
    #[error(
        "{} belongs to {owner}, and Postgres opens only a directory of the user it runs as: {remedy}", .pgdata.display()
    )]
    Owner {
        /// The cluster's directory.
        pgdata: PathBuf,
        /// Who owns it.
        owner: String,
        /// What to do about it.
        remedy: String,
    },
    /// The place of the cluster is taken by something else.
    #[error(
        "{} is not empty and not a Postgres cluster (no PG_VERSION): move it away, or name another --data-dir", .pgdata.display()
    )]
    NotACluster {
        /// The cluster's directory.
        pgdata: PathBuf,
    },
    /// A postmaster that this server did not start runs on the cluster.
    #[error(
        "process {pid} is a Postgres that someone else started on {}: stop it (pg_ctl stop), or name another --data-dir",
        .pgdata.display()
    )]
    ForeignPostmaster {
        /// Its process id.
        pid: i32,
        /// The cluster's directory.
        pgdata: PathBuf,
    },
    /// The private socket directory outside the data directory is somebody else's.
    #[error(
        "{} must be a directory of user {user} with mode 0700, for the socket of Postgres: remove it, \
         or name a --data-dir with a shorter path", .directory.display()
    )]
    SocketDir {
        /// The directory.
        directory: PathBuf,
        /// The user that Postgres runs as.
        user: String,
    },
    /// The disk is full.
    #[error(
        "no space left on the disk of {} ({free_mib} MiB free): free some (a new cluster takes about 40 MiB, and its write-ahead log \
         up to 1 GiB), or name another --data-dir", .directory.display()
    )]
    DiskFull {
        /// The directory on that disk.
        directory: PathBuf,
        /// What is free there, in MiB.
        free_mib: u64,
    },
    /// initdb or postgres said why it gave up.
    #[error("{program} failed: {reason} (more in {})", .log.display())]
    Failed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The last telling line of its output.
        reason: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// `/dev/shm` has no room for what Postgres shares between its processes.
    #[error("{program} failed: {reason}: /dev/shm is too small: give it 16 MiB (docker run: --shm-size=16m)")]
    SharedMemory {
        /// initdb or postgres.
        program: &'static str,
        /// The telling line of its output.
        reason: String,
    },
    /// The start was given up, as its settings' [`Stop`](super::Stop) asked for.
    #[error("the start was given up before Postgres was there")]
    Stopped,
    /// The bound on a wait passed.
    #[error("{program} was not done within {seconds} s: {reason} (more in {})", .log.display())]
    TimedOut {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The bound.
        seconds: u64,
        /// The last telling line of its output.
        reason: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// A process survived SIGKILL for too long: it hangs in the kernel, on a broken disk for instance.
    #[error("process {pid} of Postgres does not end, not even by SIGKILL: look at the disk of {}", .pgdata.display())]
    Unstoppable {
        /// Its process id.
        pid: i32,
        /// The cluster's directory.
        pgdata: PathBuf,
    },
}

/// With less free than one WAL segment, the full disk is the reason, whatever Postgres said: its log may be on that
/// disk.
pub(super) const FREE_MIB_MIN: u64 = 16;

impl EmbeddedError {
    /// The error of a write that was refused with `cause`. A full disk has an error of its own.
    pub(super) fn unwritable(path: &Path, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull => Self::disk_full(path),
            _ => Self::Unwritable { path: path.to_path_buf(), cause },
        }
    }

    /// The error of a program that gave `reason` as its last line. A full disk has an error of its own.
    pub(super) fn failed(program: &'static str, reason: String, log: &Path) -> Self {
        if reason.contains(SHARED_MEMORY) {
            return Self::SharedMemory { program, reason };
        }
        let directory = log.parent().unwrap_or(log);
        let full = free_mib(directory).is_some_and(|free| free < FREE_MIB_MIN);
        if full || reason.contains("No space left on device") {
            return Self::disk_full(directory);
        }
        Self::Failed { program, reason, log: log.to_path_buf() }
    }

    fn disk_full(path: &Path) -> Self {
        // The path itself may be what could not be made: its nearest existing ancestor is on the same disk.
        let directory = path.ancestors().find(|ancestor| ancestor.is_dir());
        let directory = directory.unwrap_or(Path::new("/"));
        Self::DiskFull { directory: directory.to_path_buf(), free_mib: free_mib(directory).unwrap_or(0) }
    }
}

/// Space that a user without privileges may still take, in MiB.
pub(super) fn free_mib(directory: &Path) -> Option<u64> {
    let disk = statvfs(directory).ok()?;
    Some(disk.blocks_available().saturating_mul(disk.fragment_size()) >> 20)
}
