//! A connection pooler between the server and its database: in session mode it works, else it is refused.

use crate::cluster::Cluster;
use crate::expect_refused;
use crate::load::{Load, seed, verify};
use crate::pgbouncer::pooler;
use crate::server::Server;

fn url(port: u16) -> String {
    format!("postgres://rinha@127.0.0.1:{port}/postgres")
}

#[test]
fn session_mode_works() {
    let cluster = Cluster::start();
    let Some((_pooler, port)) = pooler(&cluster, "session", 20) else { return };
    let server = Server::start(&["--cores", "2", "--database-url", &url(port)]);
    let load = Load::start(&server.tcp(), 8, seed());
    load.wait_for(200);
    assert_eq!((load.unavailable(), load.lost()), (0, 0));
    verify(&load.finish(), &cluster.config(), &server.tcp());
}

#[test]
fn other_modes_are_refused_at_the_start() {
    let cluster = Cluster::start();
    let Some((_pooler, port)) = pooler(&cluster, "transaction", 20) else { return };
    expect_refused(&url(port), "expected a connection pooler in session mode, or none");
    // Also when others use it, and its server sessions are many.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config: tokio_postgres::Config = url(port).parse().expect("a URL");
    let clients: Vec<_> = (0..5)
        .map(|_| {
            runtime.block_on(async {
                let client = crate::cluster::connect(&config).await;
                client.batch_execute("begin; select 1").await.expect("a transaction");
                client
            })
        })
        .collect();
    for client in &clients {
        runtime.block_on(client.batch_execute("commit")).expect("its end");
    }
    expect_refused(&url(port), "expected a connection pooler in session mode, or none");
    drop(clients);
    let Some((_one, port)) = pooler(&cluster, "transaction", 1) else { return };
    expect_refused(&url(port), "expected a connection pooler in session mode, or none");
    let Some((_statement, port)) = pooler(&cluster, "statement", 20) else { return };
    expect_refused(&url(port), "the database cannot be used");
}
