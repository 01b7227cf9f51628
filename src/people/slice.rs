//! What one core has of one partition: the memory of it, which history that belongs to, and where the partition is. It asks
//! nobody, and knows neither the other cores nor the other partitions.

use std::cell::{Cell, Ref, RefCell};

use super::histories::Histories;
use super::home::{owner_of_apelido, owner_of_id};
use super::shard::{Memory, Shard};
use super::unproven::{Seen, Unproven};
use crate::pessoa::Record;
use crate::postgres::{Begin, Identity, Learnt, Partition, Placing};

/// One core's slice of a partition.
pub(super) struct Slice {
    core: usize,
    cores: usize,
    partition: Partition,
    shard: RefCell<Shard>,
    budget: usize,
    /// How many slices the core has.
    slices: usize,
    unproven: RefCell<Unproven>,
    histories: Histories,
    /// Every row that was committed when the load began is in memory.
    loaded: Cell<bool>,
    /// The node that the partition was met at last.
    node: Cell<Option<usize>>,
    placing: Cell<Placing>,
    /// The last thing that memory gave up for want of room and that was logged.
    said: Cell<GivenUp>,
}

/// What memory gives up over its budget, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GivenUp {
    Nothing,
    Bodies,
    Index,
}

impl Slice {
    /// The slice of `core`, of `cores`; of so many slices; its shard keeps within `budget` bytes.
    pub(super) fn new(
        core: usize,
        cores: usize,
        partition: Partition,
        budget: usize,
        slices: usize,
    ) -> Slice {
        Slice {
            core,
            cores,
            partition,
            shard: RefCell::new(Shard::for_bulk_load(budget).one_of(slices)),
            budget,
            slices,
            unproven: RefCell::default(),
            histories: Histories::default(),
            loaded: Cell::new(false),
            node: Cell::new(None),
            placing: Cell::new(Placing::Open),
            said: Cell::new(GivenUp::Nothing),
        }
    }

    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    pub(super) fn shard(&self) -> Ref<'_, Shard> {
        self.shard.borrow()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded.get()
    }

    /// Where its rows are, and are to go: the node, and whether it takes any.
    pub(super) fn node(&self) -> Option<(usize, Placing)> {
        Some((self.node.get()?, self.placing.get()))
    }

    /// Whether this apelido is certainly taken, by a durable row. `false` proves nothing: Postgres is the judge.
    pub(super) fn knows(&self, apelido: &str) -> bool {
        self.shard.borrow().knows(apelido) && self.unproven.borrow().is_proven(apelido)
    }

    /// Now, for a commit that begins.
    pub(super) fn now(&self) -> Seen {
        self.unproven.borrow().now()
    }

    /// A commit of this history, or a lookup in it, that began at `begun` has waited. It says nothing of the rows of another.
    pub(super) fn prove(&self, begun: Seen, of: Identity) {
        if self.histories.is_in(of) {
            self.unproven.borrow_mut().prove(begun);
        }
    }

    /// Takes in what the Postgres thread says of the committed rows of a history. What comes late from a history that the
    /// feed has left may not hold any more.
    pub(super) fn learn(&self, learnt: Learnt<'_>, of: Identity) {
        if self.histories.has_left(of) {
            return;
        }
        match learnt {
            Learnt::Committed(record) => _ = self.keep(record),
            Learnt::Seen(record) => self.see(record),
            Learnt::Taken(apelido) => _ = self.shard.borrow_mut().learn(apelido),
        }
    }

    /// Puts a committed row into memory; whether it is durable, nobody said.
    pub(super) fn see(&self, record: &Record) {
        if self.keep(record) {
            self.unproven.borrow_mut().see(&record.pessoa.apelido);
        }
    }

    /// Somebody's committed row has this apelido.
    pub(super) fn see_taken(&self, apelido: &str) {
        if self.shard.borrow_mut().learn(apelido) {
            self.unproven.borrow_mut().see(apelido);
        }
    }

    /// Forgets all, as what follows is of another history or from another node.
    pub(super) fn begin(&self, begin: &Begin) {
        self.histories.begin(begin.of);
        self.node.set(Some(begin.node));
        self.placing.set(Placing::Open);
        self.loaded.set(false);
        *self.shard.borrow_mut() = Shard::for_bulk_load(self.budget).one_of(self.slices);
    }

    /// What is said of where the partition is, by the node that it was met at last; others do not count.
    pub(super) fn place(&self, node: usize, placing: Placing) {
        if self.node.get() == Some(node) {
            self.placing.set(placing);
        }
    }

    /// All of it that is at this node was sent; what another one sends since is not.
    pub(super) fn end_load(&self, node: usize) {
        if self.node.get() == Some(node) {
            self.shard.borrow_mut().end_bulk_load();
            self.loaded.set(true);
        }
    }

    /// Puts a row that this core owns into memory. If somebody else inserted the row, another core may own its apelido;
    /// that core hears of the apelido too. Whether the apelido is this core's, and was not known.
    fn keep(&self, record: &Record) -> bool {
        let pessoa = &record.pessoa;
        debug_assert_eq!(owner_of_id(&pessoa.id, self.cores), self.core, "a row is kept at its home");
        let mut shard = self.shard.borrow_mut();
        let own = owner_of_apelido(&pessoa.apelido, self.cores) == self.core;
        let new = own && shard.learn(&pessoa.apelido);
        shard.insert(pessoa.id, &record.search_text, &record.json);
        let memory = shard.memory();
        drop(shard);
        self.say_what_is_given_up(&memory);
        new
    }

    /// Logs once each what memory gave up, so that the operator can give it more.
    fn say_what_is_given_up(&self, memory: &Memory) {
        let given_up = match memory {
            Memory { complete: false, .. } => GivenUp::Index,
            Memory { bodies_dropped: 1.., .. } => GivenUp::Bodies,
            _ => return,
        };
        if given_up <= self.said.replace(given_up.max(self.said.get())) {
            return;
        }
        let (core, budget_bytes, pessoas) = (self.core, self.budget, memory.pessoas);
        match given_up {
            GivenUp::Index => tracing::warn!(
                core,
                budget_bytes,
                pessoas,
                "memory is full: the search index was dropped and searches go to Postgres; give more --cache-bytes"
            ),
            _ => tracing::warn!(
                core,
                budget_bytes,
                pessoas,
                "memory is full: the oldest pessoas are read from Postgres again; give more --cache-bytes"
            ),
        }
    }
}
