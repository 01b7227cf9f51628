//! The programs that are run, and what is missing where one is not installed.

use std::env;
use std::path::PathBuf;

/// Where each program is.
#[derive(Clone, Debug)]
pub struct Programs {
    /// etcd 3.4 or newer.
    pub etcd: PathBuf,
    /// Patroni 3.0.3 or newer.
    pub patroni: PathBuf,
    /// The directory of Postgres' programs.
    pub postgres: PathBuf,
    /// HAProxy 2.6 or newer.
    pub haproxy: PathBuf,
}

impl Programs {
    /// Finds all of them; else a line for each that is missing, with the way to get it.
    pub fn find() -> Result<Programs, Vec<String>> {
        let mut missing = Vec::new();
        let mut found = |path: Option<PathBuf>, name: &str, how: &str| {
            path.unwrap_or_else(|| {
                missing.push(format!("no {name} was found: {how}"));
                PathBuf::new()
            })
        };
        let etcd = found(on_path("etcd"), "etcd", "apt-get install etcd-server");
        let patroni = env::var_os("HA_VENV").map(|venv| PathBuf::from(venv).join("bin/patroni"));
        let patroni = patroni.filter(|program| program.exists()).or_else(|| on_path("patroni"));
        let patroni = found(patroni, "Patroni", "make ha-deps, and HA_VENV names the virtual environment");
        let haproxy = found(on_path("haproxy"), "HAProxy", "apt-get install haproxy");
        let postgres = found(postgres_directory(), "Postgres", "apt-get install postgresql");
        match missing.is_empty() {
            true => Ok(Programs { etcd, patroni, postgres, haproxy }),
            false => Err(missing),
        }
    }
}

/// A program by its name.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps HAProxy and PgBouncer where ordinary users do not look.
    let directories = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    directories.map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// The newest of the packaged versions, else what the path has; a directory with every program that Patroni runs.
fn postgres_directory() -> Option<PathBuf> {
    const NEEDED: [&str; 6] = ["initdb", "postgres", "pg_isready", "pg_basebackup", "pg_rewind", "psql"];
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .collect();
    versions.sort();
    let packaged = versions.into_iter().rev().map(|(_, directory)| directory);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = packaged.chain(env::split_paths(&path));
    all.find(|directory| NEEDED.iter().all(|name| directory.join(name).is_file()))
}
