//! Where the topology's files are and whom they belong to. This module does not know what runs there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{User, chown, geteuid};
use rinha::embedded::default_search;

use crate::error::Result;

/// Where the services' programs and files are.
const PROGRAMS: &str = "programs";

/// The directory of one topology, and what this machine has for it.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// The directory of Postgres' programs.
    pub(crate) postgres: PathBuf,
    /// Who runs the services when root starts them: none of them needs root, and Postgres refuses it.
    pub(crate) account: Option<User>,
}

impl Place {
    /// Makes the directory, and finds Postgres' programs and the account.
    pub(crate) fn prepare(directory: &Path) -> Result<Place> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let postgres = default_search()
            .into_iter()
            .find(|directory| directory.join("initdb").exists())
            .ok_or("expected Postgres' programs; install them: apt-get install postgresql")?;
        let account = match geteuid().is_root() {
            true => Some(
                User::from_name("postgres")?.ok_or("expected a user `postgres`, as Postgres refuses root")?,
            ),
            false => None,
        };
        Ok(Place { directory, postgres, account })
    }

    /// The lock of the directory: two topologies in one directory would delete each other's sockets.
    pub(crate) fn lock(&self) -> Result<Flock<fs::File>> {
        let file = fs::File::create(self.directory.join("lock"))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
            let holder = fs::read_to_string(self.state()).ok();
            let holder = holder.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
            let stop = match holder.and_then(|holder| holder["pid"].as_i64()) {
                Some(pid) => format!(" (pid {pid}): stop it (kill {pid})"),
                None => ": stop it".to_owned(),
            };
            format!("{}: another one runs there{stop}, or take another --directory", self.directory.display())
                .into()
        })
    }

    /// Removes what an earlier run left in these volumes: all but those that are a database's data, and these too if this
    /// run starts `fresh`.
    pub(crate) fn clear(&self, volumes: &BTreeMap<&str, bool>, fresh: bool) -> Result<()> {
        missing_is_fine(fs::remove_file(self.state()))?;
        for (volume, is_data) in
            volumes.iter().map(|(volume, is_data)| (*volume, *is_data)).chain([(PROGRAMS, false)])
        {
            let path = self.volume(volume);
            if is_data {
                // A cluster in the making and the file of its password.
                missing_is_fine(fs::remove_dir_all(self.cluster(volume).with_extension("making")))?;
                missing_is_fine(fs::remove_file(path.join("password")))?;
            }
            if fresh || !is_data {
                missing_is_fine(fs::remove_dir_all(&path))?;
            }
            fs::create_dir_all(&path)?;
            // The sockets ask for no password: whoever can open one may do everything.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            self.give(&path)?;
        }
        Ok(())
    }

    /// Makes the services' account the owner of a file or directory.
    pub(crate) fn give(&self, path: &Path) -> Result<()> {
        if let Some(account) = &self.account {
            chown(path, Some(account.uid), Some(account.gid))?;
        }
        Ok(())
    }

    /// Copies a file of the project to where the services can read it.
    pub(crate) fn copy(&self, file: &str) -> Result<PathBuf> {
        let name = Path::new(file).file_name().ok_or_else(|| format!("expected a file, got {file}"))?;
        let copy = self.volume(PROGRAMS).join(name);
        // The second instance runs the copy that was made for the first.
        if !copy.exists() {
            fs::copy(file, &copy).map_err(|error| format!("{file}: {error}"))?;
            self.give(&copy)?;
        }
        Ok(copy)
    }

    /// The directory that stands for a named volume of `compose.yml`.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The data directory of the Postgres that has this volume.
    pub(crate) fn cluster(&self, data: &str) -> PathBuf {
        self.volume(data).join("postgres")
    }

    /// The file with a service's output since the start of the topology.
    pub(crate) fn log(&self, service: &str) -> PathBuf {
        self.directory.join(service).with_extension("log")
    }

    /// The file that says, while the topology runs, which process is which service.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("services.json")
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
