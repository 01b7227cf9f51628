//! Pessoas by id, with their bodies as long as there is room, and the known apelidos. Knows nothing of search.
//!
//! A body may be dropped, an id is remembered: "known, but ask Postgres" differs from "never seen".

use super::arena::Arena;
use super::table::{Column, Slots};
use ahash::RandomState;
use uuid::Uuid;

/// The body of a pessoa that found no room.
const NO_BODY: u32 = u32::MAX;

struct Pessoa {
    id: Uuid,
    body: u32,
}

/// Pessoas by ordinal and by id.
pub(super) struct People {
    slots: Slots,
    pessoas: Column<Pessoa>,
    bodies: Arena,
    never_kept: usize,
    hasher: RandomState,
}

impl People {
    pub(super) fn new(tables: usize, chunk_bytes: usize) -> People {
        People {
            slots: Slots::new(tables),
            pessoas: Column::new(),
            bodies: Arena::new(chunk_bytes),
            never_kept: 0,
            hasher: RandomState::new(),
        }
    }

    /// Adds a pessoa and says so, or does nothing when the id is known.
    pub(super) fn insert(&mut self, id: Uuid, body: &[u8]) -> bool {
        if self.find(&id).is_some() {
            return false;
        }
        let body = self.bodies.append(body).unwrap_or(NO_BODY);
        self.never_kept += usize::from(body == NO_BODY);
        let ordinal = self.pessoas.push(Pessoa { id, body });
        self.slots.insert(self.hash(&id), ordinal, |ordinal| {
            self.hasher.hash_one(self.pessoas.get(ordinal).id.as_u128())
        });
        true
    }

    pub(super) fn find(&self, id: &Uuid) -> Option<u32> {
        self.slots.find(self.hash(id), |ordinal| self.pessoas.get(ordinal).id == *id)
    }

    pub(super) fn id(&self, ordinal: u32) -> Uuid {
        self.pessoas.get(ordinal).id
    }

    /// `None` when it was dropped.
    pub(super) fn body(&self, ordinal: u32) -> Option<&[u8]> {
        match self.pessoas.get(ordinal).body {
            NO_BODY => None,
            address => self.bodies.get(address),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pessoas.len()
    }

    /// Gives the oldest bodies back; `false` when there are none but those of the chunk being filled.
    pub(super) fn drop_oldest_bodies(&mut self) -> bool {
        self.bodies.drop_oldest()
    }

    pub(super) fn bodies_dropped(&self) -> usize {
        self.bodies.records_dropped() + self.never_kept
    }

    /// Bytes of the bodies.
    pub(super) fn bodies_bytes(&self) -> usize {
        self.bodies.bytes()
    }

    /// Bytes of everything else.
    pub(super) fn ids_bytes(&self) -> usize {
        self.slots.bytes() + self.pessoas.bytes()
    }

    fn hash(&self, id: &Uuid) -> u64 {
        self.hasher.hash_one(id.as_u128())
    }
}

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

    /// Adds it, if it is new and there is room.
    pub(super) fn insert(&mut self, apelido: &[u8]) {
        if self.contains(apelido) {
            return;
        }
        if let Some(address) = self.texts.append(apelido) {
            self.slots.insert(self.hasher.hash_one(apelido), address, |address| {
                self.hasher.hash_one(text_at(&self.texts, address))
            });
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.slots.bytes() + self.texts.bytes()
    }
}

fn text_at(texts: &Arena, address: u32) -> &[u8] {
    texts.get(address).expect("apelidos are dropped all at once")
}
