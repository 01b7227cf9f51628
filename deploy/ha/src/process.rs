//! Processes of this machine by their number: their start, their children, their freeze and their end.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use crate::Result;

/// Pause between two looks at something that changes.
pub(crate) const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// How long a process that was killed may take to be gone.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// Who runs the services where root starts them: Postgres refuses root, and nothing else needs it.
pub fn account() -> Result<Option<User>> {
    match geteuid().is_root() {
        true => Ok(Some(
            User::from_name("postgres")?.ok_or("expected a user `postgres`, as Postgres refuses root")?,
        )),
        false => Ok(None),
    }
}

/// Starts a program that writes its log to a file and is killed when the thread that started it ends, as its parent
/// then is gone or has panicked. `enter` goes before it, and is a command that becomes another.
pub fn start(
    enter: &[String],
    program: &[String],
    environment: &[(&str, &str)],
    log: &Path,
) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log)?;
    let mut words = enter.to_vec();
    words.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
    if let Some(account) = account()? {
        words.extend([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
        words.push("--init-groups".to_owned());
    }
    words.extend_from_slice(program);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(environment.iter().copied()).current_dir("/");
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    Ok(command.spawn().map_err(|error| format!("{}: {error}", words[0]))?)
}

/// The number of a child.
pub fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("a pid of Linux fits an i32")
}

/// Sends a signal to a process that may be gone already.
pub fn send(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(format!("{signal} to {pid}: {errno}").into()),
    }
}

/// The state and the parent of a process, from `/proc/PID/stat`: `PID (name) STATE PARENT ...`.
fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Whether a process runs or is stopped: a zombie does not.
pub fn runs(pid: i32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Processes and all that they started, the parents first.
pub fn families(roots: &[i32]) -> Vec<i32> {
    let processes: Vec<(i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, state_and_parent(pid)?.1)))
        .collect();
    let mut family: Vec<i32> = roots.iter().copied().filter(|&pid| runs(pid)).collect();
    let mut position = 0;
    while let Some(&parent) = family.get(position) {
        let children = processes.iter().filter(|(pid, of)| *of == parent && !family.contains(pid));
        let children: Vec<i32> = children.map(|(pid, _)| *pid).collect();
        family.extend(children);
        position += 1;
    }
    family
}

/// Sends a signal to processes and all that they started, until nothing new is found: what a parent starts meanwhile
/// gets it too.
pub fn send_all(roots: &[i32], signal: Signal) -> Result<Vec<i32>> {
    let mut told: Vec<i32> = Vec::new();
    loop {
        let new: Vec<i32> = families(roots).into_iter().filter(|pid| !told.contains(pid)).collect();
        if new.is_empty() {
            return Ok(told);
        }
        for &pid in &new {
            send(pid, signal)?;
        }
        told.extend(new);
    }
}

/// `kill -9` of processes and all that they started; returns when they are gone. They are stopped first, so that none
/// starts another meanwhile.
pub fn kill_all(roots: &[i32]) -> Result<()> {
    let family = send_all(roots, Signal::SIGSTOP)?;
    for &pid in &family {
        send(pid, Signal::SIGKILL)?;
    }
    wait_for("the end of killed processes", END_TIME_MAX, || Ok(family.iter().all(|&pid| !runs(pid))))
}

/// Stopped processes; they go on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<i32>);

impl Frozen {
    /// Stops processes and all that they started.
    pub fn freeze(roots: &[i32]) -> Result<Frozen> {
        Ok(Frozen(send_all(roots, Signal::SIGSTOP)?))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for &pid in &self.0 {
            let _ = send(pid, Signal::SIGCONT);
        }
    }
}

/// Ends a child with a signal, by force after `grace`.
pub fn end(child: &mut Child, signal: Signal, grace: Duration) -> Result<()> {
    send(pid(child), signal)?;
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > grace {
            child.kill()?;
        }
        thread::sleep(LOOK_PERIOD);
    }
    Ok(())
}

/// Polls until something holds.
pub fn wait_for(what: &str, time_max: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !holds()? {
        if began.elapsed() > time_max {
            return Err(format!("expected within {time_max:?}: {what}").into());
        }
        thread::sleep(LOOK_PERIOD);
    }
    Ok(())
}
