//! The Postgres that is tortured: the postmaster, its children, and the disk under them.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::ends;
use crate::lab::{MEND_TIME_MAX, START_PAUSE};
use crate::processes::{self, Frozen, family, kill_family, send};

/// The disk, in memory: the machine's own disk neither fills up nor slows a run down.
const DISK: &str = "size=512m,mode=0755";
/// Where it is, in the lab's directory.
const DIRECTORY: &str = "disk";
/// What each fsync takes longer, in microseconds.
const FSYNC_DELAY: u32 = 100_000;

/// The postmaster, its children and its disk. The fields are dropped in order.
pub(crate) struct Postgres {
    pub(crate) cluster: Cluster,
    disk: Option<Disk>,
    #[allow(dead_code, reason = "it goes when this is dropped")]
    home: TempDir,
    frozen: Option<Frozen>,
    /// What makes each fsync slow.
    tracer: Option<Child>,
    findings: Vec<String>,
    /// Why the last fault was none.
    excuse: Option<String>,
}

impl Postgres {
    /// A new one in this directory, on a disk of its own where one can be mounted.
    pub(crate) fn start(home: TempDir) -> Postgres {
        let at = home.path().join(DIRECTORY);
        fs::create_dir(&at).expect("a new directory can be written to");
        let disk = Disk::mount(&at);
        if let Err(why) = &disk {
            ends::skipped(&format!("a full disk: none of its own can be mounted (root is needed): {why}"));
        }
        let all_may_enter = Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(all_may_enter.clone()).tempdir_in(&at);
        fs::set_permissions(&at, all_may_enter).expect("a directory of its own");
        let cluster = Cluster::start_in(directory.expect("a new disk can be written to"));
        if processes::Child::find("strace").is_none() {
            ends::skipped("a slow fsync: there is no strace (apt-get install strace)");
        }
        Postgres {
            cluster,
            disk: disk.ok(),
            home,
            frozen: None,
            tracer: None,
            findings: Vec::new(),
            excuse: None,
        }
    }

    /// What was seen since the last look.
    pub(crate) fn findings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.findings)
    }

    /// Why the last fault was none, if it was none.
    pub(crate) fn excuse(&mut self) -> Option<String> {
        self.excuse.take()
    }

    /// Undoes whatever was done.
    pub(crate) fn heal(&mut self) {
        self.thaw();
        self.quick_fsync();
        self.free_disk();
    }

    /// SIGKILL to all of its processes.
    pub(crate) fn kill(&mut self) {
        if let Some(pid) = self.cluster.embedded.pid() {
            kill_family(pid);
        }
    }

    /// An orderly end: sessions are ended, and everything is written out.
    pub(crate) fn stop(&mut self) {
        if let Err(why) = self.cluster.embedded.stop() {
            self.findings.push(format!("Postgres does not stop: {why}"));
        }
    }

    /// Starts it if it does not run.
    pub(crate) fn revive(&mut self) {
        let began = Instant::now();
        while let Err(why) = self.cluster.embedded.ensure_running() {
            if began.elapsed() > MEND_TIME_MAX {
                self.findings.push(format!("Postgres does not start: {why}"));
                return;
            }
            thread::sleep(START_PAUSE);
        }
    }

    /// SIGSTOP to all of its processes.
    pub(crate) fn freeze(&mut self) {
        self.frozen = self.cluster.embedded.pid().map(Frozen::family_of);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Its disk has no room.
    pub(crate) fn fill_disk(&mut self) {
        match &self.disk {
            Some(disk) => {
                if let Err(why) = disk.fill() {
                    self.findings.push(format!("the disk cannot be filled: {why}"));
                }
            }
            None => self.excuse = Some("there is no disk of its own".to_owned()),
        }
    }

    /// There is room again. It may have ended meanwhile.
    pub(crate) fn free_disk(&mut self) {
        if let Some(Err(why)) = self.disk.as_ref().map(Disk::free) {
            self.findings.push(format!("the disk cannot be freed: {why}"));
        }
        self.revive();
    }

    /// Every fsync of every process takes its time, in those that are forked meanwhile too.
    pub(crate) fn slow_fsync(&mut self) {
        let Some(postmaster) = self.cluster.embedded.pid() else { return };
        let Some(strace) = processes::Child::find("strace") else {
            self.excuse = Some("there is no strace".to_owned());
            return;
        };
        let mut command = Command::new(strace);
        command.args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.arg("-e").arg(format!("inject=fsync,fdatasync:delay_enter={FSYNC_DELAY}"));
        for pid in family(postmaster) {
            command.arg("-p").arg(pid.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(tracer) => self.tracer = Some(tracer),
            Err(why) => self.findings.push(format!("strace: {why}")),
        }
    }

    /// Every fsync is as fast as the disk.
    pub(crate) fn quick_fsync(&mut self) {
        let Some(mut tracer) = self.tracer.take() else { return };
        match tracer.try_wait() {
            Ok(None) => {
                send(i32::try_from(tracer.id()).expect("a pid"), Signal::SIGTERM);
                // It lets go of everyone, and ends.
                if let Err(why) = tracer.wait() {
                    self.findings.push(format!("strace: {why}"));
                }
            }
            Ok(Some(status)) => self.excuse = Some(format!("strace ended by itself: {status}")),
            Err(why) => self.findings.push(format!("strace: {why}")),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Whatever the run saw: nobody is traced or stopped when Postgres is to end.
        self.thaw();
        self.quick_fsync();
    }
}

/// Mounts that this process makes, and those of its children, are seen by them only. To be called before there are threads.
///
/// # Errors
///
/// Only root may.
pub(crate) fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
}

/// Takes the disk away from a lab whose directory is to go; there may be none.
pub(crate) fn unmount(home: &Path) {
    let _ = umount2(&home.join(DIRECTORY), MntFlags::MNT_DETACH);
}

/// A small filesystem in memory.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn mount(at: &Path) -> nix::Result<Disk> {
        mount(Some("rinha-torture"), at, Some("tmpfs"), MsFlags::empty(), Some(DISK))?;
        Ok(Disk { at: at.to_owned() })
    }

    /// The file that has all the room.
    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Takes all the room there is.
    fn fill(&self) -> std::io::Result<()> {
        let file = File::create(self.ballast())?;
        let disk = statvfs(&self.at)?;
        let mut size = 0;
        // Others take room and give it back meanwhile: less and less is asked for.
        let mut more =
            i64::try_from(disk.blocks_available() * disk.fragment_size()).unwrap_or(i64::MAX).max(1);
        loop {
            match fallocate(&file, FallocateFlags::empty(), size, more) {
                Ok(()) => size += more,
                Err(Errno::ENOSPC) if more == 1 => return Ok(()),
                Err(Errno::ENOSPC) => more /= 2,
                Err(why) => return Err(why.into()),
            }
        }
    }

    fn free(&self) -> std::io::Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(why),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A log file that somebody holds open does not keep the directory.
        if let Err(why) = umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("torture: {}: {why}", self.at.display());
        }
    }
}
