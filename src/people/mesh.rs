//! The cores of one instance as one: each key's owner answers for it, wherever the request arrived. It knows shares
//! and rings, never HTTP.
//!
//! Between any two cores there are two rings, one each way. A question carries a ticket and is answered in a message of
//! its own; all that one core says to another in one turn costs one wake. A request for a key that this core owns takes
//! no hop and no message.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::join_all;
use uuid::Uuid;

use super::home::{owner_of_apelido, owner_of_id};
use super::results::{Bodies, Results};
use super::shard::Found;
use super::share::{AskPostgres, Cached, Creation, Share};
use super::state::{ConnectionState, CoreState, MeshState};
use super::unavailable::Unavailable;
use crate::channel::ring::{self, SharedSender};
use crate::channel::{Awaited, Ticket, Tickets};
use crate::ledger::{Account, Ledger};
use crate::limits::{
    BODY_MAX, LEDGER_SMALL_BYTES, MESH_QUESTIONS_MAX, MESH_STATE_TIME_MAX, MESH_STATES_MAX,
    SEARCH_RESULTS_MAX,
};
use crate::pessoa::{Candidate, Record};
use crate::postgres::{COUNTING_CORE, Partitions};

#[cfg(test)]
mod tests;

/// A ring holds every question that its sender may have open, and the sender's answers to all that its receiver may
/// have open.
const MESSAGES_MAX: usize = 2 * (MESH_QUESTIONS_MAX + MESH_STATES_MAX);

/// What one core says to another.
enum Message {
    Ask { ticket: Ticket, question: Question },
    Tell { ticket: Ticket, answer: Answer },
}

enum Question {
    Create(Box<Record>),
    Fetch(Uuid),
    Search(Box<[u8]>),
    Bodies(Box<[Found]>),
    Count,
    State,
}

/// What a core knows of an id that it owns.
enum Fetched {
    Body(Box<[u8]>),
    /// Who asked must find room for so long a body first.
    Long(Found),
    Unknown,
}

enum Answer {
    Creation(Creation),
    Fetched(Result<Fetched, Unavailable>),
    Searched(Result<Vec<Found>, AskPostgres>),
    Bodies(Result<Bodies, Unavailable>),
    Counted(Result<u64, Unavailable>),
    State(Box<CoreState>),
    /// The question met a panic: so does who asked it, whose client is then disconnected.
    Panicked,
}

impl Answer {
    /// Panics, as the owner did, or because of a fault in this file.
    fn unexpected(&self, expected: &str) -> ! {
        match self {
            Answer::Panicked => panic!("the core that was asked panicked"),
            _ => unreachable!("{expected}"),
        }
    }
}

/// One core's ends of the rings, on their way to its thread.
pub struct Wiring {
    /// By core; none for itself.
    senders: Vec<Option<ring::Sender<Message>>>,
    receivers: Vec<Option<ring::Receiver<Message>>>,
}

/// The rings between `cores` cores, in the order of the cores.
pub fn wire(cores: usize) -> Vec<Wiring> {
    let empty = || Wiring {
        senders: (0..cores).map(|_| None).collect(),
        receivers: (0..cores).map(|_| None).collect(),
    };
    let mut wirings: Vec<Wiring> = (0..cores).map(|_| empty()).collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (sender, receiver) = ring::channel(MESSAGES_MAX);
            wirings[from].senders[to] = Some(sender);
            wirings[to].receivers[from] = Some(receiver);
        }
    }
    wirings
}

/// Another core, as this one sees it.
struct Peer {
    sender: SharedSender<Message>,
    /// Questions it has not answered yet.
    open: Cell<usize>,
}

/// One core's view of all cores.
pub struct Mesh {
    share: Rc<Share>,
    /// By core; none for this one.
    peers: Vec<Option<Peer>>,
    /// For each open question, the core that was asked.
    tickets: Tickets<usize, Answer>,
    /// What is held for those whose requests arrived at this core.
    ledger: Rc<Ledger>,
    /// Asks what this core's connections are.
    connections: Box<dyn Fn() -> ConnectionState>,
    asked: Asked,
}

/// How often this core asked another one, by what for.
#[derive(Default)]
struct Asked {
    create: Cell<u64>,
    fetch: Cell<u64>,
    search: Cell<u64>,
    bodies: Cell<u64>,
    count: Cell<u64>,
    refused: Cell<u64>,
}

impl Asked {
    fn count(&self, question: &Question) {
        let count = match question {
            Question::Create(_) => &self.create,
            Question::Fetch(_) => &self.fetch,
            Question::Search(_) => &self.search,
            Question::Bodies(_) => &self.bodies,
            Question::Count => &self.count,
            Question::State => return,
        };
        count.set(count.get() + 1);
    }
}

/// What a pessoa is known by.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// Its apelido.
    Apelido(&'a str),
    /// Its id.
    Id(&'a Uuid),
}

/// The body of a pessoa: borrowed from this core's memory, or sent by another core or by Postgres.
pub enum Body<'a> {
    /// In this core's memory.
    Cached(Cached<'a>),
    /// From elsewhere.
    Owned(Box<[u8]>),
}

impl Body<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Body::Cached(cached) => cached.bytes(),
            Body::Owned(body) => body.len(),
        }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Body::Cached(cached) => cached.body().write(out),
            Body::Owned(body) => out.extend_from_slice(body),
        }
    }
}

impl Mesh {
    /// Joins this core to the others: from here on it answers them.
    pub fn join(
        wiring: Wiring,
        share: Rc<Share>,
        ledger: Rc<Ledger>,
        connections: Box<dyn Fn() -> ConnectionState>,
    ) -> Rc<Mesh> {
        let peer = |sender| Peer { sender: SharedSender::new(sender), open: Cell::new(0) };
        let mesh = Rc::new(Mesh {
            share,
            peers: wiring.senders.into_iter().map(|sender| sender.map(peer)).collect(),
            tickets: Tickets::with_capacity(1024),
            ledger,
            connections,
            asked: Asked::default(),
        });
        for (core, receiver) in wiring.receivers.into_iter().enumerate() {
            if let Some(receiver) = receiver {
                monoio::spawn(Rc::clone(&mesh).listen(core, receiver));
                monoio::spawn(Rc::clone(&mesh).flush(core));
            }
        }
        mesh
    }

    /// Which partition a create or a lookup concerns, where there are several.
    pub fn concerned(&self, key: Key<'_>) -> Option<String> {
        if self.share.partitions() == Partitions::ONE {
            return None;
        }
        let partition = match key {
            Key::Apelido(apelido) => self.share.partition_of_apelido(apelido),
            Key::Id(id) => self.share.partition_of_id(id),
        };
        Some(format!("partition {partition}"))
    }

    /// Why what concerns all partitions has no answer, where there are several: one that moves, or nodes that are away.
    pub fn lacking(&self, why: Unavailable) -> Option<String> {
        if let Unavailable::Moves(partition) = why {
            return Some(format!("partition {partition} moves"));
        }
        let state = self.share.state();
        let several = state.nodes.len() > 1;
        let away = state.nodes.iter().enumerate().filter(|(_, node)| several && !node.reachable);
        let away: Vec<String> = away.map(|(number, _)| format!("node {number} is away")).collect();
        (!away.is_empty()).then(|| away.join(", "))
    }

    /// Inserts a pessoa at its apelido's owner.
    pub async fn create(&self, candidate: Candidate<'_>) -> Creation {
        let owner = owner_of_apelido(&candidate.apelido, self.share.cores());
        let here = owner == self.share.core();
        // Before anything is rendered, since duplicates are common in the contest.
        if here && self.share.knows(&candidate.apelido) {
            return Creation::Duplicate;
        }
        let id = self.share.mint(&candidate.apelido);
        let record = Box::new(Record::new(candidate.into_pessoa(id)));
        let Some(_held) = self.ledger.hold(Account::Waiting, record.bytes()) else {
            return Creation::Unavailable(Unavailable::NoRoom);
        };
        if here {
            return self.share.create(record).await;
        }
        match self.ask(owner, Question::Create(record)) {
            Err(why) => Creation::Unavailable(why),
            Ok(awaited) => match awaited.await {
                Answer::Creation(creation) => creation,
                other => other.unexpected("a create is answered as a create"),
            },
        }
    }

    /// The pessoa with this id, at its owner: from memory, else from Postgres.
    pub async fn fetch(&self, id: Uuid) -> Result<Option<Body<'_>>, Unavailable> {
        let owner = owner_of_id(&id, self.share.cores());
        if owner == self.share.core() {
            if let Some(body) = self.share.cached(&id) {
                return Ok(Some(Body::Cached(body)));
            }
            return Ok(self.share.read(id).await?.map(|record| Body::Owned(record.json)));
        }
        let found = match self.ask(owner, Question::Fetch(id))?.await {
            Answer::Fetched(fetched) => match fetched? {
                Fetched::Body(body) => return Ok(Some(Body::Owned(body))),
                Fetched::Unknown => return Ok(None),
                Fetched::Long(found) => found,
            },
            other => other.unexpected("a fetch is answered as a fetch"),
        };
        let results = self.gather(vec![(owner, found)]).await?;
        Ok(results.bodies().first().map(|body| Body::Owned(Box::from(*body))))
    }

    /// Pessoas that contain `term`, which is lower-cased: from every core's memory, or else from Postgres.
    pub async fn search(&self, term: &[u8]) -> Result<Results, Unavailable> {
        let asked: Result<Vec<_>, Unavailable> =
            self.others().map(|core| Ok((core, self.ask(core, Question::Search(term.into()))?))).collect();
        let mut parts = vec![(self.share.core(), self.share.search(term))];
        for (core, awaited) in asked? {
            match awaited.await {
                Answer::Searched(part) => parts.push((core, part)),
                other => other.unexpected("a search is answered as a search"),
            }
        }
        let mut winners: Vec<(usize, Found)> = Vec::new();
        for (core, part) in parts {
            match part {
                Ok(found) => winners.extend(found.into_iter().map(|found| (core, found))),
                Err(AskPostgres) => {
                    let bodies = self.share.search_postgres(term).await?;
                    let held = self.ledger.hold(Account::Gathered, bodies.bytes());
                    return Ok(Results::new(vec![bodies], held.ok_or(Unavailable::NoRoom)?));
                }
            }
        }
        if winners.is_empty() {
            return Ok(Results::none());
        }
        winners.sort_unstable_by_key(|(_, found)| found.id);
        winners.truncate(SEARCH_RESULTS_MAX);
        self.gather(winners).await
    }

    /// The bodies of `winners`, each from the core beside it, once there is room for all of them.
    async fn gather(&self, winners: Vec<(usize, Found)>) -> Result<Results, Unavailable> {
        // Of a body that only Postgres has the length is not known.
        let bytes_of = |found: &Found| if found.bytes == 0 { BODY_MAX } else { found.bytes as usize };
        let bytes = winners.iter().map(|(_, found)| bytes_of(found)).sum();
        let mut held = self.ledger.hold(Account::Gathered, bytes).ok_or(Unavailable::NoRoom)?;
        let of = |core| winners.iter().filter(move |(owner, _)| *owner == core).map(|(_, found)| *found);
        let mut asked = Vec::new();
        for core in self.others() {
            let found: Box<[Found]> = of(core).collect();
            if !found.is_empty() {
                asked.push(self.ask(core, Question::Bodies(found))?);
            }
        }
        let own: Vec<Found> = of(self.share.core()).collect();
        let mut parts = vec![self.share.bodies(&own).await];
        for awaited in asked {
            match awaited.await {
                Answer::Bodies(part) => parts.push(part),
                other => other.unexpected("a question for bodies is answered with bodies"),
            }
        }
        let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
        held.set(parts.iter().map(Bodies::bytes).sum());
        Ok(Results::new(parts, held))
    }

    /// What Postgres counts now. One core asks it for all of them, so that the instance has one count under way and no
    /// more.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        if self.share.core() == COUNTING_CORE {
            return self.share.count().await;
        }
        match self.ask(COUNTING_CORE, Question::Count)?.await {
            Answer::Counted(rows) => rows,
            other => other.unexpected("a count is answered as a count"),
        }
    }

    /// What the cores say of themselves, this one first; those that do not say it in time are left out.
    pub async fn states(&self) -> Vec<CoreState> {
        let asked: Vec<_> = self.others().map(|core| self.ask(core, Question::State)).collect();
        let answers = asked.into_iter().flatten().map(|awaited| async {
            match monoio::time::timeout(MESH_STATE_TIME_MAX, awaited).await {
                Ok(Answer::State(state)) => Some(*state),
                // It is late, or it panicked.
                Ok(_) | Err(_) => None,
            }
        });
        let others = join_all(answers).await;
        std::iter::once(self.state()).chain(others.into_iter().flatten()).collect()
    }

    /// What this core says of itself.
    pub fn state(&self) -> CoreState {
        CoreState {
            share: self.share.state(),
            connections: (self.connections)(),
            ledger: self.ledger.state(),
            mesh: self.mesh_state(),
        }
    }

    fn mesh_state(&self) -> MeshState {
        let Asked { create, fetch, search, bodies, count, refused } = &self.asked;
        MeshState {
            asked: [
                ("create", create),
                ("fetch", fetch),
                ("search", search),
                ("bodies", bodies),
                ("count", count),
            ]
            .map(|(what, asked)| (what, asked.get())),
            open_max: self.peers.iter().flatten().map(|peer| peer.open.get()).max().unwrap_or(0),
            refused: refused.get(),
        }
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        (0..self.share.cores()).filter(|&core| core != self.share.core())
    }

    fn peer(&self, core: usize) -> &Peer {
        self.peers[core].as_ref().expect("a core asks itself without a message")
    }

    fn ask(&self, core: usize, question: Question) -> Result<Awaited<'_, usize, Answer>, Unavailable> {
        let peer = self.peer(core);
        let most = match question {
            Question::State => MESH_QUESTIONS_MAX + MESH_STATES_MAX,
            _ => MESH_QUESTIONS_MAX,
        };
        if peer.open.get() >= most {
            self.asked.refused.set(self.asked.refused.get() + 1);
            return Err(Unavailable::NoRoom);
        }
        peer.open.set(peer.open.get() + 1);
        self.asked.count(&question);
        let awaited = self.tickets.take(core);
        self.send(core, Message::Ask { ticket: awaited.ticket(), question });
        Ok(awaited)
    }

    fn send(&self, core: usize, message: Message) {
        let sent = self.peer(core).sender.push(message);
        assert!(sent.is_ok(), "the ring holds every open question and every answer");
    }

    /// Hears what `core` says, for as long as it lives.
    async fn listen(self: Rc<Self>, core: usize, mut messages: ring::Receiver<Message>) {
        while let Some(message) = messages.pop().await {
            match message {
                Message::Ask { ticket, question } => {
                    let mesh = Rc::clone(&self);
                    monoio::spawn(async move {
                        let answered = AssertUnwindSafe(mesh.answer(question)).catch_unwind().await;
                        let answer = answered.unwrap_or(Answer::Panicked);
                        mesh.send(core, Message::Tell { ticket, answer });
                    });
                }
                Message::Tell { ticket, answer } => {
                    let core = self.tickets.answer(ticket, answer);
                    let open = &self.peer(core).open;
                    open.set(open.get() - 1);
                }
            }
        }
    }

    async fn flush(self: Rc<Self>, core: usize) {
        self.peer(core).sender.flush().await;
    }

    /// Answers a question of another core, from this core's share.
    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Create(record) => Answer::Creation(self.share.create(record).await),
            Question::Fetch(id) => Answer::Fetched(self.fetched(id).await),
            Question::Search(term) => Answer::Searched(self.share.search(&term)),
            Question::Bodies(found) => Answer::Bodies(self.share.bodies(&found).await),
            Question::Count => Answer::Counted(self.share.count().await),
            Question::State => Answer::State(Box::new(self.state())),
        }
    }

    async fn fetched(&self, id: Uuid) -> Result<Fetched, Unavailable> {
        if let Some(cached) = self.share.cached(&id).filter(|body| body.bytes() <= LEDGER_SMALL_BYTES) {
            return Ok(Fetched::Body(cached.body().to_vec().into()));
        }
        if let Some(found) = self.share.find(&id).filter(|found| found.bytes > 0) {
            return Ok(Fetched::Long(found));
        }
        let read = self.share.read(id).await?;
        Ok(read.map_or(Fetched::Unknown, |record| Fetched::Body(record.json)))
    }
}
