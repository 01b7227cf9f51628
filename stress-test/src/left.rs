//! What a run that was killed left behind: who loads, and what it had displaced. It is written down before it happens, and
//! the next run puts it right. This module does not know how anything is started.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::progress::say;

/// A process, which no other with its number can be taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// Ticks from the boot to its start.
    started: u64,
    boot: String,
}

/// What is written down.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    /// Who wrote it.
    run: Option<Identity>,
    /// The first process of Gatling, whose number its group has.
    gatling: Option<Identity>,
    /// The Compose project that was stopped, by its name.
    displaced: Option<String>,
}

/// The file, as long as a run goes on.
#[derive(Debug)]
pub struct Left {
    file: PathBuf,
    content: Content,
}

impl Left {
    /// Begins to write down. What a killed run left is ended; the project that it had displaced counts as displaced by
    /// this run.
    pub fn take_over(file: &Path) -> Result<Left> {
        let earlier =
            fs::read_to_string(file).ok().and_then(|text| serde_json::from_str::<Content>(&text).ok());
        let earlier = earlier.filter(|earlier| !earlier.run.as_ref().is_some_and(Identity::is_alive));
        if let Some(group) = earlier.as_ref().and_then(|earlier| earlier.gatling.as_ref()) {
            let members = group.members();
            if !members.is_empty() {
                say("an earlier run was killed; ending its Gatling");
            }
            for pid in members {
                // It may just have ended.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        let content = Content {
            run: Identity::of(std::process::id().cast_signed()),
            gatling: None,
            displaced: earlier.and_then(|earlier| earlier.displaced),
        };
        let left = Left { file: file.to_owned(), content };
        left.write()?;
        Ok(left)
    }

    /// The project that a killed run had displaced.
    pub fn displaced(&self) -> Option<&str> {
        self.content.displaced.as_deref()
    }

    /// Writes down that this project is stopped, or that none is any more.
    pub fn displace(&mut self, project: Option<&str>) -> Result<()> {
        self.content.displaced = project.map(str::to_owned);
        self.write()
    }

    /// Writes down that this process leads Gatling's group.
    pub fn load(&mut self, pid: u32) -> Result<()> {
        self.content.gatling = Identity::of(pid.cast_signed());
        self.write()
    }

    /// Replaces the file as a whole.
    fn write(&self) -> Result<()> {
        if let Some(parent) = self.file.parent() {
            fs::create_dir_all(parent)?;
        }
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_string_pretty(&self.content)?)?;
        Ok(fs::rename(new, &self.file)?)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// From `/proc/PID/stat`, see `proc(5)`.
struct Stat {
    ended: bool,
    group: i32,
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `PID (name) STATE PARENT GROUP ..`, where the name may hold anything.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Stat {
        ended: ["Z", "X"].contains(field(3)?),
        group: field(5)?.parse().ok()?,
        started: field(22)?.parse().ok()?,
    })
}

impl Identity {
    fn of(pid: i32) -> Option<Identity> {
        let started = stat(pid).filter(|stat| !stat.ended)?.started;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Identity { pid, started, boot: boot.trim().to_owned() })
    }

    fn is_alive(&self) -> bool {
        Identity::of(self.pid).as_ref() == Some(self)
    }

    /// The processes of the group that this process leads or led. The kernel gives a number to no other process as long
    /// as a group has it; a younger group began later.
    fn members(&self) -> Vec<i32> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let leader = Identity::of(self.pid);
        if boot.trim() != self.boot || leader.is_some_and(|leader| leader != *self) {
            return Vec::new();
        }
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|&pid| {
            stat(pid)
                .is_some_and(|stat| !stat.ended && stat.group == self.pid && stat.started >= self.started)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn runs(pid: i32) -> bool {
        stat(pid).is_some_and(|stat| !stat.ended)
    }

    #[test]
    fn what_a_killed_run_left_is_put_right_and_nothing_else() {
        let place = tempfile::tempdir().expect("a directory");
        let file = place.path().join("new/left.json");
        // A group whose leader is gone: as Maven, when it is killed, leaves Gatling.
        let child = place.path().join("child");
        let mut leader = Command::new("sh");
        leader.args(["-c", r#"sleep 60 & echo $! >"$1"; wait"#, "sh"]).arg(&child).process_group(0);
        let mut leader = leader.spawn().expect("a shell");
        let began = Instant::now();
        let orphan: i32 = loop {
            if let Some(pid) = fs::read_to_string(&child).ok().and_then(|text| text.trim().parse().ok()) {
                break pid;
            }
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(5));
        };
        let mut stranger = Command::new("sleep").arg("60").process_group(0).spawn().expect("a stranger");

        let mut left = Left::take_over(&file).expect("a file");
        left.load(leader.id()).expect("written");
        left.displace(Some("rinha")).expect("written");
        leader.kill().and_then(|()| leader.wait()).expect("its end");
        assert!(runs(orphan));
        // As long as that run lives its Gatling is its own business.
        drop(Left { file: file.with_extension("other"), content: Content::default() });
        let text = fs::read_to_string(&file).expect("a file");
        let other = Left::take_over(&file).expect("a file");
        assert!(runs(orphan) && other.displaced().is_none());
        std::mem::forget(other);

        // It was killed: its number is another process' by now.
        let killed = text.replacen(&format!("\"pid\": {}", std::process::id()), "\"pid\": 1", 1);
        assert_ne!(killed, text);
        fs::write(&file, killed).expect("a file");
        let next = Left::take_over(&file).expect("a file");
        assert_eq!(next.displaced(), Some("rinha"));
        let began = Instant::now();
        while runs(orphan) {
            assert!(began.elapsed() < Duration::from_secs(30), "Gatling lives");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(runs(stranger.id().cast_signed()));
        drop(next);
        assert!(!file.exists());
        stranger.kill().and_then(|()| stranger.wait()).expect("its end");
    }
}
