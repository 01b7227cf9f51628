//! The highly available database of `docs/ha.md` as plain processes of this machine: three nodes, each with etcd, Patroni
//! and Postgres. The program of this crate runs it with two instances and their balancers; the tests of `tests/ha` break
//! it. It knows nothing of the API.
//!
//! [`programs`] finds what is run, [`network`] gives each node an address, [`process`] starts, freezes and ends
//! processes, [`node`] is one machine of the three, [`patroni`] asks a node for its state (over [`http`]), and [`cluster`] is all of it.

pub mod cluster;
pub mod http;
pub mod network;
pub mod node;
pub mod patroni;
pub mod process;
pub mod programs;

/// A value, or one sentence that says what was expected.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
