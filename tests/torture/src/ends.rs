//! An end from outside: nothing that was started runs on, and nothing that was mounted or written stays. And what this machine
//! lacks, which is an end where everything is required.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::block_on;
use crate::postgres::unmount;
use crate::processes::kill_descendants;

/// This machine cannot do that. Said once; a failure with REQUIRED=yes.
pub(crate) fn skipped(what: &str) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.iter().any(|one| one == what) {
        println!("SKIPPED: {what}");
        said.push(what.to_owned());
    }
    assert!(std::env::var_os("REQUIRED").is_none_or(|value| value != "yes"), "REQUIRED=yes: {what}");
}

/// Directories of labs that are up.
static DIRECTORIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Waits for SIGINT, SIGTERM or SIGHUP in a thread of its own.
pub(crate) fn begin() {
    thread::spawn(|| {
        let number = block_on(async {
            let on = |kind| signal(kind).expect("a handler");
            let (mut interrupt, mut terminate, mut hangup) =
                (on(SignalKind::interrupt()), on(SignalKind::terminate()), on(SignalKind::hangup()));
            tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = hangup.recv() => 1,
            }
        });
        let own = i32::try_from(std::process::id()).expect("a pid");
        kill_descendants(own);
        for directory in DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            unmount(directory);
            if let Err(why) = std::fs::remove_dir_all(directory) {
                eprintln!("torture: {}: {why}", directory.display());
            }
        }
        std::process::exit(128 + number);
    });
}

/// A directory that goes with this process.
pub(crate) fn remember(directory: PathBuf) {
    DIRECTORIES.lock().unwrap_or_else(PoisonError::into_inner).push(directory);
}
