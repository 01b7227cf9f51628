//! Looks at all addresses of the database for a primary that the process does not know yet: a server that was left
//! behind may go on answering its old connections for as long as nobody ends it.

use super::reach::primaries;
use super::source::{Address, Source};
use crate::limits::LOOKOUT_PERIOD;

/// Looks, for ever.
pub(super) async fn run(source: Source) {
    loop {
        tokio::time::sleep(LOOKOUT_PERIOD).await;
        look(&source).await;
    }
}

/// Looks once; the process follows the newest primary that answers. A socket file leads to one server of this machine: then
/// there is nothing to look for.
pub(super) async fn look(source: &Source) {
    if matches!(source.addresses(), [Address::Unix(_)]) {
        return;
    }
    for (number, primary) in primaries(source).await {
        if source.history().hear(primary) {
            // Whoever leaves the old one goes there first.
            source.was_good(number);
        }
    }
}
