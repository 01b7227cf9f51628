//! What the cgroups of a process have used and may use, in v1, v2 and hybrid trees. This module does not know whether
//! the process is in a container.
//!
//! See `cgroups(7)`; `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/{cpuacct,memory}.rst`;
//! `Documentation/scheduler/sched-bwc.rst` for throttling.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a service may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// CPUs.
    pub cpus: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
}

/// What a service has used so far, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time.
    pub cpu: Duration,
    /// Time that threads were kept from running by the quota.
    pub throttled: Duration,
    /// Quota periods in which something ran.
    pub periods: u64,
    /// Those of the `periods` in which the quota was used up.
    pub throttled_periods: u64,
    /// Bytes, page cache included.
    pub memory: u64,
    /// Bytes that no file backs.
    pub anonymous: u64,
    /// The most that `memory` has been; 0 where the kernel does not say.
    pub peak: u64,
    /// Processes that were killed because the memory was used up.
    pub oom_kills: u64,
}

/// The groups of one process that account for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    cpu: Group,
    /// v1 may account time in another hierarchy than the one that limits it.
    time: Group,
    memory: Group,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    version: Version,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Cgroups {
    /// Finds the groups of a process below `root`, which is `/` except in tests. None if the process has no group of
    /// its own: it is in the root group, or in ours.
    pub fn of(root: &Path, pid: u32) -> Option<Self> {
        let memberships = fs::read_to_string(root.join(format!("proc/{pid}/cgroup"))).ok()?;
        if fs::read_to_string(root.join("proc/self/cgroup")).is_ok_and(|own| own == memberships) {
            return None;
        }
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        let group = |controller: &str, limit: [&str; 2]| {
            let group = group(root, &memberships, &mounts, controller)?;
            Some(group.nearest_limited(limit))
        };
        let cpu = group("cpu", ["cpu.cfs_quota_us", "cpu.max"])?;
        let time = group("cpuacct", ["", ""]).filter(|time| time.version == Version::V1);
        Some(Self {
            time: time.unwrap_or_else(|| cpu.clone()),
            memory: group("memory", ["memory.limit_in_bytes", "memory.max"])?,
            cpu,
        })
    }

    /// What it may use.
    pub fn limits(&self) -> Limits {
        let cpus = match self.cpu.version {
            Version::V1 => ratio(self.cpu.number("cpu.cfs_quota_us"), self.cpu.number("cpu.cfs_period_us")),
            Version::V2 => self.cpu.read("cpu.max").and_then(|text| {
                let (quota, period) = text.split_once(' ')?;
                ratio(quota.parse().ok(), period.parse().ok())
            }),
        };
        let memory = match self.memory.version {
            // Without a limit the file holds the largest multiple of the page size.
            Version::V1 => self.memory.number("memory.limit_in_bytes").filter(|bytes| *bytes < 1 << 60),
            Version::V2 => self.memory.number("memory.max"),
        };
        Limits { cpus, memory }
    }

    /// What it has used.
    pub fn usage(&self) -> Usage {
        let micros = |group: &Group, key| Duration::from_micros(group.keyed("cpu.stat", key));
        let (cpu, throttled) = match self.cpu.version {
            Version::V1 => (
                Duration::from_nanos(self.time.number("cpuacct.usage").unwrap_or(0)),
                Duration::from_nanos(self.cpu.keyed("cpu.stat", "throttled_time")),
            ),
            Version::V2 => (micros(&self.cpu, "usage_usec"), micros(&self.cpu, "throttled_usec")),
        };
        let [now, peak, anonymous, events] = match self.memory.version {
            Version::V1 => {
                ["memory.usage_in_bytes", "memory.max_usage_in_bytes", "total_rss", "memory.oom_control"]
            }
            Version::V2 => ["memory.current", "memory.peak", "anon", "memory.events"],
        };
        Usage {
            cpu,
            throttled,
            periods: self.cpu.keyed("cpu.stat", "nr_periods"),
            throttled_periods: self.cpu.keyed("cpu.stat", "nr_throttled"),
            memory: self.memory.number(now).unwrap_or(0),
            anonymous: self.memory.keyed("memory.stat", anonymous),
            peak: self.memory.number(peak).unwrap_or(0),
            oom_kills: self.memory.keyed(events, "oom_kill"),
        }
    }
}

impl Group {
    /// An engine may put the limit on a group above the process' own, which then accounts for the throttling too.
    fn nearest_limited(self, [v1, v2]: [&str; 2]) -> Self {
        let file = match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        };
        let is_limited = |path: &&Path| {
            let text = fs::read_to_string(path.join(file)).unwrap_or_default();
            let first = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
            first.is_some_and(|value| value < 1 << 60)
        };
        let limited =
            self.path.ancestors().take_while(|path| path.join("cgroup.procs").exists()).find(is_limited);
        match limited {
            Some(path) => Self { path: path.to_owned(), ..self },
            None => self,
        }
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path.join(file)).ok().map(|text| text.trim().to_owned())
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.parse().ok()
    }

    /// A value of a file with a `key value` on each line.
    fn keyed(&self, file: &str, key: &str) -> u64 {
        let text = self.read(file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// The group with this controller: of v1 if one has it, else of v2.
fn group(root: &Path, memberships: &str, mounts: &str, controller: &str) -> Option<Group> {
    let find = |version: Version| {
        let path = memberships.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let found = match version {
                Version::V1 => controllers.split(',').any(|name| name == controller),
                Version::V2 => hierarchy == "0" && controllers.is_empty(),
            };
            found.then_some(path)
        })?;
        let (mount_root, mount) = mounts.lines().find_map(|line| mount(line, version, controller))?;
        let below = path.strip_prefix(mount_root.trim_end_matches('/'))?.trim_start_matches('/');
        let path = root.join(mount.trim_start_matches('/')).join(below);
        (!below.is_empty() && path.is_dir()).then_some(Group { version, path })
    };
    find(Version::V1).or_else(|| find(Version::V2))
}

/// The root within the hierarchy and the mount point, from a line of `mountinfo`; see `proc(5)`.
fn mount<'a>(line: &'a str, version: Version, controller: &str) -> Option<(&'a str, &'a str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let paths = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.nth(1)?);
    let found = match version {
        Version::V1 => kind == "cgroup" && options.split(',').any(|name| name == controller),
        Version::V2 => kind == "cgroup2",
    };
    found.then_some(paths)
}

/// The CPUs that a quota allows. Without a quota the file holds `-1` or `max`, neither of which parses as an unsigned
/// number.
fn ratio(quota: Option<u64>, period: Option<u64>) -> Option<f64> {
    let (quota, period) = (quota?, period?);
    (period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn v2_with_the_limits_on_the_group_above() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/user.slice\n"),
            ("proc/7/cgroup", "0::/machine.slice/libpod-1.scope/container\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/cgroup.procs", ""),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/cpu.max", "25000 100000\n"),
            (
                "sys/fs/cgroup/machine.slice/libpod-1.scope/cpu.stat",
                "usage_usec 1500000\nuser_usec 1\nnr_periods 40\nnr_throttled 4\nthrottled_usec 70000\n",
            ),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/memory.max", "1048576\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/memory.current", "5000\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/memory.peak", "9000\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/memory.stat", "anon 4000\nfile 1000\nanon_thp 0\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/memory.events", "max 9\noom 3\noom_kill 2\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/container/cgroup.procs", "7\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/container/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/machine.slice/libpod-1.scope/container/memory.max", "max\n"),
        ]);
        let groups = Cgroups::of(root.path(), 7).expect("its groups");
        assert_eq!(groups.limits(), Limits { cpus: Some(0.25), memory: Some(1 << 20) });
        let expected = Usage {
            cpu: Duration::from_millis(1500),
            throttled: Duration::from_millis(70),
            periods: 40,
            throttled_periods: 4,
            memory: 5000,
            anonymous: 4000,
            peak: 9000,
            oom_kills: 2,
        };
        assert_eq!(groups.usage(), expected);
    }

    #[test]
    fn v1_with_a_hierarchy_for_each_controller() {
        let root = tree(&[
            ("proc/self/cgroup", "4:memory:/\n3:cpuacct:/\n2:cpu:/\n0::/\n"),
            ("proc/7/cgroup", "4:memory:/docker/x\n3:cpuacct:/docker/x\n2:cpu:/docker/x\n0::/\n"),
            (
                "proc/self/mountinfo",
                "33 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 34 30 0:29 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n\
                 35 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/cpu/docker/x/cgroup.procs", "7\n"),
            ("sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "40000\n"),
            ("sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/docker/x/cpu.stat", "nr_periods 9\nnr_throttled 2\nthrottled_time 3000000\n"),
            ("sys/fs/cgroup/cpuacct/docker/x/cpuacct.usage", "2000000000\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "77\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.max_usage_in_bytes", "99\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.stat", "rss 1\ntotal_rss 55\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.oom_control", "under_oom 0\noom_kill 1\n"),
        ]);
        let groups = Cgroups::of(root.path(), 7).expect("its groups");
        assert_eq!(groups.limits(), Limits { cpus: Some(0.4), memory: None });
        let usage = groups.usage();
        assert_eq!((usage.cpu, usage.throttled), (Duration::from_secs(2), Duration::from_millis(3)));
        assert_eq!((usage.periods, usage.throttled_periods), (9, 2));
        assert_eq!((usage.memory, usage.anonymous, usage.peak, usage.oom_kills), (77, 55, 99, 1));
    }

    #[test]
    fn a_process_in_our_own_group_has_none_of_its_own() {
        let root = tree(&[("proc/self/cgroup", "0::/user\n"), ("proc/7/cgroup", "0::/user\n")]);
        assert_eq!(Cgroups::of(root.path(), 7), None);
    }
}
