//! Rows that others put in, with whatever they bring along.

use std::process::Command;

use crate::cluster::{Cluster, block_on, connect, temporary_directory};
use crate::load::wait_until;
use crate::server::Server;
use crate::{fill, found, insert, search, wait_for_rows, wait_until_found, wait_until_fresh};

/// The table as it was before the database stamped each row's transaction.
const FORMER_SCHEMA: &str = r#"
    create table pessoas (
        id uuid primary key, apelido varchar(32) collate "C" not null unique,
        nome varchar(100) collate "C" not null,
        nascimento date not null check (nascimento between '0001-01-01' and '9999-12-31'),
        stack text[] collate "C" check (array_position(stack, null) is null),
        search bytea, tx xid8 not null default pg_current_xact_id()
    );
    create index pessoas_tx on pessoas (tx);
    create index pessoas_unlowered on pessoas (id) where search is null"#;

/// Whatever id a row brings, memory finds it, and the feed reads it no more than once.
fn finds_rows_of_any_transaction(cluster: &Cluster, server: &Server, prefix: &str) {
    for (name, tx) in [("low", "3"), ("high", "900000000"), ("zero", "0")] {
        let apelido = format!("{prefix}-{name}.");
        insert(cluster, &apelido, &[("tx", tx)]);
        wait_for_rows(server, cluster.query("select id from pessoas").len());
        wait_until_found(server, &apelido);
        // Nor does an update make a row one of another time.
        cluster.query(&format!("update pessoas set tx = '{tx}' where apelido = '{apelido}'"));
    }
    let of_another_time = "select count(*) from pessoas \
                           where tx < '100' or tx >= pg_snapshot_xmax(pg_current_snapshot())";
    assert_eq!(cluster.query(of_another_time), ["0"]);
}

#[test]
fn a_row_that_names_another_transaction_is_found() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    finds_rows_of_any_transaction(&cluster, &server, "plain");
    // As a subscription's worker does.
    cluster.query(
        "set session_replication_role = replica; insert into pessoas (id, apelido, nome, nascimento, tx) \
         values (gen_random_uuid(), 'replicated', 'x', '2000-01-01', '3')",
    );
    wait_for_rows(&server, 4);
    wait_until_found(&server, "replicated");
}

/// A table of the former version gets the trigger, though two instances start at once and somebody writes meanwhile.
#[test]
fn a_table_of_the_former_version_is_brought_up_to_date() {
    let cluster = Cluster::start();
    cluster.query(FORMER_SCHEMA);
    insert(&cluster, "old", &[("tx", "900000000")]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let writer = runtime.block_on(connect(&cluster.config()));
    let write = "begin; insert into pessoas (id, apelido, nome, nascimento) \
                 values (gen_random_uuid(), 'meanwhile', 'x', '2000-01-01')";
    runtime.block_on(writer.batch_execute(write)).unwrap();
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let start = || scope.spawn(|| Server::on(&cluster.config(), &["--cores", "1"]));
        let starting = [start(), start()];
        // Others may write while the starts wait for the writer.
        for number in 0..10 {
            insert(&cluster, &format!("other{number}."), &[]);
        }
        runtime.block_on(writer.batch_execute("commit")).unwrap();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    let triggers = "select tgname, tgenabled from pg_trigger where tgrelid = 'pessoas'::regclass";
    assert_eq!(cluster.query(triggers), ["pessoas_tx_is_now|A"]);
    for (number, server) in servers.iter().enumerate() {
        for apelido in ["old", "meanwhile", "other9."] {
            wait_until_found(server, apelido);
        }
        finds_rows_of_any_transaction(&cluster, server, &format!("server{number}"));
    }
}

/// `pg_dump --data-only` of an older cluster, restored into a newer one under a running server.
#[test]
fn a_restored_dump_is_found_whole() {
    let (old, new) = (Cluster::start(), Cluster::start());
    drop(Server::on(&old.config(), &[]));
    fill(&old, 2000);
    // The new cluster is ahead of the ids in the dump.
    block_on(async {
        let client = connect(&new.config()).await;
        for _ in 0..500 {
            client.batch_execute("select pg_current_xact_id()").await.unwrap();
        }
    });
    let server = Server::on(&new.config(), &["--cores", "2"]);
    let directory = temporary_directory();
    let file = directory.path().join("dump.sql");
    let run = |program: &str, cluster: &Cluster, arguments: &[&str]| {
        let config = cluster.config();
        let output = Command::new(program)
            .args(["--host", cluster.embedded.socket_dir().to_str().unwrap()])
            .args(["--username", config.get_user().unwrap(), "--dbname", config.get_dbname().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let path = file.to_str().unwrap();
    run("pg_dump", &old, &["--data-only", "--table=pessoas", "--file", path]);
    run("psql", &new, &["-v", "ON_ERROR_STOP=1", "--quiet", "--file", path]);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "2000");
    wait_for_rows(&server, 2000);
    wait_until_fresh(&server);
    assert_eq!(found(&search(&server, "past1999")), Some(vec!["past1999".to_owned()]));
}

/// With the trigger disabled a row can name a transaction to come: it is not read at every question.
#[test]
fn a_row_of_a_transaction_to_come_is_not_read_again_and_again() {
    let cluster = Cluster::start();
    let mut server = Server::on(&cluster.config(), &[]);
    cluster.query("alter table pessoas disable trigger all");
    insert(&cluster, "to-come", &[("tx", "900000000")]);
    cluster.query("alter table pessoas enable trigger all");
    let backend = "select pid from pg_stat_activity where application_name like 'rinha % feed'";
    let feed = cluster.query(backend).remove(0);
    let questions = || {
        let asked = format!("select query_start from pg_stat_activity where pid = {feed} and state = 'idle'");
        cluster.query(&asked).first().cloned()
    };
    // Some questions, and the statistics of them.
    let read =
        || cluster.query("select idx_tup_read from pg_stat_user_indexes where indexrelname = 'pessoas_tx'");
    let first = questions();
    wait_until("questions", || questions().is_some_and(|asked| Some(&asked) != first.as_ref()));
    let before = read();
    for _ in 0..6 {
        let last = questions();
        wait_until("a question", || questions().is_some_and(|asked| Some(&asked) != last.as_ref()));
    }
    assert_eq!(read(), before);
    // The next start finds it.
    server.kill();
    let server = Server::on(&cluster.config(), &[]);
    wait_until_found(&server, "to-come");
}
