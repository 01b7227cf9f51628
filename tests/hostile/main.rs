//! Hostile clients as programs: each attack by name, beside clients that behave, once on the server itself and once
//! through the real HAProxy with the repository's `haproxy.cfg`. `make hostile` runs them for as long as it is told.
//!
//! [`ground`] is what is attacked, and who behaves there meanwhile. Then the attacks: [`slow`] clients, [`many`] of them,
//! [`resets`] in every phase, and requests that two readers could read differently ([`smuggling`]): their table is in
//! [`payloads`], a [`recorder`] between the balancer and the servers writes down every byte, and a [`judge`] reads it.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/polite.rs"]
mod polite;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/server.rs"]
mod server;

mod ground;
mod judge;
mod many;
mod payloads;
mod recorder;
mod resets;
mod slow;
mod smuggling;

use ground::{Ground, Way, beside};

/// An attack, on each way to the server.
macro_rules! attacks {
    ($($name:ident: $attack:path,)*) => {
        $(
            mod $name {
                #[test]
                #[ignore = "takes all that the machine has: make hostile"]
                fn direct() {
                    super::run(stringify!($name), super::Way::Direct, $attack);
                }

                #[test]
                #[ignore = "takes all that the machine has, and HAProxy: make hostile"]
                fn balanced() {
                    super::run(stringify!($name), super::Way::Balanced, $attack);
                }
            }
        )*
    };
}

attacks! {
    slow_heads: crate::slow::heads,
    slow_bodies: crate::slow::bodies,
    slow_readers: crate::slow::readers,
    idle_connections: crate::many::idle,
    open_close_storm: crate::many::storm,
    no_descriptors: crate::many::no_descriptors,
    resets_in_every_phase: crate::resets::every_phase,
}

fn run(name: &str, way: Way, attack: impl FnOnce(&Ground) -> String) {
    let _alone = ground::alone();
    if let Some(mut ground) = Ground::start(way) {
        beside(name, &ground, attack);
        ground.end();
    }
}
