//! A partition moves from one node to another, by the script, while clients are at work.

use std::time::Duration;

use rinha::pessoa::home_of_apelido;

use crate::load::{Load, seed, verify_rows, wait_until};
use crate::server::database_url;
use crate::{Nodes, script};

fn body(apelido: &str) -> String {
    format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-01-01"}}"#)
}

/// An apelido of this home.
fn of_home(prefix: &str, home: u8) -> String {
    let mut all = (0..).map(|number| format!("{prefix}{number}"));
    all.find(|apelido| home_of_apelido(apelido) == home).expect("there is always one more")
}

#[test]
fn a_partition_moves_under_load() {
    let nodes = Nodes::start(2, 4);
    let servers = [nodes.serve(&["--cores", "2"]), nodes.serve(&["--cores", "1"])];
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    let seed = seed();
    let loads = [Load::start(&servers[0].tcp(), 4, seed), Load::start(&servers[1].tcp(), 4, seed + 1_000)];
    let mut went = (1, 0);
    for _ in 0..3 {
        loads.iter().for_each(|load| _ = load.wait_for(60));
        let (from, to) = went;
        script("move", &["1", "4", &url(from), &url(to)]).unwrap();
        assert!(nodes.at(to).contains(&1));
        nodes.clusters[from].query("drop schema left_1_of_4 cascade");
        went = (to, from);
        // Each server finds it within the second that the feed needs at most.
        std::thread::sleep(Duration::from_millis(200));
    }
    loads.iter().for_each(|load| _ = load.wait_for(60));
    let attempts: Vec<_> = loads.into_iter().flat_map(Load::finish).collect();
    for server in &servers {
        wait_until("a count of all partitions", || {
            server.ask("GET", "/contagem-pessoas", "").text() == nodes.rows("id").len().to_string()
        });
        verify_rows(&attempts, &nodes.shown(), &server.tcp());
        // By now memory has what moved.
        wait_until("searches by memory", || {
            let health = server.ask("GET", "/healthz", "").json();
            health["cache"]["pessoas"] == nodes.rows("id").len()
        });
    }
    let moved = servers[0].log().iter().filter(|line| line.contains("a partition has changed")).count();
    assert!(moved >= 3, "{:#?}", servers[0].log());
}

/// While it is closed nothing is lost of it, and everything else goes on.
#[test]
fn a_closed_partition_is_read_and_not_written() {
    let nodes = Nodes::start(2, 2);
    let server = nodes.serve(&[]);
    // Homes 237 and 178 (`pessoa::home` has them): partitions 1 and 0.
    for apelido in ["a", "foobar"] {
        assert_eq!(server.ask("POST", "/pessoas", &body(apelido)).status, 201);
    }
    nodes.clusters[1].query(
        "alter table partition_1_of_2.pessoas add constraint pessoas_have_moved check (false) not valid",
    );
    let answer = server.ask("POST", "/pessoas", &body(&of_home("x", 1)));
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("nothing was stored") && answer.text().contains("(partition 1 of 2)"),
        "{}",
        answer.text()
    );
    assert_eq!(server.ask("POST", "/pessoas", &body(&of_home("x", 2))).status, 201);
    wait_until("that it is closed", || {
        server.ask("GET", "/healthz", "").json()["database"]["nodes"][1]["closed"] == serde_json::json!([1])
    });
    // For longer than memory may be old.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(server.ask("GET", "/pessoas?t=ana", "").json().as_array().unwrap().len(), 3);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "3");
    // A start meanwhile finds it as it is.
    let other = nodes.serve(&[]);
    assert_eq!(other.ask("GET", "/contagem-pessoas", "").text(), "3");
    assert_eq!(other.ask("POST", "/pessoas", &body(&of_home("x", 1))).status, 503);

    nodes.clusters[1].query("alter table partition_1_of_2.pessoas drop constraint pessoas_have_moved");
    for server in [&server, &other] {
        wait_until("that it is open", || {
            server.ask("POST", "/pessoas", &body(&of_home("x", 1))).status != 503
        });
    }
}

/// One that is open at two nodes has no judge: no create of it is taken.
#[test]
fn a_partition_at_two_nodes_takes_nothing() {
    let nodes = Nodes::start(2, 2);
    let server = nodes.serve(&[]);
    let schema =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.sql")).expect("the schema");
    nodes.clusters[0]
        .query(&format!("create schema partition_1_of_2; set search_path = partition_1_of_2; {schema}"));
    let mut apelidos =
        (0..).map(|number| format!("w{number}")).filter(|apelido| home_of_apelido(apelido) % 2 == 1);
    wait_until("that nobody knows where it is", || {
        server.ask("POST", "/pessoas", &body(&apelidos.next().unwrap())).status == 503
    });
    assert_eq!(nodes.clusters[0].query("select count(*) from partition_1_of_2.pessoas"), ["0"]);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").status, 503);
}

#[test]
fn a_copy_that_fails_leaves_it_where_it_was() {
    let nodes = Nodes::start(2, 2);
    let server = nodes.serve(&[]);
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    // The node where it goes takes no rows.
    nodes.clusters[0].query("create schema arriving_1_of_2; create table arriving_1_of_2.x (); \
        create function public.no() returns event_trigger language plpgsql as 'begin raise ''no''; end'; \
        create event trigger no on ddl_command_start when tag in ('ALTER SCHEMA') execute function public.no()");
    let said = script("move", &["1", "2", &url(1), &url(0)]).unwrap_err();
    assert!(said.contains("not known"), "{said}");
    nodes.clusters[0].query("drop event trigger no");
    // It goes on where it was.
    script("move", &["1", "2", &url(1), &url(0)]).unwrap();
    assert_eq!((nodes.at(0), nodes.at(1)), (vec![0, 1], vec![]));
    wait_until("creates of it", || server.ask("POST", "/pessoas", &body(&of_home("y", 1))).status != 503);
    for (arguments, expected) in [
        (["1", "2", &url(0), &url(0)], "expected two clusters"),
        (["1", "4", &url(0), &url(1)], "is at neither"),
        (["2", "2", &url(0), &url(1)], "expected PARTITION as a number below 2"),
    ] {
        let said = script("move", &arguments).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}
