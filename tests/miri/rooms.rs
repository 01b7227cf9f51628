//! The server's rooms that need no kernel, taken in by their files: their unit tests run under Miri here. The other
//! rooms are system calls for the most part, which Miri has not.

#[path = "../../src/channel/mod.rs"]
pub mod channel;
#[path = "../../src/http/mod.rs"]
pub mod http;
#[path = "../../src/ledger.rs"]
pub mod ledger;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "../../src/metrics/mod.rs"]
pub mod metrics;
pub mod people;
#[path = "../../src/pessoa/mod.rs"]
pub mod pessoa;
