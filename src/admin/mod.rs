//! What an operator may ask, on a listener of its own: `/metrics`, `/healthz`, `/readyz` and `/live`. Nothing of it is reachable
//! through the public listeners, and nothing of the API through this one.
//!
//! It runs on a thread of its own: a slow reader, or a hundred of them, cost a core nothing but the gathering. A request's
//! way through the files: `listener` and `stream` (sockets and their bounds), `answer` (paths to answers), `board` (where the
//! process writes what it is, and how the cores are asked), `sums` (what they said together), `exposition` (that as
//! metrics), `families` (the text form) and `process` (what the kernel says of the process); or `live` (that as a page that
//! moves).

mod answer;
mod board;
mod exposition;
mod families;
mod listener;
mod live;
mod process;
mod stream;
mod sums;

/// The commit that this was built from, if the build knew it.
const COMMIT: Option<&str> = option_env!("RINHA_BUILT_FROM");

pub use board::{Board, Watched};
pub use listener::Admin;
