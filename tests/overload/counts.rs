//! Counts: one at a time, for all who ask meanwhile, and nobody waits for one who did not ask.

use std::time::{Duration, Instant};

use rinha::limits::{COUNT_QUEUE_MAX, READ_TIME_MAX};

use crate::LATENESS_MAX;
use crate::alone;
use crate::cluster::{Cluster, connect};
use crate::load::{Pessoa, wait_until};
use crate::server::{Connection, Server, request};

const UNKNOWN: &str = "/pessoas/018f4a52-0000-7000-8000-00000000000";

/// How often a test that must be done within a count's time to live is tried.
const TRIES_MAX: usize = 5;

/// Puts a gate before the rows: while it is closed, a count that has begun does not end; other statements pass it. Each
/// count notes itself down.
fn build_gate(cluster: &Cluster) {
    for statement in [
        "create table counted (xact xid8 not null)",
        "create function pass() returns boolean language plpgsql volatile as $$ begin \
           if current_query() not like '%count_of_pessoas%' then return true; end if; \
           insert into counted values (pg_current_xact_id()); \
           while not pg_try_advisory_xact_lock_shared(7) loop perform pg_sleep(0.005); end loop; \
           return true; end $$",
        "alter table pessoas rename to rows_of_pessoas",
        "create view pessoas as select * from rows_of_pessoas where pass()",
    ] {
        cluster.query(statement);
    }
}

fn counted(cluster: &Cluster) -> usize {
    cluster.query("select count(distinct xact) from counted")[0].parse().expect("a number")
}

/// Runs `meanwhile` while the gate is closed.
fn with_gate_closed<T>(cluster: &Cluster, meanwhile: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let session = runtime.block_on(connect(&cluster.config()));
    let execute = |statement: &str| runtime.block_on(session.batch_execute(statement)).expect(statement);
    execute("select pg_advisory_lock(7)");
    let result = meanwhile();
    execute("select pg_advisory_unlock(7)");
    result
}

/// The backends that count at the moment.
fn counting(cluster: &Cluster) -> Vec<String> {
    cluster.query(
        "select pid from pg_stat_activity \
         where state = 'active' and query like '%count_of_pessoas%' and pid <> pg_backend_pid()",
    )
}

/// How many wait for a read or a count.
fn waiting(server: &Server) -> usize {
    let waiting = &server.ask("GET", "/healthz", "").json()["database"]["reads_waiting"];
    usize::try_from(waiting.as_u64().expect("a number")).expect("a small number")
}

fn ask_for_count(server: &Server) -> Connection {
    let mut connection = server.connect();
    connection.send(request("GET", "/contagem-pessoas", ""));
    connection
}

/// While one count is under way, reads and creates go on; all who ask meanwhile share the next one, which has every row
/// that was acknowledged before they asked.
#[test]
fn a_slow_count_delays_nobody_else() {
    const LATER: usize = 40;
    let _alone = alone();
    for cores in ["1", "2"] {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), &["--cores", cores]);
        build_gate(&cluster);
        let mut rows = 0;
        let mut create = |count: usize| {
            for _ in 0..count {
                let created = Pessoa::named(&format!("p{rows}")).post_to(&server);
                assert_eq!(created.status, 201, "{}", created.text());
                rows += 1;
            }
            rows
        };
        create(1);
        let in_time = (0..TRIES_MAX).any(|_| {
            let (before, already) = (create(1), counted(&cluster));
            let began = Instant::now();
            let (mut first, mut later) = with_gate_closed(&cluster, || {
                let first = ask_for_count(&server);
                wait_until("a count under way", || counting(&cluster).len() == 1);
                // Connections are spread over the cores, so all cores read and create meanwhile.
                for number in 0..8 {
                    assert_eq!(server.ask("GET", &format!("{UNKNOWN}{number}"), "").status, 404);
                }
                create(8);
                let later: Vec<Connection> = (0..LATER).map(|_| ask_for_count(&server)).collect();
                wait_until("all counts in the queue", || {
                    waiting(&server) == 1 + LATER || began.elapsed() > READ_TIME_MAX / 2
                });
                if began.elapsed() < READ_TIME_MAX / 2 {
                    assert_eq!(counting(&cluster).len(), 1, "one at a time");
                }
                (first, later)
            });
            let all = create(0);
            let first = first.receive();
            let later: Vec<_> = later.iter_mut().map(Connection::receive).collect();
            if began.elapsed() > READ_TIME_MAX {
                println!("this took {:?}, longer than counts may wait", began.elapsed());
                return false;
            }
            assert_eq!((first.status, first.text()), (200, &*before.to_string()), "its snapshot was taken");
            for answer in later {
                assert_eq!((answer.status, answer.text()), (200, &*all.to_string()));
            }
            assert_eq!(counted(&cluster) - already, 2, "{LATER} counts are one statement");
            true
        });
        assert!(in_time, "a machine that is fast enough");
        assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), create(0).to_string());
    }
}

/// However many ask, and again at once, the database counts a small part of the time.
#[test]
fn counts_leave_the_database_its_time() {
    const COUNT_TIME: Duration = Duration::from_millis(50);
    let _alone = alone();
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    build_gate(&cluster);
    cluster.query(&format!(
        "create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep({}); return new; end $$",
        COUNT_TIME.as_secs_f64()
    ));
    cluster.query("create trigger dawdle before insert on counted for each row execute function dawdle()");
    assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
    let (began, mut answered) = (Instant::now(), 0);
    std::thread::scope(|scope| {
        let ask = || {
            let mut answered = 0;
            while began.elapsed() < Duration::from_secs(3) {
                assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "1");
                answered += 1;
            }
            answered
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        answered = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    });
    let statements = counted(&cluster);
    let most = began.elapsed().div_duration_f64(COUNT_TIME * 4);
    println!("{answered} answers by {statements} statements in {:?}", began.elapsed());
    assert!(
        answered > statements && (statements as f64) < most,
        "{statements} statements, expected fewer than {most}"
    );
}

/// Counts that do not end are refused in time, and those for which there is no room at once; that costs nobody else
/// anything.
#[test]
fn a_flood_of_counts_that_do_not_end() {
    const EXTRA: usize = 50;
    let _alone = alone();
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    build_gate(&cluster);
    assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
    with_gate_closed(&cluster, || {
        let began = Instant::now();
        let mut asked: Vec<Connection> =
            (0..COUNT_QUEUE_MAX + EXTRA).map(|_| ask_for_count(&server)).collect();
        let mut number = 0;
        // For as long as anybody waits, and longer than a count may.
        while began.elapsed() < READ_TIME_MAX + Duration::from_millis(500) {
            let (read, created) = (Instant::now(), format!("{UNKNOWN}{}", number % 10));
            assert_eq!(server.ask("GET", &created, "").status, 404);
            let read = read.elapsed();
            let create = Instant::now();
            assert_eq!(Pessoa::named(&format!("p{number}")).post_to(&server).status, 201);
            assert!(read.max(create.elapsed()) < READ_TIME_MAX / 2, "{read:?}, {:?}", create.elapsed());
            assert!(counting(&cluster).len() <= 2, "one, and one that was given up");
            number += 1;
        }
        println!("{number} reads and creates meanwhile");
        let mut full = 0;
        for connection in &mut asked {
            let answer = connection.receive();
            assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")), "{}", answer.text());
            full += usize::from(answer.text().contains("too many"));
        }
        println!("{full} for want of room");
        assert!(full >= EXTRA, "{full}");
        assert!(began.elapsed() < READ_TIME_MAX + Duration::from_millis(500) + LATENESS_MAX);
    });
    wait_until("a count again", || server.ask("GET", "/contagem-pessoas", "").status == 200);
}

/// A count whose backend dies goes again on another one; nobody else's connection is lost.
#[test]
fn a_count_whose_backend_dies_goes_again() {
    let _alone = alone();
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    build_gate(&cluster);
    assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
    let sessions = || {
        cluster.query(
            "select pid, application_name from pg_stat_activity \
        where application_name like 'rinha %' and application_name not like '% count' order by 1",
        )
    };
    let before = sessions();
    let in_time = (0..TRIES_MAX).any(|_| {
        let began = Instant::now();
        let mut asked = with_gate_closed(&cluster, || {
            let asked = ask_for_count(&server);
            wait_until("a count under way", || counting(&cluster).len() == 1);
            let first = counting(&cluster);
            let end = format!("select pg_terminate_backend({})", first[0]);
            assert_eq!(cluster.query(&end), ["t"]);
            wait_until("another one", || {
                let now = counting(&cluster);
                began.elapsed() > READ_TIME_MAX || (now.len() == 1 && now != first)
            });
            asked
        });
        let answer = asked.receive();
        if began.elapsed() > READ_TIME_MAX {
            return false;
        }
        assert_eq!((answer.status, answer.text()), (200, "1"));
        true
    });
    assert!(in_time, "a machine that is fast enough");
    assert_eq!(sessions(), before);
    let lost = server.events().into_iter().filter(|event| event["connection"].is_string());
    for event in lost {
        assert_eq!(event["connection"], "count", "{event}");
    }
}
