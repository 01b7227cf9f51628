//! The process: what starts, watches and ends the threads. It serves nothing itself.
//!
//! A start's way through the files: `serve` (the order of all), `files` (the limit on open files), `sockets` (bound early),
//! `signals`, `database` (somebody's, or a private one), `instance` (the threads, and what happens to them in `events`),
//! `announcement`. Beside them `healthcheck`, a command of its own, and `log`.

mod announcement;
mod database;
mod events;
mod files;
mod healthcheck;
mod instance;
mod log;
mod serve;
mod signals;
mod sockets;

pub use healthcheck::check;
pub use log::start as start_log;
pub use serve::serve;
