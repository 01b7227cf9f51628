//! To another thread and back: a bounded ring with a wake, and tickets for what is to be answered. It knows nothing of
//! what travels.

pub mod ring;
mod tickets;

pub use tickets::{Awaited, Ticket, Tickets};
