//! The listeners of an instance, bound before anything else is started. It accepts nothing.

use crate::channel::ring;
use crate::net::{Accepted, Acceptor, Bound, Listen};

/// The listeners, by who accepts from them.
pub(super) struct Sockets {
    /// By core.
    own: Vec<Vec<Bound>>,
    shared: Vec<Acceptor>,
    /// By core.
    handed: Vec<Vec<ring::Receiver<Accepted>>>,
    addresses: Vec<String>,
}

impl Sockets {
    /// Binds every listener: a socket a core where the path names the core, else one for all. A single core
    /// accepts for itself.
    pub(super) fn bind(listen: &[Listen], cores: usize) -> Result<Sockets, String> {
        let mut sockets = Sockets {
            own: (0..cores).map(|_| Vec::new()).collect(),
            shared: Vec::new(),
            handed: (0..cores).map(|_| Vec::new()).collect(),
            addresses: Vec::new(),
        };
        for listen in listen {
            if listen.is_one_a_core() || cores == 1 {
                for (core, own) in sockets.own.iter_mut().enumerate() {
                    let bound = Bound::bind(listen, core)?;
                    sockets.addresses.push(bound.name());
                    own.push(bound);
                }
            } else {
                let bound = Bound::bind(listen, 0)?;
                sockets.addresses.push(bound.name());
                let (acceptor, receivers) = Acceptor::new(bound, cores);
                sockets.shared.push(acceptor);
                for (handed, receiver) in sockets.handed.iter_mut().zip(receivers) {
                    handed.push(receiver);
                }
            }
        }
        Ok(sockets)
    }

    /// Where they listen, for people.
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Those that accept for all cores.
    pub(super) fn acceptors(&mut self) -> Vec<Acceptor> {
        std::mem::take(&mut self.shared)
    }

    /// What is `core`'s alone, and what acceptors will hand to it.
    pub(super) fn of_core(&mut self, core: usize) -> (Vec<Bound>, Vec<ring::Receiver<Accepted>>) {
        (std::mem::take(&mut self.own[core]), std::mem::take(&mut self.handed[core]))
    }
}
