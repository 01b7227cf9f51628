//! Where the process writes what an operator may know, and the way to ask the cores. It decides nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::channel::ring;
use crate::core::{Chosen, Counted, Question};
use crate::limits::ADMIN_CORE_TIME_MAX;
use crate::postgres::{Counters, ServerFacts, Source};

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for its database, or reads the table.
    Loading,
    /// It takes requests.
    Serving,
    /// It was told to stop, and answers what was received.
    Draining,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Loading => "loading",
            Stage::Serving => "serving",
            Stage::Draining => "draining",
        }
    }
}

/// How far the load of the table is.
pub struct Loading {
    rows: u64,
    /// By the table's statistics.
    expected: Option<u64>,
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.expected.filter(|&expected| expected >= self.rows) {
            Some(expected) => write!(f, "loading: {} of about {expected} rows", self.rows),
            None => write!(f, "loading: {} rows", self.rows),
        }
    }
}

/// A core that was asked what it counted.
pub(super) struct Asked {
    /// What it said; `None`: nothing in time.
    pub(super) now: Option<Arc<Counted>>,
    /// The last that it ever said. Sums over cores are of this: a sum that lacks a core would look like a restart.
    pub(super) last: Option<Arc<Counted>>,
}

/// What there is to watch once the threads run.
pub struct Watched {
    /// Where each core is asked.
    pub cores: Vec<ring::Sender<Question>>,
    /// The budget of each core's memory.
    pub cache_bytes: usize,
    /// What each thread of the database side counts.
    pub counters: Vec<Arc<Counters>>,
    /// Bytes of the rows that are on their way from the feed to each core.
    pub queued_bytes: Vec<Arc<AtomicUsize>>,
    /// The nodes of the database.
    pub nodes: Vec<Source>,
    /// What the server of each said at the start.
    pub servers: Vec<ServerFacts>,
}

/// What the process shows. It is written by the main thread and read by the admin listener's.
pub struct Board {
    /// Where clients connect.
    addresses: Vec<String>,
    /// Log lines that were lost.
    lost: Arc<AtomicU64>,
    draining: Box<dyn Fn() -> bool + Send + Sync>,
    /// No request touches this lock: only who asks for metrics does.
    watched: OnceLock<Mutex<Watched>>,
    /// The last that each core said.
    last: Mutex<Vec<Option<Arc<Counted>>>>,
    /// What drives each core, once all of them serve.
    drivers: OnceLock<Vec<Chosen>>,
}

impl Board {
    /// Clients connect to `addresses`, `lost` counts the log's lost lines, and `draining` says whether the process was told to stop.
    pub fn new(
        addresses: &[String],
        lost: Arc<AtomicU64>,
        draining: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Arc<Board> {
        Arc::new(Board {
            addresses: addresses.to_vec(),
            lost,
            draining: Box::new(draining),
            watched: OnceLock::new(),
            last: Mutex::default(),
            drivers: OnceLock::new(),
        })
    }

    /// The threads run. This is said once.
    pub fn watch(&self, watched: Watched) {
        let first = self.watched.set(Mutex::new(watched)).is_ok();
        assert!(first, "an instance is started once");
    }

    /// The process takes requests, with these drivers, in the order of the cores. This is said once.
    pub fn serves(&self, drivers: Vec<Chosen>) {
        let first = self.drivers.set(drivers).is_ok();
        assert!(first, "the cores begin to serve once");
    }

    pub(super) fn stage(&self) -> Stage {
        match self.drivers.get() {
            _ if (self.draining)() => Stage::Draining,
            Some(_) => Stage::Serving,
            None => Stage::Loading,
        }
    }

    pub(super) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(super) fn drivers(&self) -> &[Chosen] {
        self.drivers.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn lost_lines(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Reads what the threads of the database side show; `None` before they run.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Watched) -> T) -> Option<T> {
        let watched = self.watched.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(read(&watched))
    }

    /// Asks every core what it counted. There is none before the threads run.
    pub(super) async fn ask(&self) -> Vec<Asked> {
        let said = join_all(self.put_questions().into_iter().map(|answer| async {
            match timeout(ADMIN_CORE_TIME_MAX, answer?).await {
                Ok(Ok(counted)) => Some(Arc::new(counted)),
                // It is late, or it has left.
                Ok(Err(_)) | Err(_) => None,
            }
        }))
        .await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.resize(said.len(), None);
        let remember = |(now, last): (Option<Arc<Counted>>, &mut Option<Arc<Counted>>)| {
            *last = now.clone().or_else(|| last.take());
            Asked { now, last: last.clone() }
        };
        said.into_iter().zip(last.iter_mut()).map(remember).collect()
    }

    /// The cores that run and do not say anything in time. A core that has left in a drain is none of them.
    pub async fn silent(&self) -> Vec<usize> {
        if self.stage() == Stage::Draining {
            return Vec::new();
        }
        let asked = self.ask().await;
        self.silent_of(&asked)
    }

    /// Those of the cores that were just asked. The drain is looked at afterwards: a core leaves only in one.
    pub(super) fn silent_of(&self, asked: &[Asked]) -> Vec<usize> {
        if self.stage() == Stage::Draining {
            return Vec::new();
        }
        asked.iter().enumerate().filter(|(_, asked)| asked.now.is_none()).map(|(core, _)| core).collect()
    }

    /// How far the first load of the table is; `None` before the threads run.
    pub fn loading(&self) -> Option<Loading> {
        self.read(|watched| Loading {
            rows: watched.counters.iter().map(|counters| counters.rows_fed()).sum(),
            expected: watched
                .counters
                .iter()
                .filter_map(|counters| counters.expected_rows())
                .reduce(|all, rows| all.saturating_add(rows)),
        })
    }

    /// A core whose ring is full is not asked: it has not answered for long.
    fn put_questions(&self) -> Vec<Option<oneshot::Receiver<Counted>>> {
        let Some(watched) = self.watched.get() else { return Vec::new() };
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let put = |core: &mut ring::Sender<Question>| {
            let (tell, answer) = oneshot::channel();
            core.push(Question(tell)).ok()?;
            core.wake();
            Some(answer)
        };
        watched.cores.iter_mut().map(put).collect()
    }
}
