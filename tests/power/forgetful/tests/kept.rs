//! What a cut leaves of what was done, operation by operation, through the kernel: with nothing written back, what is not
//! synced is surely gone, and what is synced surely there.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use forgetful::{Disk, Fate, Mounted, Names, own_mounts};
use nix::libc;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

/// What is at a path: the bytes of a file, or nothing.
type There = Option<&'static str>;

struct Case {
    name: &'static str,
    /// What is done once `kept` is there, with the content `old`, and synced.
    work: fn(&Path) -> io::Result<()>,
    /// A path, and what is there by each rule of [`RULES`].
    expected: &'static [(&'static str, [There; 3])],
}

const RULES: [Names; 3] = [Names::Journal, Names::Files, Names::Alone];

/// By each rule the same.
const fn all(path: &'static str, there: There) -> (&'static str, [There; 3]) {
    (path, [there; 3])
}

const CASES: &[Case] = &[
    Case {
        name: "a new file, not synced",
        work: |top| fs::write(top.join("new"), "text"),
        expected: &[all("new", None), all("kept", Some("old"))],
    },
    Case {
        name: "a new file, synced, its directory not",
        work: |top| synced(&top.join("new"), "text"),
        expected: &[("new", [Some("text"), Some("text"), None])],
    },
    Case {
        name: "a new file and its directory, both synced",
        work: |top| synced(&top.join("new"), "text").and_then(|()| sync(top)),
        expected: &[all("new", Some("text"))],
    },
    Case {
        name: "a new file, only its directory synced",
        work: |top| fs::write(top.join("new"), "text").and_then(|()| sync(top)),
        expected: &[all("new", Some(""))],
    },
    Case {
        name: "a change in place, not synced",
        work: |top| File::options().write(true).open(top.join("kept"))?.write_all(b"new"),
        expected: &[all("kept", Some("old"))],
    },
    Case {
        name: "a change in place, and fdatasync",
        work: |top| {
            let mut file = File::options().write(true).open(top.join("kept"))?;
            file.write_all(b"new and longer")?;
            file.sync_data()
        },
        expected: &[all("kept", Some("new and longer"))],
    },
    Case {
        name: "a synced change, and another one after it",
        work: |top| {
            let mut file = File::options().write(true).open(top.join("kept"))?;
            file.write_all(b"new")?;
            file.sync_all()?;
            file.write_all(b"er")
        },
        expected: &[all("kept", Some("new"))],
    },
    Case {
        name: "a sync by another descriptor",
        work: |top| {
            File::options().write(true).open(top.join("kept"))?.write_all(b"new")?;
            sync(&top.join("kept"))
        },
        expected: &[all("kept", Some("new"))],
    },
    Case {
        name: "a write with O_DSYNC",
        work: |top| with(top, libc::O_DSYNC)?.write_all(b"new and longer"),
        expected: &[all("kept", Some("new and longer"))],
    },
    Case {
        name: "a write with O_SYNC",
        work: |top| with(top, libc::O_SYNC)?.write_all(b"new"),
        expected: &[all("kept", Some("new"))],
    },
    Case {
        name: "a write with O_DIRECT, which is no sync",
        work: |top| with(top, libc::O_DIRECT)?.write_all(b"new"),
        expected: &[all("kept", Some("old"))],
    },
    Case {
        name: "a file made shorter, not synced",
        work: |top| File::options().write(true).open(top.join("kept"))?.set_len(1),
        expected: &[all("kept", Some("old"))],
    },
    Case {
        name: "a file made shorter, synced",
        work: |top| {
            let file = File::options().write(true).open(top.join("kept"))?;
            file.set_len(1)?;
            file.sync_all()
        },
        expected: &[all("kept", Some("o"))],
    },
    Case {
        name: "made shorter and longer again: zeros, not what was there",
        work: |top| {
            let file = File::options().write(true).open(top.join("kept"))?;
            file.set_len(1)?;
            file.set_len(3)?;
            file.sync_all()
        },
        expected: &[all("kept", Some("o\0\0"))],
    },
    Case {
        name: "replaced by a rename, not synced",
        work: |top| {
            synced(&top.join("new"), "text")?;
            sync(top)?;
            fs::rename(top.join("new"), top.join("kept"))
        },
        expected: &[all("new", Some("text")), all("kept", Some("old"))],
    },
    Case {
        name: "replaced by a rename, the directory synced",
        work: |top| {
            synced(&top.join("new"), "text")?;
            fs::rename(top.join("new"), top.join("kept"))?;
            sync(top)
        },
        expected: &[all("new", None), all("kept", Some("text"))],
    },
    Case {
        name: "replaced by a rename, the file synced after it",
        work: |top| {
            synced(&top.join("new"), "text")?;
            sync(top)?;
            fs::rename(top.join("new"), top.join("kept"))?;
            sync(&top.join("kept"))
        },
        expected: &[("new", [None, None, Some("text")]), ("kept", [Some("text"), Some("text"), Some("old")])],
    },
    Case {
        name: "renamed to another directory, of which only that one is synced",
        work: |top| {
            fs::create_dir(top.join("other"))?;
            sync(top)?;
            fs::rename(top.join("kept"), top.join("other/moved"))?;
            sync(&top.join("other"))
        },
        expected: &[all("kept", None), all("other/moved", Some("old"))],
    },
    Case {
        name: "removed, not synced",
        work: |top| fs::remove_file(top.join("kept")),
        expected: &[all("kept", Some("old"))],
    },
    Case {
        name: "removed, the directory synced",
        work: |top| fs::remove_file(top.join("kept")).and_then(|()| sync(top)),
        expected: &[all("kept", None)],
    },
    Case {
        name: "removed and made again, the file synced",
        work: |top| {
            fs::remove_file(top.join("kept"))?;
            synced(&top.join("kept"), "text")
        },
        expected: &[("kept", [Some("text"), Some("text"), Some("old")])],
    },
    Case {
        name: "in a new directory all is synced, but not the new directory's name",
        work: |top| {
            fs::create_dir(top.join("other"))?;
            synced(&top.join("other/new"), "text")?;
            sync(&top.join("other"))
        },
        expected: &[("other/new", [Some("text"), None, None])],
    },
    Case {
        name: "a second name and a symbolic link, synced with their directory",
        work: |top| {
            fs::hard_link(top.join("kept"), top.join("second"))?;
            symlink("kept", top.join("link"))?;
            sync(top)?;
            fs::remove_file(top.join("kept"))?;
            sync(top)
        },
        expected: &[all("second", Some("old")), all("link", None)],
    },
    Case {
        name: "many files, so many that old changes are not forgotten for ever",
        work: |top| (0..5000).try_for_each(|number| fs::write(top.join(number.to_string()), "")),
        expected: &[all("0", Some("")), all("4999", None)],
    },
];

fn synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn with(top: &Path, flag: i32) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(flag).open(top.join("kept"))
}

/// A mounted disk with `kept` on it; none, with the reason, where that is not allowed.
fn disk(names: Names) -> Option<(TempDir, Mounted)> {
    let top = tempfile::tempdir().unwrap();
    match own_mounts().and_then(|()| Mounted::mount(Disk::new(names, 1).lazy(), top.path())) {
        Ok(mounted) => {
            synced(&top.path().join("kept"), "old").unwrap();
            sync(top.path()).unwrap();
            Some((top, mounted))
        }
        Err(error) => {
            println!("skipped: a FUSE filesystem cannot be mounted here (root, /dev/fuse): {error}");
            None
        }
    }
}

/// After a cut that forgets all it may.
fn after(mounted: Mounted, top: &Path) -> Mounted {
    mounted.cut();
    let mut disk = mounted.off().unwrap();
    disk.cut_with(Fate::Nothing, &mut StdRng::seed_from_u64(1));
    Mounted::mount(disk, top).unwrap()
}

#[test]
fn what_is_kept() {
    for case in CASES {
        for (rule, names) in RULES.into_iter().enumerate() {
            let Some((top, mounted)) = disk(names) else { return };
            (case.work)(top.path()).unwrap();
            let mounted = after(mounted, top.path());
            for (path, expected) in case.expected {
                let found = fs::read_to_string(top.path().join(path)).ok();
                assert_eq!(found.as_deref(), expected[rule], "{} ({names:?}): {path}", case.name);
            }
            drop(mounted);
        }
    }
}

#[test]
fn before_a_cut_it_is_like_any_other() {
    let Some((top, _mounted)) = disk(Names::Alone) else { return };
    let top = top.path();
    // Across pages, with holes, and from anywhere.
    let file = File::options().read(true).write(true).create_new(true).open(top.join("file")).unwrap();
    file.write_all_at(b"across", 4093).unwrap();
    file.write_all_at(b"far", 3 * 4096 * 100).unwrap();
    let mut text = [1; 10];
    file.read_exact_at(&mut text, 4091).unwrap();
    assert_eq!(&text, b"\0\0across\0\0");
    assert_eq!(file.metadata().unwrap().len(), 3 * 4096 * 100 + 3);
    // A file that has no name any more lives as long as it is open.
    let mut kept = File::open(top.join("kept")).unwrap();
    fs::remove_file(top.join("kept")).unwrap();
    (0..400).for_each(|number| fs::write(top.join(number.to_string()), number.to_string()).unwrap());
    sync(top).unwrap();
    (0..400).for_each(|number| fs::remove_file(top.join(number.to_string())).unwrap());
    sync(top).unwrap();
    let mut text = String::new();
    kept.seek(SeekFrom::Start(0)).unwrap();
    kept.read_to_string(&mut text).unwrap();
    assert_eq!(text, "old");
    // Directories.
    fs::create_dir_all(top.join("a/b")).unwrap();
    assert!(fs::remove_dir(top.join("a")).is_err(), "it is not empty");
    (0..400).for_each(|number| fs::write(top.join("a/b").join(number.to_string()), "").unwrap());
    fs::rename(top.join("a"), top.join("c")).unwrap();
    assert_eq!(fs::read_dir(top.join("c/b")).unwrap().count(), 400);
    fs::remove_dir_all(top.join("c")).unwrap();
    assert_eq!(fs::read_dir(top).unwrap().count(), 1);
    // A socket.
    let socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    std::os::unix::net::UnixStream::connect(top.join("socket")).unwrap();
    drop(socket);
}

#[test]
fn after_the_cut_nothing_reaches_the_disk() {
    let Some((top, mounted)) = disk(Names::Journal) else { return };
    let ended = AtomicBool::new(false);
    let mut file = File::options().write(true).open(top.path().join("kept")).unwrap();
    mounted.cut();
    let mounted = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = file.write_all(b"new").and_then(|()| file.sync_all());
            ended.store(true, Ordering::Relaxed);
            drop(file);
            written
        });
        // Not a proof that it waits for ever, but that it is not told that it has written.
        thread::sleep(Duration::from_millis(50));
        assert!(!ended.load(Ordering::Relaxed), "a write to a disk without power was answered");
        let mut disk = mounted.off().unwrap();
        assert!(writer.join().unwrap().is_err(), "a write to a disk without power succeeded");
        disk.cut_with(Fate::Everything, &mut StdRng::seed_from_u64(1));
        Mounted::mount(disk, top.path()).unwrap()
    });
    assert_eq!(fs::read_to_string(top.path().join("kept")).unwrap(), "old");
    drop(mounted);
}
