//! Child processes with a time limit, the signals that end the wait for them, and what `/proc` says of them. This
//! module does not know what the processes are for.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use ::progress::Wait;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::{Limits, Usage};

/// How often a child is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Lines of a failed child's output that are worth showing.
const TAIL_LINES: usize = 20;

/// Set by SIGINT, SIGTERM and SIGHUP once they are heeded.
static SIGNALLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Set while what was started is stopped: that goes on to its end.
static CLEANING_UP: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP (a terminal that is closed) do not end this process: what it waits for is
/// ended, with an error. A signal that was ignored at the start, as `nohup` does, stays ignored.
pub fn heed_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signalled = SIGNALLED.get_or_init(Arc::default);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0) {
        signal_hook::flag::register(signal, Arc::clone(signalled))?;
    }
    Ok(())
}

/// An error if a signal came, except while `clean_up` is at work.
pub fn undisturbed() -> Result<()> {
    let signalled = SIGNALLED.get().is_some_and(|signalled| signalled.load(Ordering::Relaxed));
    if signalled && !CLEANING_UP.load(Ordering::Relaxed) {
        bail!("stopped by a signal");
    }
    Ok(())
}

/// Does work that no signal ends.
pub fn clean_up<T>(work: impl FnOnce() -> T) -> T {
    CLEANING_UP.store(true, Ordering::Relaxed);
    let done = work();
    CLEANING_UP.store(false, Ordering::Relaxed);
    done
}

/// Runs to the end and returns what was printed on standard output; an error shows the last lines of everything.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    output_of(command, b"", limit)
}

/// As `output`, with `input` on standard input.
pub fn output_of(command: &mut Command, input: &[u8], limit: Duration) -> Result<String> {
    run(command, input, limit, None)
}

/// As `output`, and this step tells the last line of standard error meanwhile.
pub fn output_told(command: &mut Command, limit: Duration, step: &Wait) -> Result<String> {
    run(command, b"", limit, Some(step))
}

fn run(command: &mut Command, input: &[u8], limit: Duration, step: Option<&Wait>) -> Result<String> {
    let shown = shown(command);
    // Files, not pipes: a daemon that the child leaves behind would hold a pipe open.
    let (mut out, mut err, mut stdin) = (tempfile::tempfile()?, tempfile::tempfile()?, tempfile::tempfile()?);
    stdin.write_all(input)?;
    stdin.rewind()?;
    // A process group of its own, here and in `logged`: Ctrl-C reaches this process alone, which decides what ends
    // when.
    command.stdin(stdin).stdout(out.try_clone()?).stderr(err.try_clone()?).process_group(0);
    if let Some(step) = step {
        step.follow(err.try_clone()?);
    }
    let mut child = command.spawn().with_context(|| format!("{shown}: could not start it"))?;
    let status = wait(&mut child, limit).with_context(|| shown.clone())?;
    let printed = text(&mut out)?;
    if !status.success() {
        bail!("{shown}: {status}\n{}{}", tail(&printed), tail(&text(&mut err)?));
    }
    Ok(printed)
}

/// A program that the kernel sends `signal` when this process dies, so that a kill leaves nothing running.
pub fn mortal(signal: Signal, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal.as_str().trim_start_matches("SIG")]).arg(program);
    command
}

/// Starts a program whose output goes to a file.
pub fn logged(command: &mut Command, log: &File) -> Result<Child> {
    let shown = shown(command);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).process_group(0);
    command.spawn().with_context(|| format!("{shown}: could not start it"))
}

/// Waits for the end; past the limit, or at a signal, the child and all that it started are killed.
pub fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let late = began.elapsed() > limit;
        let disturbed = undisturbed();
        if late || disturbed.is_err() {
            kill_all(child)?;
            disturbed?;
            bail!("killed, as it did not end within {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

/// Kills a child and all that it started, and waits for the child.
pub(crate) fn kill_all(child: &mut Child) -> Result<()> {
    for pid in Family::of(child.id()).members {
        // A process that has just ended needs no signal.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
    }
    child.wait()?;
    Ok(())
}

/// Asks a child to end, and kills it if it does not end within the limit.
pub(crate) fn terminate(child: &mut Child, limit: Duration) -> Result<()> {
    let began = Instant::now();
    // A process that has just ended needs no signal.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    while child.try_wait()?.is_none() {
        if began.elapsed() > limit {
            return kill_all(child);
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn text(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(TAIL_LINES);
    lines[first..].iter().map(|line| format!("  {line}\n")).collect()
}

/// A process and all that it started.
pub(crate) struct Family {
    pub(crate) members: Vec<u32>,
    stats: HashMap<u32, Stat>,
}

/// From `/proc/PID/stat`, see `proc(5)`.
struct Stat {
    parent: u32,
    /// CPU time of the process and of the children that it has waited for.
    ticks: u64,
    pages: u64,
}

impl Family {
    pub(crate) fn of(root: u32) -> Self {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let stats: HashMap<u32, Stat> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
        let mut members = vec![root];
        let mut next = 0;
        while let Some(&parent) = members.get(next) {
            members.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        Self { members, stats }
    }

    pub(crate) fn cpu(&self) -> Duration {
        let hertz = sysconf(nix::unistd::SysconfVar::CLK_TCK);
        Duration::from_micros(self.sum(|stat| stat.ticks) * 1_000_000 / hertz)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.sum(|stat| stat.pages) * sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
    }

    fn sum(&self, value: impl Fn(&Stat) -> u64) -> u64 {
        self.members.iter().filter_map(|pid| self.stats.get(pid)).map(value).sum()
    }
}

/// The online CPUs, and all memory.
pub(crate) fn machine_limits() -> Limits {
    let cpus = sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    Limits { cpus: Some(cpus as f64), memory: Some(memory("MemTotal:")) }
}

/// The time that CPUs were not idle, with the time that the hypervisor took from them (see `proc(5)`), and the memory
/// in use.
pub(crate) fn machine_usage() -> Usage {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let times: Vec<u64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system [idle iowait] irq softirq steal
    let busy: u64 = times.iter().take(3).chain(times.iter().skip(5).take(3)).sum();
    let hertz = sysconf(nix::unistd::SysconfVar::CLK_TCK);
    let used = memory("MemTotal:").saturating_sub(memory("MemAvailable:"));
    let cpu = Duration::from_micros(busy * 1_000_000 / hertz);
    Usage { cpu, memory: used, anonymous: used, ..Usage::default() }
}

/// A line of `/proc/meminfo`, in bytes.
fn memory(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn sysconf(variable: nix::unistd::SysconfVar) -> u64 {
    let value = nix::unistd::sysconf(variable).ok().flatten().expect("every Linux says it");
    u64::try_from(value).expect("positive")
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = (14..=17).filter_map(field).sum();
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, ticks, pages: field(24)? })
}

/// What tests share that check the end of a child's children.
#[cfg(test)]
pub(crate) mod children {
    use std::path::Path;

    use super::*;

    /// For `sh -c`: starts a child of the shell, and writes the child's pid into the file that is the argument.
    pub(crate) const CHILD: &str = r#"sleep 60 & echo $! >"$1"; wait"#;

    /// Whether that child ends within two seconds.
    pub(crate) fn has_ended(file: &Path) -> bool {
        let pid: u32 = fs::read_to_string(file).expect("a file").trim().parse().expect("a pid");
        (0..100).any(|_| {
            thread::sleep(POLL);
            // The command line is empty if the child has ended and nobody has waited for it yet.
            !fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::children::{CHILD, has_ended};
    use super::*;

    #[test]
    fn a_child_past_its_limit_is_killed_with_its_children() {
        let began = Instant::now();
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut shell = Command::new("sh");
        shell.args(["-c", CHILD, "sh"]).arg(file.path());
        let error = output(&mut shell, Duration::from_millis(300));
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(format!("{:#}", error.expect_err("a time-out")).contains("did not end"));
        assert!(has_ended(file.path()));
    }

    #[test]
    fn a_failure_shows_what_was_printed() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 3"]), Duration::from_secs(5));
        let error = format!("{:#}", error.expect_err("exit 3"));
        assert!(error.contains("exit status: 3") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_family_uses_time_and_memory() {
        let family = Family::of(std::process::id());
        assert!(family.resident_bytes() > 100_000);
        assert!(family.cpu() < Duration::from_secs(3600));
    }
}
