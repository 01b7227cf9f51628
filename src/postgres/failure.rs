//! Why a statement has no result: what the server said, or that it said nothing. The caller decides what a failure
//! means for a row or for the session.

use thiserror::Error;
use tokio_postgres::error::{Severity, SqlState};

use super::layout::Partition;

/// Why a statement has no result.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The server refused the statement.
    #[error("{message} (SQLSTATE {})", sqlstate.code())]
    Refused {
        sqlstate: SqlState,
        /// Above `ERROR` the session is over. `None` when the server is older than 9.6 and does not say.
        severity: Option<Severity>,
        /// The check or the index that was violated.
        constraint: Option<Box<str>>,
        message: Box<str>,
    },
    /// Nothing was asked: the session's server has not the partition that this is about.
    #[error("partition {0} is not at this server")]
    Elsewhere(Partition),
    /// No answer came, only a part of it, or one that cannot be read; what the statement did is unknown.
    #[error("{0}")]
    Lost(String),
    /// No connection can be made as it was asked for: no password, no TLS.
    #[error("{0}")]
    Misconfigured(String),
}

impl Failure {
    /// The code of what the server said.
    pub(super) fn sqlstate(&self) -> Option<&str> {
        match self {
            Failure::Refused { sqlstate, .. } => Some(sqlstate.code()),
            Failure::Elsewhere(_) | Failure::Lost(_) | Failure::Misconfigured(_) => None,
        }
    }

    /// The check or the index that was violated.
    pub(super) fn constraint(&self) -> Option<&str> {
        match self {
            Failure::Refused { constraint, .. } => constraint.as_deref(),
            Failure::Elsewhere(_) | Failure::Lost(_) | Failure::Misconfigured(_) => None,
        }
    }

    /// The code of an error that ended a statement and left the session as it was: what the statement did is undone.
    pub(super) fn undone(&self) -> Option<&str> {
        match self {
            Failure::Refused { sqlstate, severity: None | Some(Severity::Error), .. } => {
                Some(sqlstate.code())
            }
            // As if there were no such table.
            Failure::Elsewhere(_) => Some(SqlState::UNDEFINED_TABLE.code()),
            Failure::Refused { .. } | Failure::Lost(_) | Failure::Misconfigured(_) => None,
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        match error.as_db_error() {
            Some(said) => Failure::Refused {
                sqlstate: said.code().clone(),
                severity: said.parsed_severity(),
                constraint: said.constraint().map(Box::from),
                message: said.message().into(),
            },
            None => Failure::Lost(describe(&error)),
        }
    }
}

/// The database's own words where it spoke; tokio-postgres alone only says "db error".
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
        None => match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
