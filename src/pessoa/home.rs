//! The home of a pessoa: one of 256, by which the people are shared out among cores and partitions. It knows neither.
//!
//! The home of a row is a byte of its id. A new id gets the hash of its apelido there.

use uuid::Uuid;

/// The byte of an id that says where its row lives. In a UUIDv7 it is random.
pub const HOME_BYTE: usize = 9;

/// The home of a row, from its id.
pub fn home_of_id(id: &Uuid) -> u8 {
    id.as_bytes()[HOME_BYTE]
}

/// The home of an apelido. Stable for ever and equal in every instance: FNV-1a (32 bits) folded to 8. `schema.sql` has it
/// once more, for the check that keeps a row out of another home's partition.
pub fn home_of_apelido(apelido: &str) -> u8 {
    const OFFSET_BASIS: u32 = 0x811C_9DC5;
    const PRIME: u32 = 0x0100_0193;
    let hash = apelido.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(PRIME));
    hash.to_le_bytes().into_iter().fold(0, |folded, byte| folded ^ byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Instances of different versions share one database: these vectors are a promise.
        // FNV-1a 32 of "" is 811c9dc5, of "a" e40c292c, of "foobar" bf9cf968 (the reference's test vectors).
        for (apelido, hash) in [("", 0x811C_9DC5_u32), ("a", 0xE40C_292C), ("foobar", 0xBF9C_F968)] {
            let home = hash.to_be_bytes().into_iter().fold(0, |home, byte| home ^ byte);
            assert_eq!(home_of_apelido(apelido), home, "{apelido:?}");
        }
    }

    #[test]
    fn the_hash_spreads() {
        let mut homes = [0_u32; 256];
        for number in 0..25_600 {
            homes[usize::from(home_of_apelido(&format!("apelido{number}")))] += 1;
        }
        assert!(homes.iter().all(|&count| (50..150).contains(&count)), "{homes:?}");
    }
}
