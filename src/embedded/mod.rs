//! The private Postgres: the installed binaries, run on a cluster of the server's own, reached by a unix socket only. Knows
//! no SQL and nothing of the server; blocks, for the main thread at start and exit.
//!
//! Read in this order: `layout` (the data directory), `binaries`, `account` (who runs it), `cluster` (initdb and the
//! settings), `process` (which processes are ours), and below how they make a start, a take-over, a restart and a stop.
//!
//! A server that was killed leaves its postmaster behind, with every row it acknowledged. The next start takes it over
//! when it answers and was started with the same settings, and otherwise stops it and starts its own.

mod account;
mod binaries;
mod cluster;
mod error;
mod inherit;
mod layout;
mod process;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use nix::sys::signal::Signal;

pub use self::binaries::default_search;
pub use self::error::EmbeddedError;

use self::account::Account;
use self::binaries::Binaries;
use self::layout::Layout;
use self::process::{Identity, PidFile, Postmaster};
use crate::limits::{DRAIN_TIME_MAX, HANG_UP_TIME_MAX};

/// Oldest major version that has what `schema.sql` needs (`xid8`).
pub const MAJOR_MIN: u32 = 13;
/// The superuser of the cluster.
pub const USER: &str = "rinha";
/// The database: the one that initdb makes, so that there is no second step that could fail.
pub const DATABASE: &str = "postgres";
/// Not a TCP port: only a part of the socket's name.
const PORT: u16 = 5432;

/// Longest path of a unix socket, in bytes (`sun_path` without its NUL).
const SOCKET_PATH_MAX: usize = 107;
/// The log is kept aside and begun again above this.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// How much of the end of a program's output is searched for the reason of a failure.
const LOG_TAIL_BYTES: u64 = 64 << 10;
/// Enough of a process' command line: the settings, and two paths of 4096 bytes.
const COMMAND_LINE_BYTES: usize = 16 << 10;
/// How long initdb may take; it takes about a second.
const INITDB_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a start may take, crash recovery included.
const READY_TIME_MAX: Duration = Duration::from_secs(120);
/// How long an orphan that calls itself ready has to answer; then it is stopped.
const ADOPT_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a start waits for a server that is just exiting to let go of the data directory.
const LOCK_TIME_MAX: Duration = Duration::from_millis(500);
/// One question whether Postgres answers.
const PROBE_TIME_MAX: Duration = Duration::from_secs(1);
/// The children of a dead postmaster may finish their statement for this long, then they are killed.
const STRAY_GRACE: Duration = Duration::from_millis(500);
/// And have this long to be gone.
const STRAY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a start is repeated that found the shared memory of a dead postmaster still in use.
const BUSY_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause between such attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// A stop that writes everything out (SIGINT).
const STOP_FAST_MAX: Duration = Duration::from_secs(2);
/// A stop that leaves the rest to the next start's recovery (SIGQUIT), which loses nothing.
const STOP_QUIT_MAX: Duration = Duration::from_millis(400);
/// The end of a killed process.
const STOP_KILL_MAX: Duration = Duration::from_millis(400);
/// How often a condition is looked at while it is waited for.
const POLL_PERIOD: Duration = Duration::from_millis(5);
/// What all those waits may be late together.
const SLACK: Duration = Duration::from_millis(200);

// The contract: after SIGTERM the server is gone within 10 s, its database included.
const _: () = assert!(
    DRAIN_TIME_MAX.as_millis()
        + HANG_UP_TIME_MAX.as_millis()
        + STOP_FAST_MAX.as_millis()
        + STOP_QUIT_MAX.as_millis()
        + STOP_KILL_MAX.as_millis()
        // Strays of a postmaster that had to be killed.
        + STOP_KILL_MAX.as_millis()
        + SLACK.as_millis()
        < 10_000
);

/// Connections of one core: commits, reads and searches.
const CONNECTIONS_PER_CORE: usize = 3;
/// For the feed, another instance, and people with `psql`.
const CONNECTIONS_BESIDES: u32 = 30;
/// The least, whatever the cores.
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
        }
    }

    /// Room for an instance with so many cores, and for others besides.
    #[must_use]
    pub fn for_cores(mut self, cores: usize) -> Self {
        let own = u32::try_from(cores * CONNECTIONS_PER_CORE).unwrap_or(u32::MAX);
        self.max_connections = CONNECTIONS_MIN.max(own.saturating_add(CONNECTIONS_BESIDES));
        self
    }
}

/// A running private Postgres. Stopped when dropped.
#[derive(Debug)]
pub struct Embedded {
    layout: Layout,
    settings: Settings,
    account: Account,
    binaries: Binaries,
    /// None: stopped.
    postmaster: Option<Postmaster>,
    adopted: bool,
    /// Held for as long as this server uses the directory.
    _lock: Flock<File>,
}

impl Embedded {
    /// Makes the cluster if there is none, starts it or takes over the orphan of a killed server, and waits until it takes
    /// connections. A first start takes about a second, a later one less than a tenth.
    ///
    /// # Errors
    ///
    /// One clear line; nothing keeps running and the data directory is as it was.
    pub fn start(settings: &Settings) -> Result<Self, EmbeddedError> {
        let layout = Layout::create(&settings.data_dir)?;
        let lock = layout.lock()?;
        layout.log.bound();
        cluster::remove_leftovers(&layout);
        let version = layout.cluster_version()?;
        let binaries = binaries::find(&settings.search, &layout.pgdata, version.as_deref())?;
        let account = Account::choose(&layout.pgdata, version.is_some())?;
        account.check_reach(&binaries.postgres, &layout.data_dir)?;
        if version.is_none() {
            tracing::info!(pgdata = %layout.pgdata.display(), user = account.name, "making a Postgres cluster");
            cluster::create(&layout, &account, &binaries)?;
        }
        let mut embedded = Self {
            layout,
            settings: settings.clone(),
            account,
            binaries,
            postmaster: None,
            adopted: false,
            _lock: lock,
        };
        embedded.take_over()?;
        if embedded.postmaster.is_none() {
            embedded.launch()?;
        }
        Ok(embedded)
    }

    /// How to connect: the socket's directory, the user and the database. Stays the same over restarts.
    #[must_use]
    pub fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.layout.socket_dir).port(PORT).user(USER).dbname(DATABASE);
        config
    }

    /// The directory of the socket, as for `psql -h DIR -U rinha postgres`.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.layout.socket_dir
    }

    /// What Postgres says goes here.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.layout.log.0
    }

    /// The postmaster's process id; none after [`Embedded::stop`].
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.postmaster.as_ref().map(|postmaster| postmaster.pid.as_raw())
    }

    /// Whether the postmaster was the orphan of a killed server rather than started by this one.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Whether the postmaster runs.
    pub fn is_running(&mut self) -> bool {
        self.postmaster.as_mut().is_some_and(Postmaster::is_running)
    }

    /// For a supervisor's loop: starts a postmaster that ended again, and keeps the log bounded. True when it was started.
    /// Cheap when nothing happened; blocks for the recovery otherwise. The pause between failed attempts is the caller's.
    ///
    /// # Errors
    ///
    /// Why it does not start; the next call tries again.
    pub fn ensure_running(&mut self) -> Result<bool, EmbeddedError> {
        self.layout.log.bound();
        if self.is_running() {
            return Ok(false);
        }
        self.postmaster = None;
        self.launch()?;
        Ok(true)
    }

    /// Stops Postgres, within three seconds: first so that everything is written out, then so that the next start recovers
    /// it from the WAL. Either way no committed row is lost.
    ///
    /// # Errors
    ///
    /// A process that does not even end by SIGKILL.
    pub fn stop(&mut self) -> Result<(), EmbeddedError> {
        let Some(mut postmaster) = self.postmaster.take() else {
            return Ok(());
        };
        let steps = [
            (Signal::SIGINT, STOP_FAST_MAX),
            (Signal::SIGQUIT, STOP_QUIT_MAX),
            (Signal::SIGKILL, STOP_KILL_MAX),
        ];
        let mut orderly = true;
        for (signal, time_max) in steps {
            postmaster.signal(signal);
            if postmaster.wait_end(time_max) {
                if !orderly {
                    tracing::warn!(%signal, "Postgres did not stop in time; the next start recovers");
                    self.end_strays(Duration::ZERO, STOP_KILL_MAX)?;
                }
                self.layout.remove_socket_dir();
                return Ok(());
            }
            orderly = false;
        }
        Err(EmbeddedError::Unstoppable { pid: postmaster.pid.as_raw(), pgdata: self.layout.pgdata.clone() })
    }

    /// Lets go of Postgres without stopping it, as a killed server does: for tests of the take-over.
    pub fn leave_running(mut self) {
        self.postmaster = None;
    }

    /// Looks for the orphan of a killed server: adopted, or stopped and gone.
    fn take_over(&mut self) -> Result<(), EmbeddedError> {
        let Some(file) = PidFile::read(&self.layout.pgdata) else {
            return Ok(());
        };
        match self.identify(&file) {
            Identity::OurPostmaster => self.adopt(file),
            Identity::AnyPostmaster => Err(EmbeddedError::ForeignPostmaster {
                pid: file.pid.as_raw(),
                pgdata: self.layout.pgdata.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Removes a `postmaster.pid` whose pid is now another program's, or a zombie's: Postgres would take it for a postmaster
    /// and refuse to start. That of a dead process is left to Postgres, which also finds its shared memory by it; without
    /// the file it cannot, so nothing of the old postmaster may live when this is called.
    fn remove_stale_pid_file(&self) -> Result<(), EmbeddedError> {
        let Some(file) = PidFile::read(&self.layout.pgdata) else {
            return Ok(());
        };
        process::wait_until(STRAY_TIME_MAX, || self.identify(&file) != Identity::Ending);
        if !matches!(self.identify(&file), Identity::Unrelated | Identity::Zombie) {
            return Ok(());
        }
        tracing::info!(pid = %file.pid, "postmaster.pid names a process that is not Postgres: removed");
        let path = self.layout.pgdata.join("postmaster.pid");
        fs::remove_file(&path).map_err(|cause| EmbeddedError::unwritable(&path, cause))
    }

    fn identify(&self, file: &PidFile) -> Identity {
        process::identify(file.pid, &self.layout.tag, self.account.uid)
    }

    /// Keeps the orphan if it runs with today's settings and answers, else stops it.
    fn adopt(&mut self, file: PidFile) -> Result<(), EmbeddedError> {
        let mut postmaster = Postmaster::adopted(file.pid, &self.layout.tag, self.account.uid);
        let arguments = cluster::arguments(&self.layout, &self.settings);
        let start = Instant::now();
        let mut healthy = false;
        if cluster::runs_with(&self.layout, &arguments) {
            // An orphan that is still recovering has as long as a start; one that is stopping has no future.
            process::wait_until(READY_TIME_MAX, || {
                healthy = process::is_ready(&self.layout, file.pid);
                let starting = PidFile::read(&self.layout.pgdata).is_some_and(|file| file.is_starting());
                let hopeless = !starting && start.elapsed() >= ADOPT_TIME_MAX;
                healthy || hopeless || !postmaster.is_running()
            });
        }
        self.postmaster = Some(postmaster);
        if healthy {
            tracing::info!(pid = %file.pid, "took over the Postgres of a server that was killed");
            self.adopted = true;
            return Ok(());
        }
        tracing::warn!(pid = %file.pid, "the Postgres of a server that was killed does not answer or has other settings: stopping it");
        self.stop()
    }

    /// Starts the postmaster and waits until it takes connections.
    fn launch(&mut self) -> Result<(), EmbeddedError> {
        self.layout.prepare_socket_dir(&self.account)?;
        let start = Instant::now();
        loop {
            self.end_strays(STRAY_GRACE, STRAY_TIME_MAX)?;
            self.remove_stale_pid_file()?;
            let mark = self.layout.log.len();
            let child = cluster::spawn(&self.layout, &self.settings, &self.account, &self.binaries)?;
            let mut postmaster = Postmaster::spawned(child, &self.layout.tag, self.account.uid);
            let pid = postmaster.pid;
            let done = process::wait_until(READY_TIME_MAX, || {
                !postmaster.is_running() || process::is_ready(&self.layout, pid)
            });
            if done && postmaster.is_running() {
                self.postmaster = Some(postmaster);
                self.adopted = false;
                return Ok(());
            }
            let reason = self.layout.log.reason_since(mark);
            if !done {
                self.postmaster = Some(postmaster);
                self.stop()?;
                return Err(EmbeddedError::TimedOut {
                    program: "postgres",
                    seconds: READY_TIME_MAX.as_secs(),
                    reason,
                    log: self.layout.log.0.clone(),
                });
            }
            // A process of the dead postmaster that was not found by its title (it was just being forked).
            let busy = reason.contains("pre-existing shared memory block") || reason.contains("lock file");
            if !busy || start.elapsed() >= BUSY_TIME_MAX {
                return Err(EmbeddedError::failed("postgres", reason, &self.layout.log.0));
            }
            thread::sleep(BUSY_PAUSE);
        }
    }

    fn end_strays(&self, grace: Duration, time_max: Duration) -> Result<(), EmbeddedError> {
        match process::end_strays(&self.layout.tag, self.account.uid, grace, time_max) {
            None => Ok(()),
            Some(pid) => {
                Err(EmbeddedError::Unstoppable { pid: pid.as_raw(), pgdata: self.layout.pgdata.clone() })
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the private Postgres could not be stopped");
        }
    }
}
