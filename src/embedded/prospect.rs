//! What a start would find and do, by the same steps as far as they change nothing. It makes, locks and starts nothing.

use std::path::PathBuf;

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FUSE_SUPER_MAGIC, FsType, NFS_SUPER_MAGIC,
    OVERLAYFS_SUPER_MAGIC, SMB_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs,
};

use super::error::{EmbeddedError, FREE_MIB_MIN, free_mib};
use super::found::Found;
use super::layout::{Layout, nearest};
use super::processes;
use super::settings::Settings;

/// What a new cluster takes on disk, in MiB.
const NEW_CLUSTER_MIB: u64 = 40;
/// About the most that the write-ahead log takes on disk, in MiB.
const LOG_MIB: u64 = 1024;

/// The filesystems that have a name here.
const FILESYSTEMS: [(FsType, &str); 9] = [
    (EXT4_SUPER_MAGIC, "ext4"),
    (XFS_SUPER_MAGIC, "xfs"),
    (BTRFS_SUPER_MAGIC, "btrfs"),
    (F2FS_SUPER_MAGIC, "f2fs"),
    (OVERLAYFS_SUPER_MAGIC, "overlay"),
    (TMPFS_MAGIC, "tmpfs"),
    (NFS_SUPER_MAGIC, "nfs"),
    (SMB_SUPER_MAGIC, "smb"),
    (FUSE_SUPER_MAGIC, "fuse"),
];

/// What a start would find and do.
pub struct Prospect {
    /// Whether the data directory can be had and written.
    pub directory: Result<Directory, EmbeddedError>,
    /// Which Postgres would run, as whom, on which cluster.
    pub programs: Result<Programs, EmbeddedError>,
}

/// A data directory that can be had.
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there already.
    pub exists: bool,
    /// What is free on its disk, in MiB, if the kernel says so.
    pub free_mib: Option<u64>,
    /// The name of its filesystem, if it has one here.
    pub filesystem: Option<&'static str>,
}

/// The Postgres that would run.
pub struct Programs {
    /// The program.
    pub postgres: PathBuf,
    /// What it says of its version.
    pub version: String,
    /// The user that it would run as.
    pub user: String,
    /// The cluster, if there is one.
    pub cluster: Option<PathBuf>,
    /// The Postgres of a server that was killed, which a start would take over or stop.
    pub orphan: Option<i32>,
}

impl Directory {
    /// Whether it is kept in memory only.
    pub fn is_in_memory(&self) -> bool {
        self.filesystem == Some("tmpfs")
    }

    /// What is wrong with the room on the disk, for a cluster that is there or not.
    ///
    /// # Errors
    ///
    /// The first is whether a start fails by it.
    pub fn room(&self, new_cluster: bool) -> Result<(), (bool, String)> {
        let Some(free) = self.free_mib else { return Ok(()) };
        let least = FREE_MIB_MIN + if new_cluster { NEW_CLUSTER_MIB } else { 0 };
        if free < least {
            return Err((true, format!("{free} MiB are free, expected at least {least}")));
        }
        if free < LOG_MIB {
            let why =
                format!("{free} MiB are free, expected {LOG_MIB}: the write-ahead log takes up to as much");
            return Err((false, why));
        }
        Ok(())
    }
}

/// Looks at what a start with these settings would do.
pub fn look(settings: &Settings) -> Prospect {
    let layout = Layout::find(&settings.data_dir);
    let free = layout.as_ref().map_or(Ok(()), |layout| layout.as_ref().map_or(Ok(()), Layout::try_out));
    let programs = match &layout {
        Ok(Some(layout)) => programs(settings, layout, free.is_ok()),
        // Of a directory that is to be made the way there is looked at.
        Ok(None) | Err(_) => {
            let reach = nearest(&settings.data_dir);
            Found::look(&settings.data_dir.join("postgres"), reach, &settings.search).map(Programs::of)
        }
    };
    let directory = layout.and_then(|layout| {
        free?;
        let path = layout.as_ref().map_or(settings.data_dir.as_path(), |layout| &layout.data_dir);
        let there = nearest(path);
        let kind = statfs(there).ok().map(|disk| disk.filesystem_type());
        Ok(Directory {
            path: path.to_path_buf(),
            exists: layout.is_some(),
            free_mib: free_mib(there),
            filesystem: FILESYSTEMS.iter().find(|(of, _)| Some(*of) == kind).map(|(_, name)| *name),
        })
    });
    Prospect { directory, programs }
}

/// Of a directory that is not `free` the Postgres is another server's, which is no orphan.
fn programs(settings: &Settings, layout: &Layout, free: bool) -> Result<Programs, EmbeddedError> {
    let found = Found::look(&layout.pgdata, &layout.data_dir, &settings.search)?;
    if layout.socket_dir.exists() {
        layout.check_socket_dir(&found.account)?;
    }
    let orphan = if free { processes::orphan(layout, found.account.uid)? } else { None };
    let cluster = found.version.is_some().then(|| layout.pgdata.clone());
    let orphan = orphan.map(|file| file.pid.as_raw());
    Ok(Programs { cluster, orphan, ..Programs::of(found) })
}

impl Programs {
    fn of(found: Found) -> Programs {
        Programs {
            version: found.binaries.version(),
            postgres: found.binaries.postgres,
            user: found.account.name,
            cluster: None,
            orphan: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_cluster_and_its_log() {
        let room = |free_mib, new| {
            let directory = Directory { path: "/d".into(), exists: true, free_mib, filesystem: Some("ext4") };
            directory.room(new).err().map(|(fails, _)| fails)
        };
        for (free, new, expected) in [
            (None, true, None),
            (Some(2_000), true, None),
            (Some(500), true, Some(false)),
            (Some(50), true, Some(true)),
            (Some(50), false, Some(false)),
            (Some(15), false, Some(true)),
        ] {
            assert_eq!(room(free, new), expected, "{free:?} {new}");
        }
    }
}
