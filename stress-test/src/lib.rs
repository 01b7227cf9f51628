//! The contest's stress test: starts a topology, lets Gatling load it, compares what the topology acknowledged with
//! what it holds, and shows the outcome in one page.
//!
//! [`feeders`] makes what is sent. [`gatling`] sends it, with as many [`ports`] as it takes, while [`live`] tells how far it
//! is, [`monitor`] watches the services of the [`target`] by their [`cgroup`]s, and [`disk`] how long a write takes to be durable. The simulation leaves [`records`], by which [`verdict`] knows
//! what must be there; [`foreign`] judges a simulation that leaves none. In place of the server a [`floor`] may stand. [`run`] does all of that in order and
//! [`sweep`] does several runs; [`left`] is for the run after one that was killed; [`report`] and [`compare`] show runs, and [`browser`] takes pictures of their pages.
//!
//! No two modules know each other. [`sweep`] and [`run`] are at the top; at the bottom are [`http`], which asks,
//! [`process`], which starts programs, and [`progress`], which tells whoever waits.

pub mod browser;
pub mod cgroup;
pub mod compare;
pub mod disk;
pub mod feeders;
pub mod floor;
pub mod foreign;
pub mod gatling;
pub mod http;
pub mod left;
pub mod live;
pub mod monitor;
pub mod ports;
pub mod process;
pub mod progress;
pub mod records;
pub mod report;
pub mod run;
pub mod sweep;
pub mod target;
pub mod verdict;
