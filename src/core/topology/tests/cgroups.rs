//! Quotas and memory limits, in both versions of cgroups.

use super::*;

#[test]
fn quotas_are_found_in_both_versions() {
    check_quota(&[NOTHING], None);
    check_quota(&[CONTAINER], Some(0.4));
    check_quota(&[NESTED], None);
    check_quota(&[NESTED, &[("sys/fs/cgroup/outer/inner/cpu.max", "150000 100000\n")]], Some(1.5));
    check_quota(&[NESTED, &[("sys/fs/cgroup/cpu.max", "40000 100000\n")]], Some(0.4));

    let period = ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    let quota = |text| [period, ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", text)];
    check_quota(&[V1, &quota("40000\n")], Some(0.4));
    check_quota(&[V1, &quota("-1\n")], None);
    check_quota(&[V1, &[period]], None);
    for mount in ["cpu", "cpuacct,cpu"] {
        let [period, quota] = ["period", "quota"].map(|of| format!("sys/fs/cgroup/{mount}/cpu.cfs_{of}_us"));
        check_quota(&[V1, &[(&period, "50000\n"), (&quota, "75000\n")]], Some(1.5));
    }
    // A file in the hierarchy of another controller is not read.
    let cpuset = [
        ("sys/fs/cgroup/cpuset/box/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpuset/box/cpu.cfs_quota_us", "40000\n"),
    ];
    check_quota(&[V1, &cpuset], None);
    check_quota(&[V1, &[("sys/fs/cgroup/box/cpu.max", "40000 100000\n")]], None);
}

#[test]
fn the_tightest_group_counts() {
    for (outer, inner, expected) in [
        ("50000 100000", "200000 100000", Some(0.5)),
        ("200000 100000", "50000 100000", Some(0.5)),
        ("max 100000", "50000 100000", Some(0.5)),
        ("50000 100000", "max 100000", Some(0.5)),
        ("max 100000", "max 100000", None),
    ] {
        let files = [("sys/fs/cgroup/outer/cpu.max", outer), ("sys/fs/cgroup/outer/inner/cpu.max", inner)];
        check_quota(&[NESTED, &files], expected);
    }
    let v1 = [
        ("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "30000\n"),
    ];
    check_quota(&[V1, &v1], Some(0.3));
    check_quota(&[HYBRID, &v1], Some(0.3));
}

#[test]
fn the_v2_tree_of_a_hybrid_is_in_unified() {
    check_quota(&[HYBRID, &[("sys/fs/cgroup/unified/box/cpu.max", "60000 100000\n")]], Some(0.6));
    check_memory(&[HYBRID, &[("sys/fs/cgroup/unified/memory.max", "104857600\n")]], Some(100 << 20));
    // In a pure v2 tree `unified` is only a group of that name, and not the group of this process.
    let group = [("sys/fs/cgroup/unified/cpu.max", "60000 100000\n")];
    check_quota(&[CONTAINER, &group], Some(0.4));
    check_quota(&[&CONTAINER[..2], &group], None);
}

#[test]
fn memory_limits_are_found_in_both_versions() {
    let nested = [
        ("sys/fs/cgroup/outer/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
    ];
    let v1 = |text| [("sys/fs/cgroup/memory/box/memory.limit_in_bytes", text)];
    check_memory(&[NOTHING], None);
    check_memory(&[CONTAINER], Some(300 << 20));
    check_memory(&[NESTED, &nested], Some(1 << 30));
    check_memory(&[&[("proc/self/cgroup", "0::/elsewhere\n")], &nested], None);
    check_memory(&[V1, &v1("314572800\n")], Some(300 << 20));
    check_memory(&[HYBRID, &v1("314572800\n")], Some(300 << 20));
    // The path is the host's, and the tree shows only the container.
    check_memory(&[V1, &[("sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n")]], Some(300 << 20));
}

#[test]
fn a_limit_above_the_machines_memory_is_none() {
    let v1 = |text| [("sys/fs/cgroup/memory/box/memory.limit_in_bytes", text)];
    check_memory(&[SMT_ON, V1, &v1("9223372036854771712\n")], None);
    check_memory(&[SMT_ON, V1, &v1("16384000000\n")], Some(16_384_000_000));
    check_memory(&[SMT_ON, V1, &v1("16384000001\n")], None);
    let outer = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n")];
    check_memory(&[SMT_ON, V1, &v1("9223372036854771712\n"), &outer], Some(1 << 20));
}

#[test]
fn garbage_says_nothing() {
    for memberships in [
        "",
        "garbage\n",
        "0:\n",
        "0::\n",
        "0::outer\n",
        "+0::/\n",
        "x::/\n",
        "1::/\n",
        "0:cpu:/\n",
        "\u{0}:::::\n",
    ] {
        let line = [
            ("proc/self/cgroup", memberships),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "40000\n"),
        ];
        check_quota(&[CONTAINER, &line], None);
        check_memory(&[CONTAINER, &line], None);
    }
    for max in
        ["", "max", "40000", "40000  100000", "40000 0", "0 100000", "-1 100000", "+4 10", "4e4 1e5", "4 1 1"]
    {
        check_quota(&[CONTAINER, &[("sys/fs/cgroup/cpu.max", max)]], None);
    }
    for max in ["", "max", "-1", "+1", "300M", "0x100", "1 2", "18446744073709551616"] {
        check_memory(&[CONTAINER, &[("sys/fs/cgroup/memory.max", max)]], None);
    }
    for meminfo in ["", "MemTotal: lots kB\n", "MemTotal: 1 MB\n", "MemTotal: 18446744073709551615 kB\n"] {
        check_memory(&[CONTAINER, &[("proc/meminfo", meminfo)]], Some(300 << 20));
    }
    for list in ["", "x", "0-", "-1", "3-0", "0,,1", "0;1", "+0", "0-99999999", "1", "0x0"] {
        let siblings = [("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", list)];
        check(&[&siblings], TWO, "auto", Ok("0-1"));
    }
    // A list of siblings that lacks the CPU itself is ignored.
    check(&[&[("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0\n")]], TWO, "auto", Ok("0-1"));
    for list in ["", "x", "0-", "3-0", "0-99999999", "0 1"] {
        check(&[SMT_ON, &[("sys/devices/system/cpu/online", list)]], EIGHT, "auto", Ok("0-3"));
        let cpuset = [("sys/fs/cgroup/cpuset.cpus.effective", list)];
        check(&[SMT_ON, &CONTAINER[..2], &cpuset], EIGHT, "auto", Ok("0-3"));
    }
}

#[test]
fn a_group_outside_the_namespace_does_not_lead_out_of_the_tree() {
    let outside = [("proc/self/cgroup", "0::/../other\n"), ("sys/fs/other/cpu.max", "10000 100000\n")];
    check_quota(&[&outside], None);
    check_quota(&[CONTAINER, &outside], Some(0.4));
}
