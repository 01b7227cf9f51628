//! The names of directories: as they are, as much of them as is kept, and what lies between, in its order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::disk::{Fate, Loss};

/// Changes that wait for a sync, at most. Then the older half is kept, as a kernel does after a while.
const CHANGES_MAX: usize = 4096;

/// What becomes of names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// As ext4, XFS and btrfs do: changes are kept in their order, and each fsync, of whatever file, keeps all before it.
    Journal,
    /// An fsync of a file keeps its own name too, as Postgres needs it; else only an fsync of a directory keeps the names in it,
    /// and of all others any may be kept without those before.
    Files,
    /// As POSIX allows: only an fsync of a directory keeps the names in it. Postgres 15 does not survive this: it syncs a new
    /// table's file, but not the directory.
    Alone,
}

/// The names of one directory, and the number of the file of each.
pub(crate) type Directory = BTreeMap<OsString, u64>;

/// One name that is set, or removed.
#[derive(Clone, Debug)]
struct Change {
    directory: u64,
    name: OsString,
    node: Option<u64>,
}

/// All names.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    rule: Names,
    now: HashMap<u64, Directory>,
    kept: HashMap<u64, Directory>,
    /// Kept or forgotten as one, in the order in which they were made.
    pending: Vec<Vec<Change>>,
}

impl Tree {
    pub(crate) fn new(rule: Names, root: u64) -> Tree {
        let only_root = HashMap::from([(root, Directory::new())]);
        Tree { rule, now: only_root.clone(), kept: only_root, pending: Vec::new() }
    }

    pub(crate) fn add_directory(&mut self, node: u64) {
        self.now.insert(node, Directory::new());
        self.kept.insert(node, Directory::new());
    }

    pub(crate) fn list(&self, directory: u64) -> Option<&Directory> {
        self.now.get(&directory)
    }

    pub(crate) fn find(&self, directory: u64, name: &OsStr) -> Option<u64> {
        self.now.get(&directory)?.get(name).copied()
    }

    /// Sets and removes names at once; all are kept or none.
    pub(crate) fn change(&mut self, changes: &[(u64, &OsStr, Option<u64>)]) {
        let changes =
            changes.iter().map(|&(directory, name, node)| Change { directory, name: name.to_owned(), node });
        let changes: Vec<Change> = changes.collect();
        apply(&mut self.now, &changes);
        self.pending.push(changes);
        if self.pending.len() > CHANGES_MAX {
            self.keep_first(CHANGES_MAX / 2);
        }
    }

    /// An fsync of a file.
    pub(crate) fn sync_file(&mut self, node: u64) {
        match self.rule {
            Names::Journal => self.keep_first(self.pending.len()),
            Names::Files => self.keep(|change| change.node == Some(node)),
            Names::Alone => {}
        }
    }

    /// An fsync of a directory.
    pub(crate) fn sync_directory(&mut self, directory: u64) {
        match self.rule {
            Names::Journal => self.keep_first(self.pending.len()),
            Names::Files | Names::Alone => self.keep(|change| change.directory == directory),
        }
    }

    /// Keeps these, and what was done to the same names before them.
    fn keep(&mut self, is_wanted: impl Fn(&Change) -> bool) {
        let mut needed: HashSet<(u64, OsString)> = HashSet::new();
        let mut is_kept = vec![false; self.pending.len()];
        // From the last to the first, so that what a kept one needs is known.
        for (group, is_kept) in self.pending.iter().zip(&mut is_kept).rev() {
            *is_kept = group
                .iter()
                .any(|change| is_wanted(change) || needed.contains(&(change.directory, change.name.clone())));
            if *is_kept {
                needed.extend(group.iter().map(|change| (change.directory, change.name.clone())));
            }
        }
        let mut is_kept = is_kept.into_iter();
        let kept = &mut self.kept;
        self.pending.retain(|group| {
            let keep = is_kept.next().expect("one for each");
            if keep {
                apply(kept, group);
            }
            !keep
        });
    }

    /// Keeps some, of which nobody is told.
    pub(crate) fn write_back(&mut self, random: &mut StdRng) {
        self.keep_first(random.random_range(0..=self.pending.len()));
    }

    fn keep_first(&mut self, groups: usize) {
        for group in self.pending.drain(..groups) {
            apply(&mut self.kept, &group);
        }
    }

    /// The power is gone.
    pub(crate) fn cut(&mut self, fate: Fate, random: &mut StdRng, loss: &mut Loss) {
        let before = self.pending.len();
        let in_order = match (fate, self.rule) {
            (Fate::Nothing, _) => 0,
            (Fate::Everything, _) => before,
            (Fate::Some, Names::Journal) => random.random_range(0..=before),
            (Fate::Some, Names::Files | Names::Alone) => 0,
        };
        self.keep_first(in_order);
        let mut kept = in_order;
        if fate == Fate::Some && self.rule != Names::Journal {
            kept += self.keep_any(random);
        }
        loss.names += before;
        loss.names_lost += before - kept;
        self.pending.clear();
        self.now = self.kept.clone();
    }

    /// Any of them, but none whose names had a change before that is forgotten. Returns how many.
    fn keep_any(&mut self, random: &mut StdRng) -> usize {
        let mut forgotten: HashSet<(u64, OsString)> = HashSet::new();
        let mut count = 0;
        for group in std::mem::take(&mut self.pending) {
            let can_be =
                group.iter().all(|change| !forgotten.contains(&(change.directory, change.name.clone())));
            if can_be && random.random_bool(0.5) {
                apply(&mut self.kept, &group);
                count += 1;
            } else {
                forgotten.extend(group.into_iter().map(|change| (change.directory, change.name)));
            }
        }
        count
    }

    /// Every node that has a name now, may have one after a cut, or is in `others`, and whatever is in it.
    pub(crate) fn reachable(&self, root: u64, others: impl Iterator<Item = u64>) -> HashSet<u64> {
        let pending = self.pending.iter().flatten().filter_map(|change| change.node);
        let mut open: Vec<u64> = others.chain(pending).chain([root]).collect();
        let mut found: HashSet<u64> = HashSet::new();
        while let Some(node) = open.pop() {
            if found.insert(node) {
                let directories = [self.now.get(&node), self.kept.get(&node)].into_iter().flatten();
                open.extend(directories.flat_map(BTreeMap::values));
            }
        }
        found
    }

    /// Forgets directories that are not in `nodes`.
    pub(crate) fn retain(&mut self, nodes: &HashSet<u64>) {
        self.now.retain(|node, _| nodes.contains(node));
        self.kept.retain(|node, _| nodes.contains(node));
    }
}

fn apply(directories: &mut HashMap<u64, Directory>, changes: &[Change]) {
    for change in changes {
        let Some(directory) = directories.get_mut(&change.directory) else { continue };
        match change.node {
            Some(node) => directory.insert(change.name.clone(), node),
            None => directory.remove(&change.name),
        };
    }
}
