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
//! The rings have room for every ticket a core may hold, and for what is said without one. A connection's task
//! takes from its ring when it is free: while it is busy the core does not wake it.
//!
//! A request's way through the files: `handle` (the core's end), `job`, `thread` (the other end), `queue`,
//! then `commit`, `read` or `search`, by the statements in `sql` on a `session` that a `connector` made over a
//! `socket`; what failed is a `failure`; and back as a `report` through the `outbox`. `prepare` comes before all of
//! that, the [`feed`] goes on beside it.

mod commit;
mod connector;
mod failure;
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

pub use feed::{Fed, FeedLinks, FeedNotice, Owners};
pub use handle::{Create, Database, Learnt, Unavailable};
pub use prepare::{ServerFacts, StartError, prepare_database};
pub use thread::{Link, spawn};
