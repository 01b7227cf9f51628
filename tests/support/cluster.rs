//! A private Postgres in a temporary directory, for tests: gone when dropped, also when the test panics.
//!
//! Each cluster is made by its own initdb. To copy a prepared cluster was measured: it saves too little to be worth a
//! cache that can be stale or half written, and copies would share their system identifier. `--no-sync` and
//! `--wal-segsize=1` were measured too, and change nothing beyond the noise. `fsync` stays on, as it costs the tests
//! little.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::env;
use std::fs::{self, Permissions};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rinha::embedded::{Embedded, Settings};
use tempfile::TempDir;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

/// How long a Postgres may refuse connections because it starts or recovers.
const RECOVERY_TIME_MAX: Duration = Duration::from_secs(30);

/// A running Postgres of a test's own. The fields are dropped in order: first it stops, then its directory goes.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The Postgres.
    pub(crate) embedded: Embedded,
    directory: TempDir,
}

impl Cluster {
    /// A new cluster in a new directory.
    pub(crate) fn start() -> Self {
        Self::start_in(temporary_directory())
    }

    /// A new cluster with room for so many connections.
    pub(crate) fn with_connections(connections: u32) -> Self {
        let directory = temporary_directory();
        let mut settings = settings(directory.path());
        settings.max_connections = connections;
        let embedded = Embedded::start(&settings).expect("a Postgres for the test");
        Self { embedded, directory }
    }

    /// A cluster in a directory of the caller's making.
    pub(crate) fn start_in(directory: TempDir) -> Self {
        let embedded = Embedded::start(&settings(directory.path())).expect("a Postgres for the test");
        Self { embedded, directory }
    }

    /// The directory above the data directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The cluster's own directory.
    pub(crate) fn pgdata(&self) -> PathBuf {
        self.directory.path().join("data/postgres")
    }

    /// How to connect.
    pub(crate) fn config(&self) -> Config {
        self.embedded.config()
    }

    /// Stops or abandons Postgres as `leave` does, and keeps the directory for the next start.
    pub(crate) fn leave(self, leave: impl FnOnce(Embedded)) -> TempDir {
        leave(self.embedded);
        self.directory
    }

    /// The rows of one statement, columns joined by `|`.
    pub(crate) fn query(&self, statement: &str) -> Vec<String> {
        query(&self.config(), statement)
    }
}

/// A new directory that the user of Postgres can enter.
pub(crate) fn temporary_directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("rinha-test-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory")
}

/// Small settings for a data directory `data` inside `directory`.
pub(crate) fn settings(directory: &Path) -> Settings {
    let mut settings = Settings::new(directory.join("data"));
    settings.shared_buffers_mib = 16;
    settings
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// Connects; the connection is driven by a task of the current runtime. A Postgres that starts or recovers is waited for.
pub(crate) async fn connect(config: &Config) -> Client {
    let began = Instant::now();
    let (client, connection) = loop {
        match config.connect(NoTls).await {
            Err(error)
                if (error.code() == Some(&SqlState::CANNOT_CONNECT_NOW)
                    || error.is_closed()
                    || is_reset(&error))
                    && began.elapsed() < RECOVERY_TIME_MAX =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connected => break connected.expect("a connection"),
        }
    };
    tokio::spawn(async move {
        // An end by force is what some tests are about.
        let _ = connection.await;
    });
    client
}

/// A postmaster that restarts its backends ends one that has just been accepted, too.
fn is_reset(error: &tokio_postgres::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

/// The rows of one statement on a connection of its own, columns joined by `|`.
pub(crate) fn query(config: &Config, statement: &str) -> Vec<String> {
    block_on(async {
        let client = connect(config).await;
        let messages = client.simple_query(statement).await.expect("a result");
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let columns: Vec<&str> =
                    (0..row.len()).map(|column| row.get(column).unwrap_or("NULL")).collect();
                Some(columns.join("|"))
            }
            _ => None,
        });
        rows.collect()
    })
}

/// The processes whose command line holds `text`.
pub(crate) fn processes_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes
        .filter_map(|process| {
            process.file_name().to_str()?.parse::<u32>().ok()?;
            let command_line = fs::read(process.path().join("cmdline")).ok()?;
            let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ");
            command_line.contains(text).then_some(command_line)
        })
        .collect()
}

/// Whether this test runs as root; says why it does nothing otherwise.
pub(crate) fn is_root_or_skip(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: {what} needs root ({})", env::var("USER").unwrap_or_default());
    }
    root
}
