//! Every SQL statement, and how rows travel to and from Postgres: a file for each kind of session, with the session's
//! settings, its statements and their results. This module knows the table; of the jobs it knows only the insert.

mod commit;
mod count;
mod feed;
mod read;
mod row;
pub(super) mod schema;
mod search;
mod types;

pub(super) use commit::Commit;
pub(super) use count::Count;
pub(super) use feed::{Bulk, Feed, Server};
pub(super) use read::Read;
pub(super) use search::Search;
pub(super) use types::{Snapshot, Xid8};
