//! The cores of one instance as one: each key's owner answers for it, wherever the request arrived. It knows partitions
//! and rings, never HTTP.
//!
//! Between any two cores there are two rings, one each way. A question carries a ticket and is answered in a message of
//! its own; all that one core says to another in one turn costs one wake. A request for a key that this core owns takes
//! no hop and no message.

use std::cell::{Cell, Ref};
use std::ops::Deref;
use std::rc::Rc;

use uuid::Uuid;

use super::home::{owner_of_apelido, owner_of_id};
use super::partition::{Creation, Matches, NoMatches, Partition, PartitionState};
use crate::channel::ring::{self, SharedSender};
use crate::channel::{Awaited, Ticket, Tickets};
use crate::limits::{MESH_QUESTIONS_MAX, MESH_STATE_TIME_MAX, MESH_STATES_MAX, SEARCH_RESULTS_MAX};
use crate::pessoa::{Candidate, Record};
use crate::postgres::Unavailable;

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
    State,
}

enum Answer {
    Creation(Creation),
    Fetched(Result<Option<Box<[u8]>>, Unavailable>),
    Searched(Result<Matches, NoMatches>),
    State(Box<PartitionState>),
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
    partition: Rc<Partition>,
    /// By core; none for this one.
    peers: Vec<Option<Peer>>,
    /// For each open question, the core that was asked.
    tickets: Tickets<usize, Answer>,
}

/// The body of a pessoa: borrowed from this core's memory, or sent by another core or by Postgres.
pub enum Body<'a> {
    /// In this core's memory.
    Cached(Ref<'a, [u8]>),
    /// From elsewhere.
    Sent(Box<[u8]>),
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Body::Cached(body) => body,
            Body::Sent(body) => body,
        }
    }
}

/// What a search found, on all cores.
pub struct Results(Vec<Matches>);

impl Results {
    /// The bodies of at most 50 pessoas, in ascending order of id.
    pub fn bodies(&self) -> Vec<&[u8]> {
        let mut found: Vec<(Uuid, &[u8])> = self.0.iter().flat_map(Matches::iter).collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        found.truncate(SEARCH_RESULTS_MAX);
        found.into_iter().map(|(_, body)| body).collect()
    }
}

impl Mesh {
    /// Joins this core to the others: from here on it answers them.
    pub fn join(wiring: Wiring, partition: Rc<Partition>) -> Rc<Mesh> {
        let peer = |sender| Peer { sender: SharedSender::new(sender), open: Cell::new(0) };
        let mesh = Rc::new(Mesh {
            partition,
            peers: wiring.senders.into_iter().map(|sender| sender.map(peer)).collect(),
            tickets: Tickets::with_capacity(1024),
        });
        for (core, receiver) in wiring.receivers.into_iter().enumerate() {
            if let Some(receiver) = receiver {
                monoio::spawn(Rc::clone(&mesh).listen(core, receiver));
                monoio::spawn(Rc::clone(&mesh).flush(core));
            }
        }
        mesh
    }

    /// Inserts a pessoa at its apelido's owner.
    pub async fn create(&self, candidate: Candidate<'_>) -> Creation {
        let owner = owner_of_apelido(&candidate.apelido, self.partition.cores());
        let here = owner == self.partition.core();
        // Before anything is rendered, since duplicates are common in the contest.
        if here && self.partition.knows(&candidate.apelido) {
            return Creation::Duplicate;
        }
        let id = self.partition.mint(&candidate.apelido);
        let record = Box::new(Record::new(candidate.into_pessoa(id)));
        if here {
            return self.partition.create(record).await;
        }
        match self.ask(owner, Question::Create(record)) {
            Err(why) => Creation::Unavailable(why),
            Ok(slot) => match slot.await {
                Answer::Creation(creation) => creation,
                _ => unreachable!("a create is answered as a create"),
            },
        }
    }

    /// The pessoa with this id, at its owner: from memory, else from Postgres.
    pub async fn fetch(&self, id: Uuid) -> Result<Option<Body<'_>>, Unavailable> {
        let owner = owner_of_id(&id, self.partition.cores());
        if owner != self.partition.core() {
            return match self.ask(owner, Question::Fetch(id))?.await {
                Answer::Fetched(fetched) => Ok(fetched?.map(Body::Sent)),
                _ => unreachable!("a fetch is answered as a fetch"),
            };
        }
        if let Some(body) = self.partition.cached(&id) {
            return Ok(Some(Body::Cached(body)));
        }
        Ok(self.partition.read(id).await?.map(|record| Body::Sent(record.json)))
    }

    /// Pessoas that contain `term`, which is lower-cased: from every core's memory, or else from Postgres.
    pub async fn search(&self, term: &[u8]) -> Result<Results, Unavailable> {
        let asked: Result<Vec<_>, Unavailable> =
            self.others().map(|core| self.ask(core, Question::Search(term.into()))).collect();
        let asked = asked?;
        let mut parts = vec![self.partition.search(term).await];
        for slot in asked {
            match slot.await {
                Answer::Searched(part) => parts.push(part),
                _ => unreachable!("a search is answered as a search"),
            }
        }
        match parts.into_iter().collect() {
            Ok(parts) => Ok(Results(parts)),
            Err(NoMatches::AskPostgres) => Ok(Results(vec![self.partition.search_postgres(term).await?])),
            Err(NoMatches::Unavailable(why)) => Err(why),
        }
    }

    /// What Postgres counts now; any core may ask it.
    pub async fn count(&self) -> Result<u64, Unavailable> {
        self.partition.count().await
    }

    /// What the cores say of themselves; those that do not say it in time are left out.
    pub async fn states(&self) -> Vec<PartitionState> {
        let asked: Vec<_> = self.others().map(|core| self.ask(core, Question::State)).collect();
        let mut states = vec![self.partition.state()];
        for slot in asked.into_iter().flatten() {
            match monoio::time::timeout(MESH_STATE_TIME_MAX, slot).await {
                Ok(Answer::State(state)) => states.push(*state),
                Ok(_) => unreachable!("a state is answered as a state"),
                Err(_) => {}
            }
        }
        states
    }

    fn others(&self) -> impl Iterator<Item = usize> {
        (0..self.partition.cores()).filter(|&core| core != self.partition.core())
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
            return Err(Unavailable::QueueFull);
        }
        peer.open.set(peer.open.get() + 1);
        let slot = self.tickets.take(core);
        self.send(core, Message::Ask { ticket: slot.ticket(), question });
        Ok(slot)
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
                        let answer = mesh.answer(question).await;
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

    /// Answers a question of another core, from this core's partition.
    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Create(record) => Answer::Creation(self.partition.create(record).await),
            Question::Fetch(id) => {
                let cached = self.partition.cached(&id).map(|body| Box::from(&*body));
                Answer::Fetched(match cached {
                    Some(body) => Ok(Some(body)),
                    None => self.partition.read(id).await.map(|found| found.map(|record| record.json)),
                })
            }
            Question::Search(term) => Answer::Searched(self.partition.search(&term).await),
            Question::State => Answer::State(Box::new(self.partition.state())),
        }
    }
}
