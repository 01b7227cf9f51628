//! Before the first session: waits for the database, applies `schema.sql`, looks whether the table is what the statements
//! expect, and asks what the server is.

use std::time::Instant;

use thiserror::Error;
use tokio::task::LocalSet;
use tracing::info;

use super::citus;
use super::deal;
use super::layout::Partitions;
use super::meet::{Preparation, ServerFacts, has_sessions, in_time, meet, takes_every_character};
use super::reach::Reached;
use super::source::Source;
use super::sql;
use crate::limits::{
    CONNECT_BACKOFF_MAX, CONNECT_BACKOFF_MIN, START_REFUSED_TIME_MAX, START_TIME_MAX, STATEMENT_TIME_MAX,
};

/// Why the start cannot go on. The text is one line.
#[derive(Debug, Error)]
pub enum StartError {
    /// The database never answered.
    #[error(
        "the database did not answer within {START_TIME_MAX:?} ({0}); check DATABASE_URL and that Postgres \
         accepts connections"
    )]
    Away(String),
    /// The database answered, and cannot be used.
    #[error("the database cannot be used: {0}")]
    Unusable(String),
    /// The runtime that asks the database could not be built.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// The databases that were found ready.
pub struct Prepared {
    /// Those that have the people: the ones that were named, or the nodes that a Citus coordinator named.
    pub nodes: Vec<Source>,
    /// What each of them is.
    pub facts: Vec<ServerFacts>,
}

/// Waits for the nodes, applies `schema.sql` under an advisory lock at each, or at a Citus coordinator where that is missing, and
/// asks what each is. Blocks.
///
/// # Errors
///
/// A node does not answer, or cannot be used as it is.
pub fn prepare_databases(nodes: &[Source]) -> Result<Prepared, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = async {
        let began = Instant::now();
        let mut pause = CONNECT_BACKOFF_MIN;
        let mut said = false;
        loop {
            let away = match prepare(nodes).await {
                Ok(prepared) => return Ok(prepared),
                Err(Preparation::Unusable(why)) => return Err(StartError::Unusable(why)),
                // The first start of a server lets clients in before it has made its databases and users.
                Err(Preparation::Refused(why)) if began.elapsed() >= START_REFUSED_TIME_MAX => {
                    return Err(StartError::Unusable(why));
                }
                Err(Preparation::Away(why)) if began.elapsed() >= START_TIME_MAX => {
                    return Err(StartError::Away(why));
                }
                Err(Preparation::Refused(why) | Preparation::Away(why)) => why,
            };
            if !said {
                info!(why = away, "waiting for the database");
                said = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(CONNECT_BACKOFF_MAX);
        }
    };
    LocalSet::new().block_on(&runtime, wait)
}

async fn prepare(nodes: &[Source]) -> Result<Prepared, Preparation> {
    if let [source] = nodes {
        if source.partitions() == Partitions::ONE {
            let session = meet(source).await?;
            has_sessions(source, &session).await?;
            let facts = in_time(STATEMENT_TIME_MAX, apply(&session)).await?;
            return Ok(Prepared { nodes: nodes.to_vec(), facts: vec![facts] });
        }
        if let Some(coordinator) = citus::find(source).await? {
            let (nodes, facts) = coordinator.prepare().await?;
            return Ok(Prepared { nodes, facts });
        }
    }
    Ok(Prepared { nodes: nodes.to_vec(), facts: deal::prepare(nodes).await? })
}

async fn apply(session: &Reached) -> Result<ServerFacts, Preparation> {
    let facts = sql::schema::apply(&session.client).await?;
    takes_every_character(&facts.encoding)?;
    Ok(ServerFacts { version: facts.version, durable: facts.fsync && facts.full_page_writes })
}
