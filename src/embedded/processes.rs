//! The processes of one cluster: which are ours, whether they answer, how they end. Knows no SQL.
//!
//! A pid alone proves nothing: after a reboot or in a new container it is another program's. A process is taken for
//! ours only by its command line, which carries the cluster's tag and which every user may read (`/proc/PID/cwd` and
//! `exe` may not be read by a container's root without CAP_SYS_PTRACE).
//!
//! Who runs in the cluster's directory is its postmaster, whatever the pid file says: Postgres lets in one at a time, which
//! writes the file. So a reused pid is told by directories, and they are exact. The tag is the data directory's device and
//! inode, which nobody else gets while a process lives: its working directory is the cluster inside, which keeps the
//! directories above it even when they were removed. That the cluster itself was moved away and another one put there is
//! seen by the working directory, where that may be read. The start time in the third line of `postmaster.pid` is not
//! compared with that of the process: it could only say that a process is not the postmaster, and would say so of the right
//! one after the clock was set; then a second postmaster would be started beside it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{self, Child};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, Uid};

use super::error::EmbeddedError;
use super::layout::{Layout, socket_path};
use crate::limits::{EMBEDDED_COMMAND_LINE_BYTES, EMBEDDED_POLL_PERIOD, EMBEDDED_PROBE_TIME_MAX};

/// A postmaster of ours: a child, or the orphan of a server that was killed.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) pid: Pid,
    /// `None` for an adopted one.
    child: Option<Child>,
    tag: String,
    uid: Uid,
}

impl Postmaster {
    pub(super) fn spawned(child: Child, tag: &str, uid: Uid) -> Self {
        let pid = i32::try_from(child.id()).expect("a pid of Linux fits an i32");
        Self { pid: Pid::from_raw(pid), child: Some(child), tag: tag.to_owned(), uid }
    }

    pub(super) fn adopted(pid: Pid, tag: &str, uid: Uid) -> Self {
        Self { pid, child: None, tag: tag.to_owned(), uid }
    }

    /// Whether the postmaster still runs. Reaps it when it ended.
    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => {
                // An orphan is a child of this process only if this process is a container's init; else the call fails
                // harmlessly.
                let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
                let identity = identify(self.pid, &self.tag, self.uid);
                matches!(identity, PidHolder::OurPostmaster | PidHolder::Ending)
            }
        }
    }

    /// Sends a signal, but never to another program that got the pid meanwhile.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let _ = kill(self.pid, signal);
        }
    }
}

/// What Postgres writes into `postmaster.pid`: pid, data directory, start time, port, socket directory, address, shared
/// memory, status; one a line (`src/include/utils/pidfile.h` of Postgres).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: Pid,
    status: String,
}

impl PidFile {
    pub(super) fn read(pgdata: &Path) -> Option<Self> {
        // The paths in it need not be UTF-8.
        Self::parse(&String::from_utf8_lossy(&fs::read(pgdata.join("postmaster.pid")).ok()?))
    }

    /// Whether a file is there, can be read, and begins with no number: a power cut leaves it so.
    pub(super) fn is_torn(path: &Path) -> bool {
        fs::read(path).is_ok_and(|content| {
            let content = String::from_utf8_lossy(&content);
            content.lines().next().is_none_or(|first| first.trim().parse::<i32>().is_err())
        })
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.status.as_str(), "" | "starting")
    }

    fn parse(content: &str) -> Option<Self> {
        let mut lines = content.lines();
        let pid: i32 = lines.next()?.trim().parse().ok()?;
        // A standalone backend writes its pid with a minus.
        let pid = Pid::from_raw(pid.checked_abs().filter(|pid| *pid > 1)?);
        let status = lines.nth(6).unwrap_or_default().trim().to_owned();
        Some(Self { pid, status })
    }
}

/// Whether the postmaster takes connections: it says so, and a process that it forked for a connection answers. The
/// answer is needed because the kernel alone accepts connections for a postmaster that is stopped or hangs.
pub(super) fn is_ready(layout: &Layout, pid: Pid) -> bool {
    let said = PidFile::read(&layout.pgdata).is_some_and(|file| file.pid == pid && file.status == "ready");
    said && answers(&layout.socket_dir).is_some()
}

/// Asks for TLS, to which a Postgres answers one byte before any authentication (protocol 3.0, SSLRequest).
fn answers(socket_dir: &Path) -> Option<()> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let mut stream = UnixStream::connect(socket_path(socket_dir)).ok()?;
    stream.set_read_timeout(Some(EMBEDDED_PROBE_TIME_MAX)).ok()?;
    stream.set_write_timeout(Some(EMBEDDED_PROBE_TIME_MAX)).ok()?;
    stream.write_all(&SSL_REQUEST).ok()?;
    let mut answer = [0];
    stream.read_exact(&mut answer).ok()
}

/// Who has a pid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PidHolder {
    /// Nobody.
    Nobody,
    /// A process that ended and was not reaped. Postgres takes it for alive, as `kill(pid, 0)` does, and in a container
    /// without an init it stays for good.
    Zombie,
    /// A process that is just ending: its command line is gone, its memory may still be mapped.
    Ending,
    /// The postmaster of this cluster, started by this server or an earlier one.
    OurPostmaster,
    /// A postmaster of the same user without a tag: it may run on this cluster.
    AnyPostmaster,
    /// Certainly not the cluster's postmaster.
    Unrelated,
}

/// Tells who has `pid`.
pub(super) fn identify(pid: Pid, tag: &str, uid: Uid) -> PidHolder {
    let process = Path::new("/proc").join(pid.to_string());
    let (Ok(metadata), Ok(command_line), Ok(stat)) =
        (fs::metadata(&process), command_line(&process), fs::read(process.join("stat")))
    else {
        return PidHolder::Nobody;
    };
    // `PID (name) STATE ...`, where the name may hold anything.
    let stat = String::from_utf8_lossy(&stat);
    let Some((name, state)) = stat.rsplit_once(") ") else {
        return PidHolder::Nobody;
    };
    if state.starts_with(['Z', 'X']) {
        return PidHolder::Zombie;
    }
    // Postgres opens only a directory of the user it runs as, so this process is not the cluster's postmaster.
    if metadata.uid() != uid.as_raw() {
        return PidHolder::Unrelated;
    }
    if command_line.is_empty() {
        return PidHolder::Ending;
    }
    let name = name.split_once('(').map_or("", |(_, name)| name);
    identify_command(name, &command_line, tag)
}

/// The arguments, each ended by a NUL; empty for a process that ended. One read takes them all: between two reads the
/// process could lose its memory, and half a command line could pass for another program's.
fn command_line(process: &Path) -> io::Result<Vec<u8>> {
    let mut command_line = vec![0; EMBEDDED_COMMAND_LINE_BYTES];
    let length = File::open(process.join("cmdline"))?.read(&mut command_line)?;
    command_line.truncate(length);
    Ok(command_line)
}

/// Whether a postmaster certainly runs on another cluster than `pgdata`: its working directory, or where that may not be
/// read, its `-D`, is another directory.
pub(super) fn runs_elsewhere(pid: Pid, pgdata: &Path) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let same = |path: &Path| {
        let (one, other) = (fs::metadata(path).ok()?, fs::metadata(pgdata).ok()?);
        Some((one.dev(), one.ino()) == (other.dev(), other.ino()))
    };
    let by_argument = || {
        let command_line = command_line(&process).ok()?;
        let mut arguments = command_line.split(|&byte| byte == 0);
        let directory =
            arguments.find(|argument| argument.starts_with(b"-D")).map(|argument| &argument[2..])?;
        let directory = if directory.is_empty() { arguments.next()? } else { directory };
        let directory = Path::new(OsStr::from_bytes(directory));
        directory.is_absolute().then(|| same(directory))?
    };
    same(&process.join("cwd")).or_else(by_argument) == Some(false)
}

/// Who has the pid of a cluster's pid file.
pub(super) fn holder(file: &PidFile, layout: &Layout, uid: Uid) -> PidHolder {
    match identify(file.pid, &layout.tag, uid) {
        PidHolder::AnyPostmaster if runs_elsewhere(file.pid, &layout.pgdata) => PidHolder::Unrelated,
        holder => holder,
    }
}

/// The postmaster that a server which was killed left running.
///
/// # Errors
///
/// Somebody else started it.
pub(super) fn orphan(layout: &Layout, uid: Uid) -> Result<Option<PidFile>, EmbeddedError> {
    let Some(file) = PidFile::read(&layout.pgdata) else { return Ok(None) };
    match holder(&file, layout, uid) {
        PidHolder::OurPostmaster => Ok(Some(file)),
        PidHolder::AnyPostmaster => {
            Err(EmbeddedError::ForeignPostmaster { pid: file.pid.as_raw(), pgdata: layout.pgdata.clone() })
        }
        _ => Ok(None),
    }
}

fn identify_command(name: &str, command_line: &[u8], tag: &str) -> PidHolder {
    // The children of a postmaster show "postgres: ..." instead of their arguments.
    if !matches!(name, "postgres" | "postmaster") || command_line.starts_with(b"postgres: ") {
        return PidHolder::Unrelated;
    }
    let mut tags = command_line
        .split(|&byte| byte == 0)
        .filter_map(|argument| argument.strip_prefix(b"cluster_name=rinha-"))
        .peekable();
    if tags.peek().is_none() {
        return PidHolder::AnyPostmaster;
    }
    match tags.any(|found| tag.as_bytes().strip_prefix(b"rinha-") == Some(found)) {
        true => PidHolder::OurPostmaster,
        // The postmaster of another data directory of this program.
        false => PidHolder::Unrelated,
    }
}

/// Reaps the children of a dead postmaster that have ended. They become this process' own where it is a container's init,
/// and nobody else takes their status then. `postmaster` is left to whoever waits for it.
pub(super) fn reap_orphans(postmaster: Option<Pid>) {
    let own = process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw)
        else {
            continue;
        };
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        // `PID (name) STATE PARENT ...`
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let mut fields = fields.split(' ');
        if fields.next() == Some("Z") && fields.next() == Some(&own) && Some(pid) != postmaster {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Ends the children that a dead postmaster left. They notice its death by themselves, unless they are in the middle of
/// a statement. While one of them lives, a new postmaster finds the shared memory in use and refuses to start. After
/// `grace` they are killed, which loses nothing that was committed. Returns one that is still there after `time_max`,
/// `None` once all are gone.
pub(super) fn end_strays(tag: &str, uid: Uid, grace: Duration, time_max: Duration) -> Option<Pid> {
    let start = Instant::now();
    loop {
        let strays = strays(tag, uid);
        let stray = *strays.first()?;
        if start.elapsed() >= grace {
            for pid in strays {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        if start.elapsed() >= time_max {
            return Some(stray);
        }
        thread::sleep(EMBEDDED_POLL_PERIOD);
    }
}

/// The children of the cluster's postmasters, dead or alive: `postgres: <cluster_name>: ...`.
fn strays(tag: &str, uid: Uid) -> Vec<Pid> {
    let title = format!("postgres: {tag}: ");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let pid: i32 = process.file_name().to_str()?.parse().ok()?;
            let command_line = command_line(&process.path()).ok()?;
            let ours =
                command_line.starts_with(title.as_bytes()) && process.metadata().ok()?.uid() == uid.as_raw();
            ours.then_some(Pid::from_raw(pid))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_files() {
        let check = |content: &str, expected: Option<(i32, &str)>| {
            let expected =
                expected.map(|(pid, status)| PidFile { pid: Pid::from_raw(pid), status: status.to_owned() });
            assert_eq!(PidFile::parse(content), expected, "{content:?}");
        };
        check("42\n/d\n1\n5432\n/s\n\n  123  456\nready   \n", Some((42, "ready")));
        check("42\n/d\n1\n5432\n/s\n\n", Some((42, "")));
        check("-42\n", Some((42, "")));
        check("", None);
        check("x\n", None);
        check("0\n", None);
        check("1\n", None);
    }

    #[test]
    fn identities() {
        let check = |name: &str, command_line: &str, expected: PidHolder| {
            let found = identify_command(name, command_line.as_bytes(), "rinha-1-2");
            assert_eq!(found, expected, "{name} {command_line:?}");
        };
        check("postgres", "/b/postgres\0-D\0/d\0-c\0cluster_name=rinha-1-2\0", PidHolder::OurPostmaster);
        check("postgres", "/b/postgres\0-D\0/d\0-c\0cluster_name=rinha-1-23\0", PidHolder::Unrelated);
        check("postgres", "/b/postgres\0-D\0/d\0", PidHolder::AnyPostmaster);
        check("postgres", "postgres: rinha-1-2: checkpointer \0", PidHolder::Unrelated);
        check("sleep", "sleep\09\0", PidHolder::Unrelated);
    }

    #[test]
    fn a_process_of_another_program_is_unrelated() {
        let me = nix::unistd::getpid();
        let uid = nix::unistd::geteuid();
        assert_eq!(identify(me, "rinha-1-2", uid), PidHolder::Unrelated);
        assert_eq!(identify(Pid::from_raw(i32::MAX), "rinha-1-2", uid), PidHolder::Nobody);
    }
}
