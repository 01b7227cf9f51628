//! The apelidos known to be taken. The set may be incomplete: what it lacks may exist.

use super::arena::Arena;
use super::table::Slots;
use ahash::RandomState;

/// A set of strings.
pub(super) struct Apelidos {
    slots: Slots,
    texts: Arena,
    hasher: RandomState,
}

impl Apelidos {
    pub(super) fn new(tables: usize, chunk_bytes: usize) -> Apelidos {
        Apelidos { slots: Slots::new(tables), texts: Arena::new(chunk_bytes), hasher: RandomState::new() }
    }

    pub(super) fn contains(&self, apelido: &[u8]) -> bool {
        let is_it = |address| text_at(&self.texts, address) == apelido;
        self.slots.find(self.hasher.hash_one(apelido), is_it).is_some()
    }

    /// Adds it, if it is new and there is room. Whether it was new.
    pub(super) fn insert(&mut self, apelido: &[u8]) -> bool {
        let hash = self.hasher.hash_one(apelido);
        if self.slots.find(hash, |address| text_at(&self.texts, address) == apelido).is_some() {
            return false;
        }
        if let Some(address) = self.texts.append(apelido) {
            self.slots.insert(hash, address, |address| self.hasher.hash_one(text_at(&self.texts, address)));
        }
        true
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes() + self.texts.bytes()
    }
}

fn text_at(texts: &Arena, address: u32) -> &[u8] {
    texts.get(address).expect("apelidos are dropped all at once")
}
