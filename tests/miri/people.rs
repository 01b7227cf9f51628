//! Of the people only each core's memory.

#[path = "../../src/people/shard/mod.rs"]
pub mod shard;
