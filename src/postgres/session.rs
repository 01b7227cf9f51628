//! One connection to Postgres: making it, keeping it, noticing that it is dead. It knows the statements by
//! name only.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tracing::{info, warn};

use super::Role;
use super::socket::Socket;
use super::sql::{self, Statements};
use crate::limits::{
    CONNECT_BACKOFF_MAX, CONNECT_BACKOFF_MIN, CONNECT_TIME_MAX, START_TIME_MAX, STATEMENT_TIME_MAX,
};

/// While the database is away, it is said this often.
const OUTAGE_LOG_PERIOD: Duration = Duration::from_secs(5);

/// Why a statement has no result.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// A row is at fault (SQLSTATE class 22 or 23): the same rows will fail again.
    #[error("a row is at fault (SQLSTATE {0})")]
    Row(Box<str>),
    /// A deadlock or a serialization failure: the same rows may pass at once.
    #[error("a conflict with another transaction")]
    Conflict,
    /// Anything else; what the statement did is unknown, and its connection is not used again.
    #[error("{0}")]
    Lost(String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        match error.code() {
            Some(&SqlState::T_R_DEADLOCK_DETECTED | &SqlState::T_R_SERIALIZATION_FAILURE) => {
                Failure::Conflict
            }
            Some(state) if matches!(state.code().get(..2), Some("22" | "23")) => {
                Failure::Row(state.code().into())
            }
            _ => Failure::Lost(describe(&error)),
        }
    }
}

/// The database's own words where it spoke; tokio-postgres alone only says "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// A live connection with its statements prepared. Dropping it closes the socket.
pub(super) struct Session {
    client: Client,
    statements: Statements,
    connection: JoinHandle<()>,
    nudges: Rc<Nudges>,
}

/// The notifications that came, by the process that sent them.
#[derive(Default)]
pub(super) struct Nudges {
    senders: RefCell<Vec<i32>>,
    arrived: Notify,
}

impl Nudges {
    fn add(&self, sender: i32) {
        let mut senders = self.senders.borrow_mut();
        if !senders.contains(&sender) {
            senders.push(sender);
        }
        self.arrived.notify_one();
    }

    /// Waits for a notification that another process than `own` sent.
    pub(super) async fn by_others(&self, own: i32) {
        loop {
            if self.senders.take().iter().any(|&sender| sender != own) {
                return;
            }
            self.arrived.notified().await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without this a statement that never ends would keep the socket open for ever.
        self.connection.abort();
    }
}

impl Session {
    async fn open(config: &Config, role: Role) -> Result<Session, Failure> {
        let nudges = Rc::new(Nudges::default());
        let (client, connection) = connect(config, Rc::clone(&nudges)).await?;
        client.batch_execute(&sql::session_settings(role)).await?;
        let statements = Statements::prepare(&client, role).await?;
        Ok(Session { client, statements, connection, nudges })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn statements(&self) -> &Statements {
        &self.statements
    }

    /// What the session listens to.
    pub(super) fn nudges(&self) -> Rc<Nudges> {
        Rc::clone(&self.nudges)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Returns when the connection is gone.
    pub(super) async fn closed(&mut self) {
        // Both a clean end and a panic of the connection's task mean the same here.
        let _ended = (&mut self.connection).await;
    }

    /// Bounds `statement`: a backend that was stopped never answers and never closes.
    pub(super) async fn bounded<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        self.within(STATEMENT_TIME_MAX, statement).await
    }

    /// As [`bounded`](Self::bounded), for a statement that has a bound of its own.
    pub(super) async fn within<T>(
        &self,
        time_max: Duration,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(time_max, statement).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Failure::Lost(format!("no answer for {time_max:?}"))),
        }
    }
}

async fn connect(config: &Config, nudges: Rc<Nudges>) -> Result<(Client, JoinHandle<()>), Failure> {
    let attempt = async {
        let socket = Socket::connect(config).await;
        Ok(match socket.map_err(|error| Failure::Lost(format!("error connecting to server: {error}")))? {
            Some(socket) => {
                let (client, connection) = config.connect_raw(socket, NoTls).await?;
                (client, tokio::task::spawn_local(attend(connection, nudges)))
            }
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                (client, tokio::task::spawn_local(attend(connection, nudges)))
            }
        })
    };
    tokio::time::timeout(CONNECT_TIME_MAX, attempt)
        .await
        .map_err(|_| Failure::Lost(format!("no connection within {CONNECT_TIME_MAX:?}")))?
}

/// Runs a connection to its end.
async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<S, NoTlsStream>,
    nudges: Rc<Nudges>,
) {
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notification(nudge))) => nudges.add(nudge.process_id()),
            Some(Ok(message)) => tracing::debug!(?message, "the database says"),
            // The statement that was under way gets it too; here it is only worth a line for debugging.
            Some(Err(error)) => return tracing::debug!(error = %describe(&error), "connection ended"),
            None => return,
        }
    }
}

/// Makes sessions of one role, for as long as it takes.
pub(super) struct Connector {
    config: Config,
    role: Role,
    /// Hears whenever a connection came or went.
    reachable: Box<dyn Fn(bool)>,
    /// Before the next session: zero once a session worked. A database that takes connections and refuses the work
    /// (a standby, a full disk) is asked ever less often, as one that is away is.
    pause: Cell<Duration>,
    /// When the loss of a session was last said.
    said: Cell<Option<Instant>>,
}

impl Connector {
    pub(super) fn new(config: Config, role: Role, reachable: impl Fn(bool) + 'static) -> Connector {
        Connector {
            config,
            role,
            reachable: Box::new(reachable),
            pause: Cell::default(),
            said: Cell::default(),
        }
    }

    /// Tries until it succeeds, with a growing pause; says so at first and then now and then.
    pub(super) async fn connect(&self) -> Session {
        let began = Instant::now();
        let mut pause = CONNECT_BACKOFF_MIN;
        let mut said: Option<Instant> = None;
        if !self.pause.get().is_zero() {
            tokio::time::sleep(self.pause.get()).await;
        }
        loop {
            let attempt =
                tokio::time::timeout(STATEMENT_TIME_MAX, Session::open(&self.config, self.role)).await;
            let failure = match attempt {
                Ok(Ok(session)) => {
                    if said.is_some() {
                        let away = began.elapsed();
                        info!(connection = self.role.name(), ?away, "the database is back");
                    }
                    self.pause.set((self.pause.get() * 2).clamp(CONNECT_BACKOFF_MIN, CONNECT_BACKOFF_MAX));
                    (self.reachable)(true);
                    return session;
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Lost(format!("no answer for {STATEMENT_TIME_MAX:?}")),
            };
            if said.is_none_or(|at| at.elapsed() >= OUTAGE_LOG_PERIOD) {
                warn!(connection = self.role.name(), why = %failure, "the database cannot be reached; trying on");
                said = Some(Instant::now());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_BACKOFF_MAX);
        }
    }

    /// The session did what it was asked.
    pub(super) fn worked(&self) {
        self.pause.set(Duration::ZERO);
    }

    /// Says that a session was lost, and why; of those that never worked only now and then.
    pub(super) fn lost(&self, why: &str) {
        let said_lately = self.said.get().is_some_and(|at| at.elapsed() < OUTAGE_LOG_PERIOD);
        if self.pause.get().is_zero() || !said_lately {
            warn!(
                connection = self.role.name(),
                why, "the connection to the database was lost; reconnecting"
            );
            self.said.set(Some(Instant::now()));
        }
        (self.reachable)(false);
    }
}

/// What the server is, asked once at start.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `server_version`, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// `fsync` and `full_page_writes` are both on: a commit survives a crash of the machine.
    pub durable: bool,
}

/// Why the start cannot go on; one line.
#[derive(Debug, Error)]
pub enum StartError {
    /// It never answered.
    #[error(
        "the database did not answer within {START_TIME_MAX:?} ({0}); check DATABASE_URL and that Postgres \
         accepts connections"
    )]
    Away(String),
    /// It answered, and cannot be used.
    #[error("the database cannot be used: {0}")]
    Unusable(String),
    /// The runtime that asks it could not be built.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Waits for the database, applies `schema.sql` under an advisory lock, and asks what the server is. Blocks.
pub fn prepare_database(config: &Config) -> Result<ServerFacts, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let began = Instant::now();
        let mut pause = CONNECT_BACKOFF_MIN;
        let mut said = false;
        loop {
            match prepare(config).await {
                Ok(facts) => return Ok(facts),
                Err(Preparation::Unusable(why)) => return Err(StartError::Unusable(why)),
                Err(Preparation::Away(why)) if began.elapsed() >= START_TIME_MAX => {
                    return Err(StartError::Away(why));
                }
                Err(Preparation::Away(why)) if !said => {
                    info!(why, "waiting for the database");
                    said = true;
                }
                Err(Preparation::Away(_)) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_BACKOFF_MAX);
        }
    })
}

enum Preparation {
    Away(String),
    Unusable(String),
}

impl From<Failure> for Preparation {
    fn from(failure: Failure) -> Preparation {
        match failure {
            Failure::Row(code) => Preparation::Unusable(format!("schema.sql failed with SQLSTATE {code}")),
            Failure::Conflict => Preparation::Away("a conflict with another session".into()),
            Failure::Lost(why) => Preparation::Away(why),
        }
    }
}

async fn prepare(config: &Config) -> Result<ServerFacts, Preparation> {
    let opened = tokio::time::timeout(CONNECT_TIME_MAX, config.connect(NoTls)).await;
    let (client, connection) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(refusal(&error)),
        Err(_) => return Err(Preparation::Away(format!("no connection within {CONNECT_TIME_MAX:?}"))),
    };
    let connection = tokio::spawn(connection);
    let applied = tokio::time::timeout(STATEMENT_TIME_MAX, sql::apply_schema(&client)).await;
    let result = match applied {
        Ok(applied) => applied.map_err(|error| refusal(&error)),
        Err(_) => Err(Preparation::Away(format!("no answer for {STATEMENT_TIME_MAX:?}"))),
    };
    connection.abort();
    let facts = result?;
    if facts.encoding != "UTF8" {
        return Err(Preparation::Unusable(format!(
            "its encoding is {}, expected UTF8 (create the database with ENCODING 'UTF8')",
            facts.encoding
        )));
    }
    Ok(ServerFacts { version: facts.version, durable: facts.durable })
}

/// Waiting helps against a database that starts or restarts, not against one that says no.
fn refusal(error: &tokio_postgres::Error) -> Preparation {
    let what = describe(error);
    match error.code().map(SqlState::code) {
        // Wrong password, unknown role or database, missing rights, wrong SQL: a person must act.
        Some(code) if matches!(code.get(..2), Some("28" | "3D" | "42" | "0A" | "22" | "23")) => {
            Preparation::Unusable(format!(
                "{what}; check the user, password, database and rights of DATABASE_URL"
            ))
        }
        Some(_) => Preparation::Away(what),
        // What did not come from the network is a setting that cannot work: no host, no password, TLS.
        None => match std::error::Error::source(error) {
            Some(cause) if !cause.is::<std::io::Error>() => {
                Preparation::Unusable(format!("{what}; check DATABASE_URL"))
            }
            _ => Preparation::Away(what),
        },
    }
}
