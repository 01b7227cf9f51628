//! A disk without space, at each step of a start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use rinha::embedded::Embedded;
use tempfile::TempDir;

use crate::cluster::{self, is_root_or_skip, settings, temporary_directory};
use crate::refused;

/// A small file system of its own.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let directory = temporary_directory();
        let options = format!("size={size},mode=755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "rinha-test"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(directory)),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("skipped: mount: {error}");
                None
            }
        }
    }

    /// Takes all the space that is left, except for `mib` MiB.
    fn fill_but(&self, mib: u64) -> io::Result<PathBuf> {
        let path = self.0.path().join("filler");
        let disk = nix::sys::statvfs::statvfs(self.0.path())?;
        let free = disk.blocks_available() * disk.fragment_size();
        let filler = usize::try_from(free.saturating_sub(mib << 20)).expect("a small disk");
        let filler = vec![1; filler];
        fs::write(&path, filler)?;
        Ok(path)
    }

    /// Gives the space back at once: a child that another test is just forking shares the descriptor that wrote the
    /// file until its exec, and a removed file keeps its blocks for as long.
    fn empty(filler: &Path) {
        fs::write(filler, "").expect("a truncated file");
        fs::remove_file(filler).expect("a removed file");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk() {
    if !is_root_or_skip("a small disk") {
        return;
    }
    let Some(disk) = Tmpfs::mount("96m") else {
        return;
    };
    let settings = settings(disk.0.path());
    let told = ["no space left", disk.0.path().to_str().unwrap(), "MiB free"];

    // Full from the start, then in the middle of initdb: nothing half made stays.
    for free in [0, 8, 30] {
        let filler = disk.fill_but(free).unwrap();
        refused(&settings, &told);
        Tmpfs::empty(&filler);
        assert!(!settings.data_dir.join("postgres").exists());
    }
    let embedded = Embedded::start(&settings).unwrap();
    drop(embedded);

    // Full when an existing cluster starts.
    let filler = disk.fill_but(0).unwrap();
    refused(&settings, &told);
    Tmpfs::empty(&filler);
    let embedded = Embedded::start(&settings).unwrap();
    assert_eq!(cluster::query(&embedded.config(), "select 1"), ["1"]);
}
