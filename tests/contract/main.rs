//! The API contract, row by row: the real binary on a real Postgres, over TCP and over a unix socket, with each
//! set of server arguments in [`world`].
//!
//! The files follow a client's path through the contract: [`create`], [`fetch`], [`search`], [`count`]; then what
//! lies around them: [`routes`], [`malformed`], [`framing`], [`pipelining`], [`deadline`]; then what happens to the
//! server: [`drain`], [`outage`]; and at last a [`client`] that other people wrote.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/server.rs"]
mod server;

mod answer;
mod world;

use world::{in_every_world, side_by_side};

mod count;
mod create;
mod fetch;
mod search;

mod deadline;
mod framing;
mod malformed;
mod pipelining;
mod routes;

mod drain;
mod outage;

mod client;

/// Sections that mostly wait: side by side they take little more than the longest of them.
#[test]
fn all_that_waits() {
    side_by_side(&[
        ("deadline", &deadline::a_trickle_is_answered_408_then_closed),
        ("drain", &drain::sigterm),
        ("a cluster that hangs", &outage::a_cluster_that_hangs),
        ("a cluster that stops", &outage::a_cluster_that_stops),
    ]);
}

/// Sections that need little of a world share it: a world costs more than they do.
#[test]
fn around_them() {
    in_every_world("", |world| {
        routes::methods_and_paths(world);
        malformed::refused_then_closed(world);
        framing::framing(world);
        pipelining::pipelined_requests(world);
        client::the_main_flow(world);
        // The last: it deletes everyone.
        count::get_contagem_pessoas(world);
    });
}
