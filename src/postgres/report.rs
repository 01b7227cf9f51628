//! What a core hears from its Postgres thread.

use super::history::Identity;
use super::placement::Placement;
use super::role::Role;
use crate::channel::Ticket;
use crate::pessoa::Record;

/// What a core hears.
pub(super) enum Report {
    /// The row is committed. No ticket: its client was told `Unavailable` before this was known.
    Committed {
        ticket: Option<Ticket>,
        record: Box<Record>,
    },
    /// A committed row with another id has this apelido.
    Duplicate {
        ticket: Ticket,
        record: Box<Record>,
    },
    /// The id is taken by a row with another apelido: a new id is needed.
    Collision {
        ticket: Ticket,
        record: Box<Record>,
    },
    /// The database refuses this row for good (SQLSTATE).
    Refused {
        ticket: Ticket,
        sqlstate: Box<str>,
    },
    /// The database takes no row at the moment; this one was not stored.
    NotStored {
        ticket: Ticket,
    },
    /// The deadline passed first. The outcome of a create is unknown.
    Unavailable {
        ticket: Ticket,
    },
    /// There is such a row, and it is no pessoa.
    Unfit {
        ticket: Ticket,
    },
    Fetched {
        ticket: Ticket,
        found: Option<Box<Record>>,
    },
    Counted {
        ticket: Ticket,
        rows: u64,
        /// What was counted.
        here: Placement,
    },
    /// In ascending order of id.
    Searched {
        ticket: Ticket,
        found: Vec<Record>,
        /// What was searched.
        here: Placement,
    },
    /// A connection came, and what is reported of it from now on belongs to this history; or it went.
    Reachable {
        role: Role,
        of: Option<Identity>,
    },
}
