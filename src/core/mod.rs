//! One core: a pinned thread (`worker`), what drives its sockets (`driver`), and which CPUs it may have ([`topology`]).
//! It puts together what the rooms that it knows define; it answers nothing itself.

mod begin;
mod driver;
pub mod topology;
mod worker;

pub use begin::{Tried, try_out};
pub use driver::{Chosen, Driver, DriverKind, Wanted};
pub use topology::{Cores, Machine};
pub use worker::{CoreEvent, CorePlan, Counted, Order, Question, Serving, run};
