//! The kernel's list of CPUs, `0,2-3`, as text (`cpulist` in `Documentation/admin-guide/cputopology.rst`).

use nix::sched::CpuSet;

/// The CPUs in the order in which `text` names them; `None` if any part is neither a CPU nor a range of CPUs.
pub(super) fn parse(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?, number(high)?);
        // A number for which an affinity mask has no bit is no CPU. The bound also keeps a range from filling the
        // memory.
        if low > high || high >= CpuSet::count() {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

/// The shortest text of these CPUs in their order.
pub(super) fn show(cpus: &[usize]) -> String {
    let ranges = cpus.chunk_by(|&cpu, &next| cpu + 1 == next).map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        range => range.iter().map(ToString::to_string).collect(),
    });
    ranges.collect::<Vec<String>>().join(",")
}

/// Digits only: Rust's own parser also takes a sign.
pub(super) fn number(text: &str) -> Option<usize> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
