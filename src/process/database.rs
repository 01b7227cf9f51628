//! The Postgres server that an instance works with: somebody else's, or a private one that is started, looked after and
//! stopped here. It asks the server nothing.

use std::time::Instant;

use tracing::{error, warn};

use crate::config::Serve;
use crate::embedded::{Embedded, Settings, Stop};
use crate::limits::CONNECT_BACKOFF_MAX;
use crate::postgres::Source;

/// What a private server is started with.
pub(super) fn settings(serve: &Serve, cores: usize) -> Settings {
    Settings::new(serve.data_dir()).for_cores(cores)
}

/// The Postgres server of an instance.
pub(super) enum DatabaseServer {
    /// Somebody else's, by its URL.
    Remote(String),
    /// This process' own.
    Private(Box<Private>),
}

pub(super) struct Private {
    postgres: Embedded,
    /// No restart is tried before this; set when one failed.
    retry_at: Instant,
}

impl DatabaseServer {
    /// The server that `serve` names; without one, a private server, which is started here.
    pub(super) fn find(serve: &Serve, cores: usize, stop: &Stop) -> Result<DatabaseServer, String> {
        if let Some(url) = &serve.database_url {
            return Ok(DatabaseServer::Remote(url.clone()));
        }
        let postgres =
            Embedded::start(&settings(serve, cores).until(stop)).map_err(|error| error.to_string())?;
        Ok(DatabaseServer::Private(Box::new(Private { postgres, retry_at: Instant::now() })))
    }

    /// How to connect to it.
    pub(super) fn source(&self) -> Result<Source, String> {
        match self {
            DatabaseServer::Private(private) => Ok(Source::local(private.postgres.config())),
            DatabaseServer::Remote(url) => Source::parse(url).map_err(|why| format!("--database-url: {why}")),
        }
    }

    /// Starts a private server again if it died.
    pub(super) fn look_after(&mut self) {
        let DatabaseServer::Private(private) = self else { return };
        if Instant::now() < private.retry_at {
            return;
        }
        match private.postgres.ensure_running() {
            Ok(false) => {}
            Ok(true) => warn!("the private Postgres had died and was started again"),
            Err(error) => {
                error!(%error, "the private Postgres died and cannot be started again; trying on");
                private.retry_at = Instant::now() + CONNECT_BACKOFF_MAX;
            }
        }
    }

    /// Stops a private server, at once after a second signal.
    pub(super) fn leave(self) {
        if let DatabaseServer::Private(mut private) = self
            && let Err(error) = private.postgres.stop()
        {
            error!(%error, "the private Postgres could not be stopped");
        }
    }
}
