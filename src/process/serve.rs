//! Runs the server from start to end. What the command line can get wrong is checked first; then the database is
//! prepared, and the threads are started. At the end the database is stopped last.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use super::database::{Chosen, DatabaseServer};
use super::instance::{Instance, InstancePlan};
use super::setup::Setup;
use super::signals::Signals;
use super::sockets::Sockets;
use super::supervisor::Supervisor;
use crate::admin::{Admin, Board};
use crate::config::Serve;
use crate::embedded::Stop;
use crate::postgres::{self, Prepared, Source};

/// How often signals are looked for while the database is prepared.
const SIGNAL_POLL: Duration = Duration::from_millis(20);

/// Runs the server until it is told to stop. A thread calls `give_back` after it has freed much memory; `lost` counts the
/// log's lines that were not written.
///
/// # Errors
///
/// One line that says what is wrong and what helps.
pub fn serve(serve: &Serve, give_back: fn(), lost: Arc<AtomicU64>) -> Result<(), String> {
    let stop = Stop::default();
    let signals = Signals::catch(stop.clone())?;
    let supervisor = Supervisor::of_environment();
    let ended = run(serve, give_back, lost, &stop, signals, &supervisor);
    supervisor.stopping(ended.as_ref().map_or_else(|why| why.as_str(), |()| "stopped"));
    ended?;
    // Whenever it came, also while the database was being stopped.
    if stop.is_at_once() { Err("stopped at once by a second signal".to_owned()) } else { Ok(()) }
}

fn run(
    serve: &Serve,
    give_back: fn(),
    lost: Arc<AtomicU64>,
    stop: &Stop,
    mut signals: Signals,
    supervisor: &Supervisor,
) -> Result<(), String> {
    let setup = Setup::choose(serve)?;
    if let Some(why) = &setup.files.not_raised {
        warn!(why, "the limit on open files could not be raised");
    }
    let Setup { cpus, .. } = &setup;
    let sockets = Sockets::bind(&serve.listen, cpus.len())?;
    let stopping = stop.clone();
    let board = Board::new(sockets.addresses(), lost, move || stopping.is_set());
    // First: operators are answered in the directory of a private Postgres, which is another server's until it is claimed.
    let chosen = Chosen::of(serve, cpus.len());
    // From here on operators are told what the server waits for, to its very end.
    let admin = |listen| Admin::start(listen, serve.admin_peers.clone(), Arc::clone(&board));
    let _admin = serve.admin.as_ref().filter(|_| chosen.is_ok()).map(admin).transpose()?;

    supervisor.watch(Arc::clone(&board))?;
    supervisor.waits_for(match serve.is_private() {
        false => "waiting for the database",
        true => "starting the private Postgres",
    });

    let found = chosen.and_then(|chosen| DatabaseServer::find(chosen, serve, cpus.len(), stop));
    if let Some(signal) = signals.next() {
        info!(signal, "stopping before the database was there");
        found.into_iter().for_each(DatabaseServer::leave);
        return Ok(());
    }
    let mut database = found?;
    let Some(Prepared { nodes, facts: servers }) = prepare(&database.nodes(), &mut signals)? else {
        database.leave();
        return Ok(());
    };
    // A coordinator of Citus names nodes that the command line does not.
    let Setup { cpus, memory, files } = match nodes.len() == serve.nodes() {
        true => setup,
        false => Setup::with_nodes(serve, nodes.len())?,
    };
    if servers.iter().any(|server| !server.durable) {
        warn!(
            "fsync or full_page_writes is off in this database: a 201 does not survive a crash of its machine"
        );
    }

    let plan = InstancePlan {
        cpus,
        driver: serve.driver,
        instance: serve.instance,
        cache_bytes: memory.cache,
        connections_max: files.connections,
        ledger_bytes: memory.ledger,
        give_back,
        servers,
        private: serve.is_private(),
        board,
        supervisor: supervisor.clone(),
    };
    supervisor.waits_for("loading");
    let mut started = Instance::start(plan, &nodes, sockets, signals);
    let outcome = match &mut started {
        Ok(instance) => instance.attend(&mut database),
        Err(why) => Err(std::mem::take(why)),
    };
    // The instance outlives its database: until then the cores answer from memory.
    database.leave();
    outcome
}

/// Prepares the database on a thread of its own, because that may take long and a signal must end the wait. `None`
/// after a signal.
fn prepare(nodes: &[Source], signals: &mut Signals) -> Result<Option<Prepared>, String> {
    let (tell, prepared) = mpsc::sync_channel(1);
    let nodes = nodes.to_vec();
    let prepare = move || {
        // After a signal the receiver is gone.
        let _ = tell.send(postgres::prepare_databases(&nodes));
    };
    let spawned = thread::Builder::new().name("prepare".to_owned()).spawn(prepare);
    spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
    loop {
        if let Some(signal) = signals.next() {
            info!(signal, "stopping before the database was there");
            return Ok(None);
        }
        match prepared.recv_timeout(SIGNAL_POLL) {
            Ok(prepared) => return prepared.map(Some).map_err(|error| error.to_string()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err("the thread that prepared the database panicked".to_owned());
            }
        }
    }
}
