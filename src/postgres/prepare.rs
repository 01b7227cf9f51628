//! Before the first session: waits for the database, applies `schema.sql`, and asks what the server is.

use std::time::Instant;

use thiserror::Error;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use tracing::info;

use super::failure::describe;
use super::sql;
use crate::limits::{
    CONNECT_BACKOFF_MAX, CONNECT_BACKOFF_MIN, CONNECT_TIME_MAX, START_TIME_MAX, STATEMENT_TIME_MAX,
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

async fn prepare(config: &Config) -> Result<ServerFacts, Preparation> {
    let opened = tokio::time::timeout(CONNECT_TIME_MAX, config.connect(NoTls)).await;
    let (client, connection) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(refusal(&error)),
        Err(_) => return Err(Preparation::Away(format!("no connection within {CONNECT_TIME_MAX:?}"))),
    };
    let connection = tokio::spawn(connection);
    let applied = tokio::time::timeout(STATEMENT_TIME_MAX, sql::schema::apply(&client)).await;
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
        // An error that did not come from the network means a setting that cannot work: no host, no password, TLS.
        None => match std::error::Error::source(error) {
            Some(cause) if !cause.is::<std::io::Error>() => {
                Preparation::Unusable(format!("{what}; check DATABASE_URL"))
            }
            _ => Preparation::Away(what),
        },
    }
}
