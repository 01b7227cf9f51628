//! Who Postgres runs as, and whether that user gets to the data directory. Postgres refuses to run as root.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getegid, geteuid};

use super::error::EmbeddedError;

/// The user of the Postgres processes.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) uid: Uid,
    gid: Gid,
    pub(super) name: String,
    /// This process is root and has to become that user.
    drops_root: bool,
}

impl Account {
    /// Chooses this process' user. As root it chooses the owner of the existing cluster (which thus survives an image
    /// whose `postgres` has another uid), else `postgres`, else `nobody`.
    pub(super) fn choose(pgdata: &Path, cluster_exists: bool) -> Result<Self, EmbeddedError> {
        let me = geteuid();
        let owner = if cluster_exists {
            Some(fs::metadata(pgdata).map_err(|cause| EmbeddedError::unwritable(pgdata, cause))?)
        } else {
            None
        };
        match (me.is_root(), owner) {
            (false, Some(owner)) if owner.uid() != me.as_raw() => Err(EmbeddedError::Owner {
                pgdata: pgdata.to_path_buf(),
                owner: name_of(Uid::from_raw(owner.uid())),
                remedy: "start this server as that user or as root, or name another --data-dir".to_owned(),
            }),
            (false, _) => Ok(Self { uid: me, gid: getegid(), name: name_of(me), drops_root: false }),
            (true, Some(owner)) if owner.uid() == 0 => Err(EmbeddedError::Owner {
                pgdata: pgdata.to_path_buf(),
                owner: "root".to_owned(),
                remedy: format!("chown -R {} {}", unprivileged()?.name, pgdata.display()),
            }),
            (true, Some(owner)) => Ok(Self {
                uid: Uid::from_raw(owner.uid()),
                gid: Gid::from_raw(owner.gid()),
                name: name_of(Uid::from_raw(owner.uid())),
                drops_root: true,
            }),
            (true, None) => {
                let user = unprivileged()?;
                Ok(Self { uid: user.uid, gid: user.gid, name: user.name, drops_root: true })
            }
        }
    }

    /// A command as this user, in a directory that everyone may enter, with English messages, without the settings that a
    /// shell's `PG*` variables would bring along, and without the supervisor of this process.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        for (name, _) in std::env::vars_os() {
            // It would tell the supervisor, as if it were the server, that it is ready.
            let of_supervisor =
                matches!(name.to_str(), Some("NOTIFY_SOCKET" | "WATCHDOG_USEC" | "WATCHDOG_PID"));
            if of_supervisor || name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if self.drops_root {
            // When it changes the user, std also drops root's supplementary groups.
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }

    /// Gives the user a directory that this process made. Does not follow a symbolic link.
    pub(super) fn own(&self, path: &Path) -> Result<(), EmbeddedError> {
        if !self.drops_root {
            return Ok(());
        }
        lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .map_err(|cause| EmbeddedError::unwritable(path, cause))
    }

    /// Asks the kernel, as the user, whether the program can be run and each directory on the way to the data directory
    /// can be entered: mode bits alone would miss access lists and security modules.
    pub(super) fn check_reach(&self, postgres: &Path, data_dir: &Path) -> Result<(), EmbeddedError> {
        if !self.drops_root || self.enters(postgres, data_dir).is_ok() {
            return Ok(());
        }
        self.enters(postgres, Path::new("/")).map_err(|cause| EmbeddedError::Execute {
            program: postgres.to_path_buf(),
            user: self.name.clone(),
            cause,
        })?;
        let mut downwards: Vec<&Path> = data_dir.ancestors().collect();
        downwards.reverse();
        for ancestor in downwards {
            if self.enters(postgres, ancestor).is_err() {
                return Err(EmbeddedError::Unreachable {
                    ancestor: ancestor.to_path_buf(),
                    user: self.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Runs `postgres --version` in `directory`: the child changes user first and directory second.
    fn enters(&self, postgres: &Path, directory: &Path) -> io::Result<()> {
        self.command(postgres)
            .arg("--version")
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map(|_| ())
    }
}

/// The user that Postgres runs as when root makes the cluster.
fn unprivileged() -> Result<User, EmbeddedError> {
    let lookup = |name| -> Result<Option<User>, Errno> { User::from_name(name) };
    let postgres = lookup("postgres").ok().flatten();
    let user = postgres.or_else(|| lookup("nobody").ok().flatten());
    user.filter(|user| !user.uid.is_root()).ok_or(EmbeddedError::NoAccount)
}

fn name_of(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("number {uid}"),
    }
}
