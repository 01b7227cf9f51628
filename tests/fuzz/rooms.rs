//! The server's rooms that read what strangers send, taken in by their files: the targets know them as `rinha`, as the
//! server's own tests do, and reach what is private besides. The rest of the server, with its runtime, TLS and command
//! line, would take longer to build than the targets run.

#[path = "../../src/channel/mod.rs"]
pub mod channel;
#[path = "../../src/http/mod.rs"]
pub mod http;
#[path = "../../src/ledger.rs"]
pub mod ledger;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/net/mod.rs"]
pub mod net;
pub mod people;
#[path = "../../src/pessoa/mod.rs"]
pub mod pessoa;
pub mod postgres;
#[allow(dead_code, reason = "the index uses it")]
pub mod structures;
