//! Of the database's side what reads rows: the server's own decoding, behind tokio-postgres' own, behind a server that
//! sends what it is told to.

#[path = "../../src/postgres/failure.rs"]
#[allow(dead_code, reason = "other statements use it")]
mod failure;
#[path = "../../src/postgres/layout.rs"]
#[allow(dead_code, reason = "failures name a partition")]
mod layout;
#[path = "sql.rs"]
pub mod sql;
