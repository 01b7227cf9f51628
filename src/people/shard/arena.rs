//! An append-only store of byte records in large chunks. Knows nothing of what the records mean.
//!
//! A record never moves and never spans two chunks; its address is 32 bits, and its length stands before it. Appending
//! never copies what is already there. Memory is given back only in whole chunks, oldest first.

/// Records start at multiples of this many bytes: it lets 32 bits address 16 GiB for 1.5 bytes of padding a record.
const UNIT: usize = 4;

struct Chunk {
    bytes: Vec<u8>,
    records: usize,
}

/// Records by address.
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// Chunks before this one were dropped; they stay in `chunks`, empty, so that addresses keep their meaning.
    first_kept: usize,
    chunk_bytes: usize,
    capacity: usize,
    records_dropped: usize,
}

impl Arena {
    /// An empty arena; `chunk_bytes` is a multiple of [`UNIT`]. A longer record gets a chunk of its own.
    pub(super) fn new(chunk_bytes: usize) -> Arena {
        debug_assert!(chunk_bytes >= UNIT && chunk_bytes.is_multiple_of(UNIT));
        Arena { chunks: Vec::new(), first_kept: 0, chunk_bytes, capacity: 0, records_dropped: 0 }
    }

    /// Copies `record` in and gives its address (never `u32::MAX`), or `None` when the 32 bits are used up.
    pub(super) fn append(&mut self, record: &[u8]) -> Option<u32> {
        let (head, head_len) = length_prefix(record.len());
        let needed = head_len + record.len();
        let open = self.chunks.last().map(|chunk| chunk.bytes.len().next_multiple_of(UNIT));
        let fits = match (open, self.chunks.last()) {
            (Some(offset), Some(chunk)) => {
                offset < self.chunk_bytes && offset + needed <= chunk.bytes.capacity()
            }
            _ => false,
        };
        let index = if fits { self.chunks.len() - 1 } else { self.chunks.len() };
        let offset = if fits { open.unwrap_or(0) } else { 0 };
        let address =
            u32::try_from((index * self.chunk_bytes + offset) / UNIT).ok().filter(|&at| at != u32::MAX)?;
        if !fits {
            let bytes = Vec::with_capacity(self.chunk_bytes.max(needed));
            self.capacity += bytes.capacity();
            self.chunks.push(Chunk { bytes, records: 0 });
        }
        let chunk = &mut self.chunks[index];
        chunk.bytes.resize(offset, 0);
        chunk.bytes.extend_from_slice(&head[..head_len]);
        chunk.bytes.extend_from_slice(record);
        chunk.records += 1;
        Some(address)
    }

    /// The record at an address that `append` gave, or `None` when its chunk was dropped.
    pub(super) fn get(&self, address: u32) -> Option<&[u8]> {
        let at = address as usize * UNIT;
        let index = at / self.chunk_bytes;
        if index < self.first_kept {
            return None;
        }
        let (length, record) = read_length(&self.chunks[index].bytes[at % self.chunk_bytes..]);
        Some(&record[..length])
    }

    /// Gives the oldest chunk back; `false` when only the one being filled is left.
    pub(super) fn drop_oldest(&mut self) -> bool {
        if self.first_kept + 1 >= self.chunks.len() {
            return false;
        }
        let chunk = &mut self.chunks[self.first_kept];
        self.records_dropped += chunk.records;
        self.capacity -= chunk.bytes.capacity();
        chunk.bytes = Vec::new();
        self.first_kept += 1;
        true
    }

    /// Records whose chunk was dropped.
    pub(super) fn records_dropped(&self) -> usize {
        self.records_dropped
    }

    /// Bytes allocated, the unused end of the open chunk included.
    pub(super) fn bytes(&self) -> usize {
        self.capacity + self.chunks.capacity() * size_of::<Chunk>()
    }
}

/// The length that [`length_prefix`] wrote, and what follows it.
pub(super) fn read_length(bytes: &[u8]) -> (usize, &[u8]) {
    let mut length = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return (length, &bytes[i + 1..]);
        }
    }
    unreachable!("a length has an end")
}

/// The length as LEB128: seven bits a byte, the lowest first.
pub(super) fn length_prefix(length: usize) -> ([u8; 10], usize) {
    let mut prefix = [0; 10];
    let mut rest = length;
    let mut len = 0;
    loop {
        let low = u8::try_from(rest & 0x7f).expect("seven bits");
        rest >>= 7;
        prefix[len] = if rest == 0 { low } else { low | 0x80 };
        len += 1;
        if rest == 0 {
            return (prefix, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_until_their_chunk_goes() {
        let mut arena = Arena::new(64);
        let records: Vec<Vec<u8>> = [0, 1, 2, 3, 4, 59, 60, 63, 64, 127, 128, 200, 20_000, 5, 0, 7]
            .iter()
            .map(|&n| vec![7; n])
            .collect();
        let addresses: Vec<u32> = records.iter().map(|record| arena.append(record).unwrap()).collect();
        for (record, &address) in records.iter().zip(&addresses) {
            assert_eq!(arena.get(address), Some(&record[..]));
        }
        let full = arena.bytes();
        while arena.drop_oldest() {
            let kept: Vec<bool> = addresses.iter().map(|&address| arena.get(address).is_some()).collect();
            assert!(kept.is_sorted(), "oldest first: {kept:?}");
            assert_eq!(kept.iter().filter(|&&kept| !kept).count(), arena.records_dropped());
        }
        assert!(arena.bytes() < full);
        assert_eq!(
            arena.get(*addresses.last().unwrap()),
            Some(&records[records.len() - 1][..]),
            "the open chunk stays"
        );
        let next = arena.append(b"next").unwrap();
        assert_eq!(arena.get(next), Some(&b"next"[..]));
    }

    #[test]
    fn addresses_run_out_without_a_wrong_answer() {
        let mut arena = Arena::new(1 << 30);
        let mut last = None;
        for _ in 0..16 {
            let address = arena.append(b"x").unwrap();
            last = Some(address);
            // Pretend the rest of the chunk is used: the next record opens another.
            arena.chunks.last_mut().unwrap().bytes = b"\x01x".to_vec();
        }
        assert_eq!(arena.append(b"y"), None);
        assert_eq!(arena.get(last.unwrap()), Some(&b"x"[..]));
    }
}
