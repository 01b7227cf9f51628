//! One connection to Postgres with the statements prepared on it, and how the connection's death is noticed. It knows
//! the statements only as a type.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};

use super::failure::{Failure, describe};
use super::role::Role;
use super::socket::Socket;
use crate::limits::{CONNECT_TIME_MAX, STATEMENT_TIME_MAX};

/// The statements of a session for one role. It prepares no others: preparing an insert waits for whoever has locked
/// the table against inserts, and reads must not wait for that.
pub(super) trait Statements: Sized {
    /// What the session is for.
    const ROLE: Role;

    /// The settings that the session begins with, as SQL.
    fn settings() -> String;

    /// Prepares the statements.
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error>;
}

/// A live connection with its statements prepared. Dropping it closes the socket.
pub(super) struct Session<S> {
    client: Client,
    statements: S,
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

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        // Without this a statement that never ends would keep the socket open for ever.
        self.connection.abort();
    }
}

impl<S: Statements> Session<S> {
    pub(super) async fn open(config: &Config) -> Result<Session<S>, Failure> {
        let nudges = Rc::new(Nudges::default());
        let (client, connection) = connect(config, Rc::clone(&nudges)).await?;
        let settings = format!("{}; SET application_name = 'rinha {}'", S::settings(), S::ROLE.name());
        client.batch_execute(&settings).await?;
        let statements = S::prepare(&client).await?;
        Ok(Session { client, statements, connection, nudges })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn statements(&self) -> &S {
        &self.statements
    }

    /// The notifications that come to the session.
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
            // The statement that was under way gets this error too, so here it is worth only a line for debugging.
            Some(Err(error)) => return tracing::debug!(error = %describe(&error), "connection ended"),
            None => return,
        }
    }
}
