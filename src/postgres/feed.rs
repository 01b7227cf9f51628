//! The feed: committed rows, whoever inserted them, reach every core of this instance. It knows rows and the cores'
//! numbers, never what a core does with a row.
//!
//! First the feed sends the whole table, as one snapshot shows it. Then it asks for the rows that the last snapshot did
//! not show, those of transactions that were under way at that time or began later. It asks two to four times a second,
//! and at once when another instance nudges it. So nothing depends on the order of commits, on clocks or on
//! notifications, and a row that is committed late is found once it is committed.
//!
//! After a reconnect the feed goes on from the last snapshot, if the server is the same. After a crash or a restart of
//! the server the feed sends the table again, because ids of transactions that had left no trace on disk are then used
//! anew. After a change of the cluster or of its timeline, the cores first forget everything.
//!
//! Rows that this instance committed itself have already reached their core: the cores' Postgres threads name the
//! transactions, and the feed leaves out their rows. The feed also nudges the other instances, by `NOTIFY`, at most
//! once in `FEED_GAP`. It does so in a transaction of its own, because a notifying commit holds a lock for which all
//! other notifying commits of the cluster wait.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio::time::sleep_until;
use tracing::{info, warn};

use super::connector::Connector;
use super::failure::Failure;
use super::fanout::{Fanout, Fed, Owners};
use super::lookout;
use super::session::Session;
use super::source::Source;
use super::sql::{self, ServerIdentity, Snapshot, Xid8};
use crate::channel::ring;
use crate::limits::{
    FEED_DOUBT_TIME, FEED_GAP, FEED_NOTICES_MAX, FEED_PERIOD, FEED_PERIOD_QUIET, FEED_QUEUE_MAX,
};
use crate::pessoa::Record;

/// How often a long load says how far it is.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// Tells the feed what one Postgres thread committed.
pub struct FeedNotice(RefCell<ring::Sender<Xid8>>);

impl FeedNotice {
    /// Names a transaction whose rows are on their way to the core. When the ring is full the name is dropped, so that
    /// no commit waits for the feed: the feed then reads those rows again, which changes nothing.
    pub(super) fn committed(&self, tx: Xid8) {
        let mut notices = self.0.borrow_mut();
        let _full = notices.push(tx).is_err();
        notices.wake();
    }
}

/// The ends of the feed that the cores and their Postgres threads hold, in the order of the cores.
pub struct FeedLinks {
    /// The feed's thread, which ends when the last of the notices is gone.
    pub thread: JoinHandle<()>,
    /// What each core hears.
    pub rows: Vec<ring::Receiver<Fed>>,
    /// For each core's Postgres thread, to name its commits.
    pub notices: Vec<FeedNotice>,
}

/// Starts the feed of an instance with `cores` cores. It ends with the last of the cores' Postgres threads, or by a
/// fault, which `died` reports.
pub fn spawn(
    cores: usize,
    source: Source,
    owners: impl Fn(&Record) -> Owners + Send + 'static,
    died: impl FnOnce(&str) + Send + 'static,
) -> std::io::Result<FeedLinks> {
    let (to_cores, rows) = (0..cores).map(|_| ring::channel(FEED_QUEUE_MAX)).unzip();
    let (notices, inboxes): (Vec<_>, Vec<_>) = (0..cores).map(|_| ring::channel(FEED_NOTICES_MAX)).unzip();
    let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(move || {
        let run = || serve(source, Fanout::new(to_cores, owners), inboxes);
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            // The Postgres threads are gone: the server is leaving.
            Ok(Ok(())) => {}
            Ok(Err(error)) => died(&format!("its runtime could not be built: {error}")),
            Err(_) => died("it panicked"),
        }
    })?;
    let notices = notices.into_iter().map(|sender| FeedNotice(RefCell::new(sender))).collect();
    Ok(FeedLinks { thread, rows, notices })
}

fn serve<O: Fn(&Record) -> Owners>(
    source: Source,
    cores: Fanout<O>,
    inboxes: Vec<ring::Receiver<Xid8>>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Not from here: the feed tells the cores itself whether its connection stands, in order with the rows.
    let connector = Connector::new(source.clone(), |_| {});
    let own = OwnCommits { inboxes, transactions: Vec::new(), doubt_until: None };
    let follower = Follower { cores, own, identity: None, snapshot: None, loaded: false };
    let tasks = LocalSet::new();
    tasks.spawn_local(lookout::run(source));
    tasks.block_on(&runtime, follower.run(connector));
    Ok(())
}

/// The Postgres threads are gone.
struct Ended;

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

/// The transactions that this instance committed and that no snapshot of the feed has shown yet.
struct OwnCommits {
    inboxes: Vec<ring::Receiver<Xid8>>,
    transactions: Vec<Xid8>,
    /// Until this time the rows of no transaction are left out.
    doubt_until: Option<Instant>,
}

impl OwnCommits {
    /// Waits for a commit of this instance. Commits wake the feed only while this is awaited.
    async fn arrived(&mut self) -> Result<(), Ended> {
        poll_fn(|cx| {
            let mut ended = true;
            for inbox in &mut self.inboxes {
                match inbox.poll_pop(cx) {
                    Poll::Ready(Some(tx)) => {
                        self.transactions.push(tx);
                        return Poll::Ready(Ok(()));
                    }
                    Poll::Ready(None) => {}
                    Poll::Pending => ended = false,
                }
            }
            if ended { Poll::Ready(Err(Ended)) } else { Poll::Pending }
        })
        .await
    }

    /// Returns when the Postgres threads are gone. The feed will read what they commit meanwhile, like the rows of
    /// others.
    async fn ended(&mut self) {
        while self.arrived().await.is_ok() {
            self.transactions.clear();
        }
    }

    /// From now on, for `FEED_DOUBT_TIME`, the rows of no transaction are left out: names from the old history may
    /// still arrive, and the new history gives the same ids to other transactions.
    fn doubt(&mut self) {
        self.doubt_until = Some(Instant::now() + FEED_DOUBT_TIME);
    }

    /// The commits up to now whose rows a question may leave out.
    fn known(&mut self) -> &[Xid8] {
        for inbox in &mut self.inboxes {
            while self.transactions.len() < FEED_NOTICES_MAX
                && let Some(tx) = inbox.try_pop()
            {
                self.transactions.push(tx);
            }
        }
        if self.doubt_until.is_some_and(|until| Instant::now() < until) {
            self.transactions.clear();
        }
        &self.transactions
    }
}

struct Follower<O> {
    cores: Fanout<O>,
    own: OwnCommits,
    /// The server that the cores' rows came from.
    identity: Option<ServerIdentity>,
    /// What the feed has read of that server's table; `None` until it has read the whole table.
    snapshot: Option<Snapshot>,
    loaded: bool,
}

impl<O: Fn(&Record) -> Owners> Follower<O> {
    async fn run(mut self, connector: Connector<sql::Feed>) {
        loop {
            let mut session = tokio::select! {
                session = connector.connect() => session,
                () = self.own.ended() => return,
            };
            self.cores.to_all(|| Fed::Reachable(true)).await;
            let Err(stop) = self.follow(&mut session, &connector).await;
            self.cores.to_all(|| Fed::Reachable(false)).await;
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
    ) -> Result<std::convert::Infallible, Stop> {
        let identity = session.identity().await?;
        let own_pid = session.pid();
        self.meet(identity).await;
        if self.snapshot.is_none() {
            self.snapshot = Some(self.load(session).await?);
        }
        // Rows that were committed while the table was sent reach the cores before they are told that all is loaded.
        self.ask(session).await?;
        connector.worked();
        if !self.loaded {
            self.loaded = true;
            self.cores.to_all(|| Fed::Loaded).await;
        }
        let incoming = session.incoming();
        let (mut asked, mut nudged) = (Instant::now(), Instant::now());
        let mut ask_at = asked + FEED_PERIOD;
        let mut nudge_at = None;
        loop {
            tokio::select! {
                why = session.ended() => return Err(Failure::Lost(why).into()),
                () = incoming.by_others(own_pid) => ask_at = ask_at.min(asked + FEED_GAP),
                committed = self.own.arrived(), if nudge_at.is_none() => match committed {
                    Ok(()) => nudge_at = Some(nudged + FEED_GAP),
                    Err(Ended) => return Err(Stop::Ended),
                },
                () = sleep_until(nudge_at.unwrap_or(ask_at).into()), if nudge_at.is_some() => {
                    session.notify().await?;
                    nudged = Instant::now();
                    nudge_at = None;
                }
                () = sleep_until(ask_at.into()) => {
                    let quiet = self.ask(session).await?;
                    asked = Instant::now();
                    ask_at = asked + if quiet { FEED_PERIOD_QUIET } else { FEED_PERIOD };
                }
            }
        }
    }

    /// Drops what the feed and the cores know of the last server as far as it does not hold for this one.
    async fn meet(&mut self, identity: ServerIdentity) {
        if let Some(before) = self.identity.replace(identity.clone()) {
            if before.history != identity.history {
                let (before, now) = (before.history, identity.history);
                warn!(before, now, "the database has another history: loading anew");
                self.cores.to_all(|| Fed::Forget).await;
                self.own.doubt();
                self.snapshot = None;
                self.loaded = false;
            } else if before.incarnation != identity.incarnation && self.snapshot.take().is_some() {
                info!("the database was restarted: reading its rows again");
            }
        }
    }

    async fn load(&self, session: &Session<sql::Feed>) -> Result<Snapshot, Failure> {
        let began = Instant::now();
        let (mut rows, mut said) = (0_u64, began);
        let snapshot = session.load(async |record| {
            rows += 1;
            if said.elapsed() >= PROGRESS_PERIOD {
                said = Instant::now();
                info!(rows, elapsed = ?began.elapsed(), "loading");
            }
            self.cores.row(record, self.loaded).await;
        });
        let snapshot = snapshot.await?;
        self.cores.wake_all();
        Ok(snapshot)
    }

    /// Asks for the rows that the last snapshot did not show. Returns whether no transaction began or ended since then.
    async fn ask(&mut self, session: &Session<sql::Feed>) -> Result<bool, Failure> {
        let since = self.snapshot.as_ref().expect("a feed that follows has read the table");
        let each = async |record| self.cores.row(record, self.loaded).await;
        let snapshot = session.changes(since, self.own.known(), each).await?;
        self.cores.wake_all();
        // These transactions were committed before the question, so the new snapshot shows them and no later question
        // meets their rows.
        self.own.transactions.clear();
        let quiet = snapshot == *since;
        self.snapshot = Some(snapshot);
        Ok(quiet)
    }
}
