mod cgroups;

use std::fs;

use nix::sched::CpuSet;
use tempfile::TempDir;

use super::cores::CORES_GRAMMAR;
use super::{Cores, Machine, cpu_list, pin};
use crate::limits::CORES_MAX;

/// Files of a machine: the path below its root, and the text.
type Tree<'a> = &'a [(&'a str, &'a str)];

const NOTHING: Tree = &[];

/// A machine with SMT: four physical cores of two threads each.
const SMT_ON: Tree = &[
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4\n"),
    ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1,5\n"),
    ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,6\n"),
    ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3,7\n"),
    ("sys/devices/system/cpu/cpu4/topology/thread_siblings_list", "0,4\n"),
    ("sys/devices/system/cpu/cpu5/topology/thread_siblings_list", "1,5\n"),
    ("sys/devices/system/cpu/cpu6/topology/thread_siblings_list", "2,6\n"),
    ("sys/devices/system/cpu/cpu7/topology/thread_siblings_list", "3,7\n"),
    ("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        12000000 kB\n"),
];

/// The machine of [`SMT_ON`] with the second thread of each core offline: the topology directories of these are gone.
const SMT_OFF: Tree = &[
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/offline", "4-7\n"),
    ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0\n"),
    ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1\n"),
    ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2\n"),
    ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3\n"),
    ("sys/devices/system/cpu/cpu4/online", "0\n"),
    ("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        12000000 kB\n"),
];

/// A machine that has the siblings under the newer name only, and whose siblings have neighbouring numbers.
const NEW_NAMES: Tree = &[
    ("sys/devices/system/cpu/online", "0-3\n"),
    ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0-1\n"),
    ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "0-1\n"),
    ("sys/devices/system/cpu/cpu2/topology/core_cpus_list", "2-3\n"),
    ("sys/devices/system/cpu/cpu3/topology/core_cpus_list", "2-3\n"),
];

/// Docker on v2: a namespace of its own, 0.4 CPU and 300 MiB.
const CONTAINER: Tree = &[
    ("proc/self/cgroup", "0::/\n"),
    ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n"),
    ("sys/fs/cgroup/cpu.max", "40000 100000\n"),
    ("sys/fs/cgroup/memory.max", "314572800\n"),
];

/// v2, the process two groups deep.
const NESTED: Tree = &[("proc/self/cgroup", "0::/outer/inner\n")];

/// v1 as systemd mounts it: `cpu` and `cpuacct` share one hierarchy, which also has a link named `cpu`.
const V1: Tree =
    &[("proc/self/cgroup", "11:cpuset:/box\n9:memory:/box\n4:cpu,cpuacct:/box\n2:name=systemd:/box\n")];

/// v1 and v2 side by side, as in systemd's hybrid mode.
const HYBRID: Tree = &[
    ("proc/self/cgroup", "4:memory:/box\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/box\n0::/box\n"),
    ("sys/fs/cgroup/unified/cgroup.controllers", "\n"),
];

fn machine(parts: &[Tree], affinity: &[usize]) -> (TempDir, Machine) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in parts.iter().copied().flatten() {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let machine = Machine::at(root.path(), affinity.to_vec());
    (root, machine)
}

/// `expected` is what `choose` gives, as a list; or a part of its error.
#[track_caller]
fn check(parts: &[Tree], affinity: &[usize], cores: &str, expected: Result<&str, &str>) {
    let (_root, machine) = machine(parts, affinity);
    let chosen = machine.choose(&cores.parse().unwrap());
    match (&chosen, expected) {
        (Ok(cpus), Ok(expected)) => assert_eq!(cpu_list::show(cpus), expected, "{cores}"),
        (Err(why), Err(expected)) => {
            assert!(why.contains(expected) && !why.contains('\n'), "{cores}: {why}");
        }
        _ => panic!("{cores}: expected {expected:?}, got {chosen:?}"),
    }
}

#[track_caller]
fn check_quota(parts: &[Tree], expected: Option<f64>) {
    assert_eq!(machine(parts, &[0]).1.cpu_quota(), expected, "{parts:?}");
}

#[track_caller]
fn check_memory(parts: &[Tree], expected: Option<usize>) {
    assert_eq!(machine(parts, &[0]).1.memory_limit(), expected, "{parts:?}");
}

const EIGHT: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];
const FOUR: &[usize] = &[0, 1, 2, 3];
const TWO: &[usize] = &[0, 1];

#[test]
fn auto_is_one_cpu_of_each_physical_core_with_smt_on_and_off() {
    check(&[SMT_ON], EIGHT, "auto", Ok("0-3"));
    check(&[SMT_OFF], FOUR, "auto", Ok("0-3"));
    check(&[NEW_NAMES], FOUR, "auto", Ok("0,2"));
}

#[test]
fn a_cpu_that_says_nothing_of_its_siblings_is_a_core() {
    check(&[NOTHING], FOUR, "auto", Ok("0-3"));
    check(&[NOTHING], &[6, 2, 2], "auto", Ok("2,6"));
    check(&[&[("sys/devices/system/cpu/online", "0-7\n")]], EIGHT, "auto", Ok("0-7"));
    // A CPU that is offline has no topology directory, and is no core.
    check(&[SMT_OFF], EIGHT, "auto", Ok("0-3"));
}

#[test]
fn the_mask_narrows_and_its_lowest_cpu_stands_for_the_core() {
    check(&[SMT_ON], &[1, 4, 5], "auto", Ok("1,4"));
    check(&[SMT_ON], &[7], "auto", Ok("7"));
    check(&[SMT_ON], &[2, 6], "auto", Ok("2"));
}

#[test]
fn positions_count_physical_cores_and_wrap_onto_siblings_first() {
    check(&[SMT_ON], EIGHT, "auto@1", Ok("1-4"));
    check(&[SMT_ON], EIGHT, "auto@4", Ok("4-7"));
    check(&[SMT_ON], EIGHT, "auto@7", Ok("7,0-2"));
    check(&[SMT_ON], EIGHT, "1@3", Ok("3"));
    check(&[SMT_ON], EIGHT, "2@2", Ok("2-3"));
    check(&[SMT_ON], EIGHT, "2@3", Ok("3-4"));
    check(&[SMT_ON], EIGHT, "2@18446744073709551615", Ok("7,0"));
    check(&[SMT_ON], &[1, 4, 5], "1@1", Ok("4"));
    // Two instances with a quota each, which start at different cores, share none.
    check(&[SMT_ON, CONTAINER], EIGHT, "auto", Ok("0"));
    check(&[SMT_ON, CONTAINER], EIGHT, "auto@1", Ok("1"));
}

#[test]
fn more_threads_than_cores_share_them() {
    check(&[NOTHING], TWO, "4", Ok("0-1,0-1"));
    check(&[NOTHING], TWO, "3@1", Ok("1,0-1"));
    check(&[SMT_ON], EIGHT, "6", Ok("0-5"));
    check(&[SMT_ON], EIGHT, "9", Ok("0-7,0"));
}

#[test]
fn auto_takes_no_more_than_the_quota_rounded_up() {
    for (max, expected) in [
        ("40000 100000", "0"),
        ("100000 100000", "0"),
        ("150000 100000", "0-1"),
        ("200000 100000", "0-1"),
        ("200001 100000", "0-2"),
        ("25000 10000", "0-2"),
        ("900000 100000", "0-3"),
        ("max 100000", "0-3"),
    ] {
        let quota = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpu.max", max)];
        check(&[SMT_ON, &quota], EIGHT, "auto", Ok(expected));
        check(&[SMT_OFF, &quota], FOUR, "auto", Ok(expected));
        // Whoever names a number or CPUs is taken at their word.
        check(&[SMT_ON, &quota], EIGHT, "3", Ok("0-2"));
        check(&[SMT_ON, &quota], EIGHT, "4-6", Ok("4-6"));
    }
}

#[test]
fn a_list_names_usable_cpus_in_its_own_order() {
    check(&[SMT_ON], EIGHT, "0,4", Ok("0,4"));
    check(&[SMT_ON], EIGHT, "7,0-2", Ok("7,0-2"));
    check(&[SMT_ON], EIGHT, "8-8", Err("--cores 8-8: CPU 8 is not among those this process may use (0-7)"));
    check(&[SMT_ON], &[3, 0, 2, 2], "0-3", Err("CPU 1 is not among those this process may use (0,2-3)"));
    check(&[SMT_OFF], EIGHT, "0,4", Err("CPU 4 is not among those this process may use (0-3)"));
}

#[test]
fn a_cpuset_narrows() {
    let v2 = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpuset.cpus.effective", "2-3\n")];
    check(&[SMT_ON, &v2], EIGHT, "auto", Ok("2-3"));
    check(&[SMT_ON, &v2], EIGHT, "4@1", Ok("3,2-3,2"));
    check(&[SMT_ON, &v2], EIGHT, "1,2", Err("CPU 1 is not among those this process may use (2-3)"));

    // Two threads of one core are one core.
    let siblings = [("sys/fs/cgroup/cpuset/box/cpuset.effective_cpus", "1,5\n")];
    check(&[SMT_ON, V1, &siblings], EIGHT, "auto", Ok("1"));

    // `cpuset.effective_cpus` wins over `cpuset.cpus`; an empty file says nothing.
    let both = [
        ("sys/fs/cgroup/cpuset/box/cpuset.effective_cpus", "0-1\n"),
        ("sys/fs/cgroup/cpuset/box/cpuset.cpus", "0-7\n"),
    ];
    check(&[SMT_ON, V1, &both], EIGHT, "auto", Ok("0-1"));
    let empty = [
        ("sys/fs/cgroup/cpuset/box/cpuset.effective_cpus", "\n"),
        ("sys/fs/cgroup/cpuset/box/cpuset.cpus", "\n"),
        ("sys/fs/cgroup/cpuset/cpuset.cpus", "0-2\n"),
    ];
    check(&[SMT_ON, V1, &empty], EIGHT, "auto", Ok("0-2"));

    let hybrid = [("sys/fs/cgroup/cpuset/cpuset.cpus", "3\n")];
    check(&[SMT_ON, HYBRID, &hybrid], EIGHT, "auto", Ok("3"));
}

#[test]
fn the_nearest_cpuset_counts() {
    // A partition takes its CPUs away from the groups above it.
    let partition = [
        ("sys/fs/cgroup/outer/inner/cpuset.cpus.effective", "0-1\n"),
        ("sys/fs/cgroup/outer/cpuset.cpus.effective", "2-3\n"),
    ];
    check(&[SMT_ON, NESTED, &partition], EIGHT, "auto", Ok("0-1"));
    // The path is the host's, and the tree shows only the container.
    let root = [("sys/fs/cgroup/cpuset.cpus.effective", "1-2\n")];
    check(&[SMT_ON, NESTED, &root], EIGHT, "auto", Ok("1-2"));
}

#[test]
fn what_contradicts_the_mask_is_ignored() {
    let elsewhere = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/cpuset.cpus.effective", "6-7\n")];
    check(&[SMT_ON, &elsewhere], TWO, "auto", Ok("0-1"));
    check(&[NOTHING], &[], "auto", Err("no CPU"));
}

#[test]
fn cores_are_read_and_written() {
    for (text, expected) in [
        ("auto", Cores::Auto { first: 0 }),
        ("auto@1", Cores::Auto { first: 1 }),
        ("2", Cores::Count { count: 2, first: 0 }),
        ("2@3", Cores::Count { count: 2, first: 3 }),
        ("256", Cores::Count { count: CORES_MAX, first: 0 }),
        ("0,2-3", Cores::List(vec![0, 2, 3])),
        ("3,0-1", Cores::List(vec![3, 0, 1])),
        ("1-1", Cores::List(vec![1])),
        ("0-255", Cores::List((0..CORES_MAX).collect())),
    ] {
        assert_eq!(expected.to_string(), text);
        assert_eq!(text.parse(), Ok(expected), "{text:?}");
    }
}

#[test]
fn wrong_cores_are_refused() {
    for text in [
        "0",
        "0@1",
        "",
        "two",
        "+2",
        "3-1",
        "0,3-1",
        "0-99999999",
        "0,,1",
        "0,+1",
        "auto@",
        "@1",
        "2@-1",
        "0,1@1",
        "Auto",
    ] {
        assert_eq!(text.parse::<Cores>(), Err(CORES_GRAMMAR.to_owned()), "{text:?}");
    }
    for (text, expected) in [
        ("257", "expected at most 256 cores, got 257"),
        ("257@1", "expected at most 256 cores, got 257"),
        ("0-256", "expected at most 256 cores, got 257"),
        ("0,1,0", "expected each CPU once, got CPU 0 twice"),
        ("0-3,2", "expected each CPU once, got CPU 2 twice"),
    ] {
        assert_eq!(text.parse::<Cores>(), Err(expected.to_owned()), "{text:?}");
    }
}

#[test]
fn cores_that_were_never_text_are_checked_too() {
    let (_root, machine) = machine(&[SMT_ON], EIGHT);
    for (cores, expected) in [
        (Cores::Count { count: 0, first: 0 }, "expected auto, a number"),
        (Cores::Count { count: 257, first: 0 }, "at most 256"),
        (
            Cores::Count { count: 33, first: 5 },
            "--cores 33@5: expected at most 32 cores on the CPUs that this process may use (0-7)",
        ),
        (Cores::List(vec![]), "expected auto, a number"),
        (Cores::List(vec![1, 1]), "CPU 1 twice"),
    ] {
        let why = machine.choose(&cores).unwrap_err();
        assert!(why.contains(expected), "{cores:?}: {why}");
    }
    let many: Vec<usize> = (0..300).collect();
    assert_eq!(Machine::at("/nowhere", many).choose(&Cores::Auto { first: 0 }).unwrap().len(), CORES_MAX);
}

/// The kernel under the test is the oracle: what is chosen can be pinned to, and a pinned thread sees one CPU.
#[test]
fn this_machine_lets_a_thread_run_on_what_is_chosen() {
    let machine = Machine::this().unwrap();
    let usable = machine.usable_cpus();
    let chosen = machine.choose(&Cores::Auto { first: 0 }).unwrap();
    assert!(!chosen.is_empty() && chosen.len() <= usable.len(), "{chosen:?} of {usable:?}");
    assert_eq!(machine.choose(&Cores::List(usable.clone())).as_ref(), Ok(&usable));
    assert!(machine.choose(&Cores::List(vec![CpuSet::count() - 1])).is_err());
    for &cpu in &usable {
        // The mask belongs to the thread, and `pin` would leave this one with no way back.
        let seen =
            std::thread::spawn(move || pin(cpu).map(|()| Machine::this().map(|seen| seen.usable_cpus())));
        assert_eq!(seen.join().unwrap(), Ok(Ok(vec![cpu])));
    }
}
