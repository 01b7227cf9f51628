//! Where a pessoa lives: key to owner core. It knows keys, not cores' contents.
//!
//! A new id gets the home of its apelido, so a create's duplicate check, cache entry and commit happen on one core, and a
//! lookup finds the owner from the path alone. An id that somebody else minted has a home too, but the row's apelido may
//! then have another home.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::{Builder, Uuid};

use crate::pessoa::{HOME_BYTE, home_of_apelido, home_of_id};

/// The byte of an id whose lower six bits may name the instance that minted it; the other two are the variant. In a
/// UUIDv7 they are random.
const INSTANCE_BYTE: usize = 8;

/// Which instance of several this is, so that a balancer can tell from a new id who made it: 0 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceNumber(u8);

impl FromStr for InstanceNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<InstanceNumber, String> {
        let number = text.parse().ok().filter(|number| *number < 1 << 6);
        number.map(InstanceNumber).ok_or_else(|| "expected a number from 0 to 63".to_owned())
    }
}

/// The core, of `cores`, that owns the row with this id.
pub fn owner_of_id(id: &Uuid, cores: usize) -> usize {
    usize::from(home_of_id(id)) % cores
}

/// The core, of `cores`, that knows whether this apelido is taken.
pub fn owner_of_apelido(apelido: &str, cores: usize) -> usize {
    usize::from(home_of_apelido(apelido)) % cores
}

/// Makes ids: UUIDv7 whose home is their apelido's.
///
/// One per core: `Uuid::now_v7` would take a lock that all threads share and ask the system for randomness each time.
/// Here the randomness comes from a generator that the system seeded once, so ids cannot be guessed either.
pub struct Minter {
    random: StdRng,
    instance: Option<InstanceNumber>,
}

impl Minter {
    /// A minter with a seed of its own.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn new() -> std::io::Result<Minter> {
        Minter::of(None)
    }

    /// A minter whose ids name this instance.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn of(instance: Option<InstanceNumber>) -> std::io::Result<Minter> {
        let random = StdRng::try_from_rng(&mut rand::rngs::SysRng).map_err(std::io::Error::other)?;
        Ok(Minter { random, instance })
    }

    /// A new id for a pessoa with this apelido.
    pub fn mint(&mut self, apelido: &str) -> Uuid {
        // A clock before 1970 makes ids that sort badly, not wrong ones.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut random = [0; 10];
        self.random.fill_bytes(&mut random);
        // `random` becomes the ten bytes after the six of the timestamp.
        random[HOME_BYTE - 6] = home_of_apelido(apelido);
        if let Some(InstanceNumber(number)) = self.instance {
            // The builder puts the variant over it.
            random[INSTANCE_BYTE - 6] = number;
        }
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_instance() {
        for (number, digits) in [("0", "80"), ("1", "81"), ("16", "90"), ("63", "bf")] {
            let mut minter = Minter::of(Some(number.parse().unwrap())).unwrap();
            for id in (0..100).map(|_| minter.mint("josé")) {
                assert_eq!(&id.to_string()[19..21], digits, "where haproxy.cfg looks for it");
                assert_eq!((id.get_version_num(), home_of_id(&id)), (7, home_of_apelido("josé")));
                assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            }
        }
        for wrong in ["64", "-1", "", "one", "256"] {
            assert!(wrong.parse::<InstanceNumber>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_a_version_7_at_home() {
        let mut minter = Minter::new().unwrap();
        let ids: Vec<Uuid> = (0..1000).map(|_| minter.mint("josé")).collect();
        for id in &ids {
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(home_of_id(id), home_of_apelido("josé"));
        }
        let distinct: std::collections::HashSet<&Uuid> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
