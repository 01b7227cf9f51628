//! Connections, from the listener to the last byte. It knows HTTP's form and a service that answers, never what a
//! request means.
//!
//! A connection's way through the files: it comes in at a [`listener`], where the core itself ([`intake`]) or a thread
//! for all cores ([`acceptor`]) accepts it; [`conversation`] reads and answers, with what was received in `incoming` and
//! its place in the core's table in [`connections`]. What the connections of a core share is in [`shared`]: the
//! [`clock`], how far the [`drain`] is, and what is counted.

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

pub use acceptor::{Accepted, Accepting, Acceptor};
pub use address::Listen;
pub use intake::Intake;
pub use listener::Bound;
pub use shared::Shared;
