//! How a start meets a server: a primary whose connections have server sessions of their own; and what waiting for it helps.

use std::time::Duration;

use super::failure::Failure;
use super::lookout;
use super::reach::{Reached, reach};
use super::source::Source;
use super::sql;
use crate::limits::STATEMENT_TIME_MAX;

/// What the server is, asked once at start.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `server_version`, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// `fsync` and `full_page_writes` are both on: a commit survives a crash of the machine.
    pub durable: bool,
}

/// Why a server cannot be worked with yet.
#[derive(Debug)]
pub(super) enum Preparation {
    /// Waiting helps.
    Away(String),
    /// Waiting helps only while the server is being set up.
    Refused(String),
    /// A person must act.
    Unusable(String),
}

impl Preparation {
    /// The same, told otherwise.
    pub(super) fn map(self, tell: impl FnOnce(String) -> String) -> Preparation {
        match self {
            Preparation::Away(why) => Preparation::Away(tell(why)),
            Preparation::Refused(why) => Preparation::Refused(tell(why)),
            Preparation::Unusable(why) => Preparation::Unusable(tell(why)),
        }
    }
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
