//! A start on what is there: a table that somebody else made, rights that are missing, a cluster that is being set up.

use std::thread;
use std::time::Duration;

use crate::cluster::{Cluster, query};
use crate::expect_refused;
use crate::load::Pessoa;
use crate::server::{Server, binary, database_url};

const TABLE: &str = "create table pessoas (id uuid primary key, apelido varchar(32) collate \"C\" not null unique, \
    nome varchar(100) not null, nascimento date not null, stack text[], search bytea, \
    tx xid8 not null default pg_current_xact_id())";

#[test]
fn a_table_that_does_not_fit_is_named() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    for (change, expected) in [
        ("alter table pessoas drop column search", "has no column search, expected one of type bytea"),
        (
            "alter table pessoas alter column nascimento type text",
            "has a column nascimento of type text, expected date",
        ),
        (
            "alter table pessoas alter column tx drop default",
            "has a column tx that must be given and has no default",
        ),
        (
            "alter table pessoas add email text not null",
            "has a column email that must be given and has no default",
        ),
        (
            "alter table pessoas drop constraint pessoas_apelido_key",
            "has no valid unique index on apelido alone",
        ),
        (
            "alter table pessoas drop constraint pessoas_apelido_key, add unique (apelido, nome)",
            "has no valid unique index on apelido alone",
        ),
        (
            "alter table pessoas drop constraint pessoas_apelido_key, add unique (apelido) deferrable",
            "has no valid unique index on apelido alone",
        ),
        ("alter table pessoas drop constraint pessoas_pkey", "has no valid unique index on id alone"),
    ] {
        cluster.query(TABLE);
        cluster.query(change);
        expect_refused(&url, expected);
        cluster.query("drop table pessoas");
    }
    // The same table as it should be.
    cluster.query(TABLE);
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    assert_eq!(Pessoa::named("certa").post_to(&server).status, 201);
}

#[test]
fn a_right_that_is_missing_is_named() {
    let cluster = Cluster::start();
    cluster.query("create role guest login");
    let mut config = cluster.config();
    config.user("guest");
    let url = database_url(&config);
    // It may not make the table.
    cluster.query("revoke create on schema public from public");
    expect_refused(&url, "permission denied for schema public (SQLSTATE 42501); expected the rights");
    // It may not use the one that is there.
    drop(Server::on(&cluster.config(), &["--cores", "1"]));
    expect_refused(&url, "its table pessoas does not allow SELECT to this user");
    cluster.query("grant select on pessoas to guest");
    expect_refused(&url, "its table pessoas does not allow INSERT to this user");
    // No more than these are needed.
    cluster.query("grant insert on pessoas to guest");
    let server = Server::on(&config, &["--cores", "1"]);
    assert_eq!(Pessoa::named("visita").post_to(&server).status, 201);
}

#[test]
fn a_database_that_is_being_set_up_is_waited_for() {
    let cluster = Cluster::start();
    let mut config = cluster.config();
    config.dbname("late").user("late");
    let mut command = binary();
    command.args(["--log-format", "json", "--listen", "127.0.0.1:0", "--cores", "1", "--database-url"]);
    command.arg(database_url(&config));
    let mut server = Server::spawn(command);
    let waits =
        |server: &Server| server.events().iter().any(|event| event["message"] == "waiting for the database");
    while !waits(&server) {
        thread::sleep(Duration::from_millis(5));
    }
    cluster.query("create role late login");
    cluster.query("create database late owner late");
    server.wait_until_serving();
    assert_eq!(Pessoa::named("tardia").post_to(&server).status, 201);
    assert_eq!(query(&config, "select count(*) from pessoas"), ["1"]);
    // What never comes is an error after a while, and no other than before.
    drop(server);
    config.dbname("never");
    expect_refused(
        &database_url(&config),
        "database \"never\" does not exist (SQLSTATE 3D000); check the user",
    );
}
