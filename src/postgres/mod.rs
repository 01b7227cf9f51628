//! The database side: what a core asks of its Postgres thread, and how that thread answers. It speaks of
//! pessoas and SQL, never of HTTP or of the shard.
//!
//! ```text
//! core thread                         postgres thread (tokio, current-thread)
//! Database::create ---- inserts ----> commit::run  (connection 1)
//! Database::fetch  ----- reads -----> lookup::run  (connection 2)
//! Database::search ---- searches ---> search::run  (connection 3, when needed)
//! Database::count  ---- counts -----> lookup::run  (connection 4, of one core)
//! Database::run    <---- reports ------------'
//!
//! every core       <---- rows ------- feed thread, one an instance: what others committed  (connection 5,
//!                                     and 6 while it reads a large transaction)
//! ```
//!
//! The rings have room for every ticket that a core may hold, and for reports without a ticket. A connection's task
//! takes jobs from its ring when it is free; while the task is busy, the core does not wake it.
//!
//! A request passes through the files in this order: `handle` (the core's end; `pace` says whether a create may wait), `job`, `thread` (the other end),
//! `queue`, then `commit`, `search`, or `lookup` with what a `read` or a `count` is. A commit is brought to its answers by `settle`; what a `fault` means for a
//! row is decided there, the `table` is what it asks, and rows that somebody's open transaction holds wait `aside`. The statements in `sql` run on a
//! `session` that a `connector` made; a statement without a result is a `failure`. The answer goes back as a `report`
//! through the `outbox`.
//!
//! A session is made by `reach`, over a `socket` or TCP, by `tls` if need be: to one of the addresses of the `source`, where
//! a primary answers that is not behind the `history` that the process follows. The `lookout` finds a newer one; until then a
//! `proof` keeps an old one from saying that there is no such row.
//! `prepare` runs before all of this, or only `prospect`, which says what a start would do; both `meet` a server. The [`feed`] is beside it, which reaches the cores by the `fanout`;
//! its `progress` says how far a load is, its `cursor` what it has read, `holding` what the cores have of a node, `own` what it need not read, and `bulk` reads what
//! is too much for one answer.
//!
//! The people are in the partitions of a `layout`, each at one of several nodes: of each node there is all of the above. A
//! server says its `placement`, of which the feed makes a `map`; a start makes the first one by its `deal`, or has it made by
//! `citus`.
//! Each thread has its `counters`.

mod aside;
mod bulk;
mod citus;
mod commit;
mod connector;
mod count;
mod counters;
mod cursor;
mod deal;
mod failure;
mod fanout;
mod fault;
pub mod feed;
mod handle;
mod history;
mod holding;
mod job;
mod layout;
mod lookout;
mod lookup;
mod map;
mod meet;
mod outbox;
mod own;
mod pace;
mod placement;
#[cfg(test)]
pub(crate) mod played;
mod prepare;
mod progress;
mod proof;
mod prospect;
mod queue;
mod reach;
mod read;
mod report;
mod role;
mod search;
mod session;
mod settle;
mod socket;
mod source;
mod sql;
mod table;
mod thread;
mod tls;

pub use count::COUNTING_CORE;
pub use counters::{Counters, Operation};
pub use deal::Dealt;
pub use fanout::{Begin, Fed, Owners, Placing, Queued};
pub use feed::FeedLinks;
pub use handle::{Create, Database, Learnt, Lines, Unanswered, Waiting};
pub use history::Identity;
pub use layout::{Partition, Partitions};
pub use meet::ServerFacts;
pub use own::FeedNotice;
pub use placement::Placement;
pub use prepare::{Prepared, StartError, prepare_databases};
pub use prospect::{Prospect, Protection, look, look_at_layout};
pub use source::{Seen, Source};
pub use sql::schema::Schema;
pub use thread::{Link, spawn};
