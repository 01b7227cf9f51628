//! The machine as this process sees it: the CPUs it may run on, the cores they belong to, and how much CPU time and
//! memory its cgroups allow. It chooses nothing.

use std::fs;
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::{cgroup, cpu_list};

/// What this process may use: by the affinity mask, which is read once, and by files below a root, which are read at
/// each question. A file that is missing or malformed is ignored. Without any file every CPU of the mask is a core of
/// its own, and there is no limit.
pub struct Machine {
    root: PathBuf,
    /// Logical CPUs, ascending.
    affinity: Vec<usize>,
}

impl Machine {
    /// The machine that this process runs on. The mask is that of the calling thread: ask before the thread is pinned.
    ///
    /// # Errors
    ///
    /// One line: the kernel does not tell the mask (it has more CPUs than the mask has bits).
    pub fn this() -> Result<Machine, String> {
        let mask = sched_getaffinity(Pid::from_raw(0))
            .map_err(|errno| format!("cannot read the affinity mask: {errno}"))?;
        let affinity = (0..CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap_or(false)).collect();
        Ok(Machine::at("/", affinity))
    }

    /// A machine whose `/proc` and `/sys` are below `root`, for tests.
    pub fn at(root: impl Into<PathBuf>, mut affinity: Vec<usize>) -> Machine {
        affinity.sort_unstable();
        affinity.dedup();
        Machine { root: root.into(), affinity }
    }

    /// The lowest usable CPU of each physical core, ascending. Siblings that are offline or not allowed do not
    /// make a core vanish, so that a host gives the same count with SMT on and off.
    pub fn physical_cores(&self) -> Vec<usize> {
        let mut cores = Vec::new();
        for cpu in self.usable_cpus() {
            let siblings = self.siblings(cpu);
            if !cores.iter().any(|core| siblings.contains(core)) {
                cores.push(cpu);
            }
        }
        cores
    }

    /// Every usable CPU: the lowest one of each physical core, then the next one of each, and so on. So more threads than
    /// physical cores come onto idle siblings before two of them share a CPU.
    pub fn cpus_by_thread(&self) -> Vec<usize> {
        let usable = self.usable_cpus();
        let mut of_cores: Vec<Vec<usize>> = Vec::new();
        for core in self.physical_cores() {
            let siblings = self.siblings(core);
            of_cores.push(usable.iter().copied().filter(|cpu| siblings.contains(cpu)).collect());
        }
        let most = of_cores.iter().map(Vec::len).max().unwrap_or(0);
        (0..most)
            .flat_map(|thread| of_cores.iter().filter_map(move |cpus| cpus.get(thread).copied()))
            .collect()
    }

    /// The CPU quota, in CPUs: the smallest on the way from the cgroup of this process to the root.
    pub fn cpu_quota(&self) -> Option<f64> {
        cgroup::cpu_quota(&self.root)
    }

    /// The memory limit, in bytes: the smallest on the way from the cgroup of this process to the root. A limit above
    /// the machine's memory is none: v1 writes "no limit" as a huge number (`PAGE_COUNTER_MAX`).
    pub fn memory_limit(&self) -> Option<usize> {
        let most = self.memory_total().unwrap_or(usize::MAX);
        cgroup::memory_limit(&self.root).filter(|&limit| limit <= most)
    }

    /// The logical CPUs this process may run on, ascending; none only if the mask has none.
    pub(super) fn usable_cpus(&self) -> Vec<usize> {
        let mut usable = self.affinity.clone();
        let online = self.read_cpus("sys/devices/system/cpu/online");
        for allowed in online.into_iter().chain(cgroup::cpusets(&self.root)) {
            let both: Vec<usize> = usable.iter().copied().filter(|cpu| allowed.contains(cpu)).collect();
            // The mask is what the kernel enforces. A file that shares no CPU with the mask is not about this process:
            // a container may, for instance, see another group's cpuset.
            if !both.is_empty() {
                usable = both;
            }
        }
        usable
    }

    /// The logical CPUs of `cpu`'s physical core that are online, itself among them.
    fn siblings(&self, cpu: usize) -> Vec<usize> {
        // Kernels since 5.2 have the second name too; they call the first one deprecated.
        ["thread_siblings_list", "core_cpus_list"]
            .into_iter()
            .filter_map(|file| self.read_cpus(&format!("sys/devices/system/cpu/cpu{cpu}/topology/{file}")))
            .find(|siblings| siblings.contains(&cpu))
            .unwrap_or_else(|| vec![cpu])
    }

    fn read_cpus(&self, path: &str) -> Option<Vec<usize>> {
        cpu_list::parse(&fs::read_to_string(self.root.join(path)).ok()?)
    }

    /// Bytes of memory of the machine.
    fn memory_total(&self) -> Option<usize> {
        let text = fs::read_to_string(self.root.join("proc/meminfo")).ok()?;
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        cpu_list::number(total.trim().strip_suffix(" kB")?)?.checked_mul(1024)
    }
}
