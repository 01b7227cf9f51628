//! The process around the cores: prepares the database, starts the threads, waits for a signal or a death, and
//! leaves in order. It serves nothing itself.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_postgres::Config;
use tracing::{error, info, warn};

use crate::config::Serve;
use crate::limits::{CONNECT_BACKOFF_MAX, CONNECTIONS_MAX, FILE_RESERVE};
use crate::listener::Bound;
use crate::postgres::embedded::{Embedded, Settings};
use crate::postgres::{self, ServerFacts, StartError};
use crate::ring;
use crate::topology;
use crate::worker::{self, Plan, Serving};

/// How often the private Postgres is looked after.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(500);

/// What happens to a running server.
enum Event {
    Signal(i32),
    Serving(Serving),
    /// The database was waited for and prepared, or never will be.
    Prepared(Result<ServerFacts, StartError>),
    /// The core drained.
    Stopped,
    /// A thread ended that must not; one line.
    Died(String),
}

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// One line that says what is wrong and what helps.
pub fn serve(serve: &Serve) -> Result<(), String> {
    let cpu = topology::choose(&serve.cores)?;
    let connections_max = raise_file_limit()?;
    let sockets =
        serve.listen.iter().map(|listen| Bound::bind(listen, 0)).collect::<Result<Vec<Bound>, String>>()?;
    let addresses: Vec<String> = sockets.iter().map(Bound::name).collect();

    let (events, happened) = mpsc::channel();
    forward_signals(&events)?;
    let mut home = Home::find(serve)?;
    let config = home.config()?;
    let Some(server) = prepare(&config, &events, &happened)? else {
        home.leave();
        return Ok(());
    };
    if !server.durable {
        warn!(
            "fsync or full_page_writes is off in this database: a 201 does not survive a crash of its machine"
        );
    }

    let link = postgres::spawn(0, config, {
        let events = events.clone();
        move |why| tell(&events, Event::Died(format!("the postgres thread of core 0 ended: {why}")))
    })
    .map_err(|error| format!("cannot start a thread: {error}"))?;
    let (mut stop, until_stopped) = ring::channel(1);
    let plan = Plan {
        core: 0,
        cpu,
        driver: serve.driver,
        sockets,
        link,
        server: server.clone(),
        cache_bytes: serve.cache_bytes(),
        connections_max,
        stop: until_stopped,
    };
    start_core(plan, &events)?;

    let outcome = attend(&happened, &mut home, &mut stop, |serving| {
        announce(&serving, serve, &addresses, cpu, &server);
    });
    home.leave();
    outcome
}

/// The one line at start that says all that matters.
fn announce(serving: &Serving, serve: &Serve, addresses: &[String], cpu: usize, server: &ServerFacts) {
    if let Err(why) = &serving.pinned {
        warn!("{why}");
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = addresses.join(","),
        driver = serving.driver.name,
        why = serving.driver.reason,
        cpu,
        cache = %bytesize::ByteSize::b(serve.cache_bytes() as u64),
        postgres = server.version,
        private = serve.database_url.is_none(),
        durable = server.durable,
        rows = serving.rows,
        loaded_in = ?serving.load_time,
        "serving"
    );
}

/// Waits for what happens; returns when the server has stopped.
fn attend(
    happened: &Receiver<Event>,
    home: &mut Home,
    stop: &mut ring::Sender<()>,
    announce: impl Fn(Serving),
) -> Result<(), String> {
    let mut stopping = false;
    loop {
        match happened.recv_timeout(SUPERVISION_PERIOD) {
            Ok(Event::Prepared(_)) => unreachable!("the database was prepared before the core was started"),
            Ok(Event::Serving(serving)) => announce(serving),
            Ok(Event::Signal(signal)) if stopping => {
                return Err(format!("stopped at once by a second signal ({signal})"));
            }
            Ok(Event::Signal(signal)) => {
                info!(signal, "stopping: answering what was received");
                stopping = true;
                // Full means that it was said already.
                let _said_before = stop.push(());
                stop.wake();
            }
            Ok(Event::Stopped) => return Ok(()),
            Ok(Event::Died(why)) => return Err(why),
            Err(RecvTimeoutError::Timeout) => home.look_after(),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the signal thread holds a sender"),
        }
    }
}

/// Prepares the database on a thread of its own: that may take long, and a signal ends the wait. `None`: told to stop.
fn prepare(
    config: &Config,
    events: &Sender<Event>,
    happened: &Receiver<Event>,
) -> Result<Option<ServerFacts>, String> {
    let (config, events) = (config.clone(), events.clone());
    let prepare = move || tell(&events, Event::Prepared(postgres::prepare_database(&config)));
    let spawned = std::thread::Builder::new().name("prepare".to_owned()).spawn(prepare);
    spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
    match happened.recv() {
        Ok(Event::Prepared(prepared)) => prepared.map(Some).map_err(|error| error.to_string()),
        Ok(Event::Signal(signal)) => {
            info!(signal, "stopping before the database was there");
            Ok(None)
        }
        Ok(Event::Serving(_) | Event::Stopped | Event::Died(_)) => {
            unreachable!("no core and no database thread runs yet")
        }
        Err(_) => unreachable!("the signal thread holds a sender"),
    }
}

fn start_core(plan: Plan, events: &Sender<Event>) -> Result<(), String> {
    let events = events.clone();
    let core = plan.core;
    let run = move || {
        let serving = |serving| tell(&events, Event::Serving(serving));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker::run(plan, serving)));
        tell(
            &events,
            match ended {
                Ok(Ok(())) => Event::Stopped,
                Ok(Err(why)) => Event::Died(why),
                Err(_) => Event::Died(format!("core {core} panicked")),
            },
        );
    };
    let spawned = std::thread::Builder::new().name(format!("core-{core}")).spawn(run);
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Signals arrive on a thread of their own: the main thread's, which waits for events.
fn forward_signals(events: &Sender<Event>) -> Result<(), String> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("cannot handle signals: {error}"))?;
    let events = events.clone();
    let forward = move || {
        for signal in signals.forever() {
            tell(&events, Event::Signal(signal));
        }
    };
    let spawned = std::thread::Builder::new().name("signals".to_owned()).spawn(forward);
    spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

fn tell(events: &Sender<Event>, event: Event) {
    if events.send(event).is_err() {
        // Only while the process is already leaving.
        tracing::debug!("an event came after the end");
    }
}

/// Raises the soft limit on open files to the hard one; how many connections that leaves room for.
fn raise_file_limit() -> Result<usize, String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| format!("getrlimit: {errno}"))?;
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(errno) => {
            warn!(%errno, soft, "the limit on open files could not be raised");
            soft
        }
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    match files.saturating_sub(FILE_RESERVE).min(CONNECTIONS_MAX) {
        0 => Err(format!(
            "expected to be allowed more than {FILE_RESERVE} open files, got {files} (raise ulimit -n)"
        )),
        connections => Ok(connections),
    }
}

/// Where the database lives.
enum Home {
    /// Somewhere else.
    Url(String),
    /// In a private Postgres of this process.
    Private(Box<Private>),
}

struct Private {
    postgres: Embedded,
    /// It failed to start again; the next attempt is not before.
    retry_at: Instant,
}

impl Home {
    fn find(serve: &Serve) -> Result<Home, String> {
        if let Some(url) = &serve.database_url {
            return Ok(Home::Url(url.clone()));
        }
        let postgres =
            Embedded::start(&Settings::new(serve.data_dir())).map_err(|error| error.to_string())?;
        Ok(Home::Private(Box::new(Private { postgres, retry_at: Instant::now() })))
    }

    fn config(&self) -> Result<Config, String> {
        match self {
            Home::Private(private) => Ok(private.postgres.config()),
            Home::Url(url) => url.parse().map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("--database-url: {error}{cause}; expected postgres://USER@HOST/DATABASE or key=value pairs")
            }),
        }
    }

    /// Starts a private Postgres again that died.
    fn look_after(&mut self) {
        let Home::Private(private) = self else { return };
        if Instant::now() < private.retry_at {
            return;
        }
        match private.postgres.ensure_running() {
            Ok(false) => {}
            Ok(true) => warn!("the private Postgres had died and was started again"),
            Err(error) => {
                error!(%error, "the private Postgres died and cannot be started again; trying on");
                private.retry_at = Instant::now() + CONNECT_BACKOFF_MAX;
            }
        }
    }

    fn leave(self) {
        if let Home::Private(mut private) = self
            && let Err(error) = private.postgres.stop()
        {
            error!(%error, "the private Postgres could not be stopped");
        }
    }
}
