//! A people API that acknowledges only what is committed, on io_uring, one thread per core.
//!
//! ```text
//!            process: starts, watches and ends all of this, as config says
//! client     .-------------- core: one pinned thread (monoio, io_uring) --------------.
//!   |        |                                                                        |
//!   '--------|-> net ----> http ----> api ----> people: who owns the key?             |
//!            |   bytes     values     pessoa      |           |                       |
//!            |                                  this core   another one               |
//!            |                                    |           '-- channel --> its people
//!            |                                  shard: the answer from memory         |
//!            '------------------------------------|-----------------------------------'
//!                                               channel, one wake a batch
//!                                                 |
//!            postgres: a thread for each core (tokio), for each node: group commit, point reads, count, search;
//!            and the feed, one for all cores: what others committed --> channel --> every core's people
//!                                                 |
//!            Postgres: somebody's, or embedded: a private one
//! ```
//!
//! The rooms, in the order of a request; then those of a start. A room knows `limits` and the rooms in its line, none of
//! which knows it (`tests/map` holds the code against this table):
//!
//! | room | what happens there | may know |
//! |---|---|---|
//! | [`net`] | a connection: accept, read, answer, write, each in bounded time | http channel ledger |
//! | [`http`] | HTTP/1.1 as a mapping between bytes and values | - |
//! | [`api`] | one function for each endpoint, as the contract has it | http ledger metrics people pessoa |
//! | [`pessoa`] | a person: JSON, the rules, rendering | - |
//! | [`people`] | whose key it is, the way there, each core's part and its memory | pessoa channel ledger postgres |
//! | [`channel`] | to another thread and back: rings and tickets | - |
//! | [`postgres`] | to the database and back, and the feed | pessoa channel metrics |
//! | [`core`] | one thread with all of the above; its driver and its CPU | net api people channel ledger metrics postgres |
//! | [`process`] | the threads, the signals, the database server: from the start to the end | config core net people pessoa channel postgres embedded admin |
//! | [`embedded`] | a private Postgres: processes and files, no SQL | - |
//! | [`config`] | flags and environment | core net people postgres |
//! | [`admin`] | what an operator may ask, on a listener of its own | http net channel api core metrics people postgres |
//! | [`metrics`] | histograms that add up | - |
//! | [`ledger`] | the bytes that a core holds for its clients | - |
//! | [`limits`] | every bound, by name and unit | - |
//!
//! The way of `POST /pessoas`, file by file: `net/listener`, `net/intake`, `net/shared`, `net/connections`, `net/conversation`,
//! `net/incoming`, `http/request`, `http/service`, `api/handlers`, `api/route`, `pessoa/decode`, `people/mesh`, `people/home`, `pessoa/record`,
//! `people/share`, `people/slice`, `people/shard/mod`, `people/shard/apelidos`, `postgres/handle`, `postgres/job`, `channel/tickets`,
//! `channel/ring`, `postgres/thread`, `postgres/queue`, `postgres/commit`, `postgres/settle`, `postgres/sql/commit`,
//! `postgres/session`, `postgres/socket`; and back:
//! `postgres/outbox`, `postgres/report`, `people/shard/pessoas`, `people/shard/index`, `http/reply`, `http/response`.
//!
//! The way of `GET /pessoas/:id`: `net/listener`, `net/intake`, `net/shared`, `net/connections`, `net/conversation`,
//! `net/incoming`, `http/request`, `http/service`, `api/handlers`, `api/route`, `people/mesh`, `people/home`,
//! `people/share`, `people/slice`, `people/shard/mod`, `people/shard/pessoas`, `people/shard/packed`, `http/reply`, `http/response`.
//!
//! What is deliberately absent:
//!
//! - A miss in a shard is not a 404: Postgres is asked first.
//! - The count never reads a cache.
//! - No search is answered by a memory that may lack what was committed more than a second ago.
//! - No lock and no shared atomic is on the request path, but for those inside the rings.
//! - No statement and no transaction is about two partitions, so none is about two nodes.
//! - No core decides that an apelido is free: Postgres' unique index does. A shard only knows some that are taken.
//! - A 201 is written after the insert's commit was acknowledged by Postgres, never before.

pub mod admin;
pub mod api;
pub mod channel;
pub mod config;
pub mod core;
pub mod embedded;
pub mod http;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod net;
pub mod people;
pub mod pessoa;
pub mod postgres;
pub mod process;
