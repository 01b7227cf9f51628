//! One core's part of the people: its shard, and its Postgres thread for what memory does not know. It knows nothing of
//! HTTP, and of the other cores only which keys are theirs.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use uuid::Uuid;

use super::histories::Histories;
use super::home::{Minter, owner_of_apelido, owner_of_id};
use super::results::Bodies;
use super::shard::{self, Found, Memory, Shard};
use super::unavailable::Unavailable;
use super::unproven::{Seen, Unproven};
use crate::limits::{COMMIT_TIME_MAX, FEED_AGE_MAX, MINTS_MAX};
use crate::pessoa::Record;
use crate::postgres::{Create, Database, Fed, Identity, Learnt, Lines, Unanswered};

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
#[derive(Clone, Copy, Debug)]
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
}

impl ShareState {
    /// Whether memory answers searches; otherwise the database is asked.
    pub fn answers_searches(&self) -> bool {
        self.memory.complete && self.loaded && !self.reloading
    }
}

/// One core's part.
pub struct Share {
    core: usize,
    cores: usize,
    shard: RefCell<Shard>,
    cache_bytes: usize,
    database: Rc<Database>,
    minter: RefCell<Minter>,
    unproven: RefCell<Unproven>,
    histories: Histories,
    loaded: Cell<bool>,
    /// Memory was whole once.
    served: Cell<bool>,
    /// Every row that was committed before this time is in memory.
    fresh: Cell<Option<Instant>>,
    /// How long the news of `fresh` took to come here.
    lag: Cell<Option<Duration>>,
    fed: Cell<bool>,
    /// The last thing that memory gave up for want of room and that was logged.
    said: Cell<GivenUp>,
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

/// What memory gives up over its budget, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum GivenUp {
    Nothing,
    Bodies,
    Index,
}

impl Share {
    /// The part of `core`, of `cores`; its shard keeps within `cache_bytes`.
    pub fn new(
        core: usize,
        cores: usize,
        cache_bytes: usize,
        database: Rc<Database>,
        minter: Minter,
    ) -> Share {
        Share {
            core,
            cores,
            shard: RefCell::new(Shard::for_bulk_load(cache_bytes)),
            cache_bytes,
            database,
            minter: RefCell::new(minter),
            unproven: RefCell::default(),
            histories: Histories::default(),
            loaded: Cell::new(false),
            served: Cell::new(false),
            fresh: Cell::new(None),
            lag: Cell::new(None),
            fed: Cell::new(false),
            said: Cell::new(GivenUp::Nothing),
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

    /// A new id for a pessoa with this apelido, whichever core owns it.
    pub fn mint(&self, apelido: &str) -> Uuid {
        self.minter.borrow_mut().mint(apelido)
    }

    /// Whether this apelido is certainly taken, by a durable row. `false` proves nothing: Postgres is the judge.
    pub fn knows(&self, apelido: &str) -> bool {
        self.shard.borrow().knows(apelido) && self.unproven.borrow().is_proven(apelido)
    }

    /// Inserts a pessoa whose apelido this core owns.
    pub async fn create(&self, mut record: Box<Record>) -> Creation {
        #[cfg(debug_assertions)]
        assert!(!is_bomb(&record.pessoa.apelido), "on purpose, for a test");
        if self.knows(&record.pessoa.apelido) {
            return Creation::Duplicate;
        }
        let begun = self.unproven.borrow().now();
        // One for all ids that are tried.
        let deadline = Instant::now() + COMMIT_TIME_MAX;
        for _ in 0..MINTS_MAX {
            match self.database.create(record, deadline).await {
                Ok(Create::Created(record)) => {
                    self.prove(begun);
                    return Creation::Created(record);
                }
                Ok(Create::Duplicate) => {
                    self.prove(begun);
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
        let shard = self.shard.borrow();
        let found = shard.find(id).filter(|found| found.bytes > 0)?;
        Some(Cached { shard, found })
    }

    /// A pessoa of this core that memory has not, from Postgres. `None`: there is no such committed row.
    pub async fn read(&self, id: Uuid) -> Result<Option<Box<Record>>, Unavailable> {
        Ok(self.database.fetch(id).await?)
    }

    /// At most 50 pessoas of this core that contain `term`, which is lower-cased.
    pub fn search(&self, term: &[u8]) -> Result<Vec<Found>, AskPostgres> {
        let fresh = self.age().is_some_and(|age| age <= FEED_AGE_MAX);
        if !self.loaded.get() || !fresh {
            return Err(AskPostgres);
        }
        let mut found = Vec::new();
        self.shard.borrow().search(term, &mut found).map_err(|_| AskPostgres)?;
        Ok(found)
    }

    /// How old memory is: what others committed since then it may lack.
    fn age(&self) -> Option<Duration> {
        self.fresh.get().map(|fresh| fresh.elapsed())
    }

    /// A pessoa of this core, if memory knows its id.
    pub fn find(&self, id: &Uuid) -> Option<Found> {
        self.shard.borrow().find(id)
    }

    /// The bodies of `found`, in any order: from memory, else from Postgres.
    pub async fn bodies(&self, found: &[Found]) -> Result<Bodies, Unavailable> {
        let mut bodies = Bodies::default();
        let mut dropped = Vec::new();
        {
            let shard = self.shard.borrow();
            for found in found {
                match shard.body(found) {
                    Some(body) => bodies.push_with(found.id, |out| body.write(out)),
                    None => dropped.push(found.id),
                }
            }
        }
        if dropped.is_empty() {
            return Ok(bodies);
        }
        for fetched in join_all(dropped.into_iter().map(|id| self.database.fetch(id))).await {
            match fetched {
                Ok(Some(record)) => bodies.push(record.pessoa.id, &record.json),
                // A row that somebody deleted by hand, or made unfit to be shown, is no result any more.
                Ok(None) | Err(Unanswered::Unfit) => {}
                Err(why) => return Err(why.into()),
            }
        }
        Ok(bodies)
    }

    /// At most 50 pessoas of all cores that contain `term`, from Postgres.
    pub async fn search_postgres(&self, term: &[u8]) -> Result<Bodies, Unavailable> {
        let mut bodies = Bodies::default();
        for record in self.database.search(term).await? {
            bodies.push(record.pessoa.id, &record.json);
        }
        Ok(bodies)
    }

    /// What Postgres counts now.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        Ok(self.database.count().await?)
    }

    /// What this core says of itself.
    pub fn state(&self) -> ShareState {
        ShareState {
            memory: self.shard.borrow().memory(),
            loaded: self.served.get(),
            reloading: self.served.get() && !self.loaded.get(),
            age: self.age(),
            reachable: self.database.reachable() && self.fed.get(),
            lag: self.lag.get(),
            lines: self.database.lines(),
        }
    }

    /// Takes in what the Postgres thread says of the committed rows of a history, before any client hears of it. What
    /// comes late from a history that the feed has left may not hold any more.
    pub fn learn(&self, learnt: Learnt<'_>, of: Identity) {
        if self.histories.has_left(of) {
            return;
        }
        match learnt {
            Learnt::Committed(record) => _ = self.keep(record),
            Learnt::Seen(record) => self.see(record),
            Learnt::Taken(apelido) => _ = self.shard.borrow_mut().learn(apelido),
        }
    }

    /// Takes in what the feed says. Returns whether that was the end of the load.
    pub fn hear(&self, fed: Fed) -> bool {
        match fed {
            Fed::Row(record, _queued) => self.see(&record),
            Fed::Taken(apelido) => {
                if self.shard.borrow_mut().learn(&apelido) {
                    self.unproven.borrow_mut().see(&apelido);
                }
            }
            Fed::Begin(of, heard) => {
                self.histories.begin(of);
                self.loaded.set(false);
                self.fresh.set(None);
                *self.shard.borrow_mut() = Shard::for_bulk_load(self.cache_bytes);
                drop(heard);
            }
            Fed::Fresh(fresh) => {
                self.fresh.set(Some(fresh));
                self.lag.set(Some(fresh.elapsed()));
            }
            Fed::Reachable(reachable) => self.fed.set(reachable),
            Fed::Loaded => {
                self.shard.borrow_mut().end_bulk_load();
                self.loaded.set(true);
                self.served.set(true);
                return true;
            }
        }
        false
    }

    /// A commit or a lookup that began at `begun` has waited. It says nothing of the rows of another history than its own.
    fn prove(&self, begun: Seen) {
        if self.database.commits_to().is_some_and(|of| self.histories.is_in(of)) {
            self.unproven.borrow_mut().prove(begun);
        }
    }

    /// Puts a committed row into memory; whether it is durable, nobody said.
    fn see(&self, record: &Record) {
        if self.keep(record) {
            self.unproven.borrow_mut().see(&record.pessoa.apelido);
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
        let (core, budget_bytes, pessoas) = (self.core, self.cache_bytes, memory.pessoas);
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

    /// Ends the Postgres thread. Nothing may be asked afterwards.
    pub fn close(&self) {
        self.database.close();
    }
}

/// Whether a test wants the create of this apelido to panic, by a variable that only debug builds look at.
#[cfg(debug_assertions)]
fn is_bomb(apelido: &str) -> bool {
    static BOMB: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let bomb = BOMB.get_or_init(|| std::env::var("RINHA_TEST_PANIC").ok());
    bomb.as_deref() == Some(apelido)
}
