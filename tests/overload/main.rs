//! More is asked than can be answered: what one kind of request takes from the others, who is refused, and how fast.

#[path = "../support/cluster.rs"]
mod cluster;
mod counts;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/server.rs"]
mod server;
