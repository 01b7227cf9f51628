//! One connection to Postgres with the statements prepared on it, and how its end is noticed: it closes, its server stays
//! silent, or the process follows another timeline. It knows the statements only as a type.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::failure::Failure;
use super::history::Identity;
use super::layout::{Partition, Partitions};
use super::placement::{self, Placement};
use super::proof::Proofs;
use super::reach::{Driver, Incoming, Place, Reached, look_again, reach};
use super::role::Role;
use super::source::Source;
use crate::limits::{
    ADDRESS_TIME_MAX, IDLE_QUESTION_PERIOD, PREPARE_LOCK_TIME_MAX, PREPARE_TIME_MAX, SEARCH_TIME_MAX,
    SILENCE_TIME_MAX, STATEMENT_TIME_MAX,
};

/// The statements of a session for one role. It prepares no others: preparing an insert waits for whoever has locked
/// the table against inserts, and reads must not wait for that.
pub(super) trait Statements: Sized {
    /// What the session is for.
    const ROLE: Role;

    /// The settings that the session begins with, as SQL.
    fn settings() -> String;

    /// Prepares the statements, for the partitions that are at the server.
    async fn prepare(client: &Client, here: &Placement) -> Result<Self, tokio_postgres::Error>;
}

/// A live connection to a primary, with its statements prepared. Dropping it closes the socket.
pub(super) struct Session<S> {
    client: Client,
    statements: S,
    driver: Driver,
    incoming: Rc<Incoming>,
    source: Source,
    identity: Identity,
    place: Place,
    /// The partitions at its server, when it was opened.
    here: Placement,
    opened: Instant,
    pid: i32,
    /// The server process of the session before this one, which may have been left at work.
    before: Option<i32>,
    token: String,
}

/// What a server process does that owes an answer.
enum Backend {
    /// Its commit waits for a standby.
    WaitsForStandby,
    /// Something else. So does that of the session before, if `both`.
    Works { both: bool },
    /// It does not exist.
    Gone,
}

impl<S: Statements> Session<S> {
    /// Connects, and prepares the statements. While this is awaited it holds one connection; when it is given up, that
    /// connection is closed. `before` is the server process of the session before.
    pub(super) async fn open(source: &Source, before: Option<i32>) -> Result<Session<S>, Failure> {
        let Reached { client, driver, incoming, identity, pid, place } =
            reach(source, S::ROLE.name()).await?;
        let token = token()?;
        // A backend that waits for a lock would not notice that its client is gone; so it does not wait long. And it looks
        // now and then whether its client is there (Postgres 14 and later).
        let settings = format!(
            "SET lock_timeout = {}; SELECT set_config('{TOKEN}', '{token}', false); \
             SELECT set_config(name, '2000', false) FROM pg_settings \
             WHERE name = 'client_connection_check_interval'; {}",
            PREPARE_LOCK_TIME_MAX.as_millis(),
            S::settings()
        );
        let prepare = async {
            client.batch_execute(&settings).await?;
            let here = placement(&client, source).await?;
            if here.is_in_doubt() {
                return Err(Failure::Lost(IN_DOUBT.to_owned()));
            }
            Ok::<_, Failure>((S::prepare(&client, &here).await?, here))
        };
        let (statements, here) = match tokio::time::timeout(PREPARE_TIME_MAX, prepare).await {
            Ok(prepared) => prepared?,
            Err(_late) => return Err(Failure::Lost(format!("not prepared within {PREPARE_TIME_MAX:?}"))),
        };
        incoming.take_warning();
        let source = source.clone();
        Ok(Session {
            client,
            statements,
            driver,
            incoming,
            source,
            identity,
            place,
            here,
            opened: Instant::now(),
            pid,
            before,
            token,
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn statements(&self) -> &S {
        &self.statements
    }

    /// The history that the session's server writes.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// The partitions that were at the server when the session was opened.
    pub(super) fn here(&self) -> &Placement {
        &self.here
    }

    /// Why a statement about a partition that is not here cannot be sent. One that came since an older session was opened is
    /// known to the next session.
    pub(super) fn lacks(&self, partition: Partition) -> Failure {
        match self.opened.elapsed() > PLACEMENT_TIME {
            true => Failure::Lost(MOVED.to_owned()),
            false => Failure::Elsewhere(partition),
        }
    }

    /// Which of all partitions a row is in.
    pub(super) fn partitions(&self) -> Partitions {
        self.source.partitions()
    }

    /// Fails unless the server has, and has open, what it had when the session was opened: what it has not said of the
    /// others, nobody knows.
    pub(super) async fn is_still_placed(&self) -> Result<(), Failure> {
        if self.partitions() == Partitions::ONE {
            return Ok(());
        }
        let here = self.bounded(placement(&self.client, &self.source)).await?;
        if here == self.here { Ok(()) } else { Err(Failure::Lost(MOVED.to_owned())) }
    }

    /// What the server says without being asked.
    pub(super) fn incoming(&self) -> Rc<Incoming> {
        Rc::clone(&self.incoming)
    }

    /// The process id of the session's backend.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// What the setting [`TOKEN`] of this session was set to.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Returns why, once the connection is of no more use. Asks the server now and then whether it is there: a machine
    /// that is gone closes nothing.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            tokio::select! {
                () = self.driver.ended() => return "closed by the database".to_owned(),
                () = self.source.history().left(self.identity) => return left(self.identity),
                () = tokio::time::sleep(IDLE_QUESTION_PERIOD) => {}
            }
            if let Err(failure) = self.within(ADDRESS_TIME_MAX, self.client.batch_execute("")).await {
                return failure.to_string();
            }
        }
    }

    /// Bounds `statement`: a backend that was stopped never answers and never closes.
    pub(super) async fn bounded<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        self.within(SILENCE_TIME_MAX, statement).await
    }

    /// As [`bounded`](Self::bounded), for a statement that has a bound of its own.
    pub(super) async fn within<T>(
        &self,
        time_max: Duration,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            result = statement => Ok(result?),
            () = self.source.history().left(self.identity) => Err(Failure::Lost(left(self.identity))),
            () = tokio::time::sleep(time_max) => Err(Failure::Lost(format!("no answer for {time_max:?}"))),
        }
    }

    /// Waits for a statement that commits. A commit may wait for a standby for as long as none is there; to leave it and
    /// begin another would only add a backend that waits. So a server that is silent is asked, on another connection,
    /// what it does: the wait ends when the server does not answer, does not know the backend, or has it do anything but
    /// wait for a standby for longer than [`STATEMENT_TIME_MAX`]. But a session is not left while the one that was left
    /// before it is still at work: both wait for the same, such as a disk that stalls, and so would a third one.
    pub(super) async fn patiently<T>(
        &self,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Failure> {
        let mut statement = std::pin::pin!(statement);
        let began = Instant::now();
        let left_behind = self.source.history().left(self.identity);
        let mut left_behind = std::pin::pin!(left_behind);
        loop {
            let look = async {
                tokio::time::sleep(SILENCE_TIME_MAX).await;
                // Seldom needed, and large.
                Box::pin(self.look_at_backend()).await
            };
            let lost = tokio::select! {
                biased;
                result = &mut statement => return Ok(result?),
                () = &mut left_behind => left(self.identity),
                seen = look => match seen {
                    Ok(Backend::WaitsForStandby) => continue,
                    Ok(Backend::Works { both }) if both || began.elapsed() < STATEMENT_TIME_MAX => continue,
                    Ok(Backend::Works { .. }) => format!("no answer for {STATEMENT_TIME_MAX:?}"),
                    Ok(Backend::Gone) => "its backend is gone".to_owned(),
                    Err(failure) => format!("no answer for {:?}; asked again: {failure}", began.elapsed()),
                },
            };
            return Err(Failure::Lost(lost));
        }
    }

    /// Whether the server's commits wait for a standby at the moment. Then another server may be the primary by now, and
    /// this one not know of it.
    pub(super) async fn commits_wait_for_standby(&self) -> Result<bool, Failure> {
        let shown = self.bounded(self.client.simple_query("SHOW synchronous_standby_names")).await?;
        Ok(shown.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) != Some(""),
            _ => false,
        }))
    }

    /// Fails unless the server was the primary after this call, as far as its commits can prove it.
    pub(super) async fn is_still_primary(&self, proofs: &Rc<Proofs>) -> Result<(), Failure> {
        if !self.commits_wait_for_standby().await? {
            return Ok(());
        }
        let proof = Rc::clone(proofs).of(self.identity);
        if tokio::time::timeout(SEARCH_TIME_MAX, proof).await == Ok(true) {
            return Ok(());
        }
        Err(Failure::Lost("nobody confirmed that it still is the primary".to_owned()))
    }

    /// What the session's backend does, asked on another connection.
    async fn look_at_backend(&self) -> Result<Backend, Failure> {
        let question = format!(
            "SELECT pid, wait_event FROM pg_stat_activity \
             WHERE pid = {} OR pid = {} AND application_name LIKE '% {}'",
            self.pid,
            self.before.unwrap_or(self.pid),
            S::ROLE.name()
        );
        let seen = look_again(&self.source, &self.place, async |client| {
            let mut seen = Backend::Gone;
            let mut before = false;
            for message in client.simple_query(&question).await? {
                let SimpleQueryMessage::Row(row) = message else { continue };
                match (row.get(0) == Some(self.pid.to_string().as_str()), row.get(1)) {
                    (true, Some("SyncRep")) => seen = Backend::WaitsForStandby,
                    (true, _) => seen = Backend::Works { both: false },
                    (false, _) => before = true,
                }
            }
            Ok(match seen {
                Backend::Works { .. } => Backend::Works { both: before },
                seen => seen,
            })
        });
        match seen.await {
            // It has no connection to spare, and says so: it is there.
            Err(failure) if failure.sqlstate() == Some("53300") => Ok(Backend::Works { both: false }),
            seen => seen,
        }
    }
}

/// A setting that every session gives a value of its own, by which a statement knows whether it is in its session.
pub(super) const TOKEN: &str = "rinha.session";

/// For so long after it was opened nobody doubts which partitions a session's server has.
const PLACEMENT_TIME: Duration = Duration::from_secs(1);

/// Why a session is of no more use: others came, left or were closed.
pub(super) const MOVED: &str = "its server has other partitions than when it was opened";

/// Why a server is not asked.
const IN_DOUBT: &str = "it has prepared a commit of Citus, so that nobody knows which partitions it has";

/// The partitions at the end of a connection.
pub(super) async fn placement(client: &Client, source: &Source) -> Result<Placement, tokio_postgres::Error> {
    if source.partitions() == Partitions::ONE {
        return Ok(Placement::only());
    }
    let question = format!("SELECT unnest({})", placement::question(source.partitions(), source.engine()));
    let answer = client.simple_query(&question).await?;
    let names: Vec<&str> = answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    Ok(Placement::read(&names, source.partitions(), source.engine()))
}

/// A value that no other session has.
fn token() -> Result<String, Failure> {
    let random = SysRng.try_next_u64();
    let random = random.map_err(|error| Failure::Lost(format!("the system has no randomness: {error}")))?;
    Ok(format!("{random:016x}"))
}

fn left(identity: Identity) -> String {
    format!("the database has moved on from timeline {}", identity.timeline)
}
