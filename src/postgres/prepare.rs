//! Before the first session: waits for the database, applies `schema.sql`, looks whether the table is what the statements
//! expect, and asks what the server is.

use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::task::LocalSet;
use tracing::info;

use super::failure::Failure;
use super::lookout;
use super::reach::{Reached, reach};
use super::source::Source;
use super::sql;
use crate::limits::{
    CONNECT_BACKOFF_MAX, CONNECT_BACKOFF_MIN, START_REFUSED_TIME_MAX, START_TIME_MAX, STATEMENT_TIME_MAX,
};

/// What the server is, asked once at start.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `server_version`, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// `fsync` and `full_page_writes` are both on: a commit survives a crash of the machine.
    pub durable: bool,
}

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

/// Waits for the database, applies `schema.sql` under an advisory lock, and asks what the server is. Blocks.
///
/// # Errors
///
/// The database does not answer, or cannot be used as it is.
pub fn prepare_database(source: &Source) -> Result<ServerFacts, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wait = async {
        let began = Instant::now();
        let mut pause = CONNECT_BACKOFF_MIN;
        let mut said = false;
        loop {
            let away = match prepare(source).await {
                Ok(facts) => return Ok(facts),
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

#[derive(Debug)]
pub(super) enum Preparation {
    /// Waiting helps.
    Away(String),
    /// Waiting helps only while the server is being set up.
    Refused(String),
    /// A person must act.
    Unusable(String),
}

async fn prepare(source: &Source) -> Result<ServerFacts, Preparation> {
    let session = meet(source).await?;
    has_sessions(source, &session).await?;
    in_time(STATEMENT_TIME_MAX, apply(&session)).await
}

/// The primary that a start works with.
pub(super) async fn meet(source: &Source) -> Result<Reached, Preparation> {
    reach(source, "start").await.map_err(refusal)?;
    // After a failover an old primary may be the first to answer.
    if let Some(foreign) = lookout::look(source).await
        && source.addresses().len() > 1
    {
        return Err(Preparation::Unusable(format!(
            "{foreign} is another cluster than the others; expected one primary and its standbys"
        )));
    }
    reach(source, "start").await.map_err(refusal)
}

/// Whether each connection has a server session of its own.
pub(super) async fn has_sessions(source: &Source, session: &Reached) -> Result<(), Preparation> {
    let another = reach(source, "start").await.map_err(refusal)?;
    in_time(STATEMENT_TIME_MAX, async {
        Ok(sql::schema::sessions_are_own(&session.client, &another.client).await?)
    })
    .await
}

pub(super) async fn in_time<T>(
    time_max: Duration,
    work: impl Future<Output = Result<T, Preparation>>,
) -> Result<T, Preparation> {
    tokio::time::timeout(time_max, work)
        .await
        .unwrap_or_else(|_| Err(Preparation::Away(format!("no answer for {time_max:?}"))))
}

async fn apply(session: &Reached) -> Result<ServerFacts, Preparation> {
    let facts = sql::schema::apply(&session.client).await?;
    takes_every_character(&facts.encoding)?;
    Ok(ServerFacts { version: facts.version, durable: facts.fsync && facts.full_page_writes })
}

pub(super) fn takes_every_character(encoding: &str) -> Result<(), Preparation> {
    if encoding != "UTF8" {
        return Err(Preparation::Unusable(format!(
            "its encoding is {encoding}, expected UTF8 (create the database with ENCODING 'UTF8')"
        )));
    }
    Ok(())
}

impl From<sql::schema::Unfit> for Preparation {
    fn from(unfit: sql::schema::Unfit) -> Preparation {
        match unfit {
            sql::schema::Unfit::Failed(failure) => refusal(failure),
            sql::schema::Unfit::Lacks(what) => Preparation::Unusable(what),
        }
    }
}

/// Waiting helps against a database that starts or restarts, not against one that says no.
fn refusal(failure: Failure) -> Preparation {
    let what = failure.to_string();
    match failure.sqlstate().and_then(|code| code.get(..2)) {
        // Who is asking, or for which database.
        Some("28" | "3D") => {
            Preparation::Refused(format!("{what}; check the user, password and database of DATABASE_URL"))
        }
        Some("0A" | "22" | "23" | "42") => Preparation::Unusable(what),
        Some(_) => Preparation::Away(what),
        None => match failure {
            Failure::Misconfigured(_) => Preparation::Unusable(format!("{what}; check DATABASE_URL")),
            _ => Preparation::Away(what),
        },
    }
}
