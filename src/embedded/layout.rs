//! The data directory: who may use it, and where its parts are. Starts no process.
//!
//! ```text
//! data_dir/rinha.lock       locked by the server for its lifetime; holds its pid
//! data_dir/postgres/        the cluster (PGDATA), of the user that Postgres runs as
//! data_dir/postgres.tmp-*   a cluster in the making; left only by a crash
//! data_dir/postgres.log     what initdb and Postgres say; postgres.log.1 is the log before this one
//! data_dir/admin.sock       where operators are answered, unless --admin says otherwise; the server makes it, not this room
//! data_dir/socket/          the socket, mode 0700; /tmp/rinha-<device>-<inode>/ when the path would be too long
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::unistd::{AccessFlags, eaccess, geteuid};

use super::account::Account;
use super::error::{EmbeddedError, SHARED_MEMORY};
use super::settings::PORT;
use super::wait::wait_until;
use crate::limits::{EMBEDDED_LOCK_TIME_MAX, EMBEDDED_LOG_BYTES_MAX, EMBEDDED_LOG_TAIL_BYTES, UNIX_PATH_MAX};

/// Mode of the lock file.
const LOCK_MODE: u32 = 0o600;

/// No link is followed: in a directory of another user it may lead anywhere.
const OWN_FILE: i32 = libc::O_NOFOLLOW;

/// The parts of one data directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Absolute, without symbolic links: Postgres changes its working directory.
    pub(super) data_dir: PathBuf,
    pub(super) pgdata: PathBuf,
    pub(super) socket_dir: PathBuf,
    pub(super) log: Log,
    /// Names the cluster's processes in the process list; two directories never share it.
    pub(super) tag: String,
}

impl Layout {
    /// Makes the data directory if need be.
    pub(super) fn create(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let unwritable = |cause| EmbeddedError::unwritable(data_dir, cause);
        create_reachable(data_dir).map_err(unwritable)?;
        let layout = Self::of(data_dir)?;
        // An earlier start may have made the directories, and have been killed before this.
        if !matches!(cluster_version(&layout.pgdata), Ok(Some(_))) {
            sync_names(&layout.data_dir).map_err(unwritable)?;
        }
        Ok(layout)
    }

    /// The parts of a data directory that is there, or `None` of one that could be made.
    pub(super) fn find(data_dir: &Path) -> Result<Option<Self>, EmbeddedError> {
        if data_dir.is_dir() {
            return Self::of(data_dir).map(Some);
        }
        may_add_to(nearest(data_dir)).map_err(|cause| EmbeddedError::unwritable(data_dir, cause))?;
        Ok(None)
    }

    /// The parts of a data directory that is there.
    fn of(data_dir: &Path) -> Result<Self, EmbeddedError> {
        let unwritable = |cause| EmbeddedError::unwritable(data_dir, cause);
        let data_dir = data_dir.canonicalize().map_err(unwritable)?;
        let metadata = fs::metadata(&data_dir).map_err(unwritable)?;
        let tag = format!("rinha-{:x}-{:x}", metadata.dev(), metadata.ino());

        let mut socket_dir = data_dir.join("socket");
        if socket_path(&socket_dir).as_os_str().len() > UNIX_PATH_MAX {
            socket_dir = Path::new("/tmp").join(&tag);
        }
        Ok(Self {
            pgdata: data_dir.join("postgres"),
            log: Log(data_dir.join("postgres.log")),
            socket_dir,
            data_dir,
            tag,
        })
    }

    /// Takes the directory for this process. The kernel lets go of the lock when the process ends, however it ends.
    pub(super) fn lock(&self) -> Result<Flock<File>, EmbeddedError> {
        let path = self.lock_path();
        let unwritable = |cause| EmbeddedError::unwritable(&path, cause);
        // The file is not truncated here: until it is locked, its content is another server's.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Who can open it can hold it, and keep the next start from it.
            .mode(LOCK_MODE)
            .custom_flags(OWN_FILE)
            .open(&path)
            .map_err(unwritable)?;
        file.set_permissions(Permissions::from_mode(LOCK_MODE)).map_err(unwritable)?;
        let mut lock = self.wait_for_lock(&path, file)?;
        lock.set_len(0).map_err(unwritable)?;
        writeln!(lock, "{}", process::id()).map_err(unwritable)?;
        Ok(lock)
    }

    fn lock_path(&self) -> PathBuf {
        self.data_dir.join("rinha.lock")
    }

    /// Whether [`lock`](Self::lock) would take the directory, and this process could write what a start writes there. It
    /// makes nothing.
    pub(super) fn try_out(&self) -> Result<(), EmbeddedError> {
        let path = self.lock_path();
        let unwritable = |cause| EmbeddedError::unwritable(&path, cause);
        match OpenOptions::new().read(true).write(true).custom_flags(OWN_FILE).open(&path) {
            Ok(file) => drop(self.wait_for_lock(&path, file)?),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(unwritable(cause)),
        }
        let log = &self.log.0;
        if log.exists() {
            eaccess(log, AccessFlags::W_OK).map_err(|errno| EmbeddedError::unwritable(log, errno.into()))?;
        }
        // What is not there is made.
        match [&path, log, &self.pgdata, &self.socket_dir].into_iter().find(|part| !part.exists()) {
            Some(missing) => may_add_to(nearest(missing)).map_err(unwritable),
            None => Ok(()),
        }
    }

    /// Waits a moment for a server that is just exiting, or for a child that this process is just starting, which
    /// shares every descriptor until its exec.
    fn wait_for_lock(&self, path: &Path, file: File) -> Result<Flock<File>, EmbeddedError> {
        let mut unlocked = Some(file);
        let mut locked = None;
        wait_until(EMBEDDED_LOCK_TIME_MAX, || {
            let Some(file) = unlocked.take() else {
                return true;
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => locked = Some(Ok(lock)),
                Err((file, Errno::EWOULDBLOCK)) => unlocked = Some(file),
                Err((_, errno)) => locked = Some(Err(errno)),
            }
            locked.is_some()
        });
        match locked {
            Some(Ok(lock)) => Ok(lock),
            Some(Err(errno)) => Err(EmbeddedError::unwritable(path, errno.into())),
            None => {
                let pid = fs::read_to_string(path).unwrap_or_default();
                Err(EmbeddedError::Locked {
                    data_dir: self.data_dir.clone(),
                    holder: match pid.trim() {
                        "" => "just starting".to_owned(),
                        pid => format!("process {pid}"),
                    },
                })
            }
        }
    }

    /// Makes the socket's directory, private to the user: whoever may connect is the superuser.
    pub(super) fn prepare_socket_dir(&self, account: &Account) -> Result<(), EmbeddedError> {
        let directory = &self.socket_dir;
        match private_directory(directory) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                return Err(EmbeddedError::unwritable(directory, cause));
            }
            _ => {}
        }
        self.check_socket_dir(account)?;
        account.own(directory)
    }

    /// Refuses a socket's directory that is not the user's alone: someone else may have taken the name in /tmp.
    pub(super) fn check_socket_dir(&self, account: &Account) -> Result<(), EmbeddedError> {
        let directory = &self.socket_dir;
        // A symbolic link is looked at itself, not its target.
        let metadata =
            fs::symlink_metadata(directory).map_err(|cause| EmbeddedError::unwritable(directory, cause))?;
        let ours = [account.uid.as_raw(), geteuid().as_raw()].contains(&metadata.uid());
        if !metadata.is_dir() || !ours || metadata.mode() & 0o077 != 0 {
            return Err(EmbeddedError::SocketDir {
                directory: directory.clone(),
                user: account.name.clone(),
            });
        }
        Ok(())
    }

    /// Removes the socket and its lock file, which a power cut or a copy of a live directory leaves: Postgres refuses to
    /// start if the pid in the lock file is any process', or if the file is empty. Nothing of the cluster may live when this
    /// is called.
    pub(super) fn remove_stale_socket(&self) -> Result<(), EmbeddedError> {
        let socket = socket_path(&self.socket_dir);
        for path in [socket.with_file_name(format!(".s.PGSQL.{PORT}.lock")), socket] {
            match fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(EmbeddedError::unwritable(&path, cause));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the socket's directory if it lies outside the data directory.
    pub(super) fn remove_socket_dir(&self) {
        if !self.socket_dir.starts_with(&self.data_dir) {
            // After a SIGKILL the socket and its lock file are still there.
            let socket = socket_path(&self.socket_dir);
            let _ = fs::remove_file(socket.with_file_name(format!(".s.PGSQL.{PORT}.lock")));
            let _ = fs::remove_file(socket);
            let _ = fs::remove_dir(&self.socket_dir);
        }
    }
}

/// The version that made a cluster; none when there is no cluster yet.
pub(super) fn cluster_version(pgdata: &Path) -> Result<Option<String>, EmbeddedError> {
    match fs::read_to_string(pgdata.join("PG_VERSION")) {
        Ok(version) => return Ok(Some(version.trim().to_owned())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
            return Err(EmbeddedError::NotACluster { pgdata: pgdata.to_path_buf() });
        }
        Err(cause) => return Err(EmbeddedError::unwritable(pgdata, cause)),
    }
    // An empty directory is as good as none, because the rename of a new cluster replaces it.
    let taken = fs::read_dir(pgdata).is_ok_and(|mut entries| entries.next().is_some());
    if taken {
        return Err(EmbeddedError::NotACluster { pgdata: pgdata.to_path_buf() });
    }
    Ok(None)
}

/// The nearest directory that is there, on the way up from a path.
pub(super) fn nearest(path: &Path) -> &Path {
    let there = path.ancestors().find(|ancestor| ancestor.is_dir());
    // The last ancestor of a relative path is empty.
    there.unwrap_or(if path.is_absolute() { Path::new("/") } else { Path::new(".") })
}

/// Asks the kernel whether this process may make something in a directory.
fn may_add_to(directory: &Path) -> io::Result<()> {
    Ok(eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Where Postgres puts the socket.
pub(super) fn socket_path(socket_dir: &Path) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{PORT}"))
}

/// A new directory with mode 0700.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a directory and its missing ancestors. Those that root makes may be entered by everyone, whatever the umask
/// says, because another user has to get to the cluster inside.
fn create_reachable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_reachable(parent)?;
    match fs::create_dir(path) {
        // Its last part is `..`, or somebody else has just made it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made?,
    }
    if geteuid().is_root() {
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Syncs the name of a directory and of each above it: a filesystem need not keep a directory in a power cut, with all
/// that was synced in it, if the one above it was not.
fn sync_names(path: &Path) -> io::Result<()> {
    for above in path.ancestors().skip(1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            Ok(()) => {}
            // One may write to a directory that one may not read, and some filesystems sync no directory. Then all of all
            // filesystems is synced.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) =>
            {
                nix::unistd::sync();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The log of initdb and Postgres.
#[derive(Debug, Clone)]
pub(super) struct Log(pub(super) PathBuf);

impl Log {
    /// Opens the log for a child's output, which is always appended, so that the log may be truncated under a running
    /// Postgres.
    pub(super) fn open(&self) -> Result<File, EmbeddedError> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OWN_FILE)
            .open(&self.0)
            .map_err(|cause| EmbeddedError::unwritable(&self.0, cause))
    }

    fn keep_as(&self, kept: &Path) -> io::Result<()> {
        match fs::remove_file(kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut log = OpenOptions::new().read(true).write(true).custom_flags(OWN_FILE).open(&self.0)?;
        let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(kept)?;
        io::copy(&mut log, &mut new)?;
        log.set_len(0)
    }

    /// Keeps a full log as `postgres.log.1` and begins again: the two never hold much more than twice the bound.
    pub(super) fn bound(&self) {
        if self.len() <= EMBEDDED_LOG_BYTES_MAX {
            return;
        }
        let kept = self.0.with_extension("log.1");
        if let Err(error) = self.keep_as(&kept) {
            tracing::warn!(log = %self.0.display(), %error, "the log of Postgres could not be shortened");
        }
    }

    /// The log's length in bytes.
    pub(super) fn len(&self) -> u64 {
        fs::metadata(&self.0).map_or(0, |metadata| metadata.len())
    }

    /// The line written after `start` that says most about a failure.
    pub(super) fn reason_since(&self, start: u64) -> String {
        let mut tail = Vec::new();
        let read = File::open(&self.0).and_then(|mut file| {
            let start = start.max(self.len().saturating_sub(EMBEDDED_LOG_TAIL_BYTES));
            file.seek(SeekFrom::Start(start))?;
            file.take(EMBEDDED_LOG_TAIL_BYTES).read_to_end(&mut tail)
        });
        match read {
            Ok(_) => reason_in(&tail),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}

/// The line that names a full `/dev/shm`, else the last line that tells of an error, else the last line at all.
pub(super) fn reason_in(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let lines = || output.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let telling = ["PANIC:", "FATAL:", "ERROR:", "error:"];
    lines()
        .find(|line| line.contains(SHARED_MEMORY))
        .or_else(|| lines().find(|line| telling.iter().any(|word| line.contains(word))))
        .or_else(|| lines().next())
        .unwrap_or("it said nothing")
        .to_owned()
}

/// A path as one element of a list setting such as `unix_socket_directories`: quoted, because a comma separates
/// elements.
pub(super) fn quoted(path: &Path) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in path.as_os_str().as_bytes() {
        if byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_telling_line() {
        for (output, expected) in [
            ("", "it said nothing"),
            ("creating\nok\n\n", "ok"),
            ("initdb: error: no\ninitdb: removing contents\n", "initdb: error: no"),
            ("t [1] FATAL:  one\nt [1] LOG:  shut down\n", "t [1] FATAL:  one"),
            ("t ERROR:  one\nt FATAL:  two\nt HINT:  h\n", "t FATAL:  two"),
            (
                "FATAL:  could not resize shared memory segment \"a\"\nPANIC:  cannot abort\n",
                "FATAL:  could not resize shared memory segment \"a\"",
            ),
        ] {
            assert_eq!(reason_in(output.as_bytes()), expected, "{output:?}");
        }
    }

    #[test]
    fn a_path_may_lead_through_a_directory_that_is_to_be_made() {
        let home = tempfile::tempdir().unwrap();
        for path in ["a/b", "x/../c", "d/e/../../f/../g/h", "a/b"] {
            let path = home.path().join(path);
            create_reachable(&path).unwrap();
            sync_names(&path.canonicalize().unwrap()).unwrap();
            assert!(path.is_dir(), "{}", path.display());
        }
        std::fs::write(home.path().join("file"), "").unwrap();
        assert!(create_reachable(&home.path().join("file")).is_err());
    }

    #[test]
    fn a_list_element() {
        assert_eq!(quoted(Path::new("/a, b\"c")), b"\"/a, b\"\"c\"");
    }

    #[test]
    fn a_full_log_is_kept_once_and_begun_again() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log(directory.path().join("postgres.log"));
        let mut writer = log.open().unwrap();
        let full = usize::try_from(EMBEDDED_LOG_BYTES_MAX).unwrap() + 1;
        writer.write_all(&vec![b'x'; full]).unwrap();
        log.bound();
        assert_eq!(log.len(), 0);
        // The writer that is still open appends to the shortened file.
        writer.write_all(b"FATAL: new\n").unwrap();
        assert_eq!(log.len(), 11);
        assert_eq!(log.reason_since(0), "FATAL: new");
        let kept = fs::metadata(directory.path().join("postgres.log.1")).unwrap();
        assert_eq!(kept.len(), EMBEDDED_LOG_BYTES_MAX + 1);
    }
}
