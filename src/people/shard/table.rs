//! Growing tables whose growth never moves much at once. Knows nothing of what they hold.
//!
//! One `Vec` or hash table of a million entries doubles in one go, which stops the core meanwhile. A [`Column`] grows
//! by small blocks; [`Slots`] is many small hash tables, chosen by bits of the hash, each of which grows alone.

use hashbrown::HashTable;

/// Entries of one block of a [`Column`].
const BLOCK: usize = 256;

/// A `Vec` in blocks: nothing moves when it grows.
pub(super) struct Column<T> {
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Column<T> {
    pub(super) fn new() -> Column<T> {
        Column { blocks: Vec::new(), len: 0 }
    }

    /// Appends and gives the ordinal.
    pub(super) fn push(&mut self, value: T) -> u32 {
        let ordinal = u32::try_from(self.len).expect("memory ends before 2^32 entries");
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        self.blocks[self.len / BLOCK].push(value);
        self.len += 1;
        ordinal
    }

    pub(super) fn get(&self, ordinal: u32) -> &T {
        let at = ordinal as usize;
        &self.blocks[at / BLOCK][at % BLOCK]
    }

    pub(super) fn get_mut(&mut self, ordinal: u32) -> &mut T {
        let at = ordinal as usize;
        &mut self.blocks[at / BLOCK][at % BLOCK]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated here; what the entries own themselves is not known.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<T>() + self.blocks.capacity() * size_of::<Vec<T>>()
    }
}

/// A hash index: finds a small value by the hash of a key, which the value holds or leads to.
pub(super) struct Slots<V = u32> {
    tables: Box<[HashTable<V>]>,
    allocated: usize,
}

impl<V: Copy> Slots<V> {
    /// Empty; `tables`, a power of two, is how many parts grow by themselves.
    pub(super) fn new(tables: usize) -> Slots<V> {
        assert!(tables.is_power_of_two());
        Slots { tables: (0..tables).map(|_| HashTable::new()).collect(), allocated: 0 }
    }

    /// The value under `hash` for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(V) -> bool) -> Option<V> {
        self.tables[self.table(hash)].find(hash, |&value| is_it(value)).copied()
    }

    /// Adds a value that `find` does not find; `hash_of` gives the hash of any value added so far.
    pub(super) fn insert(&mut self, hash: u64, value: V, hash_of: impl Fn(V) -> u64) {
        let table = &mut self.tables[self.table(hash)];
        if table.len() == table.capacity() {
            let before = table.allocation_size();
            table.reserve(1, |&value| hash_of(value));
            self.allocated += table.allocation_size() - before;
        }
        table.insert_unique(hash, value, |&value| hash_of(value));
    }

    pub(super) fn bytes(&self) -> usize {
        self.allocated + self.tables.len() * size_of::<HashTable<V>>()
    }

    /// Chosen by bits that hashbrown does not use: it takes the lowest for the place and the highest seven for the tag.
    fn table(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.tables.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_find_what_was_added_and_nothing_else() {
        // Miri is a thousand times slower.
        const KEYS: u32 = if cfg!(miri) { 200 } else { 5_000 };
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        for tables in [1, 2, 64] {
            let mut keys = Column::new();
            let mut slots = Slots::new(tables);
            for key in 0..KEYS {
                let key = key * 3;
                let ordinal = keys.push(key);
                slots.insert(hasher.hash_one(key), ordinal, |ordinal| hasher.hash_one(keys.get(ordinal)));
            }
            for key in 0..3 * KEYS {
                let found = slots.find(hasher.hash_one(key), |ordinal| *keys.get(ordinal) == key);
                assert_eq!(found, key.is_multiple_of(3).then_some(key / 3));
            }
            assert_eq!(keys.len(), KEYS as usize);
            assert!(slots.bytes() >= keys.len() * 5 && keys.bytes() >= keys.len() * 4);
        }
    }
}
