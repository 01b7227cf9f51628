//! The feed against a real Postgres that crashes, changes its history or is slow, and against rows of all kinds: what a
//! search finds is what is committed, within the contract's second or from Postgres itself.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/race.rs"]
mod race;
#[path = "../support/server.rs"]
mod server;

mod crashes;
mod foreign;
mod freshness;
mod histories;
mod rows;
mod swap;

use std::time::Duration;

use cluster::Cluster;
use load::wait_until;
use server::{Response, Server};

/// The contract: a search that starts so long after a 201, on another instance, sees the pessoa.
const FRESH_MAX: Duration = Duration::from_secs(1);

/// A table of that many rows, put in by one statement.
fn fill(cluster: &Cluster, rows: usize) {
    cluster.query(&format!(
        "insert into pessoas (id, apelido, nome, nascimento, search) \
         select gen_random_uuid(), 'past' || number, 'Past', '2000-01-01', \
                convert_to('past' || number, 'UTF8') || '\\x00'::bytea || convert_to('past', 'UTF8') \
         from generate_series(1, {rows}) as number"
    ));
}

/// Puts in a row by hand; `more` are columns and their values besides.
fn insert(cluster: &Cluster, apelido: &str, more: &[(&str, &str)]) {
    let columns: String = more.iter().map(|(column, _)| format!(", {column}")).collect();
    let values: String = more.iter().map(|(_, value)| format!(", '{value}'")).collect();
    cluster.query(&format!(
        "insert into pessoas (id, apelido, nome, nascimento{columns}) \
         values (gen_random_uuid(), '{apelido}', 'By Hand', '2000-01-01'{values})"
    ));
}

fn search(server: &Server, term: &str) -> Response {
    server.ask("GET", &format!("/pessoas?t={term}"), "")
}

/// The apelidos of a search's answer; `None` if it was another one.
fn found(response: &Response) -> Option<Vec<String>> {
    let apelido = |pessoa: &serde_json::Value| pessoa["apelido"].as_str().unwrap().to_owned();
    (response.status == 200).then(|| response.json().as_array().unwrap().iter().map(apelido).collect())
}

/// Waits until `server` finds exactly this apelido by it, and says how long that took.
#[track_caller]
fn wait_until_found(server: &Server, apelido: &str) -> Duration {
    wait_until(apelido, || found(&search(server, apelido)).is_some_and(|found| found == [apelido]))
}

/// Waits until exactly so many rows are in the memory of `server`.
#[track_caller]
fn wait_for_rows(server: &Server, rows: usize) {
    let in_memory = || server.ask("GET", "/healthz", "").json()["cache"]["pessoas"].as_u64().unwrap();
    wait_until(&format!("{rows} rows in memory"), || in_memory() == rows as u64);
}

/// Waits until memory answers the searches of `server`, not Postgres.
fn wait_until_fresh(server: &Server) {
    wait_until("a fresh memory", || age(server).is_some_and(|age| age < FRESH_MAX));
}

/// How old the memory of `server` is.
fn age(server: &Server) -> Option<Duration> {
    server.ask("GET", "/healthz", "").json()["cache"]["age_ms"].as_u64().map(Duration::from_millis)
}
