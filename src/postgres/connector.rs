//! Makes sessions, and tries again while the database is away. An outage is logged when it begins, and then
//! periodically.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::counters::Counters;
use super::history::Identity;
use super::session::{MOVED, Session, Statements};
use super::source::Source;
use crate::limits::{CONNECT_BACKOFF_MAX, CONNECT_BACKOFF_MIN};

/// How often an outage of the database is logged.
const OUTAGE_LOG_PERIOD: Duration = Duration::from_secs(5);

/// Makes sessions with the statements `S`, for as long as it takes.
pub(super) struct Connector<S> {
    source: Source,
    /// Of the thread that it is on.
    counters: Arc<Counters>,
    statements: PhantomData<S>,
    /// Hears whenever a connection came, with the history of its server, or went.
    reachable: Box<dyn Fn(Option<Identity>)>,
    /// The pause before the next session: zero once a session worked, else it grows. So a database that takes
    /// connections and refuses the work (a standby, a full disk) is asked ever less often, like one that is away.
    pause: Cell<Duration>,
    /// When the loss of a session was last logged.
    said: Cell<Option<Instant>>,
    /// The server process of the last session.
    last: Cell<Option<i32>>,
}

impl<S: Statements> Connector<S> {
    pub(super) fn new(
        source: Source,
        counters: &Arc<Counters>,
        reachable: impl Fn(Option<Identity>) + 'static,
    ) -> Connector<S> {
        Connector {
            source,
            counters: Arc::clone(counters),
            statements: PhantomData,
            reachable: Box::new(reachable),
            pause: Cell::default(),
            said: Cell::default(),
            last: Cell::default(),
        }
    }

    /// Tries until it succeeds, with a growing pause, and logs the outage every `OUTAGE_LOG_PERIOD`.
    pub(super) async fn connect(&self) -> Session<S> {
        let began = Instant::now();
        let mut pause = CONNECT_BACKOFF_MIN;
        let mut said: Option<Instant> = None;
        if !self.pause.get().is_zero() {
            tokio::time::sleep(self.pause.get()).await;
        }
        loop {
            // Each of its parts has a bound of its own.
            let failure = match Session::open(&self.source, self.last.get()).await {
                Ok(session) => {
                    self.last.set(Some(session.pid()));
                    if said.is_some() {
                        let away = began.elapsed();
                        info!(connection = S::ROLE.name(), ?away, "the database is back");
                    }
                    self.pause.set((self.pause.get() * 2).clamp(CONNECT_BACKOFF_MIN, CONNECT_BACKOFF_MAX));
                    (self.reachable)(Some(session.identity()));
                    return session;
                }
                Err(failure) => failure,
            };
            if said.is_none_or(|at| at.elapsed() >= OUTAGE_LOG_PERIOD) {
                warn!(connection = S::ROLE.name(), why = %failure, "the database cannot be reached; trying on");
                said = Some(Instant::now());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_BACKOFF_MAX);
        }
    }

    /// What the sessions' work is counted in.
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The session did what it was asked: the next one needs no pause.
    pub(super) fn worked(&self) {
        self.pause.set(Duration::ZERO);
    }

    /// Logs that a session was lost, and why. The loss of a session that never worked is logged only when none was
    /// logged within the last `OUTAGE_LOG_PERIOD`.
    pub(super) fn lost(&self, why: &str) {
        let (connection, address) = (S::ROLE.name(), self.source.address());
        (self.reachable)(None);
        if why == MOVED {
            info!(connection, %address, why, "reconnecting");
            return;
        }
        let said_lately = self.said.get().is_some_and(|at| at.elapsed() < OUTAGE_LOG_PERIOD);
        if self.pause.get().is_zero() || !said_lately {
            warn!(connection, %address, why, "the connection to the database was lost; reconnecting");
            self.said.set(Some(Instant::now()));
        }
        self.counters.lost(S::ROLE);
    }
}
