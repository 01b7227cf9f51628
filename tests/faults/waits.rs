//! A database that does not answer: frozen, locked, or asked for too much.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rinha::limits::{COMMIT_QUEUE_MAX, COMMIT_TIME_MAX, READ_TIME_MAX, STATEMENT_TIME_MAX};
use rinha::pessoa::home_of_apelido;

use crate::cluster::{Cluster, connect};
use crate::load::{Attempt, Fate, Load, Pessoa, seed, verify, wait_until};
use crate::processes::Frozen;
use crate::server::{Connection, Server, request};
use crate::{RECOVERY_SECONDS_MAX, each_server};

const UNKNOWN: &str = "/pessoas/018f4a52-0000-7000-8000-000000000000";

/// What a busy test machine may add to a deadline.
const LATENESS_MAX: Duration = Duration::from_secs(3);

#[test]
fn a_frozen_postgres() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let known = Pessoa::named("conhecida").post_to(&server);
        assert_eq!(known.status, 201);
        let load = Load::start(&server.tcp(), 6, seed());
        load.wait_for(100);

        let frozen = Frozen::family_of(cluster.embedded.pid().expect("a running Postgres"));
        let began = Instant::now();
        let told = AtomicBool::new(false);
        thread::scope(|scope| {
            let waits = [
                ("POST", "/pessoas", Pessoa::named("congelada").body(), COMMIT_TIME_MAX),
                ("GET", UNKNOWN, String::new(), READ_TIME_MAX),
                ("GET", "/contagem-pessoas", String::new(), READ_TIME_MAX),
            ];
            let waits = waits.map(|(method, target, body, time_max)| {
                let server = &server;
                scope.spawn(move || {
                    let began = Instant::now();
                    let answer = server.ask(method, target, &body);
                    println!("{method} {target}: {} after {:?}", answer.status, began.elapsed());
                    assert_eq!(
                        (answer.status, answer.header("Retry-After")),
                        (503, Some("1")),
                        "{method} {target}"
                    );
                    assert!(began.elapsed() < time_max + LATENESS_MAX, "{method} {target}");
                })
            });
            let reader = scope.spawn(|| {
                let mut connection = server.connect();
                while !told.load(Ordering::Relaxed) {
                    let read = connection.ask("GET", &format!("/pessoas/{}", known.id()), "");
                    assert_eq!((read.status, &read.body), (200, &known.body));
                    let found = connection.ask("GET", "/pessoas?t=conhecida", "");
                    // Memory answers for a second; then others may have committed what it has not heard of.
                    match found.status {
                        200 => assert_eq!(found.json()[0]["id"], known.id()),
                        status => assert_eq!(status, 503),
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let answers = waits.map(|wait| wait.join());
            told.store(true, Ordering::Relaxed);
            reader.join().expect("cached reads");
            for answer in answers {
                answer.expect("an answer in time");
            }
        });
        // By then the server has left its connections, with statements on them that Postgres will still run.
        wait_until("lost connections", || began.elapsed() > STATEMENT_TIME_MAX + Duration::from_millis(500));
        let lost = server
            .events()
            .iter()
            .any(|event| event["why"].as_str().is_some_and(|why| why.starts_with("no answer for")));
        assert!(lost, "{:#?}", server.log());
        let acknowledged = load.acknowledged();
        drop(frozen);
        let took = wait_until("a new 201", || load.acknowledged() > acknowledged);
        println!("thawed: first new 201 after {took:?}");
        assert!(took <= Duration::from_secs(RECOVERY_SECONDS_MAX));
        load.wait_for(50);
        assert_eq!(load.lost(), 0);
        let mut attempts = load.finish();

        // It was stored once or not at all. Asked for again, it is there.
        let retried = Pessoa::named("congelada").post_to(&server);
        assert!(matches!(retried.status, 201 | 422), "{}", retried.text());
        assert_eq!(cluster.query("select count(*) from pessoas where apelido = 'congelada'"), ["1"]);
        attempts.push(Attempt::acknowledged(&Pessoa::named("conhecida"), &known));
        attempts.push(Attempt { pessoa: Pessoa::named("congelada"), fate: Fate::Refused, doubted: true });
        verify(&attempts, &cluster.config(), &server.tcp());
    });
}

#[test]
fn a_full_queue() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        // All have their home on one core, for 1, 2, 4, 8 or 16 cores: a home that is a multiple of 16 belongs to the
        // first core.
        let apelidos = (0..)
            .map(|number| format!("fila{number}"))
            .filter(|apelido| home_of_apelido(apelido).is_multiple_of(16));
        let extra = 50;
        let bodies: Vec<String> =
            apelidos.take(COMMIT_QUEUE_MAX + extra).map(|apelido| Pessoa::named(&apelido).body()).collect();
        let mut connections: Vec<Connection> = bodies.iter().map(|_| server.connect()).collect();

        let began = Instant::now();
        let frozen = Frozen::family_of(cluster.embedded.pid().expect("a running Postgres"));
        for (connection, body) in connections.iter_mut().zip(&bodies).take(COMMIT_QUEUE_MAX) {
            connection.send(request("POST", "/pessoas", body));
        }
        let waiting = || server.ask("GET", "/healthz", "").json()["database"]["creates_waiting"].clone();
        wait_until("a full queue", || waiting() == COMMIT_QUEUE_MAX);
        for (connection, body) in connections.iter_mut().zip(&bodies).skip(COMMIT_QUEUE_MAX) {
            let refused = connection.ask("POST", "/pessoas", body);
            assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
            assert!(refused.text().contains("nothing was stored"), "{}", refused.text());
        }
        let took = began.elapsed();
        println!("{COMMIT_QUEUE_MAX} waiting and {extra} refused after {took:?}");
        assert!(took < COMMIT_TIME_MAX, "the queue emptied itself before it was full");
        drop(frozen);

        let mut created = 0;
        for connection in &mut connections[..COMMIT_QUEUE_MAX] {
            match connection.receive().status {
                201 => created += 1,
                503 => {}
                status => panic!("{status}"),
            }
        }
        println!("{created} created after the thaw");
        // An apelido that was refused at once is free.
        let last = connections.last_mut().expect("a connection");
        assert_eq!(last.ask("POST", "/pessoas", bodies.last().expect("a body")).status, 201);
        let rows: usize = cluster.query("select count(*) from pessoas")[0].parse().expect("a number");
        assert!((created + 1..=COMMIT_QUEUE_MAX + 1).contains(&rows), "{rows} rows, {created} created");
        assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), rows.to_string());
    });
}

/// Inserts a pessoa in a transaction of a session beside the server, and ends that transaction after `meanwhile`.
fn hold<T>(cluster: &Cluster, apelido: &str, end: &str, meanwhile: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let session = runtime.block_on(connect(&cluster.config()));
    let execute = |statements: &str| runtime.block_on(session.batch_execute(statements)).expect(statements);
    execute(&format!(
        "begin; insert into pessoas (id, apelido, nome, nascimento) \
         values (gen_random_uuid(), '{apelido}', 'Outra', '1990-01-01')"
    ));
    let result = meanwhile();
    execute(end);
    result
}

#[test]
fn an_apelido_in_an_open_transaction() {
    // A row whose apelido another session has inserted and not yet committed must wait for that session: no one can
    // know sooner whether it is a duplicate. Accepted: the batch it is in waits with it, and so do the creates of that
    // core that come after. Their deadlines bound that. The server itself never leaves a transaction open, so it takes
    // a stranger's session, or a backend that hangs in the middle of an insert.
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let blocked = || {
            let waiting = "select count(*) from pg_stat_activity \
                           where application_name like 'rinha % commit' and wait_event_type = 'Lock'";
            wait_until("a create that waits for the lock", || cluster.query(waiting) == ["1"]);
        };
        for (apelido, end, expected) in [("desfeita", "rollback", 201), ("feita", "commit", 422)] {
            thread::scope(|scope| {
                let server = &server;
                let post =
                    |apelido: String| scope.spawn(move || Pessoa::named(&apelido).post_to(server).status);
                let (create, mate) = hold(&cluster, apelido, end, || {
                    let create = post(apelido.to_owned());
                    blocked();
                    let mate = post(format!("{apelido}-2"));
                    thread::sleep(Duration::from_millis(50));
                    assert!(!create.is_finished());
                    (create, mate)
                });
                assert_eq!(create.join().expect("an answer"), expected, "{end}");
                assert_eq!(mate.join().expect("an answer"), 201, "{end}");
            });
        }
        // Held past the deadline.
        hold(&cluster, "presa", "rollback", || {
            let answer = Pessoa::named("presa").post_to(&server);
            assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")), "{}", answer.text());
        });
        let again = Pessoa::named("presa").post_to(&server);
        assert!(matches!(again.status, 201 | 422), "{}", again.text());
        let rows = "select apelido, nome from pessoas order by apelido";
        assert_eq!(
            cluster.query(rows),
            ["desfeita|Ana", "desfeita-2|Ana", "feita|Outra", "feita-2|Ana", "presa|Ana"]
        );
    });
}

#[test]
fn a_flood_of_unknown_ids() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let seed = seed();
        let stop = AtomicBool::new(false);
        let attempts = thread::scope(|scope| {
            let flood = (0..4_u64).map(|number| {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed ^ number << 48);
                    let mut connection = server.connect();
                    let mut asked = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let mut id = [0; 16];
                        random.fill_bytes(&mut id);
                        let target = format!("/pessoas/{}", uuid::Uuid::from_bytes(id));
                        let answer = connection.ask("GET", &target, "");
                        assert!(matches!(answer.status, 404 | 503), "{}", answer.status);
                        asked += 1;
                    }
                    asked
                })
            });
            let flood: Vec<_> = flood.collect();
            // Clients that never read their answers, enough to fill the queue for reads.
            let mut deaf: Vec<Connection> = (0..1100).map(|_| server.connect()).collect();
            for connection in &mut deaf {
                connection.send(request("GET", UNKNOWN, ""));
            }
            let load = Load::start(&server.tcp(), 4, seed);
            load.wait_for(500);
            assert_eq!((load.unavailable(), load.lost()), (0, 0));
            stop.store(true, Ordering::Relaxed);
            let asked: usize = flood.into_iter().map(|client| client.join().expect("answers")).sum();
            println!("{asked} unknown ids meanwhile");
            load.finish()
        });
        verify(&attempts, &cluster.config(), &server.tcp());
    });
}

/// Other requests that keep arriving, with never a quiet moment, keep no queued create from its deadline.
#[test]
fn a_deadline_under_a_steady_load() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    // The connection for commits is made by now.
    assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
    let session = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let locker = session.block_on(connect(&cluster.config()));
    // Inserts wait, reads do not; not even those of a connection that has yet to be made.
    let lock = "begin; lock table pessoas in exclusive mode";
    session.block_on(locker.batch_execute(lock)).expect("the lock");
    let reads = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name like 'rinha % read'";
    assert_eq!(cluster.query(reads), ["t"]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let in_flight = scope.spawn(|| Pessoa::named("em voo").post_to(&server));
        let reader = scope.spawn(|| {
            let mut connection = server.connect();
            while !done.load(Ordering::Relaxed) {
                assert_eq!(connection.ask("GET", UNKNOWN, "").status, 404);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let waiting = "select count(*) from pg_stat_activity \
                       where application_name like 'rinha % commit' and wait_event_type = 'Lock'";
        wait_until("a commit that waits for the lock", || cluster.query(waiting) == ["1"]);
        let server = &server;
        let more: Vec<_> = (0..40)
            .map(|number| {
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(75) * number);
                    let began = Instant::now();
                    let answer = Pessoa::named(&format!("depois {number}")).post_to(server);
                    assert_eq!(answer.status, 503);
                    assert!(
                        began.elapsed() < COMMIT_TIME_MAX + Duration::from_secs(2),
                        "{:?}",
                        began.elapsed()
                    );
                })
            })
            .collect();
        let began = Instant::now();
        let queued = Pessoa::named("na fila").post_to(server);
        println!("queued: {} after {:?}", queued.status, began.elapsed());
        assert_eq!((queued.status, queued.header("Retry-After")), (503, Some("1")));
        // Without a deadline of its own it would wait for the end of the statement before it.
        assert!(began.elapsed() < STATEMENT_TIME_MAX - Duration::from_secs(1));
        for client in more {
            client.join().expect("a client");
        }
        assert_eq!(in_flight.join().expect("a client").status, 503);
        done.store(true, Ordering::Relaxed);
        reader.join().expect("a client");
    });
    session.block_on(locker.batch_execute("rollback")).expect("the end of the lock");
}
