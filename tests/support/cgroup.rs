//! A cgroup with a memory limit, of version 1 or 2, for a server that must not be killed in it.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cgroup of this test; removed when dropped.
pub(crate) struct Cgroup {
    directory: PathBuf,
    version: u8,
}

impl Cgroup {
    /// Makes one in which no more than `bytes` of memory may be used. It fails without the right to make cgroups.
    pub(crate) fn with_memory(name: &str, bytes: usize) -> io::Result<Cgroup> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("rinha-test-{}-{name}", std::process::id());
        let (directory, version) = match root.join("cgroup.controllers").exists() {
            true => (root.join(name), 2),
            false => (root.join("memory").join(name), 1),
        };
        if version == 2 {
            fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        }
        fs::create_dir(&directory)?;
        let cgroup = Cgroup { directory, version };
        let limit = if version == 2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(cgroup.directory.join(limit), bytes.to_string())?;
        if version == 2 {
            // A test of a limit must not be saved by swap.
            let _ = fs::write(cgroup.directory.join("memory.swap.max"), "0");
        }
        Ok(cgroup)
    }

    /// Runs `command` in it.
    pub(crate) fn enclose(&self, command: &Command) -> Command {
        let mut enclosed = Command::new("sh");
        let procs = self.directory.join("cgroup.procs");
        enclosed.args(["-c", &format!("echo $$ >{} && exec \"$0\" \"$@\"", procs.display())]);
        enclosed.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => enclosed.env(name, value),
                None => enclosed.env_remove(name),
            };
        }
        enclosed
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let file = if self.version == 2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.directory.join(file)).expect("the cgroup's events");
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.map_or(0, |kills| kills.trim().parse().expect("a number"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The server in it has just ended, or is about to.
        for _ in 0..200 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
