//! A 201 is durable wherever that is decided. A standby that does not exist makes every commit wait: it is committed on
//! this machine alone, and would be lost with it, until the standby is no longer asked for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rinha::limits::{COMMIT_TIME_MAX, STATEMENT_TIME_MAX};
use tokio_postgres::Client;

use crate::cluster::{Cluster, connect};
use crate::each_server;
use crate::load::{Pessoa, wait_until};
use crate::processes::send;
use crate::server::{Response, Server};
use crate::standby::program;

/// The backends that commit for a server.
const COMMITTERS: &str = "from pg_stat_activity where application_name like 'rinha % commit'";

/// Makes every commit wait for a standby of this name; none waits when it is empty.
fn standby(cluster: &Cluster, name: &str) {
    cluster.query(&format!("alter system set synchronous_standby_names = '{name}'"));
    cluster.query("select pg_reload_conf()");
    wait_until("the setting", || cluster.query("show synchronous_standby_names") == [name]);
    // Commits wait once the checkpointer has heard of it too, which nothing shows.
    thread::sleep(Duration::from_millis(300));
}

fn waiting(cluster: &Cluster) -> Vec<String> {
    cluster.query(&format!("select pid {COMMITTERS} and wait_event = 'SyncRep' order by pid"))
}

fn rows(cluster: &Cluster, apelido: &str) -> Vec<String> {
    cluster.query(&format!("select id from pessoas where apelido = '{apelido}'"))
}

fn expect_unknown(answer: &Response) {
    assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")), "{}", answer.text());
}

/// How somebody cuts a wait short.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Cancel,
    Terminate,
    Kill,
}

impl Cut {
    fn cut(self, cluster: &Cluster) {
        let backend = || waiting(cluster).remove(0);
        match self {
            Cut::Cancel => drop(cluster.query(&format!("select pg_cancel_backend({})", backend()))),
            Cut::Terminate => drop(cluster.query(&format!("select pg_terminate_backend({})", backend()))),
            // Postgres then takes its shared memory for damaged, and starts over with recovery.
            Cut::Kill => {
                let pid = backend().parse().expect("a pid");
                send(pid, Signal::SIGKILL);
                let process = format!("/proc/{pid}");
                wait_until("its postmaster to notice", || !Path::new(&process).exists());
            }
        }
    }
}

const CUTS: [Cut; 3] = [Cut::Cancel, Cut::Terminate, Cut::Kill];

#[test]
fn a_wait_that_was_cut_short_is_no_201() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        for cut in CUTS {
            println!("{cut:?}");
            let apelido = format!("incerta {cut:?}");
            standby(&cluster, "nobody");
            thread::scope(|scope| {
                let create = scope.spawn(|| Pessoa::named(&apelido).post_to(&server));
                wait_until("a commit that waits", || !waiting(&cluster).is_empty());
                cut.cut(&cluster);
                // The row is there for everybody to see, and a loss of this machine would be its end.
                wait_until("the row", || rows(&cluster, &apelido).len() == 1);
                expect_unknown(&create.join().expect("an answer"));
            });
            if let Cut::Cancel = cut {
                let said = server.events();
                let warned = said.iter().any(|event| {
                    event["level"] == "WARN"
                        && event["warning"].as_str().is_some_and(|warning| warning.contains("SQLSTATE 01000"))
                });
                assert!(warned, "expected the server's warning in the log: {said:#?}");
            }
            standby(&cluster, "");
            let retried = Pessoa::named(&apelido).post_to(&server);
            assert_eq!(retried.status, 422, "{}", retried.text());
            assert_eq!(rows(&cluster, &apelido).len(), 1);
        }
    });
}

/// In the last 40 million transactions before its ids run out Postgres warns with each of them, whatever becomes of it.
#[test]
fn a_warning_that_says_nothing_of_the_commit_costs_no_201() {
    // A segment of the commit log has the states of so many transactions.
    const SEGMENT: u64 = 1 << 20;
    let next_id = SEGMENT * 2012;
    let cluster = Cluster::start();
    cluster.query("alter system set wal_level = logical");
    let cluster = Cluster::start_in(cluster.leave(|mut embedded| embedded.stop().expect("its end")));
    // So that no vacuum takes the warning away.
    cluster.query("select pg_create_logical_replication_slot('old', 'pgoutput')");
    let pgdata = cluster.pgdata();
    let directory = cluster.leave(|mut embedded| embedded.stop().expect("its end"));
    let owner = fs::metadata(&pgdata).expect("its directory");
    let segment = pgdata.join("pg_xact").join(format!("{:04X}", next_id / SEGMENT));
    fs::write(&segment, vec![0; 256 << 10]).expect("a segment");
    std::os::unix::fs::chown(&segment, Some(owner.uid()), Some(owner.gid())).expect("its owner");
    let mut reset = program("pg_resetwal");
    if nix::unistd::geteuid().is_root() {
        reset.uid(owner.uid()).gid(owner.gid());
    }
    let reset = reset.args(["-x", &next_id.to_string()]).arg(&pgdata).output().expect("pg_resetwal");
    assert!(reset.status.success(), "{}", String::from_utf8_lossy(&reset.stderr));

    let cluster = Cluster::start_in(directory);
    each_server(|arguments| {
        let server = Server::on(&cluster.config(), arguments);
        let apelido = format!("tarde {arguments:?}");
        let created = Pessoa::named(&apelido).post_to(&server);
        assert_eq!(
            (created.status, rows(&cluster, &apelido)),
            (201, vec![created.id()]),
            "{:#?}",
            server.log()
        );
        assert_eq!(Pessoa::named(&apelido).post_to(&server).status, 422);
        // What does say something is heard beside it.
        standby(&cluster, "nobody");
        thread::scope(|scope| {
            let create = scope.spawn(|| Pessoa::named(&format!("incerta {arguments:?}")).post_to(&server));
            wait_until("a commit that waits", || !waiting(&cluster).is_empty());
            Cut::Cancel.cut(&cluster);
            expect_unknown(&create.join().expect("an answer"));
        });
        standby(&cluster, "");
    });
}

#[test]
fn a_wait_that_was_cut_short_is_a_201_once_the_standby_has_the_row() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        for cut in CUTS {
            println!("{cut:?}");
            let apelido = format!("certa {cut:?}");
            standby(&cluster, "nobody");
            let created = thread::scope(|scope| {
                let create = scope.spawn(|| Pessoa::named(&apelido).post_to(&server));
                wait_until("a commit that waits", || !waiting(&cluster).is_empty());
                let began = Instant::now();
                cut.cut(&cluster);
                wait_until("the row", || rows(&cluster, &apelido).len() == 1);
                standby(&cluster, "");
                println!("{:?} after the cut", began.elapsed());
                create.join().expect("an answer")
            });
            // The one id that was minted for it.
            assert_eq!((created.status, rows(&cluster, &apelido)), (201, vec![created.id()]));
            assert_eq!(server.ask("GET", &format!("/pessoas/{}", created.id()), "").body, created.body);
        }
    });
}

/// What refuses the row when it is sent again says nothing of the row that is there.
#[test]
fn a_refusal_after_a_lost_answer_is_not_believed() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        cluster.query("create sequence tries");
        cluster.query(
            "create function once() returns trigger language plpgsql as \
             $$ begin if nextval('tries') > 1 then raise 'no more'; end if; return new; end $$; \
             create trigger once before insert on pessoas for each row execute function once()",
        );
        standby(&cluster, "nobody");
        let created = thread::scope(|scope| {
            let create = scope.spawn(|| Pessoa::named("incerta").post_to(&server));
            wait_until("a commit that waits", || !waiting(&cluster).is_empty());
            Cut::Terminate.cut(&cluster);
            wait_until("the row", || rows(&cluster, "incerta").len() == 1);
            standby(&cluster, "");
            create.join().expect("an answer")
        });
        assert_eq!((created.status, rows(&cluster, "incerta")), (201, vec![created.id()]));
        // Who never was in doubt is refused.
        assert_eq!(Pessoa::named("outra").post_to(&server).status, 422);
    });
}

#[test]
fn a_commit_that_waits_for_a_standby_keeps_its_session() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        standby(&cluster, "nobody");
        let began = Instant::now();
        expect_unknown(&Pessoa::named("tardia").post_to(&server));
        assert!(rows(&cluster, "tardia").is_empty());
        let waits = waiting(&cluster);
        assert_eq!(waits.len(), 1);
        // Longer than any other statement may take. More creates meanwhile make no more backends.
        while began.elapsed() < STATEMENT_TIME_MAX + COMMIT_TIME_MAX {
            expect_unknown(&Pessoa::named("tardia").post_to(&server));
            assert_eq!(waiting(&cluster), waits);
        }
        standby(&cluster, "");
        wait_until("the late commit", || rows(&cluster, "tardia").len() == 1);
        let id = rows(&cluster, "tardia").remove(0);
        let retried = Pessoa::named("tardia").post_to(&server);
        assert_eq!(retried.status, 422, "{}", retried.text());
        let shown = server.ask("GET", &format!("/pessoas/{id}"), "");
        assert_eq!((shown.status, shown.json()), (200, Pessoa::named("tardia").shown(&id)));
        assert_eq!(rows(&cluster, "tardia"), [id]);
    });
}

/// Runs `statements` in one transaction of a stranger's session that waits for no standby.
fn stranger(cluster: &Cluster, statements: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client: Client = connect(&cluster.config()).await;
        client.batch_execute("set synchronous_commit = local").await.expect("the setting");
        client.batch_execute(statements).await.expect(statements);
    });
}

/// After a failover the old primary may go on for a while: it cannot commit, and it does not know what the new one did.
#[test]
fn there_is_none_rests_on_a_confirmed_commit() {
    const UNKNOWN: &str = "/pessoas/018f4a52-0000-7000-8000-000000000000";
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        let known = Pessoa::named("conhecida").post_to(&server);
        assert_eq!(server.ask("GET", UNKNOWN, "").status, 404);
        standby(&cluster, "nobody");
        thread::scope(|scope| {
            let asked = [UNKNOWN, "/contagem-pessoas"].map(|target| {
                let server = &server;
                scope.spawn(move || server.ask("GET", target, ""))
            });
            // Rows that are there need no proof, also those that only Postgres has.
            stranger(
                &cluster,
                "insert into pessoas (id, apelido, nome, nascimento) values \
                 ('018f4a52-0000-7000-8000-000000000001', 'de outrem', 'Outra', '1990-01-01')",
            );
            let there = format!("{}1", &UNKNOWN[..UNKNOWN.len() - 1]);
            for path in [there, format!("/pessoas/{}", known.id())] {
                assert_eq!(server.ask("GET", &path, "").status, 200);
            }
            for answer in asked {
                expect_unknown(&answer.join().expect("an answer"));
            }
        });
        // Many who ask share one backend.
        let waits = waiting(&cluster);
        thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| expect_unknown(&server.ask("GET", UNKNOWN, "")));
            }
        });
        assert_eq!(waiting(&cluster), waits);
        standby(&cluster, "");
        assert_eq!(server.ask("GET", UNKNOWN, "").status, 404);
        assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "2");
    });
}

#[test]
fn a_422_rests_on_a_durable_row_alone() {
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        standby(&cluster, "nobody");
        stranger(
            &cluster,
            "insert into pessoas (id, apelido, nome, nascimento) \
             values (gen_random_uuid(), 'de outrem', 'Outra', '1990-01-01')",
        );
        wait_until("the row in memory", || {
            server
                .ask("GET", "/pessoas?t=de+outrem", "")
                .json()
                .as_array()
                .is_some_and(|rows| rows.len() == 1)
        });
        // Everybody sees the row, and nobody but this machine has it.
        expect_unknown(&Pessoa::named("de outrem").post_to(&server));
        standby(&cluster, "");
        let duplicate = Pessoa::named("de outrem").post_to(&server);
        assert_eq!(duplicate.status, 422, "{}", duplicate.text());
        // From now on memory knows it, and the database need not be asked.
        standby(&cluster, "nobody");
        let began = Instant::now();
        assert_eq!(Pessoa::named("de outrem").post_to(&server).status, 422);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        standby(&cluster, "");
    });
}

/// Makes each row tell, by its nome, what a commit of its session waits for; then runs `code`.
fn tell(cluster: &Cluster, code: &str) {
    cluster.query(&format!(
        "create or replace function tell() returns trigger language plpgsql as \
         $$ begin new.nome := current_setting('synchronous_commit'); {code} return new; end $$; \
         create or replace trigger tell before insert on pessoas for each row execute function tell()"
    ));
}

fn told(cluster: &Cluster, apelido: &str) -> Vec<String> {
    cluster.query(&format!("select nome from pessoas where apelido = '{apelido}'"))
}

#[test]
fn what_a_commit_waits_for_is_never_weakened() {
    let cluster = Cluster::start();
    // Whoever asks for more than `on` gets it, whoever asks for less does not.
    for (level, used) in
        [("remote_apply", "remote_apply"), ("off", "on"), ("local", "on"), ("remote_write", "on")]
    {
        cluster.query(&format!("alter role current_user set synchronous_commit = '{level}'"));
        let server = Server::on(&cluster.config(), &["--cores", "1"]);
        tell(&cluster, "");
        let apelido = format!("nível {level}");
        assert_eq!(Pessoa::named(&apelido).post_to(&server).status, 201);
        assert_eq!(told(&cluster, &apelido), [used], "{level}");
    }
}

#[test]
fn a_session_that_somebody_changed_is_not_used() {
    // Such as a pooler that lends it to another client between two statements.
    each_server(|arguments| {
        let cluster = Cluster::start();
        let server = Server::on(&cluster.config(), arguments);
        for (number, change) in
            ["set_config('synchronous_commit', 'off', false)", "set_config('rinha.session', 'other', false)"]
                .into_iter()
                .enumerate()
        {
            // Meant for the next statement of the session.
            tell(&cluster, &format!("perform {change};"));
            assert_eq!(Pessoa::named(&format!("primeira {number}")).post_to(&server).status, 201);
            tell(&cluster, "");
            // With two cores the next one may go another way; each of these apelidos meets the session that was changed.
            let again = Pessoa::named(&format!("primeira {number}"));
            assert_eq!(again.post_to(&server).status, 422);
            let before = server.log().len();
            let apelidos = (0..40).map(|other| format!("segunda {number} {other}"));
            for apelido in apelidos {
                assert_eq!(Pessoa::named(&apelido).post_to(&server).status, 201);
                assert_eq!(told(&cluster, &apelido), ["on"]);
            }
            let said = server.events().split_off(before);
            let named = said.iter().any(|event| {
                event["why"].as_str().is_some_and(|why| why.contains("expected a session of its own"))
            });
            assert!(named, "{said:#?}");
        }
    });
}
