//! What the programs of `src/bin` share.

pub mod client;
pub mod serve;
pub mod users;
