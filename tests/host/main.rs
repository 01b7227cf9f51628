//! A server on a host: what a start would do, what it tells its supervisor, and those who wait for it.

#[path = "../support/cgroup.rs"]
mod cgroup;
mod check;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
#[path = "../support/processes.rs"]
mod processes;
mod progress;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/standby.rs"]
mod standby;
mod supervisor;
mod unit;
