//! The documentation against the code and the files: links lead somewhere, commands run or name what there is, examples
//! print what the pages say, and the reference leaves out nothing. Nothing here needs a network.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/server.rs"]
mod server;

mod commands;
mod examples;
mod forms;
mod front;
mod limits;
mod links;
mod operating;
mod pages;
mod source;
