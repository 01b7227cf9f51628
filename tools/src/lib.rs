//! What the programs of `src/bin` share.

pub mod client;
pub mod serve;
pub mod services;
pub mod users;
