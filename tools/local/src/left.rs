//! What a topology that was killed left behind: its services were told to end when it died, and here their end is waited
//! for, or enforced. Only a process that `services.json` or the cluster's own pid file knows is touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::compose::Compose;
use crate::error::{Result, say};
use crate::place::Place;
use crate::process::{self, Identity};

/// `services.json`: what runs, for people, for tools, and for the next start after a kill.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) directory: PathBuf,
    pub(crate) port: u16,
    pub(crate) pid: u32,
    pub(crate) services: BTreeMap<String, Described>,
}

/// A service of `services.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Described {
    #[serde(flatten)]
    pub(crate) process: Identity,
    pub(crate) cgroups: Vec<PathBuf>,
}

impl Description {
    pub(crate) fn read(place: &Place) -> Option<Description> {
        serde_json::from_str(&fs::read_to_string(place.state()).ok()?).ok()
    }

    /// Replaces the file as a whole: whoever reads it finds the old one or the new one.
    pub(crate) fn write(&self, place: &Place) -> Result<()> {
        let file = place.state();
        fs::write(file.with_extension("new"), format!("{:#}\n", serde_json::to_value(self)?))?;
        Ok(fs::rename(file.with_extension("new"), file)?)
    }
}

/// Ends what an earlier topology of this directory left. The caller has the directory's lock, so that none runs there.
pub(crate) fn end(place: &Place, compose: &Compose) -> Result<()> {
    let left = Description::read(place);
    let mut processes: Vec<(Identity, Signal, Duration)> = Vec::new();
    let mut groups = Vec::new();
    for (name, described) in left.into_iter().flat_map(|left| left.services) {
        let (signal, grace) = match compose.services.get(&name) {
            Some(service) => (service.stop.signal, service.stop.grace),
            None => (Signal::SIGTERM, GRACE_DEFAULT),
        };
        processes.push((described.process, signal, grace));
        groups.extend(described.cgroups);
    }
    for service in compose.services.values() {
        if let Some(database) = service.database()
            && let Some(postmaster) = postmaster(&place.cluster(database.data))
            && !processes.iter().any(|(known, ..)| *known == postmaster)
        {
            processes.push((postmaster, service.stop.signal, service.stop.grace));
        }
    }
    processes.retain(|(process, ..)| process.is_alive());
    if !processes.is_empty() {
        let names: Vec<String> = processes
            .iter()
            .map(|(process, ..)| format!("{} (pid {})", process.name(), process.pid))
            .collect();
        say(&format!("an earlier start was killed; ending what it left: {}", names.join(", ")));
    }
    for (process, signal, grace) in &processes {
        if !process.end(*signal, *grace) {
            return Err(format!("{} (pid {1}) does not end: kill -9 {1}", process.name(), process.pid).into());
        }
    }
    for group in groups {
        // A group that is gone, or that another topology uses, stays as it is.
        let _ = fs::remove_dir(&group);
        let _ = group.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// For a service that compose.yml no longer has.
const GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// The process that has the cluster, whoever started it: by the cluster's pid file, and by its command line, as a number
/// alone may be anybody's.
fn postmaster(cluster: &Path) -> Option<Identity> {
    let file = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let pid: i32 = file.lines().next()?.trim().parse().ok()?;
    let runs_it = process::arguments(pid)
        .windows(2)
        .any(|pair| pair[0] == "-D" && cluster.as_os_str() == pair[1].as_str());
    if runs_it { Identity::of(pid) } else { None }
}
