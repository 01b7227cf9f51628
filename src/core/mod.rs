//! One core: a pinned thread, what drives its sockets, and which CPUs there are.

pub mod driver;
pub mod topology;
pub mod worker;
