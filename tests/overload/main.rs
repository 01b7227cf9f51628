//! More is asked than can be answered: what one kind of request takes from the others, who is refused, and how fast.

#[path = "../support/cluster.rs"]
mod cluster;
mod counts;
mod creates;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/server.rs"]
mod server;

use std::sync::Mutex;
use std::time::Duration;

/// What a busy test machine may add to a deadline.
const LATENESS_MAX: Duration = Duration::from_secs(3);

/// Held by each test: they take all that two CPUs have.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test runs.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
