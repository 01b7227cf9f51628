//! Which backend is whose.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// A session of its own, whose CPU time is left out.
pub(crate) struct Backends {
    runtime: Runtime,
    client: Client,
}

impl Backends {
    pub(crate) fn of(directory: &Path) -> Result<Backends, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = directory.join("postgres-socket");
        let url = format!("host={} user=rinha dbname=rinha application_name=rates", socket.display());
        let (client, connection) = runtime.block_on(tokio_postgres::connect(&url, NoTls))?;
        runtime.spawn(connection);
        Ok(Backends { runtime, client })
    }

    /// What each backend is for: the last word of the session's name. The program `limit` has none, and commits.
    pub(crate) fn purposes(&self) -> Result<HashMap<u32, String>, Box<dyn Error>> {
        let question = "SELECT pid, application_name FROM pg_stat_activity \
                        WHERE backend_type = 'client backend' AND application_name <> 'rates'";
        let rows = self.runtime.block_on(self.client.query(question, &[]))?;
        rows.iter()
            .map(|row| {
                let name: &str = row.try_get(1)?;
                let purpose = name.split_whitespace().last().unwrap_or("commit").to_owned();
                Ok((u32::try_from(row.try_get::<_, i32>(0)?)?, purpose))
            })
            .collect()
    }

    pub(crate) fn own(&self) -> Result<u32, Box<dyn Error>> {
        let row = self.runtime.block_on(self.client.query_one("SELECT pg_backend_pid()", &[]))?;
        Ok(u32::try_from(row.try_get::<_, i32>(0)?)?)
    }
}
