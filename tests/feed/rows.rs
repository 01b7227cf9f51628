//! Rows that others put in, with whatever they bring along.

use std::process::Command;

use crate::cluster::{Cluster, block_on, connect, temporary_directory};
use crate::load::wait_until;
use crate::server::Server;
use crate::{FRESH_MAX, age, fill, found, insert, search, wait_for_rows, wait_until_found, wait_until_fresh};

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

/// A dump restored whole, of a cluster that was ahead: its rows come before its trigger. The start does not wait until
/// all of them name a transaction of this cluster.
#[test]
fn a_dump_of_a_cluster_that_was_ahead_holds_up_no_start() {
    const ROWS: usize = 12_000;
    let cluster = Cluster::start();
    drop(Server::on(&cluster.config(), &[]));
    cluster.query(
        "alter table pessoas disable trigger all; alter table pessoas alter tx set default '900000000'",
    );
    fill(&cluster, ROWS);
    cluster.query(
        "alter table pessoas enable trigger all; alter table pessoas alter tx set default pg_current_xact_id()",
    );
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    let of_another_time =
        "select count(*) > 0 from pessoas where tx >= pg_snapshot_xmax(pg_current_snapshot())";
    assert_eq!(cluster.query(of_another_time), ["t"], "the start has written them all");
    wait_until_fresh(&server);
    for number in [9_999, ROWS] {
        wait_until_found(&server, &format!("past{number}"));
        assert!(age(&server).is_some_and(|age| age < FRESH_MAX), "memory answered");
    }
}

/// How many entries of the index on `tx` the feed reads with so many questions, while nobody else reads it.
fn read_by_questions(cluster: &Cluster, questions: usize) -> u64 {
    let backend = "select pid from pg_stat_activity where application_name like 'rinha % feed'";
    let feed = cluster.query(backend).remove(0);
    let asked = || {
        let asked = format!("select query_start from pg_stat_activity where pid = {feed} and state = 'idle'");
        cluster.query(&asked).first().cloned()
    };
    let wait_for_question = || {
        let last = asked();
        wait_until("a question", || asked().is_some_and(|asked| Some(&asked) != last.as_ref()));
    };
    wait_for_question();
    let before = read(cluster);
    (0..questions).for_each(|_| wait_for_question());
    read(cluster) - before
}

/// How many entries of the index on `tx` were read, as far as the statistics know.
fn read(cluster: &Cluster) -> u64 {
    let read = "select idx_tup_read from pg_stat_user_indexes where indexrelname = 'pessoas_tx'";
    cluster.query(read).remove(0).parse().unwrap()
}

/// An import of many rows in one transaction, such as a restore. Its rows are not read while it is under way, and once
/// when it has ended: a question that reads them all would take longer than a question may.
#[test]
fn a_large_transaction_is_read_once_and_only_when_it_has_ended() {
    const ROWS: u64 = 20_000;
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let import = runtime.block_on(connect(&cluster.config()));
    let insert = format!(
        "begin; insert into pessoas (id, apelido, nome, nascimento) \
         select gen_random_uuid(), 'import' || number || '.', 'x', '2000-01-01' from generate_series(1, {ROWS}) as number"
    );
    runtime.block_on(import.batch_execute(&insert)).unwrap();
    // Others go on meanwhile, so that the questions are not those of a quiet database.
    assert_eq!(server.ask("POST", "/pessoas", &crate::race::body("meanwhile.", "x")).status, 201);
    // The first question that meets it reads its rows; and the statistics are late by a second.
    read_by_questions(&cluster, 6);
    let under_way = read_by_questions(&cluster, 6);
    assert!(under_way < ROWS / 10, "{under_way} entries were read");
    assert!(age(&server).is_some_and(|age| age < FRESH_MAX));
    let before = read(&cluster);
    runtime.block_on(import.batch_execute("commit")).unwrap();
    let all = ROWS + 1;
    wait_until("all rows in memory", || server.ask("GET", "/healthz", "").json()["cache"]["pessoas"] == all);
    wait_until_fresh(&server);
    read_by_questions(&cluster, 6);
    assert_eq!(read_by_questions(&cluster, 6), 0, "nothing is new");
    let read = read(&cluster) - before;
    assert!((ROWS..ROWS / 10 * 11).contains(&read), "{read} entries were read");
    wait_until_found(&server, &format!("import{ROWS}."));
}

/// With the trigger disabled a row can name a transaction to come: it is not read at every question.
#[test]
fn a_row_of_a_transaction_to_come_is_not_read_again_and_again() {
    let cluster = Cluster::start();
    let mut server = Server::on(&cluster.config(), &[]);
    cluster.query("alter table pessoas disable trigger all");
    insert(&cluster, "to-come", &[("tx", "900000000")]);
    cluster.query("alter table pessoas enable trigger all");
    assert_eq!(read_by_questions(&cluster, 6), 0);
    // The next start finds it.
    server.kill();
    let server = Server::on(&cluster.config(), &[]);
    wait_until_found(&server, "to-come");
}
