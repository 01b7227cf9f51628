//! The engine without the server: plain writers, one at each node and one behind a balancer, which try on and on. What
//! they miss, no server could have had.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio_postgres::{AsyncMessage, Config, NoTls};

/// Of a connection attempt.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);
/// Of an insert: it waits for the standby. A writer that gives up leaves its backend there, so it is patient.
const INSERT_TIME_MAX: Duration = Duration::from_secs(5);
/// Between two tries, whatever came of the first.
const PAUSE: Duration = Duration::from_millis(20);

/// The writers; they end when this is dropped.
pub(crate) struct Engine {
    stop: Arc<AtomicBool>,
    /// When something was committed, with nothing said against it: on whichever node, and through the balancer.
    nodes: Arc<Mutex<Vec<Duration>>>,
    balancer: Arc<Mutex<Vec<Duration>>>,
    writers: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts a writer for each node, and one behind the balancer. Times are from `epoch` on.
    pub(crate) fn start(nodes: &[Config], balancer: &Config, epoch: Instant) -> Engine {
        let mut engine = Engine {
            stop: Arc::default(),
            nodes: Arc::default(),
            balancer: Arc::default(),
            writers: Vec::new(),
        };
        let ways = nodes.iter().map(|node| (node, &engine.nodes)).chain([(balancer, &engine.balancer)]);
        let writers = ways.map(|(config, committed)| {
            let (stop, committed, config) = (Arc::clone(&engine.stop), Arc::clone(committed), config.clone());
            thread::spawn(move || write(&config, &stop, &committed, epoch))
        });
        engine.writers = writers.collect();
        engine
    }

    /// When something was committed: on whichever node, and through the balancer.
    pub(crate) fn finish(self) -> (Vec<Duration>, Vec<Duration>) {
        let (nodes, balancer) = (Arc::clone(&self.nodes), Arc::clone(&self.balancer));
        drop(self);
        let taken = |times: Arc<Mutex<Vec<Duration>>>| {
            std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner))
        };
        (taken(nodes), taken(balancer))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            let _ = writer.join();
        }
    }
}

fn write(config: &Config, stop: &AtomicBool, committed: &Mutex<Vec<Duration>>, epoch: Instant) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tasks = tokio::task::LocalSet::new();
    while !stop.load(Ordering::Relaxed) {
        tasks.block_on(&runtime, session(config, stop, committed, epoch));
        thread::sleep(PAUSE);
    }
}

/// Writes on one connection until it fails.
async fn session(config: &Config, stop: &AtomicBool, committed: &Mutex<Vec<Duration>>, epoch: Instant) {
    let connected = tokio::time::timeout(CONNECT_TIME_MAX, config.connect(NoTls)).await;
    let Ok(Ok((client, mut connection))) = connected else { return };
    // A WARNING says that the wait for the standby was cut short: then the commit is on one host.
    let warned = Rc::new(Cell::new(false));
    let saw = Rc::clone(&warned);
    let driver = tokio::task::spawn_local(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message
                && notice.code().code().starts_with("01")
            {
                saw.set(true);
            }
        }
    });
    while !stop.load(Ordering::Relaxed) {
        warned.set(false);
        let insert = client.batch_execute("insert into engine_writes default values");
        match tokio::time::timeout(INSERT_TIME_MAX, insert).await {
            Ok(Ok(())) if !warned.get() => {
                committed.lock().unwrap_or_else(PoisonError::into_inner).push(epoch.elapsed());
            }
            // A standby says that it does not write, and will when it is the primary.
            Ok(Err(error)) if error.code().is_some_and(|code| code.code() == "25006") => {}
            _ => break,
        }
        tokio::time::sleep(PAUSE).await;
    }
    driver.abort();
}
