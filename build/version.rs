//! The version that the program says: the package's, and the commit it was built from. The commit is part of release builds
//! alone: in the others each commit would compile everything again.

use std::path::Path;
use std::process::Command;
use std::{env, error};

/// The commit, where there is no repository to ask: hexadecimal digits, `-dirty` behind them if more was built than it.
const COMMIT: &str = "RINHA_COMMIT";
/// How much of a commit is said. Git's own choice grows with the repository, and would make two builds of one commit differ.
const COMMIT_DIGITS: usize = 12;
const COMMIT_DIGITS_MIN: usize = 7;
/// What the program is made of.
const SOURCES: [&str; 6] = ["Cargo.toml", "Cargo.lock", "build", "src", "openapi.yaml", "schema.sql"];

/// Sets `RINHA_VERSION` for the crate, and `RINHA_BUILT_FROM` where a commit is known.
pub(crate) fn set() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let version = env::var("CARGO_PKG_VERSION")?;
    let commit = match env::var(COMMIT) {
        Ok(given) if !given.is_empty() => Some(shortened(&given)?),
        _ if env::var("PROFILE")? == "release" => of_repository(),
        _ => None,
    };
    if let Some(commit) = &commit {
        println!("cargo::rustc-env=RINHA_BUILT_FROM={commit}");
    }
    let commit = commit.map(|commit| format!(" ({commit})")).unwrap_or_default();
    println!("cargo::rustc-env=RINHA_VERSION={version}{commit}");
    Ok(())
}

fn shortened(given: &str) -> Result<String, String> {
    let (digits, dirty) = match given.strip_suffix("-dirty") {
        Some(digits) => (digits, "-dirty"),
        None => (given, ""),
    };
    if digits.len() < COMMIT_DIGITS_MIN || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "{COMMIT}: expected a commit such as 0123456789ab or 0123456789ab-dirty, got {given:?}"
        ));
    }
    Ok(format!("{}{dirty}", &digits[..digits.len().min(COMMIT_DIGITS)]))
}

/// What Git says of this directory; nothing without Git, or where this is no repository of its own.
fn of_repository() -> Option<String> {
    let here = env::var("CARGO_MANIFEST_DIR").ok()?;
    let top = git(&["rev-parse", "--show-toplevel"])?;
    // Unpacked within another project, it is that project's commit that Git would name.
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // The log gets a line whenever HEAD moves. A file that is not there would run this again each time.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    let commit = git(&["rev-parse", &format!("--short={COMMIT_DIGITS}"), "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(arguments: &[&str]) -> Option<String> {
    // No lock: whoever builds is a reader.
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
