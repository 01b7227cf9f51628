//! A people API that acknowledges only what is committed, on io_uring, one thread per core.
//!
//! ```text
//! client -> listener -> connection -> http -> route -> handlers -> mesh -> partition -> shard     answered from memory
//!                                                                   |            \-> database handle  by Postgres
//!                      core thread (monoio, io_uring, pinned)       \-> ring -> the owner's mesh and partition
//!                        | rings, one wake a batch
//!                      postgres thread of that core (tokio): group commit, point reads, count
//!                      feed thread of the instance: what others committed -> ring -> every core's partition
//! ```
//!
//! The modules in the order of a request:
//!
//! - [`config`], [`limits`], [`topology`], [`supervisor`], [`worker`], [`driver`], [`listener`], [`acceptor`]: what runs where, how large it may get;
//! - [`connection`]: a socket, its buffers and deadlines; [`http`]: bytes to values and back; [`reply`], [`route`];
//! - [`handlers`]: one function per endpoint; [`pessoa`]: JSON, validation, rendering; [`health`];
//! - [`mesh`]: key to owner core, and the way there; [`partition`]: one core's part; [`shard`]: its people and search index;
//! - [`ring`], [`tickets`], [`postgres`]: to another thread and back, to the database and back, and the feed.
//!
//! What is deliberately absent:
//!
//! - A miss in a shard is not a 404: Postgres is asked first.
//! - The count never reads a cache.
//! - No lock and no shared atomic is on the request path, but for those inside the rings.
//! - No core decides that an apelido is free: Postgres' unique index does. A shard only knows some that are taken.
//! - A 201 is written after the insert's commit was acknowledged by Postgres, never before.

pub mod api;
pub mod channel;
pub mod config;
pub mod core;
pub mod embedded;
pub mod http;
pub mod limits;
pub mod net;
pub mod people;
pub mod pessoa;
pub mod postgres;
pub mod process;
