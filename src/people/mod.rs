//! The pessoas of one instance, wherever they live: which core owns a key, the way there, and each core's part.

pub mod home;
pub mod mesh;
pub mod partition;
pub mod shard;
