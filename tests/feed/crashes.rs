//! Postgres crashes, and gives out again the ids of transactions of which its disk knows nothing.

use nix::sys::signal::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;

use crate::cluster::{Cluster, connect};
use crate::load::wait_until;
use crate::processes::{Frozen, kill_family};
use crate::race::body;
use crate::server::Server;
use crate::{fill, found, insert, search, wait_for_rows, wait_until_found, wait_until_fresh};

/// Transactions that leave no trace on disk.
const LOST: u64 = 40;

/// An open transaction.
struct Held {
    runtime: Runtime,
    client: Client,
}

impl Held {
    fn begin(cluster: &Cluster) -> Held {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(connect(&cluster.config()));
        let held = Held { runtime, client };
        held.run("begin");
        held
    }

    fn run(&self, statement: &str) {
        self.runtime.block_on(self.client.batch_execute(statement)).unwrap();
    }
}

/// Waits until the feed of the only server has an answer to a question that it asked after `time`.
fn wait_for_question_after(cluster: &Cluster, time: &str) {
    let asked = format!(
        "select count(*) from pg_stat_activity where application_name like 'rinha % feed' \
         and query like 'WITH unseen%' and query_start > '{time}' and state = 'idle'"
    );
    wait_until("a question of the feed", || cluster.query(&asked) == ["1"]);
}

fn only(cluster: &Cluster, query: &str) -> String {
    cluster.query(query).remove(0)
}

fn next_id(cluster: &Cluster) -> u64 {
    only(cluster, "select pg_snapshot_xmax(pg_current_snapshot())").parse().unwrap()
}

/// The feed's last snapshot says of ids that they are done with, and after the crash these commit rows.
#[test]
fn rows_under_ids_that_are_used_anew_are_found() {
    let mut cluster = Cluster::start();
    // Its commits would bring the log to disk.
    cluster.query("alter system set autovacuum = off");
    cluster.query("select pg_reload_conf()");
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    fill(&cluster, 5000);
    wait_until_found(&server, "past4999");
    assert_eq!(server.ask("POST", "/pessoas", &body("durable", "x")).status, 201);
    // A transaction that is under way while all this happens, with a savepoint.
    let held = Held::begin(&cluster);
    held.run(
        "savepoint one; insert into pessoas (id, apelido, nome, nascimento) \
         values (gen_random_uuid(), 'never', 'x', '2000-01-01')",
    );
    lose_ids_and_crash(&mut cluster, &held);
    let reused = next_id(&cluster);
    let apelidos: Vec<String> = (0..2 * LOST).map(|number| format!("anew{number}.")).collect();
    for apelido in &apelidos {
        insert(&cluster, apelido, &[]);
    }
    let lowest = only(&cluster, "select min(tx) from pessoas where apelido like 'anew%'").parse().unwrap();
    assert!((reused..reused + 10).contains(&lowest), "{lowest} is not {reused}");
    wait_until("the feed", || server.log().iter().any(|line| line.contains("the feed goes on")));
    // Memory has them, not only Postgres.
    wait_for_rows(&server, 5001 + apelidos.len());
    for apelido in &apelidos {
        wait_until_found(&server, apelido);
    }
    assert_eq!(found(&search(&server, "never")), Some(Vec::new()));
    // Not the whole table: what came since, of which the lost ids and the first of the rows are a part.
    let events = server.events();
    let went_on =
        events.iter().filter(|event| event["message"].as_str().unwrap().starts_with("the feed goes on"));
    for event in went_on {
        assert!(event["rows"].as_u64().unwrap() <= 2 * LOST + 1 && event["large"] == 0, "{event}");
    }
}

/// Transactions take ids and end; the feed sees that; then Postgres is killed before its log is on disk.
fn lose_ids_and_crash(cluster: &mut Cluster, held: &Held) {
    let writers = cluster.query(
        "select pid from pg_stat_activity where backend_type in ('walwriter', 'background writer', 'checkpointer')",
    );
    assert_eq!(writers.len(), 3);
    // The row that was acknowledged is on disk, and the feed knows that after two more questions.
    let now = || only(cluster, "select clock_timestamp()");
    for _ in 0..3 {
        wait_for_question_after(cluster, &now());
    }
    let nobody_flushes = Frozen::freeze(writers.iter().map(|pid| pid.parse().unwrap()).collect());
    let first = next_id(cluster);
    for number in 0..LOST {
        let end = if number % 2 == 0 { "commit" } else { "rollback" };
        cluster.query(&format!("begin; select pg_current_xact_id(); {end}"));
    }
    held.run("savepoint two; select pg_current_xact_id()");
    wait_for_question_after(cluster, &now());
    let last = next_id(cluster);
    assert!(last >= first + LOST);
    kill_family(cluster.embedded.pid().unwrap());
    drop(nobody_flushes);
    assert!(cluster.embedded.ensure_running().unwrap());
    let again = next_id(cluster);
    assert!(again <= first + 2, "ids from {first} to {last} were to be lost, and the next one is {again}");
}

/// One backend that dies of a signal makes the postmaster restart all others; a large table is not sent again.
#[test]
fn what_is_put_in_right_after_a_crash_is_found_within_a_second() {
    let cluster = Cluster::start();
    drop(Server::on(&cluster.config(), &[]));
    fill(&cluster, 50_000);
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    wait_until_fresh(&server);
    for round in 0..3 {
        let victim =
            only(&cluster, "select pid from pg_stat_activity where application_name like 'rinha % feed'");
        crate::processes::send(victim.parse().unwrap(), Signal::SIGKILL);
        wait_until("the end of all sessions", || !crate::processes::runs(victim.parse().unwrap()));
        // Waits for the end of the recovery.
        let apelido = format!("after{round}.");
        insert(&cluster, &apelido, &[]);
        let took = wait_until_found(&server, &apelido);
        println!("found after {took:?}");
        // And memory soon is fresh again, which took seconds when the table was read again.
        wait_until_fresh(&server);
        assert_eq!(found(&search(&server, "past49999")), Some(vec!["past49999".to_owned()]));
    }
    let events = server.events();
    let went_on: Vec<_> = events
        .iter()
        .filter(|event| event["message"].as_str().unwrap().starts_with("the feed goes on"))
        .collect();
    assert!(went_on.len() >= 3, "{events:#?}");
    assert!(went_on.iter().all(|event| event["rows"].as_u64().unwrap() < 100), "{went_on:#?}");
}
