//! Which CPUs and how much memory this process may use, by its affinity mask, sysfs and its cgroups; and which of these
//! CPUs `--cores` takes. It knows nothing of what runs on a core.

mod cgroup;
mod cores;
mod cpu_list;
mod machine;
#[cfg(test)]
mod tests;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

pub use cores::Cores;
pub use machine::Machine;

use crate::limits::{CORES_MAX, CORES_PER_CPU_MAX};

impl Machine {
    /// The logical CPU of each core thread, in the order of the threads; never empty. A CPU comes more than once where
    /// more cores were asked for than there are physical ones.
    ///
    /// # Errors
    ///
    /// One line: no cores or too many, also for as few CPUs as there are, a list that names a CPU twice or one that this process may not use, or an
    /// affinity mask without a CPU.
    pub fn choose(&self, cores: &Cores) -> Result<Vec<usize>, String> {
        cores.check().map_err(|why| format!("--cores {cores}: {why}"))?;
        let physical = self.physical_cores();
        if physical.is_empty() {
            return Err("the affinity mask of this process names no CPU".to_owned());
        }
        match cores {
            Cores::Auto { first } => {
                Ok(take(self.auto_count(physical.len()), *first, &self.cpus_by_thread()))
            }
            Cores::Count { count, first } => {
                let cpus = self.cpus_by_thread();
                let most = cpus.len().saturating_mul(CORES_PER_CPU_MAX);
                if *count > most {
                    return Err(format!(
                        "--cores {cores}: expected at most {most} cores on the CPUs that this process may use ({})",
                        cpu_list::show(&self.usable_cpus())
                    ));
                }
                Ok(take(*count, *first, &cpus))
            }
            Cores::List(cpus) => {
                let usable = self.usable_cpus();
                match cpus.iter().find(|cpu| !usable.contains(cpu)) {
                    None => Ok(cpus.clone()),
                    Some(cpu) => Err(format!(
                        "--cores {cores}: CPU {cpu} is not among those this process may use ({})",
                        cpu_list::show(&usable)
                    )),
                }
            }
        }
    }

    /// As many threads as the quota can keep busy: another one would only share time that is throttled already.
    fn auto_count(&self, physical: usize) -> usize {
        let most = physical.min(CORES_MAX);
        match self.cpu_quota() {
            // The smallest whole number that is not below the quota, without a cast from a float.
            Some(quota) => (1..most).find(|&count| count as f64 >= quota).unwrap_or(most),
            None => most,
        }
    }
}

/// `count` of these CPUs, from position `first` on and around the end.
fn take(count: usize, first: usize, cpus: &[usize]) -> Vec<usize> {
    cpus.iter().copied().cycle().skip(first % cpus.len()).take(count).collect()
}

/// Binds the current thread to one CPU.
///
/// # Errors
///
/// The kernel refuses, for instance because the cpuset shrank.
pub fn pin(cpu: usize) -> nix::Result<()> {
    let mut mask = CpuSet::new();
    mask.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &mask)
}
