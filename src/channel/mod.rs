//! To another thread and back. It knows nothing of what travels.

pub mod ring;
pub mod tickets;
