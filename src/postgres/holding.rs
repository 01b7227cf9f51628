//! What the cores hold of one node: its history, its partitions and where those are, and how far its rows were read. It tells
//! the cores whenever one of these changes; it asks no server, and reads no rows.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tracing::{info, warn};

use super::cursor::Cursor;
use super::fanout::{Begin, Fanout, Fed, Owners, Placing};
use super::history::Identity;
use super::layout::Partition;
use super::map::Map;
use super::placement::Placement;
use crate::pessoa::Record;

/// What the cores hold of one node.
pub(super) struct Holding<O> {
    /// The node, by its number.
    node: usize,
    /// Of all nodes.
    map: Rc<RefCell<Map>>,
    cores: Rc<Fanout<O>>,
    following: Option<Following>,
    /// Partitions of which the cores have not been told that they have them whole.
    unsaid: Vec<Partition>,
    /// Partitions that the cores were told of in another history.
    lost: Vec<Partition>,
}

/// What the cores have been sent.
struct Following {
    /// The history that it belongs to.
    of: Identity,
    /// The partitions, and what the cores know of where they are.
    held: Vec<(Partition, Placing)>,
    /// What was at the node when it was last asked.
    here: Placement,
    /// Partitions that the cores have begun to hear of, and have not been sent all of.
    coming: Vec<Partition>,
    /// `None` until all of them were read.
    cursor: Option<Cursor>,
}

impl<O: Fn(&Record) -> Owners + 'static> Holding<O> {
    pub(super) fn new(node: usize, map: Rc<RefCell<Map>>, cores: Rc<Fanout<O>>) -> Holding<O> {
        Holding { node, map, cores, following: None, unsaid: Vec::new(), lost: Vec::new() }
    }

    /// Drops what the cores know of another history than `of`, and of partitions that came to the node. Returns what is to be
    /// read from the beginning, of which they have heard then.
    pub(super) async fn begin(&mut self, of: Identity, here: &Placement) -> Vec<Partition> {
        match self.history() {
            Some(before) if before != of => {
                warn!(%before, now = %of, "the database has another history: loading anew");
                self.forget();
            }
            _ => {}
        }
        self.place(here).await;
        let following = self.following.get_or_insert_with(|| Following {
            of,
            here: here.clone(),
            held: Vec::new(),
            coming: Vec::new(),
            cursor: None,
        });
        // What is interrupted is begun again, because the cores were not told that they have it whole.
        following.coming.clear();
        let begun = come(&self.map.borrow(), self.node, here, following);
        let mut lost = std::mem::take(&mut self.lost);
        lost.retain(|partition| !begun.contains(partition));
        following.coming.clone_from(&begun);
        for partition in lost {
            self.cores.to_all(|| Fed::Placed(self.node, partition, Placing::Gone)).await;
        }
        if !begun.is_empty() {
            let begin = Begin { node: self.node, of, partitions: begun.as_slice().into() };
            self.unsaid.retain(|partition| !begun.contains(partition));
            // Rows that a core learns before it forgets were committed before the load, which begins after that.
            self.cores.begin(&begin).await;
        }
        begun
    }

    /// The history that is followed.
    pub(super) fn history(&self) -> Option<Identity> {
        self.following.as_ref().map(|following| following.of)
    }

    /// What was sent belongs to another history.
    pub(super) fn forget(&mut self) {
        let following = self.following.take();
        self.lost.extend(following.into_iter().flat_map(|Following { held, coming, .. }| {
            held.into_iter().map(|(partition, _)| partition).chain(coming)
        }));
        self.unsaid.clear();
    }

    /// Hears which partitions are at the node, and tells the cores what became of those that they know.
    pub(super) async fn place(&mut self, here: &Placement) {
        self.map.borrow_mut().hear(self.node, here);
        let Some(following) = &mut self.following else { return };
        let mut told = Vec::new();
        for (partition, known) in &mut following.held {
            let shard = |here: &Placement| here.find(*partition).and_then(|placed| placed.shard);
            let now = match here.find(*partition) {
                // It was elsewhere meanwhile.
                Some(_) if shard(here) != shard(&following.here) => Placing::Gone,
                Some(_) if self.map.borrow().is_disputed(*partition) => Placing::Disputed,
                Some(placed) if placed.open => Placing::Open,
                Some(_) => Placing::Closed,
                None => Placing::Gone,
            };
            if now != *known {
                info!(node = self.node, %partition, ?now, "a partition has changed");
                *known = now;
                told.push((*partition, now));
            }
        }
        following.here.clone_from(here);
        // What comes back is read from the beginning.
        let is_elsewhere =
            |partition| self.map.borrow().home(partition).is_some_and(|home| home != self.node);
        following.held.retain(|(partition, placing)| *placing != Placing::Gone && !is_elsewhere(*partition));
        for (partition, now) in told {
            self.cores.to_all(|| Fed::Placed(self.node, partition, now)).await;
        }
    }

    /// Whether there is something to be read from the beginning.
    pub(super) fn has_come(&self, here: &Placement) -> bool {
        let come = |following| !come(&self.map.borrow(), self.node, here, following).is_empty();
        self.following.as_ref().is_some_and(come)
    }

    /// Whether rows of the node were read before: there is a cursor.
    pub(super) fn is_read(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.cursor.is_some())
    }

    /// From here on it is read by this cursor.
    pub(super) fn begin_reading(&mut self, cursor: Cursor) {
        if let Some(following) = &mut self.following {
            following.cursor = Some(cursor);
        }
    }

    pub(super) fn cursor(&mut self) -> &mut Cursor {
        let following = self.following.as_mut().and_then(|following| following.cursor.as_mut());
        following.expect("a feed that follows has read the table")
    }

    /// All rows of these partitions were sent.
    pub(super) fn hold(&mut self, loaded: &[Partition]) {
        if let Some(following) = &mut self.following {
            following.held.extend(loaded.iter().map(|&partition| (partition, Placing::Open)));
            following.coming.clear();
        }
        self.unsaid.extend(loaded);
        self.cores.wake_all();
    }

    /// Tells the cores which partitions they have whole; whether there were any that they had not heard of.
    pub(super) async fn say_loaded(&mut self) -> bool {
        if self.unsaid.is_empty() {
            return false;
        }
        let loaded: Arc<[Partition]> = std::mem::take(&mut self.unsaid).into();
        self.cores.to_all(|| Fed::Loaded(self.node, Arc::clone(&loaded))).await;
        true
    }
}

/// The partitions of a node of which the cores have not begun to hear.
fn come(map: &Map, node: usize, here: &Placement, following: &Following) -> Vec<Partition> {
    let Following { held, coming, .. } = following;
    let is_known = |partition| coming.contains(&partition) || held.iter().any(|(held, _)| *held == partition);
    let here = here.partitions().into_iter();
    here.filter(|&partition| map.home(partition) == Some(node) && !is_known(partition)).collect()
}
