//! The process: what starts, watches and ends the threads.

pub mod healthcheck;
pub mod log;
pub mod supervisor;
