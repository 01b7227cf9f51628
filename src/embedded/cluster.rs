//! Making a cluster, and the settings it runs with. Every setting is on the command line, which wins over the files in
//! the cluster: what is written here is what runs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::account::Account;
use super::binaries::Binaries;
use super::error::EmbeddedError;
use super::inherit::only_standard_streams;
use super::layout::{Layout, private_directory, quoted, reason_in};
use super::settings::{PORT, Settings, USER};
use super::wait::{Stop, wait_until};
use crate::limits::{EMBEDDED_INITDB_TIME_MAX, EMBEDDED_LOG_TAIL_BYTES, EMBEDDED_STOP_KILL_MAX};

/// The settings that are the same for every data directory: name, value.
const FIXED: [(&str, &str); 24] = [
    // 201 means committed. These are the defaults, but are stated so that no file in the cluster can turn them off.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // The unix socket is the only way in, and only for its owner (and root).
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    // No TCP, so nothing to encrypt.
    ("ssl", "off"),
    // Normal pages: "try" ends in SIGBUS where a container's huge page limit is lower than the host's.
    ("huge_pages", "off"),
    // Statements touch few rows by key: compiling them, or spreading them over the cores of the request path, only
    // costs.
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    // Keeps the visibility map of an insert-only table, which makes the count an index-only scan, and prevents
    // wraparound.
    ("autovacuum", "on"),
    // Checkpoints by time, rarely, spread out: after each one full pages go to the WAL again. 1 GiB is the most that a
    // recovery reads, and about the most the WAL takes on disk.
    ("checkpoint_timeout", "15min"),
    ("checkpoint_completion_target", "0.9"),
    ("max_wal_size", "1GB"),
    ("min_wal_size", "80MB"),
    // When a backend crashes, the postmaster starts the others over by itself; the main thread watches the postmaster
    // only.
    ("restart_after_crash", "on"),
    // Postgres logs to its stderr, a file that this server bounds, without a collector process. No people's data gets
    // there.
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("log_min_messages", "warning"),
    ("log_min_error_statement", "panic"),
    ("log_checkpoints", "off"),
    ("log_line_prefix", "%m [%p] "),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("lc_messages", "C"),
];

/// The arguments of `postgres`.
pub(super) fn arguments(layout: &Layout, settings: &Settings) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-D".into(), layout.pgdata.clone().into()];
    let mut set = |name: &str, value: Vec<u8>| {
        let mut setting = format!("{name}=").into_bytes();
        setting.extend(value);
        arguments.push("-c".into());
        arguments.push(OsString::from_vec(setting));
    };
    for (name, value) in FIXED {
        set(name, value.into());
    }
    set("port", PORT.to_string().into());
    set("unix_socket_directories", quoted(&layout.socket_dir));
    // Shows in the title of every process of the cluster, by which strays are found.
    set("cluster_name", layout.tag.clone().into());
    set("shared_buffers", format!("{}MB", settings.shared_buffers_mib).into());
    set("max_connections", settings.max_connections.to_string().into());
    arguments
}

/// Starts the postmaster: in its own process group, so that Ctrl-C in a terminal reaches the server only, which drains
/// before it stops its database.
pub(super) fn spawn(
    layout: &Layout,
    settings: &Settings,
    account: &Account,
    binaries: &Binaries,
) -> Result<Child, EmbeddedError> {
    let log = layout.log.open()?;
    let also = log.try_clone().map_err(|cause| EmbeddedError::unwritable(&layout.log.0, cause))?;
    let mut command = account.command(&binaries.postgres);
    only_standard_streams(&mut command);
    command.args(arguments(layout, settings)).process_group(0).stdout(log).stderr(also).spawn().map_err(
        |cause| EmbeddedError::Execute {
            program: binaries.postgres.clone(),
            user: account.name.clone(),
            cause,
        },
    )
}

/// Whether the running postmaster was started with these very arguments. They are in `postmaster.opts`: the program,
/// then each argument in quotes (`CreateOptsFile` of Postgres).
pub(super) fn runs_with(layout: &Layout, arguments: &[OsString]) -> bool {
    let mut expected = Vec::new();
    for argument in arguments {
        expected.extend_from_slice(b" \"");
        expected.extend_from_slice(argument.as_encoded_bytes());
        expected.push(b'"');
    }
    let found = fs::read(layout.pgdata.join("postmaster.opts")).unwrap_or_default();
    found.trim_ascii_end().ends_with(&expected)
}

/// Makes the cluster beside its place and moves it there when it is complete and synced, so that no start finds half a
/// one.
pub(super) fn create(
    layout: &Layout,
    account: &Account,
    binaries: &Binaries,
    stop: &Stop,
) -> Result<(), EmbeddedError> {
    let making = Making::new(layout, account)?;
    initdb(layout, account, binaries, stop, &making.0)?;
    fs::rename(&making.0, &layout.pgdata)
        .map_err(|cause| EmbeddedError::unwritable(&layout.pgdata, cause))?;
    File::open(&layout.data_dir)
        .and_then(|directory| directory.sync_all())
        .map_err(|cause| EmbeddedError::unwritable(&layout.data_dir, cause))
}

fn initdb(
    layout: &Layout,
    account: &Account,
    binaries: &Binaries,
    stop: &Stop,
    target: &Path,
) -> Result<(), EmbeddedError> {
    // initdb stays in this process group, unlike the postmaster, so that Ctrl-C stops it too.
    let mut child = account
        .command(&binaries.initdb)
        .arg("-D")
        .arg(target)
        .args(["-U", USER, "-E", "UTF8", "--locale=C", "--no-instructions"])
        // Whoever passes the socket directory (its owner and root) is trusted: "peer" would ask for a map from each OS
        // user that may run the server, and proves no more than the directory's mode does.
        .args(["--auth-local=trust", "--auth-host=reject"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| EmbeddedError::Execute {
            program: binaries.initdb.clone(),
            user: account.name.clone(),
            cause,
        })?;
    // The messages come through a pipe: on a full disk a log file would not show why initdb failed.
    let mut pipe = child.stderr.take().expect("stderr is piped");
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        let _ = Read::by_ref(&mut pipe).take(EMBEDDED_LOG_TAIL_BYTES).read_to_end(&mut said);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        said
    });
    let mut status = None;
    let ended = wait_until(EMBEDDED_INITDB_TIME_MAX, || {
        status = child.try_wait().ok().flatten();
        status.is_some() || stop.is_set()
    });
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
        if ended {
            return Err(EmbeddedError::Stopped);
        }
        // The reader is left alone: a child of initdb may hold the pipe for a while.
        return Err(EmbeddedError::TimedOut {
            program: "initdb",
            seconds: EMBEDDED_INITDB_TIME_MAX.as_secs(),
            reason: format!("it was making {}", layout.pgdata.display()),
            log: layout.log.0.clone(),
        });
    }
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let said = reader.join().unwrap_or_default();
    if let Ok(mut log) = layout.log.open() {
        let _ = log.write_all(&said);
    }
    Err(EmbeddedError::failed("initdb", reason_in(&said), &layout.log.0))
}

const MAKING: &str = "postgres.tmp-";

/// A cluster in the making; removed unless it was moved away.
struct Making(PathBuf);

impl Making {
    fn new(layout: &Layout, account: &Account) -> Result<Self, EmbeddedError> {
        // The name must differ from that of a directory that the initdb of a killed server may still be writing to,
        // even if that server had the same pid.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{MAKING}{}-{}", process::id(), now.as_nanos());
        let making = Self(layout.data_dir.join(name));
        private_directory(&making.0).map_err(|cause| EmbeddedError::unwritable(&making.0, cause))?;
        account.own(&making.0)?;
        Ok(making)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // A child of an initdb that was killed may write for a moment longer.
        wait_until(EMBEDDED_STOP_KILL_MAX, || fs::remove_dir_all(&self.0).is_ok() || !self.0.exists());
    }
}

/// Removes the unfinished clusters of starts that were killed.
pub(super) fn remove_leftovers(layout: &Layout) {
    for entry in fs::read_dir(&layout.data_dir).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(MAKING.as_bytes())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "the rest of an unfinished initdb could not be removed");
        }
    }
}
