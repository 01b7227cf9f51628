//! The database side: what a core asks of its Postgres thread, and how that thread answers. It speaks of
//! pessoas and SQL, never of HTTP or of the shard.
//!
//! ```text
//! core thread                         postgres thread (tokio, current-thread)
//! Database::create ---- creates ----> commit::run  (connection 1)
//! Database::fetch  ----- reads -----> read::run    (connection 2)
//! Database::search ---- searches ---> search::run  (connection 3, when needed)
//! Database::run    <---- replies ------------'
//!
//! every core       <---- rows ------- feed thread, one an instance: what others committed  (connection 4)
//! ```
//!
//! The rings have room for every ticket a core may hold, and for what is said without one. A connection's task
//! takes from its ring when it is free: while it is busy the core does not wake it.

mod commit;
pub mod feed;
mod handle;
mod queue;
mod read;
mod search;
mod session;
mod socket;
mod sql;
mod thread;

use crate::channel::tickets::Ticket;
use crate::pessoa::Record;

pub use feed::{Fed, FeedLinks, FeedNotice, Owners};
pub use handle::{Create, Database, Learnt, Unavailable};
pub use session::{ServerFacts, StartError, prepare_database};
pub use thread::{Link, spawn};

/// What a core hears.
enum Reply {
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
    /// The id is taken by a row with another apelido: a new one is needed.
    Collision {
        ticket: Ticket,
        record: Box<Record>,
    },
    /// The database refuses this row for good (SQLSTATE).
    Refused {
        ticket: Ticket,
        sqlstate: Box<str>,
    },
    /// The deadline passed first. The outcome of a create is unknown.
    Unavailable {
        ticket: Ticket,
    },
    Fetched {
        ticket: Ticket,
        found: Option<Box<Record>>,
    },
    Counted {
        ticket: Ticket,
        rows: u64,
    },
    /// In ascending order of id.
    Searched {
        ticket: Ticket,
        found: Vec<Record>,
    },
    /// A connection came or went.
    Reachable {
        role: Role,
        reachable: bool,
    },
}

/// Which of a thread's connections is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Commit,
    Read,
    Search,
    Feed,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Commit => "commit",
            Role::Read => "read",
            Role::Search => "search",
            Role::Feed => "feed",
        }
    }
}
