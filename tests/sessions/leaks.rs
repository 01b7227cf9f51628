//! How many backends a server has, whatever happens to it, and whom a lock holds up.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use rinha::limits::{COMMIT_LOCK_TIME_MAX, COMMIT_TIME_MAX, STATEMENT_TIME_MAX};

use crate::CORES;
use crate::cluster::{Cluster, connect};
use crate::load::{Attempt, Load, Pessoa, seed, verify, wait_until};
use crate::processes::Frozen;
use crate::server::Server;

/// Of one role, for each core: the session, and the one before it or the one that looks what it does.
const BACKENDS_PER_ROLE_MAX: usize = 2;

/// The backends by role.
fn backends(cluster: &Cluster) -> HashMap<String, usize> {
    let roles = "select split_part(application_name, ' ', 3), count(*) from pg_stat_activity \
                 where application_name like 'rinha %' group by 1";
    let counted = cluster.query(roles);
    let pairs = counted.iter().filter_map(|row| row.split_once('|'));
    pairs.map(|(role, count)| (role.to_owned(), count.parse().expect("a number"))).collect()
}

/// A stranger's session that runs `begin; ..` and holds its locks until it is told to end.
struct Stranger {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Stranger {
    fn holds(cluster: &Cluster, statements: &str) -> Stranger {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(connect(&cluster.config()));
        let stranger = Stranger { runtime, client };
        stranger.run(&format!("begin; {statements}"));
        stranger
    }

    fn run(&self, statements: &str) {
        self.runtime.block_on(self.client.batch_execute(statements)).expect(statements);
    }
}

#[test]
fn nobody_who_holds_the_table_makes_backends_gather() {
    for arguments in CORES {
        let cores: usize = arguments[1].parse().expect("a number");
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let known = Pessoa::named("conhecida").post_to(&server);
        // A plain CREATE INDEX holds inserts up, VACUUM FULL everything.
        for mode in ["share", "access exclusive"] {
            println!("{mode}");
            let stranger = Stranger::holds(&cluster, &format!("lock table pessoas in {mode} mode"));
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(5) {
                let answer = Pessoa::named(&format!("à espera de {mode}")).post_to(&server);
                assert_eq!(answer.status, 503, "{}", answer.text());
                let read = server.ask("GET", &format!("/pessoas/{}", known.id()), "");
                assert_eq!(read.status, 200);
                let _asked = server.ask("GET", "/contagem-pessoas", "");
                for (role, count) in backends(&cluster) {
                    assert!(count <= BACKENDS_PER_ROLE_MAX * cores, "{count} of {role}");
                }
            }
            stranger.run("rollback");
            let back = wait_until("a create", || Pessoa::named(mode).post_to(&server).status == 201);
            println!("creates {back:?} after the lock was gone");
            assert!(back < Duration::from_secs(2), "{back:?}");
            assert_eq!(server.ask("GET", "/contagem-pessoas", "").status, 200);
        }
        let settled = |role: &str, count: usize| backends(&cluster).get(role).copied() == Some(count);
        wait_until("one backend a role", || {
            settled("commit", cores) && settled("read", cores) && settled("feed", 1)
        });
    }
}

/// As on a disk that stalls: every commit works for longer than it may, and a new session would only add one.
#[test]
fn commits_that_never_end_make_no_backends_gather() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    assert_eq!(Pessoa::named("conhecida").post_to(&server).status, 201);
    let committers = || -> Vec<i32> {
        let pids = "select pid from pg_stat_activity where application_name like 'rinha % commit' order by backend_start";
        cluster.query(pids).iter().map(|pid| pid.parse().expect("a pid")).collect()
    };
    let mut frozen: Vec<Frozen> = Vec::new();
    let mut stuck: Vec<i32> = Vec::new();
    // One after the other; the first one is left for another one.
    for number in 1..=BACKENDS_PER_ROLE_MAX {
        wait_until("another session", || committers().len() == number);
        // A session that is not prepared yet would be given up as such. Then it sets its timeout, or asks a question.
        let first = stuck.first().copied().unwrap_or_default();
        let ready = format!(
            "select pid from pg_stat_activity where application_name like 'rinha % commit' and pid <> {first} \
             and state = 'idle' and (query = '' or query like 'SET lock_timeout%')"
        );
        wait_until("a session that is prepared", || number == 1 || !cluster.query(&ready).is_empty());
        let new: Vec<i32> = committers().into_iter().filter(|pid| !stuck.contains(pid)).collect();
        stuck.extend(&new);
        frozen.push(Frozen::freeze(new));
        let answer = Pessoa::named(&format!("presa {number}")).post_to(&server);
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    let began = Instant::now();
    while began.elapsed() < STATEMENT_TIME_MAX + COMMIT_TIME_MAX {
        let answer = Pessoa::named("mais uma").post_to(&server);
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(committers(), stuck);
    }
    drop(frozen);
    wait_until("a create", || Pessoa::named("depois").post_to(&server).status == 201);
    wait_until("one backend", || committers().len() == 1);
}

#[test]
fn an_open_transaction_holds_up_its_own_apelido_alone() {
    for arguments in CORES {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let insert = |apelido: &str| {
            format!(
                "insert into pessoas (id, apelido, nome, nascimento) \
                 values (gen_random_uuid(), '{apelido}', 'Outra', '1990-01-01');"
            )
        };
        let mut settled = Vec::new();
        for (end, expected) in [("rollback", 201), ("commit", 422)] {
            let held: Vec<String> = (0..30).map(|number| format!("presa {end} {number}")).collect();
            let stranger =
                Stranger::holds(&cluster, &held.iter().map(|apelido| insert(apelido)).collect::<String>());
            let load = Load::start(&server.tcp(), 8, seed());
            load.wait_for(20);
            thread::scope(|scope| {
                // In the middle of the others' batches, again and again.
                let blocked: Vec<_> = held
                    .iter()
                    .map(|apelido| scope.spawn(|| Pessoa::named(apelido).post_to(&server)))
                    .collect();
                let took = load.wait_for(60);
                println!("60 creates passed in {took:?}");
                assert!(blocked.iter().all(|create| !create.is_finished()));
                stranger.run(end);
                for (create, apelido) in blocked.into_iter().zip(&held) {
                    let answer = create.join().expect("an answer");
                    assert_eq!(answer.status, expected, "{end}: {}", answer.text());
                    if expected == 201 {
                        settled.push(Attempt::acknowledged(&Pessoa::named(apelido), &answer));
                    }
                }
            });
            cluster.query("delete from pessoas where nome = 'Outra'");
            assert_eq!((load.unavailable(), load.lost()), (0, 0));
            settled.extend(load.finish());
            verify(&settled, &cluster.config(), &server.tcp());
        }
    }
}

/// From the first batch of a session on, and again after rows were looked for that meet a lock.
#[test]
fn a_batch_waits_for_a_lock_no_longer_than_it_should() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    cluster.query(
        "create function tell() returns trigger language plpgsql as \
         $$ begin new.nome := current_setting('lock_timeout'); return new; end $$; \
         create trigger tell before insert on pessoas for each row execute function tell()",
    );
    let told = |apelido: &str| {
        assert_eq!(Pessoa::named(apelido).post_to(&server).status, 201);
        cluster.query(&format!("select nome from pessoas where apelido = '{apelido}'")).remove(0)
    };
    let expected = format!("{}ms", COMMIT_LOCK_TIME_MAX.as_millis());
    assert_eq!(told("primeira"), expected);
    let stranger = Stranger::holds(
        &cluster,
        "insert into pessoas (id, apelido, nome, nascimento) \
         values (gen_random_uuid(), 'presa', 'Outra', '1990-01-01')",
    );
    assert_eq!(Pessoa::named("presa").post_to(&server).status, 503);
    stranger.run("rollback");
    assert_eq!(told("segunda"), expected);
}

#[test]
fn an_error_of_one_row_costs_no_other_its_201() {
    // Codes of a trigger's own, of a policy, and of the language.
    for code in ["P0001", "RIN01", "42501", "55000"] {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), &["--cores", "1"]);
        cluster.query(&format!(
            "create function refuse() returns trigger language plpgsql as \
             $$ begin if new.nome = 'veneno' then raise 'refused' using errcode = '{code}'; end if; return new; end $$; \
             create trigger refuse before insert on pessoas for each row execute function refuse()"
        ));
        let seed = seed();
        let healthy = Load::start(&server.tcp(), 8, seed);
        let mut number = 0;
        while healthy.acknowledged() < 200 {
            number += 1;
            let poison = Pessoa { nome: "veneno".to_owned(), ..Pessoa::named(&format!("má {number}")) };
            let answer = poison.post_to(&server);
            let expected = if matches!(code, "42501" | "55000") { 503 } else { 422 };
            assert_eq!(answer.status, expected, "{code}: {}", answer.text());
            if expected == 503 {
                assert!(answer.text().contains("nothing was stored"), "{}", answer.text());
            }
        }
        assert_eq!((healthy.unavailable(), healthy.lost()), (0, 0), "{code}");
        verify(&healthy.finish(), &cluster.config(), &server.tcp());
    }
}
