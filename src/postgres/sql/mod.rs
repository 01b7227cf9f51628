//! Every statement, and how rows travel to and from them: a file for each kind of session, with its settings, its text and
//! what it gives back. It knows the table, and nothing of who waits for a row but what is to be inserted.

mod commit;
mod feed;
mod read;
mod row;
pub(super) mod schema;
mod search;
mod types;

pub(super) use commit::Commit;
pub(super) use feed::{Feed, ServerIdentity};
pub(super) use read::Read;
pub(super) use search::Search;
pub(super) use types::{Snapshot, Xid8};
