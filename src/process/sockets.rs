//! The listeners of an instance, bound before anything else is started. It accepts nothing.

use crate::channel::ring;
use crate::net::{Accepted, Acceptor, Bound, Flag, Listen, Tried};

/// Whether each core accepts from a listener of its own there.
fn has_own(listen: &Listen, cores: usize) -> bool {
    listen.is_one_a_core() || cores == 1
}

/// The sockets of an instance: where each is, and for which core its path is.
fn places(listen: &[Listen], cores: usize) -> impl Iterator<Item = (&Listen, usize)> {
    listen.iter().flat_map(move |listen| {
        let sockets = if has_own(listen, cores) { cores } else { 1 };
        (0..sockets).map(move |core| (listen, core))
    })
}

/// The listeners, by who accepts from them.
pub(super) struct Sockets {
    /// For each core, the listeners that it accepts from itself.
    own: Vec<Vec<Bound>>,
    shared: Vec<Acceptor>,
    /// For each core, the rings in which acceptors hand connections to it.
    handed: Vec<Vec<ring::Receiver<Accepted>>>,
    addresses: Vec<String>,
}

impl Sockets {
    /// Binds every listener: one socket for each core where the path names the core, else one for all cores. A single
    /// core needs no acceptor and accepts itself.
    pub(super) fn bind(listen: &[Listen], cores: usize) -> Result<Sockets, String> {
        let mut sockets = Sockets {
            own: (0..cores).map(|_| Vec::new()).collect(),
            shared: Vec::new(),
            handed: (0..cores).map(|_| Vec::new()).collect(),
            addresses: Vec::new(),
        };
        for (listen, core) in places(listen, cores) {
            let bound = Bound::bind(listen, core)?;
            sockets.addresses.push(bound.name());
            if has_own(listen, cores) {
                sockets.own[core].push(bound);
                continue;
            }
            let (acceptor, receivers) = Acceptor::new(bound, cores);
            sockets.shared.push(acceptor);
            for (handed, receiver) in sockets.handed.iter_mut().zip(receivers) {
                handed.push(receiver);
            }
        }
        Ok(sockets)
    }

    /// Whether [`bind`](Self::bind) could have each of its sockets, with the address that was asked for.
    pub(super) fn try_out(listen: &[Listen], cores: usize) -> Vec<(&Listen, Result<Tried, String>)> {
        let places = places(listen, cores);
        places.map(|(listen, core)| (listen, Bound::try_for(Flag::Listen, listen, core))).collect()
    }

    /// The addresses of the listeners, as text.
    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The acceptors, each with a listener for all cores; they are given out once.
    pub(super) fn acceptors(&mut self) -> Vec<Acceptor> {
        std::mem::take(&mut self.shared)
    }

    /// The listeners of `core` alone, and the rings in which acceptors hand connections to it; they are given out once.
    pub(super) fn of_core(&mut self, core: usize) -> (Vec<Bound>, Vec<ring::Receiver<Accepted>>) {
        (std::mem::take(&mut self.own[core]), std::mem::take(&mut self.handed[core]))
    }
}
