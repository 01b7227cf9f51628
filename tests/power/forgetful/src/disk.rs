//! The filesystem: its files, what is done to them, and what a power cut makes of them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::SystemTime;

use nix::errno::Errno;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::content::Content;
use crate::names::{Names, Tree};

/// The number of the directory at the top.
pub const ROOT: u64 = 1;
/// Of so many writes one makes the disk write a page back, and of so many one some names.
const WRITE_BACK_PAGE: u32 = 16;
const WRITE_BACK_NAMES: u32 = 64;
/// So many files that nothing can find any more are kept before they are looked for.
const GARBAGE_MAX: usize = 256;

/// What becomes of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of it is forgotten.
    Nothing,
    /// Any of it is kept, whole or torn; each file has its own luck.
    Some,
    /// All of it is kept, as when only the processes die.
    Everything,
}

/// What a power cut did, in numbers: what was not synced, and what of it is gone or torn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Loss {
    pub files: usize,
    pub pages: usize,
    pub pages_lost: usize,
    pub pages_torn: usize,
    pub names: usize,
    pub names_lost: usize,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    File(Content),
    Directory,
    Link(OsString),
    /// A socket or a pipe: only its mode tells which.
    Special,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Type and permissions, as `stat` has them.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u32,
    pub(crate) changed: SystemTime,
    /// References of the kernel, which may use a file that has no name any more.
    lookups: u64,
}

/// The filesystem.
#[derive(Debug)]
pub struct Disk {
    nodes: HashMap<u64, Node>,
    tree: Tree,
    random: StdRng,
    /// It writes nothing back before it is asked to.
    lazy: bool,
    next: u64,
    /// Nodes that were found the last time.
    live: usize,
}

type Done = Result<(), Errno>;

impl Disk {
    /// An empty one, whose top belongs to root and may be entered by all.
    #[must_use]
    pub fn new(names: Names, seed: u64) -> Disk {
        let mut disk = Disk {
            nodes: HashMap::new(),
            tree: Tree::new(names, ROOT),
            random: StdRng::seed_from_u64(seed),
            lazy: false,
            next: ROOT + 1,
            live: 0,
        };
        disk.nodes.insert(ROOT, Node::new(Kind::Directory, nix::libc::S_IFDIR | 0o755, (0, 0)));
        disk
    }

    /// The same, but it writes nothing back before it is asked to: what is not synced is surely forgotten by
    /// [`Fate::Nothing`].
    #[must_use]
    pub fn lazy(self) -> Disk {
        Disk { lazy: true, ..self }
    }

    pub(crate) fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    fn content(&mut self, number: u64) -> Result<&mut Content, Errno> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Directory => Err(Errno::EISDIR),
            Kind::Link(_) | Kind::Special => Err(Errno::EINVAL),
        }
    }

    /// The number of what has this name.
    ///
    /// # Errors
    ///
    /// `ENOENT`.
    pub fn find(&self, directory: u64, name: &OsStr) -> Result<u64, Errno> {
        self.tree.find(directory, name).ok_or(Errno::ENOENT)
    }

    /// The names in a directory with the number and the type and permissions of each.
    ///
    /// # Errors
    ///
    /// `ENOTDIR`.
    pub fn list(&self, directory: u64) -> Result<Vec<(OsString, u64, u32)>, Errno> {
        let names = self.tree.list(directory).ok_or(Errno::ENOTDIR)?;
        let with_mode = |(name, node): (&OsString, &u64)| (name.clone(), *node, self.nodes[node].mode);
        Ok(names.iter().map(with_mode).collect())
    }

    /// Makes a file, a directory, a symbolic link (with its target), a socket or a pipe.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `ENOENT` and `ENOTSUP` as in Linux.
    pub fn make(
        &mut self,
        directory: u64,
        name: &OsStr,
        mode: u32,
        owner: (u32, u32),
        target: &OsStr,
    ) -> Result<u64, Errno> {
        let place = self.tree.list(directory).ok_or(Errno::ENOENT)?;
        if place.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let kind = match mode & nix::libc::S_IFMT {
            nix::libc::S_IFREG => Kind::File(Content::default()),
            nix::libc::S_IFDIR => Kind::Directory,
            nix::libc::S_IFLNK => Kind::Link(target.to_owned()),
            nix::libc::S_IFSOCK | nix::libc::S_IFIFO => Kind::Special,
            _ => return Err(Errno::ENOTSUP),
        };
        let number = self.next;
        self.next += 1;
        if matches!(kind, Kind::Directory) {
            self.tree.add_directory(number);
        }
        self.nodes.insert(number, Node::new(kind, mode, owner));
        self.tree.change(&[(directory, name, Some(number))]);
        Ok(number)
    }

    /// A second name.
    ///
    /// # Errors
    ///
    /// `EEXIST` and `ENOENT`.
    pub fn link(&mut self, number: u64, directory: u64, name: &OsStr) -> Done {
        if self.tree.find(directory, name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.node_mut(number)?.links += 1;
        self.tree.change(&[(directory, name, Some(number))]);
        Ok(())
    }

    /// Removes the name of a file, or of an empty directory.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTEMPTY`.
    pub fn remove(&mut self, directory: u64, name: &OsStr) -> Done {
        let number = self.find(directory, name)?;
        if self.tree.list(number).is_some_and(|inside| !inside.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        let node = self.node_mut(number)?;
        node.links = node.links.saturating_sub(1);
        self.tree.change(&[(directory, name, None)]);
        Ok(())
    }

    /// Gives what has one name another one, which it takes from what has it.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `ENOTEMPTY`.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Done {
        let number = self.find(from.0, from.1)?;
        let replaced = self.tree.find(to.0, to.1);
        if replaced == Some(number) {
            return Ok(());
        }
        if let Some(replaced) = replaced {
            if self.tree.list(replaced).is_some_and(|inside| !inside.is_empty()) {
                return Err(Errno::ENOTEMPTY);
            }
            let replaced = self.node_mut(replaced)?;
            replaced.links = replaced.links.saturating_sub(1);
        }
        self.tree.change(&[(to.0, to.1, Some(number)), (from.0, from.1, None)]);
        Ok(())
    }

    /// The target of a symbolic link.
    pub(crate) fn target(&self, number: u64) -> Result<&[u8], Errno> {
        match &self.node(number)?.kind {
            Kind::Link(target) => Ok(target.as_bytes()),
            _ => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn set_attributes(
        &mut self,
        number: u64,
        mode: Option<u32>,
        owner: (Option<u32>, Option<u32>),
    ) -> Done {
        let node = self.node_mut(number)?;
        if let Some(mode) = mode {
            node.mode = node.mode & nix::libc::S_IFMT | mode & !nix::libc::S_IFMT;
        }
        node.owner = (owner.0.unwrap_or(node.owner.0), owner.1.unwrap_or(node.owner.1));
        node.changed = SystemTime::now();
        Ok(())
    }

    /// Up to `length` bytes from `offset`.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EISDIR`, `EINVAL`.
    pub fn read(&mut self, number: u64, offset: usize, length: usize) -> Result<Vec<u8>, Errno> {
        Ok(self.content(number)?.read(offset, length))
    }

    /// Writes; with `synced` as to a file that was opened with `O_DSYNC`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn write(&mut self, number: u64, offset: usize, bytes: &[u8], synced: bool) -> Done {
        let (write_page, write_names) =
            (self.random.random_ratio(1, WRITE_BACK_PAGE), self.random.random_ratio(1, WRITE_BACK_NAMES));
        let mut random = StdRng::seed_from_u64(self.random.random());
        let lazy = self.lazy;
        let content = self.content(number)?;
        content.write(offset, bytes);
        if synced {
            content.sync_range(offset, bytes.len());
        } else if write_page && !lazy {
            content.write_back(&mut random);
        }
        if write_names && !lazy {
            self.tree.write_back(&mut random);
        }
        self.node_mut(number)?.changed = SystemTime::now();
        Ok(())
    }

    /// Makes a file shorter or longer.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn set_size(&mut self, number: u64, size: usize) -> Done {
        self.content(number)?.set_size(size);
        self.node_mut(number)?.changed = SystemTime::now();
        Ok(())
    }

    /// An fsync or fdatasync of a file.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn sync(&mut self, number: u64) -> Done {
        match self.content(number) {
            // Of a socket there is nothing to keep.
            Err(Errno::EINVAL) => {}
            content => content?.sync(),
        }
        self.tree.sync_file(number);
        Ok(())
    }

    /// An fsync of a directory.
    pub fn sync_directory(&mut self, number: u64) {
        self.tree.sync_directory(number);
        self.sweep();
    }

    pub(crate) fn refer(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.lookups += 1;
        }
    }

    pub(crate) fn forget(&mut self, number: u64, times: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.lookups = node.lookups.saturating_sub(times);
        }
    }

    /// Drops what nothing can find any more, whatever a cut brings back.
    fn sweep(&mut self) {
        if self.nodes.len() < self.live + GARBAGE_MAX {
            return;
        }
        let referred = self.nodes.iter().filter(|(_, node)| node.lookups > 0).map(|(number, _)| *number);
        let reachable = self.tree.reachable(ROOT, referred);
        self.nodes.retain(|number, _| reachable.contains(number));
        self.tree.retain(&reachable);
        self.live = self.nodes.len();
    }

    /// The power is gone, and comes back: what is there is what was kept. `seed` decides what that is of what was not synced.
    pub fn cut(&mut self, seed: u64) -> (Fate, Loss) {
        let mut random = StdRng::seed_from_u64(seed);
        let fate = [Fate::Nothing, Fate::Some, Fate::Some, Fate::Everything][random.random_range(0..4)];
        (fate, self.cut_with(fate, &mut random))
    }

    /// As [`cut`](Self::cut), with a fate of the caller's choice.
    pub fn cut_with(&mut self, fate: Fate, random: &mut StdRng) -> Loss {
        let mut loss = Loss::default();
        self.tree.cut(fate, random, &mut loss);
        let reachable = self.tree.reachable(ROOT, std::iter::empty());
        self.nodes.retain(|number, _| reachable.contains(number));
        self.tree.retain(&reachable);
        self.live = self.nodes.len();
        // In the same order for the same seed.
        let mut numbers: Vec<u64> = reachable.into_iter().collect();
        numbers.sort_unstable();
        let mut links: HashMap<u64, u32> = HashMap::new();
        for number in &numbers {
            for inside in self.tree.list(*number).into_iter().flat_map(|names| names.values()) {
                *links.entry(*inside).or_default() += 1;
            }
        }
        for number in numbers {
            let Some(node) = self.nodes.get_mut(&number) else { continue };
            node.lookups = 0;
            node.links = links.get(&number).copied().unwrap_or(1);
            if let Kind::File(content) = &mut node.kind {
                let fate = match fate {
                    Fate::Some => {
                        [Fate::Nothing, Fate::Some, Fate::Some, Fate::Everything][random.random_range(0..4)]
                    }
                    fate => fate,
                };
                content.cut(fate, random, &mut loss);
            }
        }
        loss
    }
}

impl Node {
    fn new(kind: Kind, mode: u32, owner: (u32, u32)) -> Node {
        Node { kind, mode, owner, links: 1, changed: SystemTime::now(), lookups: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        match &self.kind {
            Kind::File(content) => content.size(),
            Kind::Link(target) => target.len(),
            Kind::Directory | Kind::Special => 0,
        }
    }
}
