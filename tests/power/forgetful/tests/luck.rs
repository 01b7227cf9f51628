//! What a cut may leave of what was not synced: anything of it that a disk may have, each sometimes, and nothing else.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

use std::collections::HashSet;
use std::ffi::OsStr;

use forgetful::{Disk, Fate, Names, PAGE, ROOT, SECTOR};
use nix::libc::S_IFREG;
use rand::SeedableRng;
use rand::rngs::StdRng;

const SEEDS: u64 = 400;
const PAGES: usize = 4;

fn make(disk: &mut Disk, name: &str) -> u64 {
    disk.make(ROOT, OsStr::new(name), S_IFREG | 0o644, (0, 0), OsStr::new("")).unwrap()
}

/// A file of pages of `a`, synced, that was written again as `b`, one page longer.
fn written(seed: u64) -> (Disk, u64) {
    let mut disk = Disk::new(Names::Journal, seed).lazy();
    let file = make(&mut disk, "file");
    disk.write(file, 0, &[b'a'; PAGES * PAGE], false).unwrap();
    disk.sync(file).unwrap();
    disk.write(file, 0, &[b'b'; (PAGES + 1) * PAGE], false).unwrap();
    (disk, file)
}

#[test]
fn pages_are_old_new_or_torn_and_never_anything_else() {
    let (mut old, mut new, mut torn, mut sizes) = (0, 0, 0, HashSet::new());
    for seed in 0..SEEDS {
        let (mut disk, file) = written(seed);
        disk.cut_with(Fate::Some, &mut StdRng::seed_from_u64(seed));
        let bytes = disk.read(file, 0, usize::MAX).unwrap();
        sizes.insert(bytes.len());
        assert!((PAGES * PAGE..=(PAGES + 1) * PAGE).contains(&bytes.len()), "{}", bytes.len());
        for (number, page) in bytes.chunks(PAGE).enumerate() {
            let before = if number < PAGES { b'a' } else { 0 };
            let sectors: HashSet<u8> = page
                .chunks(SECTOR)
                .map(|sector| {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
                    sector[0]
                })
                .collect();
            assert!(sectors.is_subset(&HashSet::from([before, b'b'])), "seed {seed}: {sectors:?}");
            match (sectors.len(), sectors.contains(&b'b')) {
                (2, _) => torn += 1,
                (_, true) => new += 1,
                _ => old += 1,
            }
        }
    }
    assert!(
        old > 0 && new > 0 && torn > 0 && sizes.len() > 3,
        "{old} old, {new} new, {torn} torn, sizes {sizes:?}"
    );
}

#[test]
fn all_or_nothing_is_kept_where_that_is_the_fate() {
    for (fate, byte, pages) in [(Fate::Nothing, b'a', PAGES), (Fate::Everything, b'b', PAGES + 1)] {
        let (mut disk, file) = written(1);
        let loss = disk.cut_with(fate, &mut StdRng::seed_from_u64(1));
        assert_eq!(disk.read(file, 0, usize::MAX).unwrap(), vec![byte; pages * PAGE], "{fate:?}");
        assert_eq!((loss.pages, loss.files), (PAGES + 1, 1));
        assert_eq!(loss.pages_lost, if fate == Fate::Nothing { PAGES + 1 } else { 0 });
    }
}

#[test]
fn what_is_synced_survives_every_cut() {
    for names in [Names::Journal, Names::Files, Names::Alone] {
        let mut disk = Disk::new(names, 1);
        let file = make(&mut disk, "file");
        let mut written = Vec::new();
        for round in 0..200_u64 {
            let bytes = vec![u8::try_from(round).unwrap(); 1500];
            disk.write(file, written.len(), &bytes, false).unwrap();
            written.extend_from_slice(&bytes);
            disk.sync(file).unwrap();
            disk.sync_directory(ROOT);
            // This is not synced, and not there if the next round writes to the same place.
            disk.write(file, written.len(), &[255; 3000], false).unwrap();
            make(&mut disk, &round.to_string());
            disk.cut(round);
            assert_eq!(disk.find(ROOT, OsStr::new("file")), Ok(file));
            assert!(
                disk.read(file, 0, usize::MAX).unwrap().starts_with(&written),
                "{names:?}, round {round}"
            );
            disk.set_size(file, written.len()).unwrap();
        }
    }
}

#[test]
fn names_are_kept_in_their_order_or_any_of_them() {
    let kept = |names: Names, seed: u64| {
        let mut disk = Disk::new(names, seed).lazy();
        for name in ["0", "1", "2", "3"] {
            make(&mut disk, name);
        }
        // As one: never both names, never none of them while the first is there.
        disk.rename((ROOT, OsStr::new("0")), (ROOT, OsStr::new("moved"))).unwrap();
        disk.cut_with(Fate::Some, &mut StdRng::seed_from_u64(seed));
        let there = disk.list(ROOT).unwrap();
        there.into_iter().map(|(name, ..)| name.into_string().unwrap()).collect::<Vec<String>>()
    };
    let in_order = [
        vec![],
        vec!["0"],
        vec!["0", "1"],
        vec!["0", "1", "2"],
        vec!["0", "1", "2", "3"],
        vec!["1", "2", "3", "moved"],
    ];
    let journal: HashSet<Vec<String>> = (0..SEEDS).map(|seed| kept(Names::Journal, seed)).collect();
    assert_eq!(journal, in_order.map(|names| names.into_iter().map(str::to_owned).collect()).into());
    for rule in [Names::Files, Names::Alone] {
        let any: HashSet<Vec<String>> = (0..SEEDS).map(|seed| kept(rule, seed)).collect();
        // Three names of which each is there or not, and one that is not there, there, or moved.
        assert_eq!(any.len(), 3 * 8, "{any:?}");
        assert!(
            any.iter().all(|names| !(names.contains(&"0".to_owned()) && names.contains(&"moved".to_owned())))
        );
    }
}

#[test]
fn a_seed_decides() {
    let cut = |seed: u64| {
        let (mut disk, file) = written(7);
        let told = disk.cut(seed);
        (told, disk.read(file, 0, usize::MAX).unwrap())
    };
    for seed in 0..20 {
        assert!(cut(seed) == cut(seed), "the same seed, another cut");
    }
}

#[test]
fn pages_are_written_back_before_anybody_asks() {
    // Old is what was written first and synced, new is what was written last: whatever else is found was written back.
    let between = (0..SEEDS).filter(|seed| {
        let mut disk = Disk::new(Names::Journal, *seed);
        let file = make(&mut disk, "file");
        disk.write(file, 0, b"a", false).unwrap();
        disk.sync(file).unwrap();
        for byte in [b"b", b"c", b"d"] {
            disk.write(file, 0, byte, false).unwrap();
        }
        disk.cut_with(Fate::Nothing, &mut StdRng::seed_from_u64(*seed));
        let found = disk.read(file, 0, 1).unwrap();
        found != b"a" && found != b"d"
    });
    assert!(between.count() > 0, "nothing was written back");
}
