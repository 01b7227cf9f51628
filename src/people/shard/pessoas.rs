//! Pessoas by id, with their bodies as long as there is room. Knows nothing of search.
//!
//! A body may be dropped, an id is remembered: "known, but ask Postgres" differs from "never seen".

use super::arena::Arena;
use super::packed::{Body, Items, pack};
use super::table::{Column, Slots};
use crate::limits::BODY_MAX;
use ahash::RandomState;
use uuid::Uuid;

/// The address of a body that found no room.
const NO_BODY: u32 = u32::MAX;

struct Entry {
    id: Uuid,
    body: u32,
}

/// Pessoas by ordinal and by id.
pub(super) struct Pessoas {
    slots: Slots,
    entries: Column<Entry>,
    arena: Arena,
    items: Items,
    /// A body while it is packed.
    packed: Vec<u8>,
    never_kept: usize,
    hasher: RandomState,
}

impl Pessoas {
    pub(super) fn new(tables: usize, chunk_bytes: usize) -> Pessoas {
        Pessoas {
            slots: Slots::new(tables),
            entries: Column::new(),
            arena: Arena::new(chunk_bytes),
            items: Items::new(chunk_bytes),
            packed: Vec::new(),
            never_kept: 0,
            hasher: RandomState::new(),
        }
    }

    /// Adds a pessoa and says so, or does nothing when the id is known.
    pub(super) fn insert(&mut self, id: Uuid, body: &[u8]) -> bool {
        if self.find(&id).is_some() {
            return false;
        }
        self.packed.clear();
        pack(body, &id, &mut self.items, &mut self.packed);
        let body = self.arena.append(&self.packed).unwrap_or(NO_BODY);
        // A row that was put in by hand may be of any length.
        self.packed.shrink_to(BODY_MAX);
        self.never_kept += usize::from(body == NO_BODY);
        let ordinal = self.entries.push(Entry { id, body });
        self.slots.insert(self.hash(&id), ordinal, |ordinal| {
            self.hasher.hash_one(self.entries.get(ordinal).id.as_u128())
        });
        true
    }

    pub(super) fn find(&self, id: &Uuid) -> Option<u32> {
        self.slots.find(self.hash(id), |ordinal| self.entries.get(ordinal).id == *id)
    }

    pub(super) fn id(&self, ordinal: u32) -> Uuid {
        self.entries.get(ordinal).id
    }

    /// `None` when it was dropped.
    pub(super) fn body(&self, ordinal: u32) -> Option<Body<'_>> {
        let Entry { id, body } = self.entries.get(ordinal);
        match *body {
            NO_BODY => None,
            address => self.arena.get(address).map(|packed| Body::unpack(packed, *id, &self.items)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives the oldest bodies back; `false` when there are none but those of the chunk being filled.
    pub(super) fn drop_oldest_bodies(&mut self) -> bool {
        self.arena.drop_oldest()
    }

    pub(super) fn bodies_dropped(&self) -> usize {
        self.arena.records_dropped() + self.never_kept
    }

    /// Bytes of the bodies.
    pub(super) fn bodies_bytes(&self) -> usize {
        self.arena.bytes() + self.items.bytes()
    }

    /// Bytes of everything else.
    pub(super) fn ids_bytes(&self) -> usize {
        self.slots.bytes() + self.entries.bytes()
    }

    fn hash(&self, id: &Uuid) -> u64 {
        self.hasher.hash_one(id.as_u128())
    }
}
