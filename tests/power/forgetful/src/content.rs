//! The content of one file: as it was written, and as much of it as is kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::disk::{Fate, Loss};
use crate::{PAGE, SECTOR};

type Page = Arc<[u8; PAGE]>;

/// Pages by their number; none: zeros.
#[derive(Clone, Debug, Default)]
struct Image {
    pages: Vec<Option<Page>>,
    size: usize,
}

impl Image {
    fn page(&self, number: usize) -> Option<&Page> {
        self.pages.get(number)?.as_ref()
    }

    fn set_page(&mut self, number: usize, page: Option<Page>) {
        if self.pages.len() <= number {
            self.pages.resize(number + 1, None);
        }
        self.pages[number] = page;
    }

    /// What is behind the end is gone: it reads as zeros if the file grows again.
    fn set_size(&mut self, size: usize) {
        self.pages.truncate(size.div_ceil(PAGE));
        let tail = size % PAGE;
        if tail > 0
            && size < self.size
            && let Some(Some(page)) = self.pages.get_mut(size / PAGE)
        {
            Arc::make_mut(page)[tail..].fill(0);
        }
        self.size = size;
    }
}

/// The content of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// As it was written.
    now: Image,
    /// As it would be after a cut that forgets all it may.
    kept: Image,
    /// The pages that differ.
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(crate) fn size(&self) -> usize {
        self.now.size
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.now.size == self.kept.size
    }

    /// Up to `length` bytes from `offset`.
    pub(crate) fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let end = offset.saturating_add(length).min(self.now.size);
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset));
        let mut at = offset;
        while at < end {
            let (number, from) = (at / PAGE, at % PAGE);
            let to = PAGE.min(from + end - at);
            match self.now.page(number) {
                Some(page) => bytes.extend_from_slice(&page[from..to]),
                None => bytes.resize(bytes.len() + to - from, 0),
            }
            at += to - from;
        }
        bytes
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (number, from) = (at / PAGE, at % PAGE);
            let (some, others) = rest.split_at(rest.len().min(PAGE - from));
            let whole_of_zeros = some.len() == PAGE && some.iter().all(|byte| *byte == 0);
            if whole_of_zeros {
                self.now.set_page(number, None);
            } else {
                if self.now.page(number).is_none() {
                    self.now.set_page(number, Some(Arc::new([0; PAGE])));
                }
                let page = self.now.pages[number].as_mut().expect("it was made");
                Arc::make_mut(page)[from..from + some.len()].copy_from_slice(some);
            }
            self.dirty.insert(number);
            (at, rest) = (at + some.len(), others);
        }
        self.now.size = self.now.size.max(offset + bytes.len());
    }

    pub(crate) fn set_size(&mut self, size: usize) {
        if size < self.now.size {
            self.dirty.extend(size / PAGE..self.now.pages.len());
        }
        self.now.set_size(size);
    }

    /// Keeps all.
    pub(crate) fn sync(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            self.keep_page(number);
        }
        self.kept.set_size(self.now.size);
    }

    /// Keeps what a write to a file that was opened with `O_DSYNC` keeps: its bytes and what is needed to find them.
    pub(crate) fn sync_range(&mut self, offset: usize, length: usize) {
        for number in offset / PAGE..(offset + length).div_ceil(PAGE) {
            if self.dirty.remove(&number) {
                self.keep_page(number);
            }
        }
        self.kept.set_size(self.now.size);
    }

    /// Writes one page back, of which nobody is told.
    pub(crate) fn write_back(&mut self, random: &mut StdRng) {
        if self.dirty.is_empty() {
            return;
        }
        let nth = random.random_range(0..self.dirty.len());
        let number = *self.dirty.iter().nth(nth).expect("one of them");
        if number < self.now.pages.len() {
            self.dirty.remove(&number);
            self.keep_page(number);
            let end = self.now.size.min((number + 1) * PAGE);
            self.kept.size = self.kept.size.max(end);
        }
    }

    fn keep_page(&mut self, number: usize) {
        let page = self.now.page(number).cloned();
        self.kept.set_page(number, page);
    }

    /// The power is gone.
    pub(crate) fn cut(&mut self, fate: Fate, random: &mut StdRng, loss: &mut Loss) {
        if self.is_synced() {
            return;
        }
        loss.files += 1;
        loss.pages += self.dirty.len();
        match fate {
            Fate::Nothing => loss.pages_lost += self.dirty.len(),
            Fate::Everything => self.sync(),
            Fate::Some => self.keep_some(random, loss),
        }
        self.now = self.kept.clone();
        self.dirty.clear();
    }

    fn keep_some(&mut self, random: &mut StdRng, loss: &mut Loss) {
        let (least, most) = (self.kept.size.min(self.now.size), self.kept.size.max(self.now.size));
        let size = match random.random_range(0..3) {
            0 => self.kept.size,
            1 => self.now.size,
            _ => (random.random_range(least..=most) / SECTOR * SECTOR).max(least),
        };
        // Of a file either few or most pages, as all of them are seldom just half written.
        let share = [0.1, 0.5, 0.9][random.random_range(0..3)];
        for number in std::mem::take(&mut self.dirty) {
            match random.random_range(0..4) {
                0 => {
                    loss.pages_torn += 1;
                    let torn = torn(self.kept.page(number), self.now.page(number), random);
                    self.kept.set_page(number, Some(torn));
                }
                _ if random.random_bool(share) => self.keep_page(number),
                _ => loss.pages_lost += 1,
            }
        }
        // First as long as can be, so that what is behind the end is zeros.
        self.kept.size = most;
        self.kept.set_size(size);
    }
}

fn torn(old: Option<&Page>, new: Option<&Page>, random: &mut StdRng) -> Page {
    let zeros = [0; PAGE];
    let mut page = *old.map_or(&zeros, |page| &**page);
    let new = new.map_or(&zeros, |page| &**page);
    for (old, new) in page.chunks_exact_mut(SECTOR).zip(new.chunks_exact(SECTOR)) {
        if random.random_bool(0.5) {
            old.copy_from_slice(new);
        }
    }
    Arc::new(page)
}
