//! The disk in the kernel's hands, by FUSE, and its power switch.
//!
//! Every write comes here before the program that writes goes on: the kernel's cache holds nothing that is not here. After a
//! cut the disk is mounted anew, and the kernel knows nothing of before.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, SessionACL,
    TimeOrNow, WriteFlags,
};
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::SFlag;

use crate::PAGE;
use crate::disk::Disk;
use crate::names::Names;

/// Nobody but the kernel changes anything, so it may remember.
const TTL: Duration = Duration::from_secs(3600);
/// How long the last of those who use it may take to end.
const UNMOUNT_TIME_MAX: Duration = Duration::from_secs(20);
/// What `statfs` tells: 4 GiB, free.
const BLOCKS: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing reaches the disk, and whoever asks it waits.
    Cut,
    /// Whoever asks gets an error, so that it can end.
    Off,
}

#[derive(Debug)]
struct Machine {
    disk: Mutex<(Power, Disk)>,
    switched: Condvar,
}

impl Machine {
    fn lock(&self) -> MutexGuard<'_, (Power, Disk)> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switch(&self, power: Power) {
        self.lock().0 = power;
        self.switched.notify_all();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T, Errno>) -> Result<T, fuser::Errno> {
        let state = self.switched.wait_while(self.lock(), |state| state.0 == Power::Cut);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let done = if state.0 == Power::Off { Err(Errno::EIO) } else { work(&mut state.1) };
        done.map_err(|errno| fuser::Errno::from_i32(errno as i32))
    }
}

/// A mounted disk. Unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    machine: Arc<Machine>,
    session: Option<BackgroundSession>,
    at: PathBuf,
}

/// Gives this thread, and what it starts from now on, mounts of its own, which are gone when all of these have ended, however
/// they end.
///
/// # Errors
///
/// Where that is not allowed.
pub fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    Ok(mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}

impl Mounted {
    /// Mounts a disk.
    ///
    /// # Errors
    ///
    /// Where there is no FUSE, or no right to mount.
    pub fn mount(disk: Disk, at: &Path) -> io::Result<Mounted> {
        let machine = Arc::new(Machine { disk: Mutex::new((Power::On, disk)), switched: Condvar::new() });
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("forgetful".to_owned()), MountOption::DefaultPermissions];
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(Bridge(Arc::clone(&machine)), at, &config)?;
        Ok(Mounted { machine, session: Some(session), at: at.to_owned() })
    }

    /// Cuts the power: whatever was not synced before this instant may be forgotten, and nothing more comes to the disk.
    /// Whoever uses it hangs, and is to be killed before [`off`](Self::off).
    pub fn cut(&self) {
        self.machine.switch(Power::Cut);
    }

    /// Lets those end that hang, and unmounts the disk, which has not forgotten anything yet.
    ///
    /// # Errors
    ///
    /// When somebody still uses it after a long time.
    pub fn off(mut self) -> io::Result<Disk> {
        self.machine.switch(Power::Off);
        let began = Instant::now();
        while let Err(errno) = umount2(&self.at, MntFlags::empty()) {
            if errno != Errno::EBUSY || began.elapsed() > UNMOUNT_TIME_MAX {
                return Err(errno.into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        match self.session.take().map_or(Ok(()), BackgroundSession::join) {
            // So the kernel says to some that nothing is mounted any more.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            ended => ended?,
        }
        let nothing = Disk::new(Names::Journal, 0);
        Ok(std::mem::replace(&mut self.machine.lock().1, nothing))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.machine.switch(Power::Off);
            // Whoever still uses it keeps the rest of it until it ends.
            if umount2(&self.at, MntFlags::MNT_DETACH).is_ok() {
                drop(session);
            }
        }
    }
}

/// What the kernel asks, put to the disk.
struct Bridge(Arc<Machine>);

fn attributes(disk: &Disk, number: u64) -> Result<FileAttr, Errno> {
    let node = disk.node(number)?;
    let size = node.size() as u64;
    let kind = match SFlag::from_bits_truncate(node.mode & libc::S_IFMT) {
        SFlag::S_IFDIR => FileType::Directory,
        SFlag::S_IFLNK => FileType::Symlink,
        SFlag::S_IFSOCK => FileType::Socket,
        SFlag::S_IFIFO => FileType::NamedPipe,
        _ => FileType::RegularFile,
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: node.changed,
        mtime: node.changed,
        ctime: node.changed,
        crtime: node.changed,
        kind,
        perm: u16::try_from(node.mode & 0o7777).unwrap_or_default(),
        nlink: node.links,
        uid: node.owner.0,
        gid: node.owner.1,
        rdev: 0,
        blksize: u32::try_from(PAGE).unwrap_or_default(),
        flags: 0,
    })
}

/// The answer to what gives a node to the kernel.
fn entry(disk: &mut Disk, number: u64) -> Result<FileAttr, Errno> {
    let attributes = attributes(disk, number)?;
    disk.refer(number);
    Ok(attributes)
}

fn size(bytes: u64) -> Result<usize, Errno> {
    usize::try_from(bytes).map_err(|_| Errno::EFBIG)
}

fn answer_entry(answer: Result<FileAttr, fuser::Errno>, reply: ReplyEntry) {
    match answer {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn answer_empty(answer: Result<(), fuser::Errno>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Bridge {
    fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        target: &OsStr,
        reply: ReplyEntry,
    ) {
        let owner = (request.uid(), request.gid());
        let made = self.0.with(|disk| {
            let number = disk.make(parent.0, name, mode, owner, target)?;
            entry(disk, number)
        });
        answer_entry(made, reply);
    }
}

impl Filesystem for Bridge {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.0.with(|disk| {
            let number = disk.find(parent.0, name)?;
            entry(disk, number)
        });
        answer_entry(found, reply);
    }

    fn forget(&self, _request: &Request, node: INodeNo, times: u64) {
        // It needs no answer, so it never waits for the power.
        self.0.lock().1.forget(node.0, times);
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.0.with(|disk| attributes(disk, node.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        new_size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.0.with(|disk| {
            disk.set_attributes(node.0, mode, (uid, gid))?;
            if let Some(new_size) = new_size {
                disk.set_size(node.0, size(new_size)?)?;
            }
            attributes(disk, node.0)
        });
        match set {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        match self.0.with(|disk| disk.target(node.0).map(<[u8]>::to_vec)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        self.make(request, parent, name, mode & !umask, OsStr::new(""), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.make(request, parent, name, libc::S_IFDIR | mode & 0o7777 & !umask, OsStr::new(""), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make(request, parent, name, libc::S_IFLNK | 0o777, target.as_os_str(), reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.0.with(|disk| disk.remove(parent.0, name)), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty(self.0.with(|disk| disk.remove(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.0.with(|disk| {
            if !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            disk.rename((parent.0, name), (new_parent.0, new_name))
        });
        answer_empty(renamed, reply);
    }

    fn link(&self, _request: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.0.with(|disk| {
            disk.link(node.0, parent.0, name)?;
            entry(disk, node.0)
        });
        answer_entry(linked, reply);
    }

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // What the kernel has of a file is right, as nobody else changes it.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.with(|disk| disk.read(node.0, size(offset)?, length as usize)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let synced = flags.0 & libc::O_DSYNC != 0;
        match self.0.with(|disk| disk.write(node.0, size(offset)?, bytes, synced)) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        answer_empty(self.0.with(|disk| disk.sync(node.0)), reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let synced = self.0.with(|disk| {
            disk.sync_directory(node.0);
            Ok(())
        });
        answer_empty(synced, reply);
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.0.with(|disk| disk.list(node.0));
        let names = match listed {
            Ok(names) => names,
            Err(errno) => return reply.error(errno),
        };
        let dots =
            [".", ".."].map(|name| (OsStr::from_bytes(name.as_bytes()).to_owned(), node.0, libc::S_IFDIR));
        // The place of a name is its node's number, which no removal of another one changes.
        let mut entries: Vec<_> = (1_u64..).zip(dots).collect();
        entries.extend(names.into_iter().map(|entry| (entry.1 + 2, entry)));
        entries.sort_by_key(|(place, _)| *place);
        for (place, (name, number, mode)) in entries.into_iter().filter(|(place, _)| *place > offset) {
            let kind = match mode & libc::S_IFMT {
                libc::S_IFDIR => FileType::Directory,
                libc::S_IFLNK => FileType::Symlink,
                libc::S_IFSOCK => FileType::Socket,
                libc::S_IFIFO => FileType::NamedPipe,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let page = u32::try_from(PAGE).unwrap_or_default();
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, page, 255, page);
    }
}
