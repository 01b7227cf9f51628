//! The process: what starts, watches and ends the threads. It serves nothing itself.
//!
//! A start's way through the files: `serve` (which calls the others in order), `setup` (cores, `memory`, and `files`, the
//! limit on open files), `sockets` (bound early), `signals`, `supervisor` (who hears how the start goes on), `database` (somebody else's, or a private one), `instance` (the threads;
//! `events` is what happens to them), `announcement`. Beside them are `healthcheck` and `check`, commands of their own, and `log`.

mod announcement;
mod check;
mod database;
mod events;
mod files;
mod healthcheck;
mod instance;
mod log;
mod memory;
mod serve;
mod setup;
mod signals;
mod sockets;
mod supervisor;

pub use check::{Report, check};
pub use healthcheck::check as healthcheck;
pub use log::start as start_log;
pub use serve::serve;
