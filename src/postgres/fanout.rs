//! From the feed to the cores: what it tells them, and the rings on which it does. It knows the cores' numbers, never what a
//! core does with a row.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::history::Identity;
use super::layout::Partition;
use crate::channel::ring;
use crate::limits::{FEED_CHUNK, FEED_PAUSE, FEED_QUEUE_BYTES_MAX};
use crate::pessoa::Record;

/// What a core hears from the feed, in order.
pub enum Fed {
    /// What follows of these partitions comes from this node, and belongs to this history: nothing that was sent of them
    /// before holds.
    Begin(Begin, Heard),
    /// A committed row whose home is on this core.
    Row(Box<Record>, Queued),
    /// The apelido of a committed row whose home is on another core.
    Taken(Box<str>),
    /// Every row of these partitions at this node that was committed when their load began has been sent.
    Loaded(usize, Arc<[Partition]>),
    /// Every row of this node whose commit was acknowledged before this time, to whomever, has been sent.
    Fresh(usize, Instant),
    /// What has become of a partition that has begun at this node.
    Placed(usize, Partition, Placing),
    /// The feed's connection to this node came or went.
    Reachable(usize, bool),
}

/// What begins.
#[derive(Clone)]
pub struct Begin {
    /// The node, by its number.
    pub node: usize,
    /// The history that its primary writes.
    pub of: Identity,
    /// What begins of it.
    pub partitions: Arc<[Partition]>,
}

/// How a partition is where it was last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// It takes rows.
    Open,
    /// It takes none, and what it holds stays as it is: it moves.
    Closed,
    /// Another node has it open too: nobody knows what that one holds.
    Disputed,
    /// It is not there any more.
    Gone,
}

/// Tells the feed, by being dropped, that a core has done what it heard; of itself it tells nobody.
#[derive(Default)]
pub struct Heard(#[expect(dead_code, reason = "it is counted")] Arc<()>);

/// The bytes of a row that is on its way to a core; it arrived when this is dropped.
#[derive(Default)]
pub struct Queued {
    bytes: usize,
    /// What is on its way to that core.
    of_core: Arc<AtomicUsize>,
}

impl Queued {
    fn new(bytes: usize, of_core: &Arc<AtomicUsize>) -> Queued {
        of_core.fetch_add(bytes, Ordering::Relaxed);
        Queued { bytes, of_core: Arc::clone(of_core) }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.of_core.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Which cores hear of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owners {
    /// The owner of its id.
    pub row: usize,
    /// The owner of its apelido.
    pub apelido: usize,
}

/// The feed's ends of the rings to the cores.
pub(super) struct Fanout<O> {
    senders: Vec<RefCell<ring::Sender<Fed>>>,
    /// Bytes of rows that are on their way, by core.
    queued: Vec<Arc<AtomicUsize>>,
    owners: O,
    /// Messages that were pushed since the cores were last woken.
    unwoken: Cell<usize>,
}

impl<O: Fn(&Record) -> Owners> Fanout<O> {
    /// For each core the bytes of the rows that are on their way to it, which anybody may read.
    pub(super) fn queued_bytes(&self) -> Vec<Arc<AtomicUsize>> {
        self.queued.clone()
    }

    pub(super) fn new(senders: Vec<ring::Sender<Fed>>, owners: O) -> Fanout<O> {
        let queued = senders.iter().map(|_| Arc::default()).collect();
        let senders = senders.into_iter().map(RefCell::new).collect();
        Fanout { senders, queued, owners, unwoken: Cell::new(0) }
    }

    /// Hands a row to its owners. While the cores are `serving` requests, there is a pause after each `FEED_CHUNK`.
    pub(super) async fn row(&self, record: Record, serving: bool) {
        let owners = (self.owners)(&record);
        if owners.apelido != owners.row {
            self.push(owners.apelido, Fed::Taken(record.pessoa.apelido.clone())).await;
        }
        let queued = &self.queued[owners.row];
        while queued.load(Ordering::Relaxed) >= FEED_QUEUE_BYTES_MAX {
            self.wake_all();
            tokio::time::sleep(FEED_PAUSE).await;
        }
        let queued = Queued::new(record.bytes(), queued);
        self.push(owners.row, Fed::Row(Box::new(record), queued)).await;
        if self.unwoken.get() >= FEED_CHUNK {
            self.wake_all();
            if serving {
                tokio::time::sleep(FEED_PAUSE).await;
            }
        }
    }

    /// Tells the cores what begins. Returns once all of them have forgotten what they knew of those partitions: from then on
    /// they lose no row that they learn.
    pub(super) async fn begin(&self, begin: &Begin) {
        let mut unheard = Arc::new(());
        self.to_all(|| Fed::Begin(begin.clone(), Heard(Arc::clone(&unheard)))).await;
        while Arc::get_mut(&mut unheard).is_none() {
            tokio::time::sleep(FEED_PAUSE).await;
        }
    }

    pub(super) async fn to_all(&self, fed: impl Fn() -> Fed) {
        for core in 0..self.senders.len() {
            self.push(core, fed()).await;
        }
        self.wake_all();
    }

    /// Pushes to a core's ring, and waits while it is full.
    async fn push(&self, core: usize, mut fed: Fed) {
        while let Err(back) = self.push_now(core, fed) {
            fed = back;
            self.wake_all();
            tokio::time::sleep(FEED_PAUSE).await;
        }
    }

    fn push_now(&self, core: usize, fed: Fed) -> Result<(), Fed> {
        self.senders[core].borrow_mut().push(fed)?;
        self.unwoken.set(self.unwoken.get() + 1);
        Ok(())
    }

    /// Wakes the cores, if there is anything for them.
    pub(super) fn wake_all(&self) {
        if self.unwoken.take() > 0 {
            for sender in &self.senders {
                sender.borrow().wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use uuid::Uuid;

    use super::*;
    use crate::limits::FEED_QUEUE_MAX;
    use crate::pessoa::Pessoa;
    use crate::postgres::layout::Partitions;

    const ROWS: usize = 200;

    fn row(number: usize) -> Record {
        let item = "x".repeat(32);
        let stack = vec![item.as_str(); 1_000];
        let pessoa = Pessoa::from_columns(Uuid::nil(), &number.to_string(), "Ana", 0, Some(stack));
        Record::new(pessoa.expect("a valid pessoa"))
    }

    /// A row that a core learns before it forgets must have been committed before the load begins.
    #[test]
    fn a_history_begins_once_every_core_has_heard_of_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| ring::channel(4)).unzip();
            let fanout = Fanout::new(senders, |_: &Record| Owners { row: 0, apelido: 0 });
            let of = Identity { system: 7, timeline: 1 };
            let begin = Begin { node: 0, of, partitions: Partitions::ONE.all().collect() };
            let mut begin = pin!(fanout.begin(&begin));
            let mut heard = Vec::new();
            for receiver in &mut receivers {
                let waits = poll_fn(|cx| Poll::Ready(begin.as_mut().poll(cx).is_pending())).await;
                assert!(waits, "a core has not heard of it");
                heard.push(receiver.try_pop());
            }
            let taken = poll_fn(|cx| Poll::Ready(begin.as_mut().poll(cx).is_pending())).await;
            assert!(taken, "what was taken is not done yet");
            drop(heard);
            begin.await;
        });
    }

    /// A core that takes nothing holds up the feed at the bound, and loses nothing.
    #[test]
    fn what_is_on_its_way_to_a_core_is_bounded_in_bytes() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (sender, mut receiver) = ring::channel(FEED_QUEUE_MAX);
            let fanout = Fanout::new(vec![sender], |_: &Record| Owners { row: 0, apelido: 0 });
            let mut send = pin!(async {
                for number in 0..ROWS {
                    fanout.row(row(number), false).await;
                }
                fanout.wake_all();
            });
            let waits = poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx).is_pending())).await;
            assert!(waits, "expected the feed to wait");
            let on_its_way = fanout.queued[0].load(Ordering::Relaxed);
            let bound = FEED_QUEUE_BYTES_MAX..FEED_QUEUE_BYTES_MAX + row(0).bytes();
            assert!(bound.contains(&on_its_way), "{on_its_way} of {bound:?}");

            let receive = async {
                let mut received: Vec<usize> = Vec::new();
                while received.len() < ROWS {
                    let Some(Fed::Row(record, _arrived)) = poll_fn(|cx| receiver.poll_pop(cx)).await else {
                        panic!("expected a row");
                    };
                    received.push(record.pessoa.apelido.parse().unwrap());
                }
                received
            };
            let ((), received) = tokio::join!(send, receive);
            assert_eq!(received, (0..ROWS).collect::<Vec<usize>>());
            assert_eq!(fanout.queued[0].load(Ordering::Relaxed), 0);
        });
    }
}
