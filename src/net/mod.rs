//! Connections, from the listener to the last byte. It knows HTTP's form and a service that answers, never what a
//! request means.
//!
//! A connection's way through the files: it comes in at a [`listener`], where the core itself ([`intake`]) or a thread
//! for all cores ([`acceptor`]) accepts it; [`conversation`] reads and answers, `incoming` holds what was received, and
//! [`connections`] has the connection's deadline. What the connections of a core share is in [`shared`]: their table,
//! the [`clock`], how far the [`drain`] has come, and counters.

pub mod acceptor;
pub mod address;
pub mod clock;
pub mod connections;
pub mod conversation;
pub mod drain;
mod incoming;
pub mod intake;
pub mod listener;
pub mod shared;
#[cfg(test)]
mod tests;
mod turn;

pub use acceptor::{Accepted, Accepting, Acceptor};
pub use address::Listen;
pub use intake::Intake;
pub use listener::{Bound, Flag, Tried};
pub use shared::Shared;
