//! What a start would find at the other end, by the same steps as far as they change nothing. It knows no lines and no
//! verdicts.

use tokio::task::LocalSet;

use super::citus;
use super::deal::{self, Dealt};
use super::history::Identity;
use super::layout::Partitions;
use super::meet::{Preparation, has_sessions, in_time, meet, takes_every_character};
use super::source::{Address, Source};
use super::sql::schema::{self, Facts, Manners, Schema};
use crate::limits::{START_REFUSED_TIME_MAX, START_TIME_MAX, STATEMENT_TIME_MAX};

/// What a start would find.
pub struct Prospect {
    /// Where the primary is.
    pub address: String,
    /// How the connection is protected.
    pub protection: Protection,
    /// Which cluster it is.
    pub identity: Identity,
    /// Whether each connection has a server session of its own, or why not.
    pub sessions: Result<(), String>,
    /// `server_version`.
    pub version: String,
    /// Whether its encoding takes every character, or what it is.
    pub encoding: Result<(), String>,
    /// Whether commits survive a crash of the machine: `fsync`, `full_page_writes`.
    pub durable: (bool, bool),
    /// The server's default of `synchronous_commit`; this program turns it on for its own commits.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`; empty: commits wait for none.
    pub standby_names: String,
    /// Standbys that commits may wait for; `None`: this user may not see them.
    pub standbys: Option<usize>,
    /// Transactions are read-only by default, so that nothing can be inserted.
    pub read_only: bool,
    /// `max_connections`.
    pub connections_max: usize,
    /// How many of them this user may still open.
    pub connections_free: usize,
    /// What a start would do to the schema, or why it cannot; of several partitions [`look_at_layout`] says it.
    pub schema: Option<Result<Schema, String>>,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// A socket file of this machine.
    Socket,
    /// Not encrypted, to this machine or to another one.
    Plain {
        /// It does not leave the machine.
        local: bool,
    },
    /// Encrypted; the text says who is believed.
    Encrypted(&'static str),
}

/// Looks once, and changes nothing. Blocks for some seconds at most.
///
/// # Errors
///
/// One line: a start could not use this database, or would wait for it.
pub fn look(source: &Source) -> Result<Prospect, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    LocalSet::new().block_on(&runtime, look_around(source)).map_err(said)
}

/// Which partitions a start would find and make, at each node, those that a Citus coordinator names included. Blocks for some seconds at most.
///
/// # Errors
///
/// One line: a start could not use these databases together, or would wait for them.
pub fn look_at_layout(nodes: &[Source]) -> Result<(Vec<Source>, Vec<Dealt>), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    LocalSet::new().block_on(&runtime, try_out(nodes)).map_err(said)
}

async fn try_out(nodes: &[Source]) -> Result<(Vec<Source>, Vec<Dealt>), Preparation> {
    if let [source] = nodes
        && let Some(coordinator) = citus::find(source).await?
    {
        return coordinator.try_out().await;
    }
    Ok((nodes.to_vec(), deal::try_out(nodes).await?))
}

async fn look_around(source: &Source) -> Result<Prospect, Preparation> {
    let session = meet(source).await?;
    let asked = async {
        let facts = schema::facts(&session.client).await?;
        Ok((facts, schema::manners(&session.client).await?))
    };
    let (facts, manners): (Facts, Manners) = in_time(STATEMENT_TIME_MAX, asked).await?;
    let sessions = has_sessions(source, &session).await.map_err(said);
    let schema = match source.partitions() {
        Partitions::ONE => {
            let tried = async { Ok(schema::try_out(&session.client).await?) };
            Some(in_time(STATEMENT_TIME_MAX, tried).await.map_err(said))
        }
        _ => None,
    };
    Ok(Prospect {
        address: source.seen().address,
        protection: protection(source),
        identity: session.identity,
        sessions,
        version: facts.version,
        encoding: takes_every_character(&facts.encoding).map_err(said),
        durable: (facts.fsync, facts.full_page_writes),
        synchronous_commit: manners.synchronous_commit,
        standby_names: manners.standby_names,
        standbys: manners.standbys,
        read_only: manners.read_only,
        connections_max: manners.connections_max,
        connections_free: manners.connections_free,
        schema,
    })
}

/// Why a start could not go on, or how long it would wait.
fn said(preparation: Preparation) -> String {
    match preparation {
        Preparation::Away(why) => format!("{why}; a start waits {START_TIME_MAX:?} for it"),
        Preparation::Refused(why) => format!("{why}; a start waits {START_REFUSED_TIME_MAX:?} for that"),
        Preparation::Unusable(why) => why,
    }
}

fn protection(source: &Source) -> Protection {
    match (source.address(), source.tls()) {
        (Address::Unix(_), _) => Protection::Socket,
        (Address::Tcp { .. }, Some(tls)) => Protection::Encrypted(tls.trust()),
        (Address::Tcp { at, .. }, None) => {
            let loopback = at.parse::<std::net::IpAddr>().map(|ip| ip.is_loopback());
            Protection::Plain { local: loopback.unwrap_or(at == "localhost") }
        }
    }
}
