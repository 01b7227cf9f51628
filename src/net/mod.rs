//! Connections, from the listener to the last byte. It knows HTTP's form and a service that answers, never what a request means.

pub mod acceptor;
pub mod conversation;
pub mod listener;
