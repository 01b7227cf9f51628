//! More creates than the database can commit: what is refused is refused at once, what is accepted is answered, and lookups
//! go on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rinha::limits::{COMMIT_BATCH_MAX, COMMIT_QUEUE_MIN, COMMIT_TIME_MAX};

use crate::LATENESS_MAX;
use crate::cluster::Cluster;
use crate::load::{Pessoa, wait_until};
use crate::server::Server;

/// How long what comes is counted.
const MEASURED: Duration = BATCH_TIME.saturating_mul(6);
/// How long each insert takes, however many rows it has.
const BATCH_TIME: Duration = Duration::from_millis(1_000);
/// As many wait as would have to wait longer than a create may, and a bound by their number alone has room for all.
const CLIENTS: usize = 5 * COMMIT_BATCH_MAX;
/// Pause of a client that was refused.
const PAUSE: Duration = Duration::from_millis(500);
/// A refusal is far quicker than a batch, also on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

const _: () = assert!(CLIENTS > 2 * COMMIT_QUEUE_MIN);
const _: () = assert!(
    CLIENTS / COMMIT_BATCH_MAX * BATCH_TIME.as_millis() as usize > COMMIT_TIME_MAX.as_millis() as usize
);

/// Says stop when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn slow_down(cluster: &Cluster) {
    for statement in [
        format!("create table slowness as select {}::float8 as seconds", BATCH_TIME.as_secs_f64()),
        "create function wait() returns trigger language plpgsql as \
         $$ begin perform pg_sleep(seconds) from slowness; return null; end $$"
            .to_owned(),
        "create trigger slow after insert on pessoas for each statement execute function wait()".to_owned(),
    ] {
        cluster.query(&statement);
    }
}

#[test]
fn creates_beyond_what_the_database_takes_are_refused_at_once() {
    let _alone = crate::alone();
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    let known = format!("/pessoas/{}", Pessoa::named("conhecida").post_to(&server).id());
    slow_down(&cluster);
    let (stop, measured) = (AtomicBool::new(false), AtomicBool::new(false));
    let (created, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let refusals = Mutex::new(Vec::new());
    thread::scope(|scope| {
        // Also when something here panics: else the clients would go on for ever.
        let stopped = Stop(&stop);
        for number in 0..CLIENTS {
            let (server, stop, measured) = (&server, &stop, &measured);
            let (created, unknown, refusals) = (&created, &unknown, &refusals);
            let client = move || {
                let mut connection = server.connect();
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let pessoa = Pessoa::named(&format!("p{number}.{turn}"));
                    let counts = measured.load(Ordering::Relaxed);
                    let began = Instant::now();
                    let answer = pessoa.post(&mut connection).expect("an answer");
                    let took = began.elapsed();
                    match answer.status {
                        201 => {
                            assert!(took < COMMIT_TIME_MAX + LATENESS_MAX, "{took:?}");
                            created.fetch_add(usize::from(counts), Ordering::Relaxed);
                        }
                        503 => {
                            assert_eq!(answer.header("Retry-After"), Some("1"));
                            if counts && answer.text().contains("nothing was stored") {
                                refusals.lock().expect("nobody panics").push(took);
                            } else if counts {
                                unknown.fetch_add(1, Ordering::Relaxed);
                            }
                            thread::sleep(PAUSE);
                        }
                        status => panic!("{status}: {}", answer.text()),
                    }
                }
            };
            thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, client).expect("a thread");
        }
        // At first nobody knows how slow the database is.
        let began = Instant::now();
        let mut reader = server.connect();
        let mut read_until = |until: Duration| {
            while began.elapsed() < until {
                assert_eq!(reader.ask("GET", &known, "").status, 200);
                thread::sleep(Duration::from_millis(5));
            }
        };
        read_until(COMMIT_TIME_MAX + 2 * BATCH_TIME);
        measured.store(true, Ordering::Relaxed);
        read_until(COMMIT_TIME_MAX + 2 * BATCH_TIME + MEASURED);
        measured.store(false, Ordering::Relaxed);

        // The database is as quick as it was: so are creates, as soon as the batches under way are through.
        cluster.query("update slowness set seconds = 0");
        let mut tried = 0;
        let recovery = wait_until("a create at once", || {
            let began = Instant::now();
            tried += 1;
            let answer = Pessoa::named(&format!("depois {tried}")).post_to(&server);
            answer.status == 201 && began.elapsed() < AT_ONCE
        });
        println!("recovered after {recovery:?}");
        assert!(recovery < 2 * BATCH_TIME + LATENESS_MAX);
        drop(stopped);
    });

    let (created, unknown) = (created.into_inner(), unknown.into_inner());
    let mut refusals = refusals.into_inner().expect("nobody panics");
    refusals.sort_unstable();
    let p50 = refusals.get(refusals.len() / 2);
    println!("{created} created, {} refused (p50 {p50:?}), {unknown} told nothing in time", refusals.len());
    assert!(p50.is_some_and(|p50| *p50 < AT_ONCE), "{p50:?}");
    // Four fifths of what the database can commit, but for a batch that was on its way at either end.
    let ceiling = COMMIT_BATCH_MAX as f64 * (MEASURED.div_duration_f64(BATCH_TIME) - 1.0);
    assert!(created as f64 >= 0.8 * ceiling, "{created} of {ceiling}");
    // Who is accepted is answered: the database does not work for those who have left.
    assert!(unknown * 5 < created, "{unknown} of {created}");
}
