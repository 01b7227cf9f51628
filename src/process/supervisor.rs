//! The process around the cores: prepares the database, starts the threads, waits for a signal or a death, and
//! leaves in order. It serves nothing itself.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_postgres::Config;
use tokio_postgres::config::TargetSessionAttrs;
use tracing::{error, info, warn};

use crate::channel::ring;
use crate::config::{Listen, Serve};
use crate::core::topology::Machine;
use crate::core::worker::{self, Command, Plan, Serving};
use crate::embedded::{Embedded, Settings};
use crate::limits::{
    CONNECT_BACKOFF_MAX, CONNECTIONS_MAX, FILE_RESERVE, FILE_RESERVE_PER_CORE, HANG_UP_TIME_MAX,
};
use crate::net::acceptor::{Accepting, Acceptor};
use crate::net::listener::Bound;
use crate::people::home::{owner_of_apelido, owner_of_id};
use crate::people::mesh;
use crate::postgres::{self, Owners, ServerFacts, StartError};

/// How often the database threads are looked at while they end.
const HANG_UP_POLL: Duration = Duration::from_millis(2);
/// How often the private Postgres is looked after.
const SUPERVISION_PERIOD: Duration = Duration::from_millis(500);

/// What happens to a running server.
enum Event {
    Signal(i32),
    Core(worker::Event),
    /// The database was waited for and prepared, or never will be.
    Prepared(Result<ServerFacts, StartError>),
    /// A core left as it was told to.
    Left,
    /// A thread ended that must not; one line.
    Died(String),
}

/// Runs the server until it is told to stop.
///
/// # Errors
///
/// One line that says what is wrong and what helps.
pub fn serve(serve: &Serve) -> Result<(), String> {
    let machine = Machine::this()?;
    let cpus = machine.choose(&serve.cores)?;
    let cache_bytes = serve.cache_bytes(&machine);
    let connections_max = raise_file_limit(cpus.len())?;
    let mut sockets = Sockets::bind(&serve.listen, cpus.len())?;

    let (events, happened) = mpsc::channel();
    forward_signals(&events)?;
    let mut home = Home::find(serve, cpus.len())?;
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

    let mut instance = Instance {
        serve,
        cpus,
        cache_bytes,
        server: server.clone(),
        addresses: sockets.addresses(),
        acceptors: sockets.acceptors(),
        accepting: Vec::new(),
        commands: Vec::new(),
        database_threads: Vec::new(),
        serving: Vec::new(),
        rows: 0,
        load_time: Duration::ZERO,
    };
    let started = start_threads(&config, &mut sockets, &mut instance, connections_max, &events);
    let outcome = started.and_then(|()| instance.attend(&happened, &mut home));
    home.leave();
    outcome
}

/// Starts the feed, and each core with its Postgres thread.
fn start_threads(
    config: &Config,
    sockets: &mut Sockets,
    instance: &mut Instance<'_>,
    connections_max: usize,
    events: &Sender<Event>,
) -> Result<(), String> {
    let cores = instance.cpus.len();
    let died = |what: String| {
        let events = events.clone();
        move |why: &str| tell(&events, Event::Died(format!("{what} ended: {why}")))
    };
    let no_thread = |error| format!("cannot start a thread: {error}");
    let owners = move |record: &crate::pessoa::Record| Owners {
        row: owner_of_id(&record.pessoa.id, cores),
        apelido: owner_of_apelido(&record.pessoa.apelido, cores),
    };
    let feed = postgres::feed::spawn(cores, config.clone(), owners, died("the feed".to_owned()));
    let feed = feed.map_err(no_thread)?;
    instance.database_threads.push(feed.thread);
    let parts = feed.rows.into_iter().zip(feed.notices).zip(mesh::wire(cores));
    for (core, ((rows, notice), wiring)) in parts.enumerate() {
        let died = died(format!("the postgres thread of core {core}"));
        let (link, thread) = postgres::spawn(core, config.clone(), notice, died).map_err(no_thread)?;
        instance.database_threads.push(thread);
        let (command, commands) = ring::channel(COMMANDS_MAX);
        instance.commands.push(command);
        let (own, handed) = sockets.of_core(core);
        let plan = Plan {
            core,
            cpus: instance.cpus.clone(),
            driver: instance.serve.driver,
            sockets: own,
            handed,
            link,
            rows,
            wiring,
            server: instance.server.clone(),
            cache_bytes: instance.cache_bytes / cores,
            connections_max,
            commands,
        };
        start_core(plan, events)?;
    }
    Ok(())
}

/// Each command once.
const COMMANDS_MAX: usize = 3;

/// The listeners, by who accepts from them.
struct Sockets {
    /// By core.
    own: Vec<Vec<Bound>>,
    shared: Vec<Acceptor>,
    /// By core.
    handed: Vec<Vec<ring::Receiver<crate::net::acceptor::Accepted>>>,
    addresses: Vec<String>,
}

impl Sockets {
    /// Binds every listener: a socket a core where the path names the core, else one for all. A single core
    /// accepts for itself.
    fn bind(listen: &[Listen], cores: usize) -> Result<Sockets, String> {
        let mut sockets = Sockets {
            own: (0..cores).map(|_| Vec::new()).collect(),
            shared: Vec::new(),
            handed: (0..cores).map(|_| Vec::new()).collect(),
            addresses: Vec::new(),
        };
        for listen in listen {
            if listen.is_one_a_core() || cores == 1 {
                for (core, own) in sockets.own.iter_mut().enumerate() {
                    let bound = Bound::bind(listen, core)?;
                    sockets.addresses.push(bound.name());
                    own.push(bound);
                }
            } else {
                let bound = Bound::bind(listen, 0)?;
                sockets.addresses.push(bound.name());
                let (acceptor, receivers) = Acceptor::new(bound, cores);
                sockets.shared.push(acceptor);
                for (handed, receiver) in sockets.handed.iter_mut().zip(receivers) {
                    handed.push(receiver);
                }
            }
        }
        Ok(sockets)
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn acceptors(&mut self) -> Vec<Acceptor> {
        std::mem::take(&mut self.shared)
    }

    fn of_core(&mut self, core: usize) -> (Vec<Bound>, Vec<ring::Receiver<crate::net::acceptor::Accepted>>) {
        (std::mem::take(&mut self.own[core]), std::mem::take(&mut self.handed[core]))
    }
}

/// The running threads, and what was heard of them.
struct Instance<'a> {
    serve: &'a Serve,
    cpus: Vec<usize>,
    /// For all cores together.
    cache_bytes: usize,
    server: ServerFacts,
    addresses: Vec<String>,
    acceptors: Vec<Acceptor>,
    accepting: Vec<Accepting>,
    /// By core.
    commands: Vec<ring::Sender<Command>>,
    /// The cores' and the feed's.
    database_threads: Vec<JoinHandle<()>>,
    serving: Vec<Serving>,
    rows: usize,
    load_time: Duration,
}

impl Instance<'_> {
    /// Waits for what happens; returns when every core has left.
    fn attend(&mut self, happened: &Receiver<Event>, home: &mut Home) -> Result<(), String> {
        let cores = self.cpus.len();
        let (mut loaded, mut drained, mut left) = (0, 0, 0);
        let mut stopping = false;
        while left < cores {
            match happened.recv_timeout(SUPERVISION_PERIOD) {
                Ok(Event::Core(worker::Event::Loaded { rows, time })) => {
                    loaded += 1;
                    self.rows += rows;
                    self.load_time = self.load_time.max(time);
                    if loaded == cores && !stopping {
                        self.command(|| Command::Listen);
                    }
                }
                Ok(Event::Core(worker::Event::Serving(serving))) => {
                    self.serving.push(serving);
                    if self.serving.len() == cores && !stopping {
                        self.open_doors()?;
                        self.announce();
                    }
                }
                Ok(Event::Core(worker::Event::Drained)) => {
                    drained += 1;
                    if drained == cores {
                        self.command(|| Command::Leave);
                    }
                }
                Ok(Event::Left) => left += 1,
                Ok(Event::Prepared(_)) => {
                    unreachable!("the database was prepared before any core was started")
                }
                Ok(Event::Signal(signal)) if stopping => {
                    return Err(format!("stopped at once by a second signal ({signal})"));
                }
                Ok(Event::Signal(signal)) => {
                    info!(signal, "stopping: answering what was received");
                    stopping = true;
                    self.drain();
                }
                Ok(Event::Died(why)) => return Err(why),
                Err(RecvTimeoutError::Timeout) if stopping => {}
                Err(RecvTimeoutError::Timeout) => home.look_after(),
                Err(RecvTimeoutError::Disconnected) => unreachable!("the signal thread holds a sender"),
            }
        }
        self.hang_up();
        Ok(())
    }

    /// The database threads end with their cores; a private Postgres must not be stopped under their connections.
    fn hang_up(&mut self) {
        let began = Instant::now();
        while began.elapsed() < HANG_UP_TIME_MAX && !self.database_threads.iter().all(JoinHandle::is_finished)
        {
            std::thread::sleep(HANG_UP_POLL);
        }
    }

    fn command(&mut self, command: impl Fn() -> Command) {
        for core in &mut self.commands {
            assert!(core.push(command()).is_ok(), "each command is given once");
            core.wake();
        }
    }

    /// Takes connections for all cores, once each of them can serve.
    fn open_doors(&mut self) -> Result<(), String> {
        for acceptor in self.acceptors.drain(..) {
            self.accepting.push(acceptor.start()?);
        }
        Ok(())
    }

    /// Cores and acceptors drain side by side; a core waits for what may still be handed over.
    fn drain(&mut self) {
        self.command(|| Command::Drain);
        // One that never listened has nothing to hand over.
        self.acceptors.clear();
        for accepting in self.accepting.drain(..) {
            std::thread::spawn(move || accepting.drain());
        }
    }

    /// The one line at start that says all that matters.
    fn announce(&mut self) {
        self.serving.sort_by_key(|serving| serving.core);
        for why in self.serving.iter().filter_map(|serving| serving.pinned.as_ref().err()) {
            warn!("{why}");
        }
        let first = &self.serving[0].driver;
        for other in self.serving.iter().filter(|serving| serving.driver.name != first.name) {
            warn!(
                core = other.core,
                driver = other.driver.name,
                why = other.driver.reason,
                "another driver here"
            );
        }
        let cpus: Vec<String> = self.cpus.iter().map(ToString::to_string).collect();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = self.addresses.join(","),
            driver = first.name,
            why = first.reason,
            cpus = cpus.join(","),
            cache = %bytesize::ByteSize::b(self.cache_bytes as u64),
            postgres = self.server.version,
            private = self.serve.database_url.is_none(),
            durable = self.server.durable,
            rows = self.rows,
            loaded_in = ?self.load_time,
            "serving"
        );
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
        Ok(Event::Core(_) | Event::Left | Event::Died(_)) => {
            unreachable!("no core and no database thread runs yet")
        }
        Err(_) => unreachable!("the signal thread holds a sender"),
    }
}

fn start_core(plan: Plan, events: &Sender<Event>) -> Result<(), String> {
    let events = events.clone();
    let core = plan.core;
    let run = move || {
        let happens = events.clone();
        let run = || worker::run(plan, move |event| tell(&happens, Event::Core(event)));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        tell(
            &events,
            match ended {
                Ok(Ok(())) => Event::Left,
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

/// Raises the soft limit on open files to the hard one; how many connections that leaves each core room for.
fn raise_file_limit(cores: usize) -> Result<usize, String> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|errno| format!("getrlimit: {errno}"))?;
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(errno) => {
            warn!(%errno, soft, "the limit on open files could not be raised");
            soft
        }
    };
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let reserve = FILE_RESERVE + cores * FILE_RESERVE_PER_CORE;
    match (files.saturating_sub(reserve) / cores).min(CONNECTIONS_MAX) {
        0 => Err(format!(
            "expected to be allowed more than {reserve} open files, got {files} (raise ulimit -n)"
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
    fn find(serve: &Serve, cores: usize) -> Result<Home, String> {
        if let Some(url) = &serve.database_url {
            return Ok(Home::Url(url.clone()));
        }
        let postgres = Embedded::start(&Settings::new(serve.data_dir()).for_cores(cores))
            .map_err(|error| error.to_string())?;
        Ok(Home::Private(Box::new(Private { postgres, retry_at: Instant::now() })))
    }

    fn config(&self) -> Result<Config, String> {
        match self {
            Home::Private(private) => Ok(private.postgres.config()),
            Home::Url(url) => {
                let mut config: Config = url.parse().map_err(|error| {
                    let cause = std::error::Error::source(&error);
                    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                    format!("--database-url: {error}{cause}; expected postgres://USER@HOST/DATABASE or key=value pairs")
                })?;
                // Of several hosts the one that takes writes: a standby may lag, and its "no such row" is no 404.
                if config.get_hosts().len() > 1 {
                    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
                }
                Ok(config)
            }
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
