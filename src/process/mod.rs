//! The process: what starts, watches and ends the threads. It serves nothing itself.
//!
//! A start's way through the files: `serve` (which calls the others in order), `files` (the limit on open files),
//! `sockets` (bound early), `signals`, `database` (somebody else's, or a private one), `instance` (the threads;
//! `events` is what happens to them), `announcement`. Beside them are `healthcheck`, a command of its own, and `log`.

mod announcement;
mod database;
mod events;
mod files;
mod healthcheck;
mod instance;
mod log;
mod memory;
mod serve;
mod signals;
mod sockets;

pub use healthcheck::check;
pub use log::start as start_log;
pub use serve::serve;
