//! The contest's stress test: starts a topology, lets Gatling load it, judges what it acknowledged against what it holds, and shows
//! it in one page.
//!
//! [`feeders`] make what is sent; [`gatling`] sends it while [`monitor`] watches the services of the [`target`], by their
//! [`cgroup`]s, with as many [`ports`] as it takes; the simulation leaves [`records`], from which [`verdict`] asks what is there
//! ([`foreign`] where it leaves none); [`run`] does all of that in order,
//! [`report`] and [`compare`] show it, [`browser`] takes their pictures, and [`sweep`] does several.
//!
//! No two know each other: it goes down from [`sweep`] and [`run`] to [`http`], which asks, [`process`], which starts programs, and
//! [`progress`], which tells whoever waits.

pub mod browser;
pub mod cgroup;
pub mod compare;
pub mod feeders;
pub mod foreign;
pub mod gatling;
pub mod http;
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
