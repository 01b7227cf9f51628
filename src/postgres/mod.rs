//! The database side: what a core asks of its Postgres thread, and how that thread answers. It speaks of
//! pessoas and SQL, never of HTTP or of the shard.
//!
//! ```text
//! core thread                         postgres thread (tokio, current-thread)
//! Database::create ---- inserts ----> commit::run  (connection 1)
//! Database::fetch  ----- reads -----> read::run    (connection 2)
//! Database::search ---- searches ---> search::run  (connection 3, when needed)
//! Database::run    <---- reports ------------'
//!
//! every core       <---- rows ------- feed thread, one an instance: what others committed  (connection 4)
//! ```
//!
//! The rings have room for every ticket that a core may hold, and for reports without a ticket. A connection's task
//! takes jobs from its ring when it is free; while the task is busy, the core does not wake it.
//!
//! A request passes through the files in this order: `handle` (the core's end), `job`, `thread` (the other end),
//! `queue`, then `commit`, `read` or `search`. These run the statements in `sql` on a `session` that a `connector` made
//! over a `socket`; a statement without a result is a `failure`. The answer goes back as a `report` through the
//! `outbox`. `prepare` runs before all of this, and the [`feed`]
//! beside it, which reaches the cores by the `fanout`.

mod commit;
mod connector;
mod failure;
mod fanout;
pub mod feed;
mod handle;
mod job;
mod outbox;
mod prepare;
mod queue;
mod read;
mod report;
mod role;
mod search;
mod session;
mod socket;
mod sql;
mod thread;

pub use fanout::{Fed, Owners, Queued};
pub use feed::{FeedLinks, FeedNotice};
pub use handle::{Create, Database, Learnt, Unanswered};
pub use prepare::{ServerFacts, StartError, prepare_database};
pub use thread::{Link, spawn};
