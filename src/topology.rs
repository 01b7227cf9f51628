//! Which CPUs and how much memory this process may use, from its affinity mask and its cgroup. It decides
//! nothing about threads.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// What `--cores` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// As many as there are, from the K-th on.
    Auto {
        /// The position of the first.
        first: usize,
    },
    /// A number of them, from the K-th on.
    Count {
        /// How many.
        count: usize,
        /// The position of the first.
        first: usize,
    },
    /// These logical CPUs.
    List(Vec<usize>),
}

/// The grammar of `--cores`, for its error.
const CORES_GRAMMAR: &str = "expected auto, a number of cores (2), a list of CPUs (0,2-3), or auto@K or N@K to start at \
                             the K-th core";

impl FromStr for Cores {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Cores, &'static str> {
        let number = |text: &str| text.parse::<usize>().map_err(|_| CORES_GRAMMAR);
        if text.contains([',', '-']) {
            return cpu_list(text).map(Cores::List).ok_or(CORES_GRAMMAR);
        }
        let (what, first) = match text.split_once('@') {
            Some((what, first)) => (what, number(first)?),
            None => (text, 0),
        };
        match what {
            "auto" => Ok(Cores::Auto { first }),
            count => match number(count)? {
                0 => Err(CORES_GRAMMAR),
                count => Ok(Cores::Count { count, first }),
            },
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cores::Auto { first: 0 } => write!(f, "auto"),
            Cores::Auto { first } => write!(f, "auto@{first}"),
            Cores::Count { count, first: 0 } => write!(f, "{count}"),
            Cores::Count { count, first } => write!(f, "{count}@{first}"),
            // A lone number would be a count.
            Cores::List(cpus) if cpus.len() == 1 => write!(f, "{0}-{0}", cpus[0]),
            Cores::List(cpus) => {
                let cpus: Vec<String> = cpus.iter().map(ToString::to_string).collect();
                write!(f, "{}", cpus.join(","))
            }
        }
    }
}

/// The kernel's list format: `0,2-3`.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (low.parse::<usize>().ok()?, high.parse::<usize>().ok()?);
        if low > high || high >= CpuSet::count() {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

/// The logical CPU that the one core of this server runs on.
///
/// # Errors
///
/// One line: more than one core was asked for, or a CPU that this process may not use.
pub fn choose(cores: &Cores) -> Result<usize, String> {
    let allowed = allowed_cpus().map_err(|error| format!("cannot read the affinity mask: {error}"))?;
    let nth = |first: usize| allowed[first % allowed.len()];
    match cores {
        Cores::Auto { first } | Cores::Count { count: 1, first } => Ok(nth(*first)),
        Cores::List(cpus) if cpus.len() == 1 => match allowed.contains(&cpus[0]) {
            true => Ok(cpus[0]),
            false => {
                Err(format!("--cores: CPU {} is not among those this process may use {allowed:?}", cpus[0]))
            }
        },
        _ => Err(format!("--cores {cores}: expected one core; this version runs on one")),
    }
}

/// The affinity mask, ascending; never empty.
fn allowed_cpus() -> nix::Result<Vec<usize>> {
    let mask = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|&cpu| mask.is_set(cpu).unwrap_or(false)).collect())
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

/// The memory limit of this process' cgroup in bytes, the smallest on the way to the root (v1 and v2).
pub fn memory_limit() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(|line| group_memory_limit(Path::new("/sys/fs/cgroup"), line)).min()
}

/// `line` is one of `/proc/self/cgroup`: `hierarchy:controllers:path`.
fn group_memory_limit(root: &Path, line: &str) -> Option<usize> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        "memory" => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return None,
    };
    // Inside a container the path may be the host's while the tree shows only the container: then the walk
    // towards the root finds the container's own limit there.
    Path::new(path)
        .ancestors()
        .filter_map(|group| {
            let group = group.strip_prefix("/").unwrap_or(group);
            let limit = std::fs::read_to_string(root.join(group).join(file)).ok()?;
            limit.trim().parse::<usize>().ok()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read() {
        for (text, expected) in [
            ("auto", Ok(Cores::Auto { first: 0 })),
            ("auto@1", Ok(Cores::Auto { first: 1 })),
            ("2", Ok(Cores::Count { count: 2, first: 0 })),
            ("2@3", Ok(Cores::Count { count: 2, first: 3 })),
            ("0,2-3", Ok(Cores::List(vec![0, 2, 3]))),
            ("1-1", Ok(Cores::List(vec![1]))),
            ("0", Err(CORES_GRAMMAR)),
            ("", Err(CORES_GRAMMAR)),
            ("two", Err(CORES_GRAMMAR)),
            ("3-1", Err(CORES_GRAMMAR)),
            ("0-99999999", Err(CORES_GRAMMAR)),
            ("auto@", Err(CORES_GRAMMAR)),
        ] {
            assert_eq!(text.parse(), expected, "{text:?}");
            if let Ok(cores) = expected {
                assert_eq!(cores.to_string().parse(), Ok(cores));
            }
        }
    }

    #[test]
    fn memory_limits_are_found_in_both_versions() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("outer/memory.max", "1073741824\n");
        write("outer/inner/memory.max", "max\n");
        write("memory/box/memory.limit_in_bytes", "314572800\n");
        for (line, expected) in [
            ("0::/outer/inner", Some(1 << 30)),
            ("0::/elsewhere", None),
            ("9:memory:/box", Some(300 << 20)),
            ("3:cpu,cpuacct:/box", None),
            ("garbage", None),
        ] {
            assert_eq!(group_memory_limit(tree.path(), line), expected, "{line}");
        }
    }
}
