//! Which installed Postgres to run. Knows nothing of the cluster but the version it asks for.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;
use crate::limits::POSTGRES_MAJOR_MIN;

/// The programs of one installed version.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl Binaries {
    /// What the program says of its version, such as `15.18 (Debian 15.18-0+deb12u1)`; empty when it says nothing.
    pub(super) fn version(&self) -> String {
        let output = said(&self.postgres).unwrap_or_default();
        let version = output.split_once(") ").map_or(output.as_str(), |(_, version)| version);
        version.trim().to_owned()
    }
}

/// The answer to `--version`.
fn said(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The directories where distributions keep one `bin` per version: parent, prefix of the version's directory.
const VERSIONED: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// Where binaries are looked for, in order: `PATH`, then each distribution's versions, the highest first.
#[must_use]
pub fn default_search() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // A relative entry depends on the working directory, which nobody chose for this.
    let from_path = env::split_paths(&path).filter(|directory| directory.is_absolute());
    let versioned = VERSIONED.iter().flat_map(|(parent, prefix)| versions_in(Path::new(parent), prefix));
    from_path.chain(versioned).collect()
}

fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            // "9.6" is no integer and too old anyway.
            let major = name.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// The first usable version in `search`; where a cluster exists, only the version that made it is usable.
pub(super) fn find(
    search: &[PathBuf],
    pgdata: &Path,
    cluster_version: Option<&str>,
) -> Result<Binaries, EmbeddedError> {
    let mut installed: Vec<u32> = Vec::new();
    for directory in search {
        let candidate = Binaries { initdb: directory.join("initdb"), postgres: directory.join("postgres") };
        let Some(major) = major_of(&candidate) else {
            continue;
        };
        if cluster_version.is_none_or(|version| version.parse() == Ok(major)) {
            return Ok(candidate);
        }
        if !installed.contains(&major) {
            installed.push(major);
        }
    }
    match cluster_version {
        Some(version) if !installed.is_empty() => {
            let installed: Vec<String> = installed.iter().map(u32::to_string).collect();
            Err(EmbeddedError::Version {
                pgdata: pgdata.to_path_buf(),
                version: version.to_owned(),
                installed: installed.join(", "),
            })
        }
        _ => Err(EmbeddedError::NoPostgres),
    }
}

/// The major version of a complete and new enough installation.
fn major_of(candidate: &Binaries) -> Option<u32> {
    if !candidate.initdb.is_file() || !candidate.postgres.is_file() {
        return None;
    }
    let major = parse_version(&said(&candidate.postgres)?)?;
    (major >= POSTGRES_MAJOR_MIN).then_some(major)
}

/// `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`, `postgres (PostgreSQL) 18beta1` -> the major version.
fn parse_version(output: &str) -> Option<u32> {
    let version = output.split(' ').nth(2)?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (output, expected) in [
            ("postgres (PostgreSQL) 15.4 (Debian 15.4-1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 13\n", Some(13)),
            ("postgres (PostgreSQL)\n", None),
            ("", None),
        ] {
            assert_eq!(parse_version(output), expected, "{output:?}");
        }
    }
}
