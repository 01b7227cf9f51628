//! The pessoas of one instance, wherever they live: which core owns a key (`home`), the way there (`mesh`), each core's
//! share of them, a slice (`slice`) of each partition, and what of it is in memory ([`shard`]). It knows no HTTP and no SQL.

mod histories;
mod home;
mod mesh;
mod results;
pub mod shard;
mod share;
mod slice;
mod state;
mod unavailable;
mod unproven;

pub use home::{InstanceNumber, Minter, owner_of_apelido, owner_of_id};
pub use mesh::{Key, Mesh, Wiring, wire};
pub use results::Results;
pub use share::{Creation, NodeState, Share, ShareState};
pub use state::{ConnectionState, CoreState, MeshState};
pub use unavailable::Unavailable;
