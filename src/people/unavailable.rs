//! Why a question about the people has no answer.

use crate::postgres::{Partition, Unanswered};

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// A queue, to the database or to the core that owns the key, or the memory for what waits is full; nothing was sent.
    NoRoom,
    /// The database takes no rows at the moment; nothing was stored.
    NotStored,
    /// The deadline passed; a create may have been committed all the same.
    TimedOut,
    /// This partition moves, or is lost: what the nodes said is not about every row once.
    Moves(Partition),
    /// There is such a row, and it is no pessoa: only in the database can it be mended.
    Unfit,
}

impl From<Unanswered> for Unavailable {
    fn from(why: Unanswered) -> Unavailable {
        match why {
            Unanswered::QueueFull => Unavailable::NoRoom,
            Unanswered::NotStored => Unavailable::NotStored,
            Unanswered::TimedOut => Unavailable::TimedOut,
            Unanswered::Unfit => Unavailable::Unfit,
        }
    }
}
