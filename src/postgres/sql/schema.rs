//! `schema.sql`, and what a server says of itself when it is applied.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::limits::SCHEMA_LOCK_TIME_MAX;

const SCHEMA: &str = include_str!("../../../schema.sql");

/// Serialises concurrent starts on one database: "rinha" in ASCII.
const SCHEMA_LOCK: i64 = 0x72_69_6e_68_61;

/// What `prepare_database` asks.
pub(in crate::postgres) struct Facts {
    pub(in crate::postgres) version: String,
    pub(in crate::postgres) encoding: String,
    pub(in crate::postgres) durable: bool,
}

/// Applies `schema.sql`, one start at a time, and asks what the server is.
pub(in crate::postgres) async fn apply(client: &Client) -> Result<Facts, tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "SET lock_timeout = {}; SET client_min_messages = warning; SELECT pg_advisory_lock({SCHEMA_LOCK})",
            SCHEMA_LOCK_TIME_MAX.as_millis()
        ))
        .await?;
    let applied = client.batch_execute(SCHEMA).await;
    client.batch_execute(&format!("SELECT pg_advisory_unlock({SCHEMA_LOCK})")).await?;
    applied?;
    let fsync = show(client, "fsync").await?;
    let full_page_writes = show(client, "full_page_writes").await?;
    Ok(Facts {
        version: show(client, "server_version").await?,
        encoding: show(client, "server_encoding").await?,
        durable: fsync == "on" && full_page_writes == "on",
    })
}

async fn show(client: &Client, setting: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(&format!("SHOW {setting}")).await?;
    Ok(messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .unwrap_or_default())
}
