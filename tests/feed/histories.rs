//! The database has another history than before: another timeline, as after a failover.

use std::fs;
use std::time::Instant;

use crate::cluster::Cluster;
use crate::load::{WAIT_MAX, wait_until};
use crate::race::body;
use crate::server::{Address, Connection, Server};
use crate::{fill, found, search, wait_until_fresh};

/// Stops Postgres, and starts it on the next timeline.
fn next_timeline(cluster: &mut Cluster) {
    let before = timeline(cluster);
    cluster.query("alter system set restore_command = 'false'");
    cluster.embedded.stop().unwrap();
    let signal = cluster.pgdata().join("recovery.signal");
    fs::write(&signal, "").unwrap();
    assert!(cluster.embedded.ensure_running().unwrap());
    wait_until("the end of the recovery", || cluster.query("select pg_is_in_recovery()") == ["f"]);
    assert_ne!(timeline(cluster), before);
}

fn timeline(cluster: &Cluster) -> String {
    cluster.query("select left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)").remove(0)
}

/// The instance answers all the while, and says that it loads, to operators too.
#[test]
fn an_instance_that_loads_again_stays_in_rotation() {
    let mut cluster = Cluster::start();
    drop(Server::on(&cluster.config(), &[]));
    fill(&cluster, 40_000);
    let server = Server::on(&cluster.config(), &["--cores", "2", "--admin", "127.0.0.1:0"]);
    let operators = server.events().into_iter().find(|event| event["message"] == "operators are answered");
    let admin = Address::parse(operators.expect("an admin listener")["address"].as_str().expect("a text"));
    let told = |text: &str| Connection::open(&admin).ask("GET", "/metrics", "").text().contains(text);
    assert!(told("rinha_reloading{core=\"1\"} 0\n"));
    let created = server.ask("POST", "/pessoas", &body("known", "x"));
    assert_eq!(created.status, 201);
    next_timeline(&mut cluster);
    let began = Instant::now();
    let (mut reloading, mut answers, mut told_operators) = (0, 0, false);
    let mut connection = server.connect();
    loop {
        assert!(began.elapsed() < WAIT_MAX, "{:#?}", server.log());
        let health = connection.ask("GET", "/healthz", "");
        assert_eq!(health.status, 200, "{}", health.text());
        let health = health.json();
        assert_eq!(health["status"], "serving");
        let loads = health["reloading"] == true;
        if loads {
            reloading += 1;
            told_operators |=
                told("rinha_reloading{core=\"0\"} 1\n") || told("rinha_reloading{core=\"1\"} 1\n");
            assert_eq!(health["cache"]["search_complete"], false);
            // The database is there: it answers what memory has forgotten.
            let got = connection.ask("GET", &format!("/pessoas/{}", created.id()), "");
            assert_eq!((got.status, got.text()), (200, created.text()));
            let found = found(&search(&server, "past39999"));
            assert_eq!(found, Some(vec!["past39999".to_owned()]));
            answers += 1;
        } else if reloading > 0 {
            break;
        }
    }
    println!("loaded again after {:?}; {answers} reads meanwhile", began.elapsed());
    assert!(answers > 0 && told_operators);
    wait_until_fresh(&server);
    assert_eq!(found(&search(&server, "past39999")), Some(vec!["past39999".to_owned()]));
    assert_eq!(server.ask("GET", "/healthz", "").json()["cache"]["pessoas"], 40_001);
}
