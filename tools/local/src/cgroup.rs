//! A service's limits on this machine: one cgroup of version 2, or of version 1 one in the hierarchy of each
//! controller.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::compose::Limits;

/// The period of the CPU quota: the kernel's default, which container engines use too.
const PERIOD_MICROS: u32 = 100_000;

/// The cgroups of one service.
pub(crate) struct Group {
    directories: Vec<PathBuf>,
}

impl Group {
    /// Makes the cgroups below `parent`, with these limits. Cgroups that an earlier run left are used again.
    pub(crate) fn create(parent: &str, name: &str, limits: &Limits) -> Result<Group, String> {
        let root = Path::new("/sys/fs/cgroup");
        if root.join("cgroup.controllers").exists() {
            Group::v2(root, parent, name, limits)
        } else {
            Group::v1(root, parent, name, limits)
        }
    }

    fn v2(root: &Path, parent: &str, name: &str, limits: &Limits) -> Result<Group, String> {
        let parent = root.join(parent);
        let group = parent.join(name);
        create(&group)?;
        for above in [root, &parent] {
            write(&above.join("cgroup.subtree_control"), "+cpu +memory +pids")?;
        }
        write(&group.join("cpu.max"), &format!("{} {PERIOD_MICROS}", quota(limits)))?;
        write(&group.join("memory.max"), &limits.memory.to_string())?;
        Ok(Group { directories: vec![group] })
    }

    fn v1(root: &Path, parent: &str, name: &str, limits: &Limits) -> Result<Group, String> {
        let mut directories = Vec::new();
        for controller in ["cpu", "cpuacct", "memory"] {
            let group = root.join(controller).join(parent).join(name);
            create(&group)?;
            directories.push(group);
        }
        write(&directories[0].join("cpu.cfs_period_us"), &PERIOD_MICROS.to_string())?;
        write(&directories[0].join("cpu.cfs_quota_us"), &quota(limits).to_string())?;
        write(&directories[2].join("memory.limit_in_bytes"), &limits.memory.to_string())?;
        Ok(Group { directories })
    }

    /// The files into which a process writes its pid to enter the cgroups.
    pub(crate) fn processes(&self) -> impl Iterator<Item = PathBuf> {
        self.directories.iter().map(|directory| directory.join("cgroup.procs"))
    }

    /// One directory in version 2, one for each controller in version 1.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        self.directories.clone()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            let _ = fs::remove_dir(directory);
            // The parent goes with its last service; before that the kernel refuses to remove it.
            let _ = directory.parent().map(fs::remove_dir);
        }
    }
}

fn quota(limits: &Limits) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few CPUs")]
    let quota = (limits.cpus * f64::from(PERIOD_MICROS)) as u32;
    quota
}

fn create(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| explain(directory, &error))
}

fn write(file: &Path, value: &str) -> Result<(), String> {
    fs::write(file, value).map_err(|error| explain(file, &error))
}

fn explain(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}; --unlimited does without limits", path.display())
}
