//! The Postgres server that an instance works with: somebody else's, or a private one that is started, looked after and
//! stopped here. It asks the server nothing.

use std::time::Instant;

use tracing::{error, warn};

use crate::config::Serve;
use crate::embedded::{Claim, Embedded, Settings, Stop};
use crate::limits::CONNECT_BACKOFF_MAX;
use crate::postgres::{Partitions, Source};

/// What a private server is started with.
pub(super) fn settings(serve: &Serve, cores: usize) -> Settings {
    Settings::new(serve.data_dir()).for_cores(cores)
}

/// The Postgres server of an instance.
pub(super) enum DatabaseServer {
    /// Somebody else's.
    Remote(Vec<Source>),
    /// This process' own.
    Private(Box<Private>),
}

pub(super) struct Private {
    postgres: Embedded,
    partitions: Partitions,
    /// No restart is tried before this; set when one failed.
    retry_at: Instant,
}

/// The server that an instance is to work with, before anything is started or asked.
pub(super) enum Chosen {
    /// Somebody else's.
    Remote(Vec<Source>),
    /// This process' own, in a directory that nobody else uses from now on.
    Private(Box<Claim>),
}

impl Chosen {
    /// The server that `serve` names; without one, a private server, whose directory is claimed.
    pub(super) fn of(serve: &Serve, cores: usize) -> Result<Chosen, String> {
        match serve.sources()? {
            Some(nodes) => Ok(Chosen::Remote(nodes)),
            None => {
                let claim = Claim::take(&settings(serve, cores));
                claim.map(Box::new).map(Chosen::Private).map_err(|error| error.to_string())
            }
        }
    }
}

impl DatabaseServer {
    /// The chosen server; a private one is started here.
    pub(super) fn find(
        chosen: Chosen,
        serve: &Serve,
        cores: usize,
        stop: &Stop,
    ) -> Result<DatabaseServer, String> {
        let claim = match chosen {
            Chosen::Remote(nodes) => return Ok(DatabaseServer::Remote(nodes)),
            Chosen::Private(claim) => claim,
        };
        let postgres = Embedded::start_in(*claim, &settings(serve, cores).until(stop))
            .map_err(|error| error.to_string())?;
        let partitions = serve.partitions;
        Ok(DatabaseServer::Private(Box::new(Private { postgres, partitions, retry_at: Instant::now() })))
    }

    /// How to connect to each of its nodes.
    pub(super) fn nodes(&self) -> Vec<Source> {
        match self {
            DatabaseServer::Private(private) => {
                vec![Source::local(private.postgres.config()).with_partitions(private.partitions)]
            }
            DatabaseServer::Remote(nodes) => nodes.clone(),
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
