//! What a start chooses before it opens anything: cores, memory, connections. A start and a look at what a start would do
//! both begin here.

use super::files::{self, Files};
use super::memory::Budget;
use crate::config::Serve;
use crate::core::Machine;

/// What was chosen.
pub(super) struct Setup {
    /// The logical CPU of each core.
    pub(super) cpus: Vec<usize>,
    pub(super) memory: Budget,
    pub(super) files: Files,
}

impl Setup {
    /// Chooses for this machine, and raises the limit on open files of this process.
    ///
    /// # Errors
    ///
    /// One line: the machine cannot give what is wanted.
    pub(super) fn choose(serve: &Serve) -> Result<Setup, String> {
        Setup::with_nodes(serve, serve.nodes())
    }

    /// The same, for so many databases.
    pub(super) fn with_nodes(serve: &Serve, nodes: usize) -> Result<Setup, String> {
        let machine = Machine::this()?;
        let cpus = machine.choose(&serve.cores)?;
        let memory = Budget::share(machine.memory_limit(), serve.cache_bytes(&machine), cpus.len(), nodes);
        let files = files::raise_limit(cpus.len(), nodes)?;
        Ok(Setup { cpus, memory, files })
    }
}
