//! From an address to a live connection with a primary at its end. Several addresses are tried side by side, each within
//! its own time, and whoever is a standby or on an old timeline is passed over. It prepares no statements.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage};

use super::failure::{Failure, describe};
use super::history::Identity;
use super::socket::Socket;
use super::source::{Address, Source};
use crate::limits::{ADDRESS_HEAD_START, ADDRESS_RETRY_PAUSE, ADDRESS_TIME_MAX, DEAD_HOST_TIME_MAX};

// Who answers. A standby has no timeline of its own to write. The functions are for everybody.
const WHO: &str = "\
    SELECT pg_is_in_recovery(), system_identifier, \
           CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END, \
           pg_backend_pid() \
    FROM pg_control_system()";

/// A live connection to a primary. Dropping it closes the socket.
pub(super) struct Reached {
    pub(super) client: Client,
    pub(super) driver: Driver,
    pub(super) incoming: Rc<Incoming>,
    /// Whom it leads to.
    pub(super) identity: Identity,
    /// The server process at its end.
    pub(super) pid: i32,
    /// Where it leads, for another connection to the same place.
    pub(super) place: Place,
}

/// An address as it was reached.
#[derive(Clone)]
pub(super) struct Place {
    /// Its number in the source.
    number: usize,
    /// Which of the addresses of a name.
    resolved: Option<SocketAddr>,
}

/// The task that moves a connection's bytes. It ends with its owner: a connection that nobody waits for any more, made or
/// half made, is closed.
pub(super) struct Driver(JoinHandle<()>);

impl Driver {
    /// Returns when the connection is gone.
    pub(super) async fn ended(&mut self) {
        // Both a clean end and a panic of the task mean the same here.
        let _ended = (&mut self.0).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Without this a statement that never ends would keep the socket open for ever.
        self.0.abort();
    }
}

/// What a server says without being asked.
#[derive(Default)]
pub(super) struct Incoming {
    /// The processes whose notifications came.
    senders: RefCell<Vec<i32>>,
    arrived: Notify,
    warning: RefCell<Option<String>>,
}

impl Incoming {
    fn hear(&self, message: &AsyncMessage) {
        match message {
            AsyncMessage::Notification(nudge) => {
                let mut senders = self.senders.borrow_mut();
                if !senders.contains(&nudge.process_id()) {
                    senders.push(nudge.process_id());
                }
                self.arrived.notify_one();
            }
            AsyncMessage::Notice(notice) if notice.parsed_severity() == Some(Severity::Warning) => {
                // The text is in the server's language, so nobody looks into it.
                let warning = format!("{} (SQLSTATE {})", notice.message(), notice.code().code());
                self.warning.borrow_mut().get_or_insert(warning);
            }
            message => tracing::debug!(?message, "the database says"),
        }
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

    /// The first WARNING since this was last asked. It arrives before the end of the statement that it is about.
    pub(super) fn take_warning(&self) -> Option<String> {
        self.warning.take()
    }
}

/// Connects to the first address at which a primary answers that is not behind what the process follows.
pub(super) async fn reach(source: &Source, purpose: &str) -> Result<Reached, Failure> {
    let config = source.config_for(purpose);
    let (began, several) = (Instant::now(), source.addresses().len() > 1);
    let mut tries = FuturesUnordered::new();
    for (place, number) in source.order().enumerate() {
        let config = &config;
        tries.push(async move {
            // The last good one goes first; the others do not wait until it has failed.
            tokio::time::sleep(ADDRESS_HEAD_START * u32::from(place > 0)).await;
            loop {
                let reached = reach_address(source, config, number).await;
                // While another one is silent, a standby may become the primary.
                if reached.is_ok() || !several || began.elapsed() + ADDRESS_RETRY_PAUSE > ADDRESS_TIME_MAX {
                    return (number, reached);
                }
                tokio::time::sleep(ADDRESS_RETRY_PAUSE).await;
            }
        });
    }
    let mut failures: Vec<(usize, Failure)> = Vec::new();
    while let Some((number, reached)) = tries.next().await {
        match reached {
            Ok(reached) => {
                source.was_good(number);
                return Ok(reached);
            }
            Err(failure) => failures.push((number, failure)),
        }
    }
    failures.sort_by_key(|(number, _)| *number);
    // Where all say no, the first one's reason is the reason.
    let all_refuse = failures.iter().all(|(_, failure)| !matches!(failure, Failure::Lost(_)));
    if (all_refuse || !several) && !failures.is_empty() {
        return Err(failures.swap_remove(0).1);
    }
    let said = failures.iter().map(|(number, failure)| format!("{}: {failure}", source.addresses()[*number]));
    Err(Failure::Lost(said.collect::<Vec<_>>().join("; ")))
}

/// One address: the addresses of its name side by side, each within [`ADDRESS_TIME_MAX`].
async fn reach_address(source: &Source, config: &Config, number: usize) -> Result<Reached, Failure> {
    let resolved = match &source.addresses()[number] {
        Address::Unix(_) => vec![None],
        Address::Tcp { at, port, .. } => {
            let resolve = tokio::net::lookup_host((at.as_str(), *port));
            let resolved = in_time(async { resolve.await.map_err(not_connected) }).await?;
            resolved.map(Some).collect()
        }
    };
    let mut tries: FuturesUnordered<_> = resolved
        .into_iter()
        .map(|resolved| in_time(reach_place(source, config, Place { number, resolved })))
        .collect();
    let mut failure = Failure::Lost("its name has no address".to_owned());
    while let Some(reached) = tries.next().await {
        match reached {
            Ok(reached) => return Ok(reached),
            Err(why) => failure = why,
        }
    }
    Err(failure)
}

async fn in_time<T>(attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(ADDRESS_TIME_MAX, attempt)
        .await
        .unwrap_or_else(|_| Err(Failure::Lost(format!("no answer within {ADDRESS_TIME_MAX:?}"))))
}

fn not_connected(error: std::io::Error) -> Failure {
    Failure::Lost(format!("error connecting to server: {error}"))
}

/// An error that did not come from the network, nor from the server, means a setting that cannot work.
fn not_begun(error: tokio_postgres::Error) -> Failure {
    let from_network =
        |cause: &std::io::Error| !cause.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
    let misconfigured = match std::error::Error::source(&error) {
        None => false,
        Some(cause) => !cause.is::<DbError>() && !cause.downcast_ref().is_some_and(from_network),
    };
    if misconfigured { Failure::Misconfigured(describe(&error)) } else { error.into() }
}

async fn reach_place(source: &Source, config: &Config, place: Place) -> Result<Reached, Failure> {
    let (client, driver, incoming) = connect(source, config, &place).await?;
    let who = who(&client).await?;
    let Some(identity) = who.identity else {
        return Err(Failure::Lost("it is a standby".to_owned()));
    };
    if !source.history().follow(identity) {
        return Err(Failure::Lost(format!(
            "it is on timeline {}, which others have left",
            identity.timeline
        )));
    }
    Ok(Reached { client, driver, incoming, identity, pid: who.pid, place })
}

/// What is at the end of another connection to `place`.
pub(super) async fn look_again<T>(
    source: &Source,
    place: &Place,
    ask: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = source.config_for("probe");
    in_time(async {
        let (client, _driver, _incoming) = connect(source, &config, place).await?;
        ask(&client).await
    })
    .await
}

/// The primaries that answer now, by the number of the address that leads there.
pub(super) async fn primaries(source: &Source) -> Vec<(usize, Identity)> {
    let config = source.config_for("lookout");
    let looks = (0..source.addresses().len()).map(|number| {
        let config = &config;
        async move {
            let resolved = match &source.addresses()[number] {
                Address::Unix(_) => None,
                Address::Tcp { at, port, .. } => {
                    let resolve = tokio::net::lookup_host((at.as_str(), *port));
                    in_time(async { resolve.await.map_err(not_connected) }).await?.next()
                }
            };
            in_time(async {
                let (client, _driver, _incoming) =
                    connect(source, config, &Place { number, resolved }).await?;
                who(&client).await
            })
            .await
        }
    });
    let seen = futures_util::future::join_all(looks).await;
    // Who does not answer is no news here: the sessions notice by themselves.
    let identity = |seen: Result<Who, Failure>| seen.ok()?.identity;
    seen.into_iter().enumerate().filter_map(|(number, seen)| Some((number, identity(seen)?))).collect()
}

async fn connect(
    source: &Source,
    config: &Config,
    place: &Place,
) -> Result<(Client, Driver, Rc<Incoming>), Failure> {
    match &source.addresses()[place.number] {
        Address::Unix(path) => {
            let mut config = config.clone();
            // Nobody listens in on a socket file.
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let socket = Socket::connect(path).await.map_err(not_connected)?;
            Ok(drive(config.connect_raw(socket, NoTls).await.map_err(not_begun)?))
        }
        Address::Tcp { host, .. } => {
            let at = place.resolved.expect("a TCP address was resolved");
            let stream = tcp(at).await.map_err(not_connected)?;
            match source.tls() {
                None => Ok(drive(config.connect_raw(stream, NoTls).await.map_err(not_begun)?)),
                Some(tls) => {
                    let connect = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls.connector(), host)
                        .map_err(|error| Failure::Lost(format!("TLS: {host}: {error}")))?;
                    Ok(drive(config.connect_raw(stream, connect).await.map_err(not_begun)?))
                }
            }
        }
    }
}

/// A TCP connection that notices by itself when its peer's machine is gone; a peer that was only stopped is noticed by
/// the questions' own deadlines.
async fn tcp(at: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(at).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(DEAD_HOST_TIME_MAX))?;
    let second = Duration::from_secs(1);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second).with_retries(2))?;
    Ok(stream)
}

fn drive<S, T>((client, connection): (Client, Connection<S, T>)) -> (Client, Driver, Rc<Incoming>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let incoming = Rc::new(Incoming::default());
    let driver = tokio::task::spawn_local(attend(connection, Rc::clone(&incoming)));
    (client, Driver(driver), incoming)
}

/// Runs a connection to its end.
async fn attend<S, T>(mut connection: Connection<S, T>, incoming: Rc<Incoming>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(message)) => incoming.hear(&message),
            // The statement that was under way gets this error too, so here it is worth only a line for debugging.
            Some(Err(error)) => return tracing::debug!(error = %describe(&error), "connection ended"),
            None => return,
        }
    }
}

struct Who {
    /// `None`: a standby.
    identity: Option<Identity>,
    pid: i32,
}

async fn who(client: &Client) -> Result<Who, Failure> {
    let unreadable = || Failure::Lost("expected a server's identity, got something else".to_owned());
    let messages = client.simple_query(WHO).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(unreadable)?;
    let timeline = row.get(2).map(|digits| u32::from_str_radix(digits, 16));
    let identity = match (row.get(0), row.get(1).map(str::parse), timeline) {
        (Some("t"), ..) => None,
        (Some("f"), Some(Ok(system)), Some(Ok(timeline))) => Some(Identity { system, timeline }),
        _ => return Err(unreadable()),
    };
    let pid = row.get(3).and_then(|pid| pid.parse().ok()).ok_or_else(unreadable)?;
    Ok(Who { identity, pid })
}
