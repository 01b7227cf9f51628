//! The feed: committed rows, whoever inserted them, reach every core of this instance. It knows rows and the cores'
//! numbers, never what a core does with a row. What follows is said of one node; each has a follower of its own, all on one
//! thread, so that one node's absence holds up no other.
//!
//! First the feed sends the whole table, as one snapshot shows it. Then it asks for the rows that the last snapshot did
//! not show. It asks two to four times a second, and at once when another instance nudges it. So nothing depends on the
//! order of commits, on clocks or on notifications, and a row that is committed late is found once it is committed. What
//! it has to ask for, also after a reconnect or a crash of the server, is the `cursor`'s business, and so is the proof
//! that no row is missed.
//!
//! After a change of the cluster or of its timeline, the cores forget everything, and the feed sends the table again.
//! Every answer says which server gave it; that of another one is not taken.
//!
//! Each answer names the partitions that are at the node: one that came is read from the beginning, as of a new history.
//!
//! After each answer the cores hear how fresh they are. While a large transaction is being sent, beside the fresh rows,
//! they are as fresh as before it.
//!
//! Rows that this instance committed itself have already reached their core: the cores' Postgres threads name the
//! transactions, and the feed leaves out their rows. The feed also nudges the other instances, by `NOTIFY`: at once when
//! a commit comes after a pause, and then, while commits go on, when there are enough of them or `FEED_NUDGE_GAP_MAX` is
//! over. It does so in a transaction of its own, because a notifying commit holds a lock for which all other notifying
//! commits of the cluster wait; that transaction waits for no disk and no standby, since behind it the feed's questions
//! wait.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::LocalSet;
use tokio::time::sleep_until;
use tracing::{debug, info};

use super::bulk;
use super::connector::Connector;
use super::counters::{Counters, Operation};
use super::cursor::Cursor;
use super::failure::Failure;
use super::fanout::{Fanout, Fed, Owners};
use super::holding::Holding;
use super::layout::Partition;
use super::lookout;
use super::map::Map;
use super::own::{Ended, FeedNotice, OwnCommits, own_commits};
use super::placement::Placement;
use super::progress::Progress;
use super::session::{MOVED, Session};
use super::source::Source;
use super::sql::{self, Server, Xid8};
use crate::channel::ring;
use crate::limits::{
    FEED_GAP, FEED_NUDGE_GAP_MAX, FEED_NUDGE_ROWS, FEED_PERIOD, FEED_PERIOD_QUIET, FEED_QUEUE_MAX,
};
use crate::metrics::Count;
use crate::pessoa::Record;

/// The ends of the feed that the cores and their Postgres threads hold, in the order of the cores.
pub struct FeedLinks {
    /// The feed's thread, which ends when the last of the notices is gone.
    pub thread: JoinHandle<()>,
    /// What each core hears.
    pub rows: Vec<ring::Receiver<Fed>>,
    /// For each core's Postgres thread, to name its commits at each node.
    pub notices: Vec<Vec<FeedNotice>>,
    /// Bytes of the rows that are on their way to each core.
    pub queued_bytes: Vec<Arc<AtomicUsize>>,
    /// What the feed counts, of each node.
    pub counters: Vec<Arc<Counters>>,
}

/// Starts the feed of an instance with `cores` cores, from these nodes. It ends with the last of the cores' Postgres threads, or by a
/// fault, which `died` reports.
pub fn spawn(
    cores: usize,
    nodes: Vec<Source>,
    owners: impl Fn(&Record) -> Owners + Send + 'static,
    died: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<FeedLinks> {
    let (to_cores, rows) = (0..cores).map(|_| ring::channel(FEED_QUEUE_MAX)).unzip();
    let mut notices: Vec<Vec<FeedNotice>> = (0..cores).map(|_| Vec::new()).collect();
    let (mut own, mut counters) = (Vec::new(), Vec::new());
    for _ in &nodes {
        let (of_cores, of_node) = own_commits(cores);
        notices.iter_mut().zip(of_cores).for_each(|(of_core, notice)| of_core.push(notice));
        own.push(of_node);
        counters.push(Arc::<Counters>::default());
    }
    let fanout = Fanout::new(to_cores, owners);
    let queued_bytes = fanout.queued_bytes();
    let counting = counters.clone();
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let run = || serve(nodes, fanout, own, &counting);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            // The Postgres threads are gone: the server is leaving.
            Ok(Ok(())) => {}
            Ok(Err(error)) => died(&format!("its runtime could not be built: {error}")),
            Err(_) => died("it panicked"),
        }
    })?;
    Ok(FeedLinks { thread, rows, notices, queued_bytes, counters })
}

fn serve<O: Fn(&Record) -> Owners + 'static>(
    nodes: Vec<Source>,
    cores: Fanout<O>,
    own: Vec<OwnCommits>,
    counters: &[Arc<Counters>],
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let cores = Rc::new(cores);
    let map = Rc::new(RefCell::new(Map::new(nodes[0].partitions())));
    let mut followers = Vec::new();
    for (node, ((source, own), counters)) in nodes.into_iter().zip(own).zip(counters).enumerate() {
        // Not from here: the feed tells the cores itself whether its connection stands, in order with the rows.
        let connector = Connector::new(source.clone(), counters, |_| {});
        let bulk = Rc::new(Connector::new(source.clone(), counters, |_| {}));
        let follower = Follower {
            node,
            holding: Holding::new(node, Rc::clone(&map), Rc::clone(&cores)),
            cores: Rc::clone(&cores),
            bulk,
            own,
            counters: Arc::clone(counters),
            served: false,
        };
        tasks.spawn_local(lookout::run(source));
        followers.push(follower.run(connector));
    }
    tasks.block_on(&runtime, join_all(followers));
    Ok(())
}

/// Until the next nudge, after one that told of so many rows, `since` the one before: as long as [`FEED_NUDGE_ROWS`] take
/// at that rate.
fn gap_after(rows: u32, since: Duration) -> Duration {
    (since * FEED_NUDGE_ROWS / rows.max(1)).clamp(FEED_GAP, FEED_NUDGE_GAP_MAX)
}

/// Why the feed stops following a session.
enum Stop {
    Ended,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

impl From<Ended> for Stop {
    fn from(_: Ended) -> Stop {
        Stop::Ended
    }
}

/// Rows of large transactions on their way; then it names those transactions.
type Sending = Pin<Box<dyn Future<Output = Vec<Xid8>>>>;

/// Partitions whose rows are on their way; then it names them.
type Loading = Pin<Box<dyn Future<Output = Vec<Partition>>>>;

struct Follower<O> {
    /// The node that is followed, by its number.
    node: usize,
    holding: Holding<O>,
    cores: Rc<Fanout<O>>,
    bulk: Rc<Connector<sql::Bulk>>,
    own: OwnCommits,
    counters: Arc<Counters>,
    /// The cores had all of a table once, and answer requests since.
    served: bool,
}

impl<O: Fn(&Record) -> Owners + 'static> Follower<O> {
    async fn run(mut self, connector: Connector<sql::Feed>) {
        loop {
            let mut session = tokio::select! {
                session = connector.connect() => session,
                () = self.own.ended() => return,
            };
            self.cores.to_all(|| Fed::Reachable(self.node, true)).await;
            let Err(stop) = self.follow(&mut session, &connector).await;
            self.cores.to_all(|| Fed::Reachable(self.node, false)).await;
            match stop {
                Stop::Ended => return,
                Stop::Failed(why) => connector.lost(&why.to_string()),
            }
        }
    }

    /// Loads if need be, then follows the table until the connection is lost.
    async fn follow(
        &mut self,
        session: &mut Session<sql::Feed>,
        connector: &Connector<sql::Feed>,
    ) -> Result<Infallible, Stop> {
        let server = session.server();
        let own_pid = session.pid();
        let begun = tokio::select! {
            begun = self.holding.begin(server.identity, session.here()) => begun,
            () = self.own.ended() => return Err(Stop::Ended),
        };
        // After a load of all the session is the one that the cursor knows.
        let mut same_session = self.load_first(session, &server, &begun).await?;
        let mut loading = (!same_session).then_some(begun).and_then(|begun| self.load_beside(begun));
        let incoming = session.incoming();
        let (mut nudged, mut gap) = (Instant::now(), FEED_GAP);
        let (mut asked, mut ask_at, mut nudge_at) = (nudged, nudged, None);
        // When the last question was asked that has an answer.
        let mut fresh = None;
        let mut sending: Option<Sending> = None;
        loop {
            tokio::select! {
                why = session.ended() => return Err(Failure::Lost(why).into()),
                () = incoming.by_others(own_pid) => ask_at = ask_at.min(asked + FEED_GAP),
                committed = self.own.arrived(), if nudge_at.is_none() => {
                    committed?;
                    nudge_at = Some(nudged + gap);
                }
                () = sleep_until(nudge_at.unwrap_or(ask_at).into()), if nudge_at.is_some() => {
                    // Before it is sent: what is committed meanwhile may be after it, and is told by the next one.
                    gap = gap_after(self.own.told(), nudged.elapsed());
                    match session.notify().await {
                        Ok(()) => {}
                        // Somebody else's commit holds its lock, or its queue is full. The others ask by themselves.
                        Err(why) if why.undone().is_some() => {
                            debug!(%why, "the other instances were not nudged");
                        }
                        Err(why) => return Err(why.into()),
                    }
                    nudged = Instant::now();
                    nudge_at = None;
                }
                () = sleep_until(ask_at.into()) => {
                    let began = Instant::now();
                    let (quiet, here) = self.ask(session, &server, same_session).await?;
                    connector.worked();
                    // Before the cores are told that they are fresh: of what has come they know nothing yet.
                    self.holding.place(&here).await;
                    if here != *session.here() || self.holding.has_come(&here) {
                        return Err(Failure::Lost(MOVED.to_owned()).into());
                    }
                    same_session = true;
                    fresh = Some(began);
                    asked = Instant::now();
                    ask_at = asked + if quiet { FEED_PERIOD_QUIET } else { FEED_PERIOD };
                    self.send_large(&mut sending);
                    self.say_fresh(fresh).await;
                    // The question took commits out of the rings of which nobody has told.
                    if self.own.has_untold() {
                        nudge_at = nudge_at.or(Some(nudged + gap));
                    }
                }
                loaded = async { loading.as_mut().expect("it is being loaded").await }, if loading.is_some() => {
                    loading = None;
                    self.hold(&loaded);
                    self.say_fresh(fresh).await;
                }
                sent = async { sending.as_mut().expect("it is being sent").await }, if sending.is_some() => {
                    sending = None;
                    self.holding.cursor().paid(&sent);
                    self.send_large(&mut sending);
                    self.say_fresh(fresh).await;
                }
            }
        }
    }

    /// Sends all rows of what was `begun`, if nothing was read before: the cursor begins with it. Whether it was so.
    async fn load_first(
        &mut self,
        session: &Session<sql::Feed>,
        server: &Server,
        begun: &[Partition],
    ) -> Result<bool, Failure> {
        if self.holding.is_read() {
            return Ok(false);
        }
        let expected = session.expected_rows(begun).await?;
        self.counters.expect(expected);
        let mut progress = Progress::begin(expected);
        let seen = session.load(server, begun, async |record| {
            progress.row();
            self.cores.row(record, self.served).await;
            self.counters.rows_fed.add(1);
        });
        self.holding.begin_reading(Cursor::new(seen.await?));
        progress.end(self.served);
        self.hold(begun);
        Ok(true)
    }

    /// Sends all rows of partitions that came to a node that is followed already, while the others stay fresh: the cursor is
    /// older than what is read, so whatever is committed afterwards is asked for.
    fn load_beside(&self, begun: Vec<Partition>) -> Option<Loading> {
        let of = self.holding.history()?;
        let (connector, cores) = (Rc::clone(&self.bulk), Rc::clone(&self.cores));
        (!begun.is_empty()).then(|| Box::pin(bulk::load(connector, cores, of, begun)) as Loading)
    }

    /// All rows of these partitions were sent.
    fn hold(&mut self, loaded: &[Partition]) {
        self.holding.hold(loaded);
        self.counters.loads.add(1);
    }

    /// Asks for the rows that the cores have not been sent. Returns whether no transaction began or ended since the last
    /// question.
    async fn ask(
        &mut self,
        session: &Session<sql::Feed>,
        server: &Server,
        same_session: bool,
    ) -> Result<(bool, Placement), Failure> {
        let unseen = self.holding.cursor().unseen(same_session);
        let known = self.own.known(server.identity);
        let mut rows = 0_u64;
        let each = async |record| {
            rows += 1;
            self.cores.row(record, self.served).await;
        };
        let question = session.changes(server, &unseen, &known, each);
        let (seen, here) = self.counters.time(Operation::Feed, question).await?;
        self.counters.rows_fed.add(rows);
        self.cores.wake_all();
        if !same_session {
            info!(
                rows,
                large = seen.owed.len(),
                "the feed goes on from what was known to be on the database's disk"
            );
        }
        self.own.shown();
        let quiet = self.holding.cursor().advance(seen, same_session).map_err(|_gone_back| {
            // The cores forget all of it when the feed meets the server again.
            self.holding.forget();
            Failure::Lost("the database has lost what it had on disk: it has another history".to_owned())
        })?;
        Ok((quiet, here))
    }

    /// Begins to send the rows of large transactions, if there are any and none are on their way.
    fn send_large(&mut self, sending: &mut Option<Sending>) {
        let of = self.holding.history();
        let owed = self.holding.cursor().owed().to_vec();
        if let Some(of) = of
            && sending.is_none()
            && !owed.is_empty()
        {
            let (connector, cores) = (Rc::clone(&self.bulk), Rc::clone(&self.cores));
            *sending = Some(Box::pin(bulk::send(connector, cores, of, owed, self.served)));
        }
    }

    /// Tells the cores how fresh they are, if nothing is on its way.
    async fn say_fresh(&mut self, fresh: Option<Instant>) {
        if !self.holding.cursor().owed().is_empty() {
            return;
        }
        if let Some(fresh) = fresh {
            self.cores.to_all(|| Fed::Fresh(self.node, fresh)).await;
        }
        self.served |= self.holding.say_loaded().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_is_worth_some_rows_or_a_long_gap() {
        let millis = Duration::from_millis;
        for (rows, since, gap) in [
            (1, millis(100), FEED_NUDGE_GAP_MAX),
            (1, Duration::from_secs(1_000_000), FEED_NUDGE_GAP_MAX),
            (64, millis(60), millis(60)),
            (64, millis(20), FEED_GAP),
            (500, millis(20), FEED_GAP),
            (u32::MAX, millis(100), FEED_GAP),
            (0, millis(100), FEED_NUDGE_GAP_MAX),
        ] {
            assert_eq!(gap_after(rows, since), gap, "{rows} rows in {since:?}");
        }
    }
}
