//! A node that is away: all others go on, and what is said names it.

use std::time::{Duration, Instant};

use rinha::pessoa::home_of_apelido;

use crate::load::{Load, seed, verify_rows, wait_until};
use crate::processes::{Frozen, kill_family};
use crate::server::{Server, database_url};
use crate::standby::{follow, promote, url};
use crate::{Nodes, answered};

fn body(apelido: &str) -> String {
    format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-01-01"}}"#)
}

/// Apelidos of this partition, of two.
fn apelidos(prefix: &str, partition: u8) -> impl Iterator<Item = String> {
    let prefix = prefix.to_owned();
    (0..)
        .map(move |number| format!("{prefix}.{number}"))
        .filter(move |apelido| home_of_apelido(apelido) % 2 == partition)
}

#[test]
fn a_node_away_leaves_the_others_at_work() {
    let mut nodes = Nodes::start(2, 2);
    let server = nodes.serve(&["--cores", "2"]);
    let known = server.ask("POST", "/pessoas", &body(&apelidos("known", 1).next().unwrap()));
    assert_eq!(known.status, 201);
    for frozen in [false, true] {
        let ice = match frozen {
            true => Some(Frozen::family_of(nodes.clusters[1].embedded.pid().expect("a running Postgres"))),
            false => {
                kill_family(nodes.clusters[1].embedded.pid().expect("a running Postgres"));
                None
            }
        };
        // Those who ask for the node that is away wait; those who ask for the other one do not.
        std::thread::scope(|scope| {
            let waiting: Vec<_> = apelidos(&format!("waits.{frozen}"), 1)
                .take(8)
                .map(|apelido| {
                    let server = &server;
                    scope.spawn(move || server.ask("POST", "/pessoas", &body(&apelido)))
                })
                .collect();
            let mut connection = server.connect();
            let mut slowest = Duration::ZERO;
            for apelido in apelidos(&format!("works.{frozen}"), 0).take(200) {
                let began = Instant::now();
                let created = connection.ask("POST", "/pessoas", &body(&apelido));
                assert_eq!(created.status, 201, "{}", created.text());
                slowest = slowest.max(began.elapsed());
            }
            println!("frozen: {frozen}; the slowest create at the other node took {slowest:?}");
            for waits in waiting {
                let answer = waits.join().expect("a client");
                assert_eq!((answer.status, answer.header("Retry-After")), (503, Some("1")));
                assert!(answer.text().contains("(partition 1 of 2)"), "{}", answer.text());
            }
        });
        // What memory knows it says; what it does not know is not absent.
        let found = server.ask("GET", &format!("/pessoas/{}", known.id()), "");
        assert_eq!((found.status, &found.body), (200, &known.body));
        let unknown = |home: u8| {
            server.ask("GET", &format!("/pessoas/018f4a52-0000-7000-80{home:02x}-000000000000"), "")
        };
        assert_eq!(unknown(0).status, 404);
        assert_eq!(unknown(1).status, 503);
        assert!(unknown(1).text().contains("(partition 1 of 2)"));
        for target in ["/contagem-pessoas", "/pessoas?t=known"] {
            let answer = server.ask("GET", target, "");
            assert_eq!(answer.status, 503, "{target}: {}", answer.text());
            assert!(answer.text().contains("(node 1 is away)"), "{target}: {}", answer.text());
        }
        let health = server.ask("GET", "/healthz", "");
        let database = &health.json()["database"];
        assert_eq!((health.status, &database["reachable"]), (200, &false.into()));
        assert_eq!(database["nodes"][0]["reachable"], true);
        assert_eq!(database["nodes"][1]["reachable"], false);

        drop(ice);
        if !frozen {
            assert!(nodes.clusters[1].embedded.ensure_running().expect("a start"));
        }
        wait_until("creates at the node that is back", || {
            let apelido = apelidos(&format!("back.{frozen}.{:?}", Instant::now()), 1).next().unwrap();
            let apelido: String =
                apelido.chars().filter(char::is_ascii_alphanumeric).rev().take(30).collect();
            server.ask("POST", "/pessoas", &body(&apelido)).status == 201
        });
        wait_until("searches by memory", || server.ask("GET", "/pessoas?t=known", "").status == 200);
        wait_until("a count", || {
            server.ask("GET", "/contagem-pessoas", "").text() == nodes.rows("id").len().to_string()
        });
    }
}

/// A node is a primary with its standbys: when one of these takes over, the partitions of the others stay in memory.
#[test]
fn a_failover_of_a_node_loads_its_partitions_alone() {
    let nodes = Nodes::start(2, 2);
    let standby = follow(&nodes.clusters[1]);
    let hosts = url(&[nodes.clusters[1].embedded.socket_dir(), standby.embedded.socket_dir()]);
    let one = format!("--database-url={}", database_url(&nodes.clusters[0].config()));
    let server = Server::start(&["--cores=2", "--partitions=2", &one, &format!("--database-url={hosts}")]);
    for apelido in apelidos("kept", 0).take(20).chain(apelidos("kept", 1).take(20)) {
        assert_eq!(server.ask("POST", "/pessoas", &body(&apelido)).status, 201);
    }
    wait_until("a standby that has all", || {
        standby.query("select count(*) from partition_1_of_2.pessoas") == ["20"]
    });
    promote(&standby);
    let said =
        |message: &str| server.events().into_iter().filter(|event| event["message"] == message).count();
    wait_until("a load of the new primary's", || said("loaded") == 1);
    wait_until("creates there", || {
        let apelido = apelidos(&format!("new{}", said("loaded")), 1).next().unwrap();
        matches!(server.ask("POST", "/pessoas", &body(&apelido)).status, 201 | 422)
    });
    assert_eq!(said("the database has another history: loading anew"), 1, "{:#?}", server.log());
    assert_eq!(answered(&server, "/contagem-pessoas"), "41");
    wait_until("searches by memory", || {
        let health = server.ask("GET", "/healthz", "").json();
        health["cache"]["pessoas"] == 41 && health["reloading"] == false
    });
    assert_eq!(standby.query("select count(*) from partition_1_of_2.pessoas"), ["21"]);
    assert_eq!(
        nodes.clusters[1].query("select count(*) from partition_1_of_2.pessoas"),
        ["20"],
        "it was left"
    );
}

#[test]
fn nothing_is_lost_while_nodes_are_killed_in_turns() {
    let mut nodes = Nodes::start(2, 4);
    let server = nodes.serve(&["--cores", "2"]);
    let load = Load::start(&server.tcp(), 6, seed());
    for node in [1, 0, 1] {
        load.wait_for(150);
        kill_family(nodes.clusters[node].embedded.pid().expect("a running Postgres"));
        std::thread::sleep(Duration::from_millis(400));
        assert!(nodes.clusters[node].embedded.ensure_running().expect("a start"));
    }
    load.wait_for(150);
    let attempts = load.finish();
    verify_rows(&attempts, &nodes.shown(), &server.tcp());
}
