//! The local ports that a load takes, one for the connection of each user. This module knows the kernel's settings, not
//! who connects.
//!
//! A closed connection keeps its port for 60 s. Over loopback Linux reuses the port after a second. Between an engine's
//! port proxy and a container Linux does so only if told to, and the contest's last minute needs more ports than there
//! are. The settings are those of this network namespace; a rootless engine's proxy has another one, which is not
//! looked into.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::gatling::CONTEST_SECONDS;
use crate::progress::say;

/// How long a closed connection keeps its port.
const REST_SECONDS: f64 = 60.0;
/// Users per second at the end of the contest, and by how much that rate grows in each second of the ramp.
const USERS_PEAK: f64 = 740.0;
const USERS_RAMP: f64 = (740.0 - 18.0) / 180.0;

const RANGE: &str = "net/ipv4/ip_local_port_range";
const REUSE: &str = "net/ipv4/tcp_tw_reuse";
/// The value with which Linux reuses a port after a second, wherever its connection led.
const REUSE_ALL: &str = "1";

/// Where the value of before is written down before the setting is changed; it is gone after a reboot, as the setting
/// is. Whoever changed the setting holds a lock on it.
pub const NOTE: &str = "/run/rinha-stress-tcp_tw_reuse";

/// A changed setting, which gets its earlier value back when this is dropped.
#[derive(Debug)]
pub struct Reuse {
    setting: PathBuf,
    before: String,
    note: PathBuf,
    _lock: Flock<File>,
}

/// What was done about the ports.
#[derive(Debug)]
pub enum Ports {
    /// There are enough, or they are reused already.
    Suffice,
    /// They are reused as long as this lives.
    Reused(Reuse),
    /// They may run out, and only root can help.
    Scarce {
        /// Ports that the load needs within the time that a closed connection keeps its port.
        needed: u64,
        /// Ports that there are.
        available: u64,
    },
}

/// Ports that the busiest 60 s of a load need. The load has `multiplier` times the contest's users, and its durations
/// are scaled so that it takes `seconds`.
pub fn needed(multiplier: f64, seconds: f64) -> u64 {
    let scale = seconds / CONTEST_SECONDS;
    let window = REST_SECONDS.min(seconds);
    let users = multiplier * (USERS_PEAK * window - USERS_RAMP / scale * window * window / 2.0);
    // In a short run the ramp begins within the window, where the line above would go below zero users: the triangle of
    // the ramp is the least.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of users")]
    let users = users.max(multiplier * USERS_PEAK * window / 2.0).ceil() as u64;
    users
}

/// Puts a setting back that a killed run left changed; `sysctls` is `/proc/sys`.
pub fn recover(sysctls: &Path, note: &Path) -> Result<()> {
    // Nobody but root can have changed it, or can change it back.
    let Ok(file) = File::options().read(true).write(true).open(note) else { return Ok(()) };
    // Its run goes on.
    let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    let before = fs::read_to_string(note).unwrap_or_default();
    if !before.trim().is_empty() {
        fs::write(sysctls.join(REUSE), &before)?;
        say(&format!("an earlier run was killed; net.ipv4.tcp_tw_reuse is {} again", before.trim()));
    }
    Ok(fs::remove_file(note)?)
}

/// Sees to it that `needed` ports are there, as far as this user may; `sysctls` is `/proc/sys`. What a killed run left
/// was recovered before.
pub fn provide(sysctls: &Path, note: &Path, needed: u64) -> Result<Ports> {
    let read = |name: &str| {
        let file = sysctls.join(name);
        fs::read_to_string(&file).with_context(|| format!("{}: expected a setting", file.display()))
    };
    let range = read(RANGE)?;
    let mut bounds = range.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) else {
        anyhow::bail!("{RANGE}: expected two ports, got {range:?}");
    };
    let available = (last + 1).saturating_sub(first);
    let before = read(REUSE)?;
    if needed <= available || before.trim() == REUSE_ALL {
        return Ok(Ports::Suffice);
    }
    let setting = sysctls.join(REUSE);
    let scarce = Ok(Ports::Scarce { needed, available });
    let Ok(file) = File::options().create(true).truncate(false).read(true).write(true).open(note) else {
        return scarce;
    };
    // Another run that just changes it has the lock; what it sets holds for this one too.
    let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(Ports::Suffice) };
    fs::write(note, &before)?;
    match fs::write(&setting, REUSE_ALL) {
        Ok(()) => Ok(Ports::Reused(Reuse { setting, before, note: note.to_owned(), _lock: lock })),
        Err(_) => {
            fs::remove_file(note)?;
            scarce
        }
    }
}

impl Drop for Reuse {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.setting, &self.before) {
            say(&format!("{}: not set back to {}: {error}", self.setting.display(), self.before));
            return;
        }
        let _ = fs::remove_file(&self.note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sysctls(range: &str, reuse: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("net/ipv4")).unwrap();
        fs::write(directory.path().join(RANGE), range).unwrap();
        fs::write(directory.path().join(REUSE), reuse).unwrap();
        directory
    }

    #[test]
    fn the_contest_needs_more_than_there_are_and_its_smoke_does_not() {
        assert!((36_000..39_000).contains(&needed(1.0, 205.0)), "{}", needed(1.0, 205.0));
        assert!(needed(2.0, 205.0) > 65_535);
        assert!((7_000..12_000).contains(&needed(1.0, 20.0)), "{}", needed(1.0, 20.0));
    }

    #[test]
    fn ports_are_reused_while_they_are_scarce_and_as_before_afterwards() {
        let scarce = sysctls("32768\t60999\n", "2\n");
        let reuse = || fs::read_to_string(scarce.path().join(REUSE)).unwrap();
        let note = scarce.path().join("note");
        let provide = |needed| provide(scarce.path(), &note, needed);
        assert!(matches!(provide(28_232).unwrap(), Ports::Suffice));
        assert_eq!(reuse(), "2\n");
        let provided = provide(28_233).unwrap();
        assert!(matches!(provided, Ports::Reused(_)), "{provided:?}");
        assert_eq!(reuse(), "1");
        // A second run at the same time leaves the setting to the first.
        assert!(matches!(provide(28_233).unwrap(), Ports::Suffice));
        // A third one recovers nothing while the first one goes on.
        recover(scarce.path(), &note).unwrap();
        assert_eq!(reuse(), "1");
        drop(provided);
        assert_eq!(reuse(), "2\n");
        assert!(!note.exists());

        let error = super::provide(sysctls("a b", "2").path(), &note, 1).unwrap_err();
        assert!(error.to_string().contains("expected two ports"), "{error}");
    }

    #[test]
    fn what_a_killed_run_changed_is_changed_back() {
        let scarce = sysctls("32768\t60999\n", "2\n");
        let note = scarce.path().join("note");
        // A killed run drops nothing, but the kernel lets go of its lock.
        let Ports::Reused(reuse) = provide(scarce.path(), &note, 28_233).unwrap() else { panic!("reused") };
        let left = fs::read_to_string(&note).unwrap();
        drop(reuse);
        fs::write(&note, left).unwrap();
        fs::write(scarce.path().join(REUSE), "1").unwrap();

        recover(scarce.path(), &note).unwrap();
        assert_eq!(fs::read_to_string(scarce.path().join(REUSE)).unwrap(), "2\n");
        assert!(!note.exists());
        // Nothing was left: nothing is touched.
        fs::write(scarce.path().join(REUSE), "1").unwrap();
        recover(scarce.path(), &note).unwrap();
        assert_eq!(fs::read_to_string(scarce.path().join(REUSE)).unwrap(), "1");
    }
}
