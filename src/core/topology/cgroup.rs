//! What the cgroups of this process allow, in v1, v2 and hybrid trees. It does not know the machine.
//!
//! See `cgroups(7)`; `Documentation/admin-guide/cgroup-v2.rst` for `cpu.max`, `memory.max` and
//! `cpuset.cpus.effective`; `Documentation/scheduler/sched-bwc.rst` for `cpu.cfs_quota_us`.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::cpu_list::{self, number};

/// The CPU quota, in CPUs: the smallest of the groups from that of this process up to the root.
pub(super) fn cpu_quota(root: &Path) -> Option<f64> {
    let quotas = lineages(root, "cpu").into_iter().flat_map(|Lineage { version, groups }| {
        groups.into_iter().filter_map(move |group| match version {
            Version::V1 => ratio(&read(&group, "cpu.cfs_quota_us")?, &read(&group, "cpu.cfs_period_us")?),
            Version::V2 => {
                let text = read(&group, "cpu.max")?;
                let (quota, period) = text.split_once(' ')?;
                ratio(quota, period)
            }
        })
    });
    quotas.reduce(f64::min)
}

/// The memory limit, in bytes: the smallest of the groups from that of this process up to the root.
pub(super) fn memory_limit(root: &Path) -> Option<usize> {
    let limits = lineages(root, "memory").into_iter().flat_map(|Lineage { version, groups }| {
        let file = match version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        groups.into_iter().filter_map(move |group| number(&read(&group, file)?))
    });
    limits.min()
}

/// The CPUs that the group of this process may use, from each hierarchy that lists them. Only the nearest group with a
/// list counts: the kernel has already intersected its list with those above, and a list above lacks the CPUs that a
/// partition below it took.
pub(super) fn cpusets(root: &Path) -> Vec<Vec<usize>> {
    let nearest = |Lineage { version, groups }: Lineage| {
        let files: &[&str] = match version {
            Version::V1 => &["cpuset.effective_cpus", "cpuset.cpus"],
            Version::V2 => &["cpuset.cpus.effective"],
        };
        let texts = groups.iter().flat_map(|group| files.iter().filter_map(|file| read(group, file)));
        // An empty file, which is no list, means that the list of the group above holds.
        texts.into_iter().find_map(|text| cpu_list::parse(&text))
    };
    lineages(root, "cpuset").into_iter().filter_map(nearest).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One hierarchy: the directories from the group of this process up to the mount point.
struct Lineage {
    version: Version,
    groups: Vec<PathBuf>,
}

/// The hierarchies that may have this controller. In a hybrid tree these are two, and one of them has the controller's
/// files.
fn lineages(root: &Path, controller: &str) -> Vec<Lineage> {
    let memberships = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    memberships.lines().filter_map(|line| lineage(&root.join("sys/fs/cgroup"), controller, line)).collect()
}

/// `line` is `hierarchy:controllers:path`; v2 is hierarchy 0 and names no controllers.
fn lineage(tree: &Path, controller: &str, line: &str) -> Option<Lineage> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?.strip_prefix('/')?);
    let (version, mount) = match (number(hierarchy)?, controllers) {
        (0, "") => (Version::V2, v2_mount(tree)),
        (1.., _) if has(controllers, controller) => (Version::V1, v1_mount(tree, controller)?),
        _ => return None,
    };
    // A group outside the cgroup namespace is shown as `/../other`, which leads nowhere in this tree.
    let outside = Path::new(path).components().any(|part| part == Component::ParentDir);
    let path = Path::new(if outside { "" } else { path });
    // In a container the path may be the host's although the tree shows only the container. The walk up then ends at
    // the mount point, where the container's own limits are.
    let groups = path.ancestors().map(|group| mount.join(group)).collect();
    Some(Lineage { version, groups })
}

/// The mount point is named after its controllers, one or several in any order (`cpu,cpuacct`).
fn v1_mount(tree: &Path, controller: &str) -> Option<PathBuf> {
    let mut mounts = fs::read_dir(tree).ok()?.filter_map(Result::ok);
    mounts
        .find(|mount| mount.file_name().to_str().is_some_and(|name| has(name, controller)))
        .map(|mount| mount.path())
}

/// The mount point of v2: `unified` in a hybrid tree. In a pure v2 tree, which has `cgroup.controllers` at its root,
/// `unified` would be a group.
fn v2_mount(tree: &Path) -> PathBuf {
    let unified = tree.join("unified");
    if unified.is_dir() && !tree.join("cgroup.controllers").exists() { unified } else { tree.to_owned() }
}

fn has(controllers: &str, controller: &str) -> bool {
    controllers.split(',').any(|name| name == controller)
}

fn read(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok().map(|text| text.trim().to_owned())
}

/// `quota` by `period`, both in microseconds, as a number of CPUs. Without a limit the kernel writes `-1` or `max`,
/// which are no numbers here: `None`.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (number(quota)?, number(period)?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}
