//! The private Postgres: the installed binaries, run on a cluster of the server's own, reached by a unix socket only.
//! It knows no SQL and nothing of the server. Its calls block, so they are for the main thread.
//!
//! Read in this order: `layout` (the data directory), `binaries`, `account` (who runs it), `found` (what of them a start
//! finds), `cluster` (initdb and the settings), `processes` (which processes are ours), and then this file: how they make a
//! start, a take-over, a restart and a stop. `prospect` says what a start would do, and does nothing.
//!
//! A server that was killed leaves its postmaster behind, with every row it acknowledged. The next start takes it over
//! when it answers and was started with the same settings, and otherwise stops it and starts its own.

mod account;
mod binaries;
mod cluster;
mod error;
mod found;
mod inherit;
mod layout;
mod processes;
mod prospect;
mod settings;
mod wait;

use std::fs::{self, File};
use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use nix::sys::signal::Signal;

pub use self::binaries::default_search;
pub use self::error::EmbeddedError;
pub use self::prospect::{Directory, Programs, Prospect, look};
pub use self::settings::{DATABASE, Settings, USER};
pub use self::wait::Stop;

use self::account::Account;
use self::binaries::Binaries;
use self::found::Found;
use self::layout::Layout;
use self::processes::{PidFile, PidHolder, Postmaster};
use self::settings::PORT;
use self::wait::wait_until;
use crate::limits::{
    EMBEDDED_ADOPT_TIME_MAX, EMBEDDED_BUSY_PAUSE, EMBEDDED_BUSY_TIME_MAX, EMBEDDED_READY_TIME_MAX,
    EMBEDDED_STOP_FAST_MAX, EMBEDDED_STOP_KILL_MAX, EMBEDDED_STOP_QUIT_MAX, EMBEDDED_STRAY_GRACE,
    EMBEDDED_STRAY_TIME_MAX,
};

/// The process id of a container's init, to which orphans are given.
const INIT: u32 = 1;

/// A running private Postgres. Stopped when dropped.
#[derive(Debug)]
pub struct Embedded {
    layout: Layout,
    settings: Settings,
    account: Account,
    binaries: Binaries,
    /// `None` once it is stopped.
    postmaster: Option<Postmaster>,
    adopted: bool,
    /// Held for as long as this server uses the directory.
    _lock: Flock<File>,
}

impl Embedded {
    /// Makes the cluster if there is none, starts Postgres or takes over the orphan of a killed server, and waits until
    /// it takes connections.
    ///
    /// # Errors
    ///
    /// One clear line; nothing keeps running and the data directory is as it was.
    pub fn start(settings: &Settings) -> Result<Self, EmbeddedError> {
        let layout = Layout::create(&settings.data_dir)?;
        let lock = layout.lock()?;
        layout.log.bound();
        cluster::remove_leftovers(&layout);
        let Found { version, binaries, account } =
            Found::look(&layout.pgdata, &layout.data_dir, &settings.search)?;
        if version.is_none() {
            tracing::info!(pgdata = %layout.pgdata.display(), user = account.name, "making a Postgres cluster");
            cluster::create(&layout, &account, &binaries, &settings.stop)?;
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

    /// The file that Postgres logs to.
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

    /// For a loop that watches: starts the postmaster again if it ended, and keeps the log bounded. Returns whether it
    /// started one. Cheap while the postmaster runs, else blocks for the recovery. The caller pauses between failed
    /// attempts.
    ///
    /// # Errors
    ///
    /// Why it does not start; the next call tries again.
    pub fn ensure_running(&mut self) -> Result<bool, EmbeddedError> {
        self.layout.log.bound();
        if process::id() == INIT {
            processes::reap_orphans(self.postmaster.as_ref().map(|postmaster| postmaster.pid));
        }
        if self.is_running() {
            return Ok(false);
        }
        self.postmaster = None;
        self.launch()?;
        Ok(true)
    }

    /// Stops Postgres within a few seconds. The first signal lets it write everything out. If that takes too long, or
    /// [`Stop`] says "at once" before or meanwhile, the next ones end it at once, and the next start recovers from the WAL.
    /// Either way no committed row is lost.
    ///
    /// # Errors
    ///
    /// A process that does not even end by SIGKILL.
    pub fn stop(&mut self) -> Result<(), EmbeddedError> {
        self.end(true)
    }

    /// As [`stop`](Self::stop), but without the first signal if nothing may be written out.
    fn end(&mut self, write_out: bool) -> Result<(), EmbeddedError> {
        let Some(mut postmaster) = self.postmaster.take() else {
            return Ok(());
        };
        let steps = [
            (Signal::SIGINT, EMBEDDED_STOP_FAST_MAX),
            (Signal::SIGQUIT, EMBEDDED_STOP_QUIT_MAX),
            (Signal::SIGKILL, EMBEDDED_STOP_KILL_MAX),
        ];
        for (signal, time_max) in steps {
            let orderly = signal == Signal::SIGINT;
            let cut_short = || orderly && (!write_out || self.settings.stop.is_at_once());
            if cut_short() {
                continue;
            }
            postmaster.signal(signal);
            wait_until(time_max, || !postmaster.is_running() || cut_short());
            if postmaster.is_running() {
                continue;
            }
            if !orderly {
                tracing::warn!(%signal, "Postgres was ended before everything was written out; the next start recovers");
                self.end_strays(Duration::ZERO, EMBEDDED_STOP_KILL_MAX)?;
            }
            self.layout.remove_socket_dir();
            return Ok(());
        }
        Err(EmbeddedError::Unstoppable { pid: postmaster.pid.as_raw(), pgdata: self.layout.pgdata.clone() })
    }

    /// Lets go of Postgres without stopping it, as a killed server does: for tests of the take-over.
    pub fn leave_running(mut self) {
        self.postmaster = None;
    }

    /// Looks for the orphan of a killed server, and adopts or stops it.
    fn take_over(&mut self) -> Result<(), EmbeddedError> {
        match processes::orphan(&self.layout, self.account.uid)? {
            Some(file) => self.adopt(file),
            None => Ok(()),
        }
    }

    /// Removes a `postmaster.pid` whose pid belongs to another program or to a zombie: Postgres would take that process
    /// for a postmaster and refuse to start. A file that names a dead process stays, because Postgres finds the dead
    /// postmaster's shared memory by it. Without the file Postgres cannot find that memory, so nothing of the old
    /// postmaster may live when this is called.
    fn remove_stale_pid_file(&self) -> Result<(), EmbeddedError> {
        let path = self.layout.pgdata.join("postmaster.pid");
        let Some(file) = PidFile::read(&self.layout.pgdata) else {
            // Of one that cannot be read, or that names a process which this one cannot judge, Postgres decides.
            if PidFile::is_torn(&path) {
                tracing::info!("postmaster.pid is empty or torn, as a power cut leaves it: removed");
                fs::remove_file(&path).map_err(|cause| EmbeddedError::unwritable(&path, cause))?;
            }
            return Ok(());
        };
        wait_until(EMBEDDED_STRAY_TIME_MAX, || self.identify(&file) != PidHolder::Ending);
        if !matches!(self.identify(&file), PidHolder::Unrelated | PidHolder::Zombie) {
            return Ok(());
        }
        tracing::info!(pid = %file.pid, "postmaster.pid names a process that is not Postgres: removed");
        fs::remove_file(&path).map_err(|cause| EmbeddedError::unwritable(&path, cause))
    }

    /// Whether a process that may be the cluster's postmaster lives, by its pid file.
    fn is_anyone_alive(&self) -> bool {
        PidFile::read(&self.layout.pgdata).is_some_and(|file| {
            let holder = self.identify(&file);
            matches!(holder, PidHolder::OurPostmaster | PidHolder::AnyPostmaster | PidHolder::Ending)
        })
    }

    fn identify(&self, file: &PidFile) -> PidHolder {
        processes::holder(file, &self.layout, self.account.uid)
    }

    /// Keeps the orphan if it runs with this server's settings and answers, else stops it. One whose cluster was moved away
    /// is stopped too, and may write nothing out: a checkpoint writes `pg_control` by its path, where another cluster's is.
    fn adopt(&mut self, file: PidFile) -> Result<(), EmbeddedError> {
        let mut postmaster = Postmaster::adopted(file.pid, &self.layout.tag, self.account.uid);
        if processes::runs_elsewhere(file.pid, &self.layout.pgdata) {
            tracing::warn!(pid = %file.pid, "the Postgres of a server that was killed runs on a directory that was moved away: ending it");
            self.postmaster = Some(postmaster);
            return self.end(false);
        }
        let arguments = cluster::arguments(&self.layout, &self.settings);
        let start = Instant::now();
        let mut healthy = false;
        if cluster::runs_with(&self.layout, &arguments) {
            // An orphan that is still recovering has as long as a start has. Any other has `EMBEDDED_ADOPT_TIME_MAX` to
            // answer.
            wait_until(EMBEDDED_READY_TIME_MAX, || {
                healthy = processes::is_ready(&self.layout, file.pid);
                let starting = PidFile::read(&self.layout.pgdata).is_some_and(|file| file.is_starting());
                let hopeless = !starting && start.elapsed() >= EMBEDDED_ADOPT_TIME_MAX;
                healthy || hopeless || !postmaster.is_running() || self.settings.stop.is_set()
            });
        }
        self.postmaster = Some(postmaster);
        if healthy {
            tracing::info!(pid = %file.pid, "took over the Postgres of a server that was killed");
            self.adopted = true;
            return Ok(());
        }
        if self.settings.stop.is_set() {
            self.stop()?;
            return Err(EmbeddedError::Stopped);
        }
        tracing::warn!(pid = %file.pid, "the Postgres of a server that was killed does not answer or has other settings: stopping it");
        self.stop()
    }

    /// Starts the postmaster and waits until it takes connections.
    fn launch(&mut self) -> Result<(), EmbeddedError> {
        self.layout.prepare_socket_dir(&self.account)?;
        let start = Instant::now();
        loop {
            self.end_strays(EMBEDDED_STRAY_GRACE, EMBEDDED_STRAY_TIME_MAX)?;
            self.remove_stale_pid_file()?;
            if !self.is_anyone_alive() {
                self.layout.remove_stale_socket()?;
            }
            let mark = self.layout.log.len();
            let child = cluster::spawn(&self.layout, &self.settings, &self.account, &self.binaries)?;
            let mut postmaster = Postmaster::spawned(child, &self.layout.tag, self.account.uid);
            let pid = postmaster.pid;
            let done = wait_until(EMBEDDED_READY_TIME_MAX, || {
                !postmaster.is_running()
                    || processes::is_ready(&self.layout, pid)
                    || self.settings.stop.is_set()
            });
            if self.settings.stop.is_set() {
                self.postmaster = Some(postmaster);
                self.stop()?;
                return Err(EmbeddedError::Stopped);
            }
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
                    seconds: EMBEDDED_READY_TIME_MAX.as_secs(),
                    reason,
                    log: self.layout.log.0.clone(),
                });
            }
            // A process of the dead postmaster may live on: one that was just being forked has no title yet by which
            // `end_strays` could find it.
            let busy = reason.contains("pre-existing shared memory block") || reason.contains("lock file");
            if !busy || start.elapsed() >= EMBEDDED_BUSY_TIME_MAX {
                return Err(EmbeddedError::failed("postgres", reason, &self.layout.log.0));
            }
            thread::sleep(EMBEDDED_BUSY_PAUSE);
        }
    }

    fn end_strays(&self, grace: Duration, time_max: Duration) -> Result<(), EmbeddedError> {
        match processes::end_strays(&self.layout.tag, self.account.uid, grace, time_max) {
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
