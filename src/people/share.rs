//! One core's part of the people: its shard, and its Postgres thread for what memory does not know. It knows nothing of
//! HTTP, and of the other cores only which keys are theirs.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use uuid::Uuid;

use super::home::Minter;
use super::results::Bodies;
use super::shard::{self, Found, Memory, Shard};
use super::slice::Slice;
use super::unavailable::Unavailable;
use crate::limits::{COMMIT_TIME_MAX, FEED_AGE_MAX, MINTS_MAX, NODE_WAIT_MAX, SEARCH_RESULTS_MAX};
use crate::pessoa::{Record, home_of_apelido};
use crate::postgres::{
    Create, Database, Fed, Identity, Learnt, Lines, Partition, Partitions, Placement, Placing, Unanswered,
};

/// What became of a create.
pub enum Creation {
    /// Committed to durable storage, and in memory.
    Created(Box<Record>),
    /// Its apelido belongs to a committed pessoa.
    Duplicate,
    /// The database refuses the row itself; the SQLSTATE.
    Refused(Box<str>),
    /// The outcome is not known.
    Unavailable(Unavailable),
}

/// Memory cannot answer a search: it holds no whole index, it may lack rows that others committed more than
/// `FEED_AGE_MAX` ago, or the term would keep the core busy for too long. Postgres can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskPostgres;

/// What one core says of itself.
#[derive(Clone, Debug)]
pub struct ShareState {
    /// What its shard holds.
    pub memory: Memory,
    /// Whether every row that was committed when the load began is in memory, or was once.
    pub loaded: bool,
    /// Whether memory was whole once and is loaded again, of another history of the database.
    pub reloading: bool,
    /// How long ago the question was asked by which memory has every row that was committed until then; `None` before the
    /// first one.
    pub age: Option<Duration>,
    /// Whether its connections to the database stand, and the feed's connection too.
    pub reachable: bool,
    /// From the feed's last question to the moment when this core had all that it brought.
    pub lag: Option<Duration>,
    /// Who waits for the database, and who got no answer.
    pub lines: Lines,
    /// Of each node, in their order.
    pub nodes: Vec<NodeState>,
}

/// What one core says of a node.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// Whether its connections stand, and the feed's too.
    pub reachable: bool,
    /// The numbers of the partitions that are there, of those that have homes on this core.
    pub partitions: Vec<usize>,
    /// Of those the ones that take no rows, as they move.
    pub closed: Vec<usize>,
    /// Who waits for it, and who got no answer.
    pub lines: Lines,
}

impl ShareState {
    /// Whether memory answers searches; otherwise the database is asked.
    pub fn answers_searches(&self) -> bool {
        self.memory.complete && self.loaded && !self.reloading
    }
}

/// One core's share: its slice of every partition that has homes here, and the nodes that the partitions are at.
pub struct Share {
    core: usize,
    cores: usize,
    partitions: Partitions,
    /// By the partition's number; none of those without a home on this core.
    slices: Vec<Option<Slice>>,
    nodes: Vec<Node>,
    minter: RefCell<Minter>,
    /// Memory was whole once.
    served: Cell<bool>,
}

/// A database and its standbys, as this core sees it.
struct Node {
    database: Rc<Database>,
    /// Every row that was committed there before this time is in memory.
    fresh: Cell<Option<Instant>>,
    /// How long the news of `fresh` took to come here.
    lag: Cell<Option<Duration>>,
    /// The feed's connection to it stands.
    fed: Cell<bool>,
}

impl Node {
    fn is_connected(&self) -> bool {
        self.database.reachable() && self.fed.get()
    }
}

/// A body in this core's memory, which does not change meanwhile.
pub struct Cached<'a> {
    shard: Ref<'a, Shard>,
    found: Found,
}

impl Cached<'_> {
    /// The body.
    pub fn body(&self) -> shard::Body<'_> {
        self.shard.body(&self.found).expect("nothing is dropped while it is borrowed")
    }

    /// Bytes of the body.
    pub fn bytes(&self) -> usize {
        self.found.bytes as usize
    }
}

impl Share {
    /// The share of `core`, of `cores`; its memory keeps within `cache_bytes`. The databases are those of the nodes, in
    /// their order.
    pub fn new(
        core: usize,
        cores: usize,
        cache_bytes: usize,
        partitions: Partitions,
        databases: Vec<Rc<Database>>,
        minter: Minter,
    ) -> Share {
        let mut is_here = vec![false; partitions.count()];
        for home in (0..=u8::MAX).filter(|home| usize::from(*home) % cores == core) {
            is_here[partitions.of_home(home).number()] = true;
        }
        let slices = is_here.iter().filter(|here| **here).count().max(1);
        let budget = cache_bytes / slices;
        let slice = |(partition, here)| {
            let slice = || Slice::new(core, cores, partition, budget, slices);
            if here { Some(slice()) } else { None }
        };
        let node =
            |database| Node { database, fresh: Cell::default(), lag: Cell::default(), fed: Cell::default() };
        Share {
            core,
            cores,
            partitions,
            slices: partitions.all().zip(is_here).map(slice).collect(),
            nodes: databases.into_iter().map(node).collect(),
            minter: RefCell::new(minter),
            served: Cell::new(false),
        }
    }

    /// The core's number.
    pub fn core(&self) -> usize {
        self.core
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// In how many partitions the people are.
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// The partition of a pessoa with this id.
    pub fn partition_of_id(&self, id: &Uuid) -> Partition {
        self.partitions.of_id(id)
    }

    /// The partition of a pessoa with this apelido.
    pub fn partition_of_apelido(&self, apelido: &str) -> Partition {
        self.partitions.of_home(home_of_apelido(apelido))
    }

    fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().flatten()
    }

    fn slice(&self, partition: Partition) -> &Slice {
        self.slices[partition.number()].as_ref().expect("the owner of a home has its partition's slice")
    }

    /// The slice of a row. In an only partition the home of an id may be another one than that of its apelido.
    fn slice_of_id(&self, id: &Uuid) -> &Slice {
        self.slice(self.partition_of_id(id))
    }

    fn slice_of_apelido(&self, apelido: &str) -> &Slice {
        self.slice(self.partition_of_apelido(apelido))
    }

    /// A new id for a pessoa with this apelido, whichever core owns it.
    pub fn mint(&self, apelido: &str) -> Uuid {
        self.minter.borrow_mut().mint(apelido)
    }

    /// Whether this apelido is certainly taken, by a durable row. `false` proves nothing: Postgres is the judge.
    pub fn knows(&self, apelido: &str) -> bool {
        self.slice_of_apelido(apelido).knows(apelido)
    }

    /// Inserts a pessoa whose apelido this core owns.
    pub async fn create(&self, mut record: Box<Record>) -> Creation {
        #[cfg(debug_assertions)]
        assert!(!is_bomb(&record.pessoa.apelido), "on purpose, for a test");
        let slice = self.slice_of_apelido(&record.pessoa.apelido);
        if slice.knows(&record.pessoa.apelido) {
            return Creation::Duplicate;
        }
        // While it moves it is asked in vain.
        let Some((node, Placing::Open)) = slice.node() else {
            return Creation::Unavailable(Unavailable::NotStored);
        };
        let database = &self.nodes[node].database;
        let prove = |begun| {
            if let Some(of) = database.commits_to() {
                slice.prove(begun, of);
            }
        };
        let begun = slice.now();
        // One for all ids that are tried.
        let deadline = Instant::now() + COMMIT_TIME_MAX;
        for _ in 0..MINTS_MAX {
            match database.create(record, deadline).await {
                Ok(Create::Created(record)) => {
                    prove(begun);
                    return Creation::Created(record);
                }
                Ok(Create::Duplicate) => {
                    prove(begun);
                    return Creation::Duplicate;
                }
                Ok(Create::Refused(sqlstate)) => return Creation::Refused(sqlstate),
                Ok(Create::Collision(collided)) => {
                    let id = self.mint(&collided.pessoa.apelido);
                    record = Box::new(Record::new(collided.pessoa.with_id(id)));
                }
                Err(why) => return Creation::Unavailable(why.into()),
            }
        }
        let apelido = &record.pessoa.apelido;
        tracing::error!(%apelido, "the database inserts a row under no id and has none with its apelido: a trigger?");
        Creation::Unavailable(Unavailable::TimedOut)
    }

    /// The body of a pessoa of this core, if memory has it.
    pub fn cached(&self, id: &Uuid) -> Option<Cached<'_>> {
        let shard = self.slice_of_id(id).shard();
        let found = shard.find(id).filter(|found| found.bytes > 0)?;
        Some(Cached { shard, found })
    }

    /// A pessoa of this core that memory has not, from Postgres. `None`: there is no such committed row.
    pub async fn read(&self, id: Uuid) -> Result<Option<Box<Record>>, Unavailable> {
        let Some(database) = self.database_of(&id) else { return Err(Unavailable::TimedOut) };
        Ok(database.fetch(id).await?)
    }

    fn database_of(&self, id: &Uuid) -> Option<&Rc<Database>> {
        let (node, placing) = self.slice_of_id(id).node()?;
        matches!(placing, Placing::Open | Placing::Closed).then(|| &self.nodes[node].database)
    }

    /// At most 50 pessoas of this core that contain `term`, which is lower-cased.
    pub fn search(&self, term: &[u8]) -> Result<Vec<Found>, AskPostgres> {
        let (mut found, mut of_slice) = (Vec::new(), Vec::new());
        for slice in self.slices() {
            if self.age_of(slice).is_none_or(|age| age > FEED_AGE_MAX) {
                return Err(AskPostgres);
            }
            slice.shard().search(term, &mut of_slice).map_err(|_| AskPostgres)?;
            match found.is_empty() {
                true => std::mem::swap(&mut found, &mut of_slice),
                false => found.append(&mut of_slice),
            }
            // Any of them will do.
            if found.len() >= SEARCH_RESULTS_MAX {
                break;
            }
        }
        if found.len() > SEARCH_RESULTS_MAX {
            found.sort_unstable_by_key(|found| found.id);
            found.truncate(SEARCH_RESULTS_MAX);
        }
        Ok(found)
    }

    /// How old the memory of a slice is: what others committed since then it may lack. `None` while it is not whole.
    fn age_of(&self, slice: &Slice) -> Option<Duration> {
        let age = |node: &Node| node.fresh.get().map(|fresh| fresh.elapsed());
        match slice.node().filter(|_| slice.is_loaded())? {
            (node, Placing::Open) => age(&self.nodes[node]),
            // It stays as it is until another node has it open, which any of them may say next.
            (_, Placing::Closed) => oldest(self.nodes.iter().map(age)),
            (_, Placing::Disputed | Placing::Gone) => None,
        }
    }

    /// How old memory is: what others committed since then it may lack.
    fn age(&self) -> Option<Duration> {
        oldest(self.slices().map(|slice| self.age_of(slice)))
    }

    /// A pessoa of this core, if memory knows its id.
    pub fn find(&self, id: &Uuid) -> Option<Found> {
        self.slice_of_id(id).shard().find(id)
    }

    /// The bodies of `found`, in any order: from memory, else from Postgres.
    pub async fn bodies(&self, found: &[Found]) -> Result<Bodies, Unavailable> {
        let mut bodies = Bodies::default();
        let mut dropped = Vec::new();
        for found in found {
            match self.slice_of_id(&found.id).shard().body(found) {
                Some(body) => bodies.push_with(found.id, |out| body.write(out)),
                None => dropped.push(found.id),
            }
        }
        for fetched in join_all(dropped.into_iter().map(|id| self.read(id))).await {
            match fetched {
                Ok(Some(record)) => bodies.push(record.pessoa.id, &record.json),
                // A row that somebody deleted by hand, or made unfit to be shown, is no result any more.
                Ok(None) | Err(Unavailable::Unfit) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(bodies)
    }

    /// At most 50 pessoas of all cores that contain `term`, from Postgres.
    pub async fn search_postgres(&self, term: &[u8]) -> Result<Bodies, Unavailable> {
        let found = self.ask_all(|database| database.search(term)).await?;
        // A partition that has just moved is still at the node that it left, with a part of its rows.
        let found: BTreeMap<Uuid, Record> =
            found.into_iter().flatten().map(|record| (record.pessoa.id, record)).collect();
        let mut bodies = Bodies::default();
        for (id, record) in found.iter().take(SEARCH_RESULTS_MAX) {
            bodies.push(*id, &record.json);
        }
        Ok(bodies)
    }

    /// What Postgres counts now: at each node by itself, so that there is no one moment of which this is the count.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        Ok(self.ask_all(Database::count).await?.into_iter().sum())
    }

    /// What every node says, if together they speak of every row and of none twice.
    async fn ask_all<'a, T, A>(&'a self, ask: impl Fn(&'a Database) -> A) -> Result<Vec<T>, Unavailable>
    where
        A: Future<Output = Result<(T, Placement), Unanswered>>,
    {
        // Without one of several the others would look in vain. But one that has just left may be back in time.
        let is_away = |node: &Node| node.database.away_for() > NODE_WAIT_MAX;
        if self.nodes.len() > 1 && self.nodes.iter().any(is_away) {
            return Err(Unavailable::TimedOut);
        }
        let said = try_join_all(self.nodes.iter().map(|node| ask(&node.database))).await?;
        let (said, placements): (Vec<T>, Vec<Placement>) = said.into_iter().unzip();
        match Placement::without_a_home(&placements) {
            None => Ok(said),
            Some(partition) => Err(Unavailable::Moves(partition)),
        }
    }

    /// What this core says of itself.
    pub fn state(&self) -> ShareState {
        let loaded = self.slices().all(Slice::is_loaded);
        let mut lines = Lines::default();
        self.nodes.iter().for_each(|node| lines += node.database.lines());
        ShareState {
            memory: self.slices().map(|slice| slice.shard().memory()).fold(Memory::NONE, Memory::and),
            loaded: self.served.get(),
            reloading: self.served.get() && !loaded,
            age: self.age(),
            reachable: self.nodes.iter().all(Node::is_connected),
            lag: oldest(self.nodes.iter().map(|node| node.lag.get())),
            lines,
            nodes: self
                .nodes
                .iter()
                .enumerate()
                .map(|(number, node)| self.node_state(number, node.is_connected()))
                .collect(),
        }
    }

    fn node_state(&self, number: usize, reachable: bool) -> NodeState {
        let here = self.slices().filter_map(|slice| match slice.node()? {
            (node, placing) if node == number => Some((slice.partition().number(), placing)),
            _ => None,
        });
        let here: Vec<(usize, Placing)> = here.collect();
        let closed = here.iter().filter(|(_, placing)| *placing != Placing::Open);
        NodeState {
            reachable,
            partitions: here.iter().map(|(partition, _)| *partition).collect(),
            closed: closed.map(|(partition, _)| *partition).collect(),
            lines: self.nodes[number].database.lines(),
        }
    }

    /// Takes in what the Postgres thread says of the committed rows of a history, before any client hears of it.
    pub fn learn(&self, learnt: Learnt<'_>, of: Identity) {
        let slice = match learnt {
            Learnt::Committed(record) | Learnt::Seen(record) => self.slice_of_id(&record.pessoa.id),
            Learnt::Taken(apelido) => self.slice_of_apelido(apelido),
        };
        slice.learn(learnt, of);
    }

    /// Takes in what the feed says. Returns whether that was the end of a load.
    pub fn hear(&self, fed: Fed) -> bool {
        match fed {
            Fed::Row(record, _queued) => self.slice_of_id(&record.pessoa.id).see(&record),
            Fed::Taken(apelido) => self.slice_of_apelido(&apelido).see_taken(&apelido),
            Fed::Begin(begin, heard) => {
                self.some(&begin.partitions).for_each(|slice| slice.begin(&begin));
                drop(heard);
            }
            Fed::Fresh(node, fresh) => {
                self.nodes[node].fresh.set(Some(fresh));
                self.nodes[node].lag.set(Some(fresh.elapsed()));
            }
            Fed::Placed(node, partition, placing) => {
                self.some(&[partition]).for_each(|slice| slice.place(node, placing));
            }
            Fed::Reachable(node, reachable) => self.nodes[node].fed.set(reachable),
            Fed::Loaded(node, partitions) => {
                self.some(&partitions).for_each(|slice| slice.end_load(node));
                let loaded = self.slices().all(Slice::is_loaded);
                self.served.set(self.served.get() || loaded);
                return loaded;
            }
        }
        false
    }

    /// This core's slices of these partitions.
    fn some(&self, partitions: &[Partition]) -> impl Iterator<Item = &Slice> {
        partitions.iter().filter_map(|partition| self.slices[partition.number()].as_ref())
    }

    /// Ends the Postgres thread. Nothing may be asked afterwards.
    pub fn close(&self) {
        self.nodes.iter().for_each(|node| node.database.close());
    }
}

/// The greatest age, unless one is not known.
fn oldest(ages: impl Iterator<Item = Option<Duration>>) -> Option<Duration> {
    ages.max_by_key(|age| age.unwrap_or(Duration::MAX)).flatten()
}

/// Whether a test wants the create of this apelido to panic, by a variable that only debug builds look at.
#[cfg(debug_assertions)]
fn is_bomb(apelido: &str) -> bool {
    static BOMB: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let bomb = BOMB.get_or_init(|| std::env::var("RINHA_TEST_PANIC").ok());
    bomb.as_deref() == Some(apelido)
}
