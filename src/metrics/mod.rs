//! How something is counted: histograms that one thread fills and another one may read, and that add up across cores and
//! instances. It knows no names, and nothing of what is counted.
//!
//! A core counts in plain cells, which nobody else looks at: it is asked for a copy. The database threads count in
//! [`Shared`] numbers: each is written by one thread, and a write is a plain store.

mod count;
mod histogram;

pub use count::{Count, Shared};
pub use histogram::{Histogram, Scale, TIME, Tally};
