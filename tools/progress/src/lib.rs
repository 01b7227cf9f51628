//! What whoever waits is told, on standard error: one live line on a terminal, elsewhere a plain line every 5 or 15
//! seconds (or `PROGRESS_SECONDS`).
//! Standard output is for results; [`show`] writes them past the live line. This crate does not know what is waited for.
//!
//! [`Wait`] is what somebody waits for, [`Text`] what is said of it, and the screen, which all of them share, where it
//! goes. There are no colours, so that `NO_COLOR` has nothing to forbid.

mod screen;
mod text;
mod wait;

pub use screen::{say, show};
pub use text::{Text, duration, left};
pub use wait::{Count, Wait};
