//! Processes of this machine as `/proc` shows them: which one a number stands for, and how it ends. This module does not
//! know what they are.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How often a process is looked at.
const POLL: Duration = Duration::from_millis(20);

/// One process, which no other with its number can be taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Ticks from the boot to its start.
    started: u64,
    /// The boot.
    boot: String,
}

impl Identity {
    /// The process that has this number now; none if it has ended.
    pub(crate) fn of(pid: i32) -> Option<Identity> {
        let started = started(pid)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Identity { pid, started, boot: boot.trim().to_owned() })
    }

    pub(crate) fn is_alive(&self) -> bool {
        Identity::of(self.pid).as_ref() == Some(self)
    }

    /// Its program's name, for people.
    pub(crate) fn name(&self) -> String {
        name(self.pid)
    }

    /// Asks it to end, and kills it after `grace`. Returns whether it has ended.
    pub(crate) fn end(&self, signal: Signal, grace: Duration) -> bool {
        for (signal, time_max) in [(signal, grace), (Signal::SIGKILL, grace)] {
            let began = Instant::now();
            if self.is_alive() {
                let _ = kill(Pid::from_raw(self.pid), signal);
            }
            while began.elapsed() < time_max {
                if !self.is_alive() {
                    return true;
                }
                thread::sleep(POLL);
            }
        }
        !self.is_alive()
    }
}

/// The name of a process' program.
pub(crate) fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// The arguments of a process, its program first; none if it has ended.
pub(crate) fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// When a process was started; none of one that has ended, although nobody may have waited for it yet.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `PID (name) STATE ..`, see proc(5): the name may hold anything, and the start is field 22.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(22 - 3)?.parse().ok()
}

/// The numbers of all processes.
pub(crate) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_number_that_another_process_has_now_is_not_taken_for_the_first() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        let pid = i32::try_from(child.id()).expect("a pid of Linux fits an i32");
        let child_now = Identity::of(pid).expect("alive");
        let earlier = Identity { started: child_now.started - 1, ..child_now.clone() };
        let other_boot = Identity { boot: "another".to_owned(), ..child_now.clone() };
        for stranger in [earlier, other_boot] {
            assert!(!stranger.is_alive() && stranger.end(Signal::SIGKILL, Duration::from_secs(5)));
            assert!(child_now.is_alive());
        }
        assert!(child_now.end(Signal::SIGTERM, Duration::from_secs(5)));
        child.wait().expect("its end");
        assert_eq!(Identity::of(pid).filter(|now| *now == child_now), None);
    }
}
