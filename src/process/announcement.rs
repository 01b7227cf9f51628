//! The one line at the start that says all that matters, and the warnings before it.

use std::time::Duration;

use tracing::{info, warn};

use crate::core::Serving;
use crate::postgres::ServerFacts;

/// What is logged when every core serves.
pub(super) struct Announcement<'a> {
    /// In the order of the cores.
    pub(super) serving: &'a [Serving],
    /// Where the instance listens.
    pub(super) addresses: &'a [String],
    /// The logical CPUs of the cores.
    pub(super) cpus: &'a [usize],
    /// Bytes for pessoas and their index, on all cores together.
    pub(super) cache_bytes: usize,
    /// What the database server of each node said at the start.
    pub(super) servers: &'a [ServerFacts],
    /// Whether Postgres is this process' own.
    pub(super) private: bool,
    /// Pessoas in memory, on all cores together.
    pub(super) rows: usize,
    /// How long the slowest core took to load its pessoas.
    pub(super) load_time: Duration,
}

impl Announcement<'_> {
    pub(super) fn say(&self) {
        for why in self.serving.iter().filter_map(|serving| serving.pinned.as_ref().err()) {
            warn!("{why}");
        }
        let first = &self.serving[0].driver;
        for other in self.serving.iter().filter(|serving| serving.driver.kind != first.kind) {
            warn!(
                core = other.core,
                driver = other.driver.kind.name(),
                why = other.driver.reason,
                "another driver here"
            );
        }
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = self.addresses.join(","),
            driver = first.kind.name(),
            why = first.reason,
            cpus = cpus.join(","),
            cache = %bytesize::ByteSize::b(self.cache_bytes as u64),
            postgres = versions(self.servers),
            private = self.private,
            durable = self.servers.iter().all(|server| server.durable),
            rows = self.rows,
            loaded_in = ?self.load_time,
            "serving"
        );
    }
}

/// The version of each node.
fn versions(servers: &[ServerFacts]) -> String {
    let versions: Vec<&str> = servers.iter().map(|server| server.version.as_str()).collect();
    versions.join(", ")
}
