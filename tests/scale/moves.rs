//! A partition moves from one node to another, by the script, while clients are at work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rinha::pessoa::home_of_apelido;

use crate::cluster::{block_on, connect};
use crate::load::{Attempt, Load, Pessoa, seed, verify_rows, wait_until};
use crate::processes::Frozen;
use crate::server::{Server, database_url, request};
use crate::{Nodes, answered, holds_up_no_other, script};

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
    let over = AtomicBool::new(false);
    let searched = std::thread::scope(|scope| {
        let searches = scope.spawn(|| search_elsewhere(&servers, &over));
        for _ in 0..4 {
            loads.iter().for_each(|load| _ = load.wait_for(60));
            let (from, to) = went;
            script("move", &["1", "4", &url(from), &url(to)]).unwrap();
            assert!(nodes.at(to).contains(&1));
            // What was put aside stays a while: a partition may come back, and leave again.
            let left = "select count(*) from pg_namespace where nspname ~ '^left_1_of_4_'";
            assert_ne!(nodes.clusters[from].query(left), ["0"]);
            went = (to, from);
            // Each server finds it within the second that the feed needs at most.
            std::thread::sleep(Duration::from_millis(200));
        }
        over.store(true, Ordering::Relaxed);
        searches.join().expect("no search lacked what it must have")
    });
    loads.iter().for_each(|load| _ = load.wait_for(60));
    let attempts: Vec<_> = loads.into_iter().flat_map(Load::finish).chain(searched).collect();
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

/// Creates at one server, and searches at the other one: a second after its 201 whoever is created is in every answer, or there
/// is none. Returns what was created.
fn search_elsewhere(servers: &[Server; 2], over: &AtomicBool) -> Vec<Attempt> {
    let (mut created, mut answered) = (Vec::new(), 0);
    let [here, there] = servers;
    for round in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let mut of_round = Vec::new();
        for number in 0..12 {
            let pessoa = Pessoa::named(&format!("sought{round}.{number}"));
            let answer = pessoa.post_to(here);
            if answer.status == 201 {
                of_round.push((pessoa, answer));
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        for (pessoa, answer) in of_round {
            let found = there.ask("GET", &format!("/pessoas?t={}", pessoa.apelido), "");
            if found.status == 200 {
                answered += 1;
                assert!(found.text().contains(&pessoa.apelido), "{pessoa:?} is not in {}", found.text());
            }
            created.push(Attempt::acknowledged(&pessoa, &answer));
        }
    }
    assert!(answered > 0, "no search was answered");
    println!("{answered} of {} searches elsewhere were answered", created.len());
    created
}

/// A server that sees nothing of a move stores nothing where the partition was, once it goes on.
#[test]
fn a_server_that_was_frozen_through_a_move_finds_its_end() {
    let nodes = Nodes::start(2, 2);
    let server = nodes.serve(&["--cores", "1"]);
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    let apelido = of_home("x", 1);
    assert_eq!(server.ask("POST", "/pessoas", &body(&apelido)).status, 201);
    let ice = Frozen::freeze(vec![server.pid().cast_signed()]);
    script("move", &["1", "2", &url(1), &url(0)]).unwrap();
    // Another server is at work meanwhile.
    let other = nodes.serve(&[]);
    let later = of_home("later", 1);
    assert_eq!(other.ask("POST", "/pessoas", &body(&later)).status, 201);
    let mut connection = server.connect();
    connection.send(request("POST", "/pessoas", &body(&later)));
    drop(ice);
    let answer = connection.receive();
    assert!(matches!(answer.status, 422 | 503), "{}: {}", answer.status, answer.text());
    wait_until("creates of it", || {
        matches!(server.ask("POST", "/pessoas", &body(&of_home("y", 1))).status, 201 | 422)
    });
    for apelido in [&apelido, &later] {
        assert_eq!(server.ask("POST", "/pessoas", &body(apelido)).status, 422);
    }
    assert_eq!(answered(&server, "/contagem-pessoas"), "3");
    assert_eq!(nodes.clusters[0].query("select count(*) from partition_1_of_2.pessoas"), ["3"]);
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
    assert_eq!(answered(&server, "/pessoas?t=ana").matches("\"nome\":\"Ana\"").count(), 3);
    assert_eq!(answered(&server, "/contagem-pessoas"), "3");
    // A start meanwhile finds it as it is, also while its rows arrive elsewhere.
    nodes.clusters[0]
        .query("create schema arriving_1_of_2_5eed; create table arriving_1_of_2_5eed.pessoas ()");
    let other = nodes.serve(&[]);
    assert_eq!(answered(&other, "/contagem-pessoas"), "3");
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

/// Here the copy meets a row that another home's check had let in once it was dropped by hand.
#[test]
fn a_copy_that_fails_leaves_it_where_it_was() {
    let nodes = Nodes::start(2, 2);
    let server = nodes.serve(&[]);
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    nodes.clusters[1].query(
        "alter table partition_1_of_2.pessoas drop constraint pessoas_are_at_home; \
         insert into partition_1_of_2.pessoas (id, apelido, nome, nascimento) \
         values ('018f4a52-0000-7000-8000-000000000001', 'stray', 'By Hand', '1999-12-31')",
    );
    let said = script("move", &["1", "2", &url(1), &url(0)]).unwrap_err();
    assert!(said.contains("opening partition 1_of_2 again where it was"), "{said}");
    assert_eq!((nodes.at(0), nodes.at(1)), (vec![0], vec![1]));
    let left = nodes.clusters[0].query("select nspname from pg_namespace where nspname ~ '^arriving'");
    assert_eq!(left, [] as [&str; 0]);
    wait_until("creates of it", || server.ask("POST", "/pessoas", &body(&of_home("y", 1))).status != 503);
    for (arguments, expected) in [
        (["1", "2", &url(0), &url(0)], "expected two clusters"),
        (["1", "4", &url(0), &url(1)], "is at neither"),
        (["1", "2", &url(0), &url(1)], "is at TO_URL already"),
        (["2", "2", &url(0), &url(1)], "expected PARTITION as a number below 2"),
    ] {
        let said = script("move", &arguments).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
}

/// At the worst moment: all rows have arrived, and whether it was opened there is not known.
#[test]
fn a_move_that_was_cut_short_goes_on_and_nowhere_else() {
    let nodes = Nodes::start(3, 4);
    let server = nodes.serve(&[]);
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    let apelido = of_home("x", 1);
    assert_eq!(server.ask("POST", "/pessoas", &body(&apelido)).status, 201);
    nodes.clusters[0].query(
        "create function public.no() returns event_trigger language plpgsql as 'begin raise ''no''; end'; \
         create event trigger no on ddl_command_start when tag in ('ALTER SCHEMA') execute function public.no()",
    );
    let said = script("move", &["1", "4", &url(1), &url(0)]).unwrap_err();
    assert!(said.contains("not known"), "{said}");
    let said = script("move", &["1", "4", &url(1), &url(2)]).unwrap_err();
    assert!(said.contains("goes to another database"), "{said}");
    assert_eq!(server.ask("POST", "/pessoas", &body(&of_home("y", 1))).status, 503);
    nodes.clusters[0].query("drop event trigger no");
    script("move", &["1", "4", &url(1), &url(0)]).unwrap();
    assert_eq!((nodes.at(0), nodes.at(1), nodes.at(2)), (vec![0, 1, 3], vec![], vec![2]));
    wait_until("creates of it", || server.ask("POST", "/pessoas", &body(&of_home("y", 1))).status != 503);
    assert_eq!(server.ask("POST", "/pessoas", &body(&apelido)).status, 422);
}

/// Several at once, to different nodes: one of them moves it.
#[test]
fn of_several_moves_one_is_made() {
    for targets in [vec![0, 2], vec![0, 2, 0, 2], vec![0, 0]] {
        race_to(&targets);
    }
}

fn race_to(targets: &[usize]) {
    let nodes = Nodes::start(3, 4);
    let server = nodes.serve(&[]);
    let load = Load::start(&server.tcp(), 4, seed());
    load.wait_for(100);
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    let urls = [url(0), url(1), url(2)];
    let moved = std::thread::scope(|scope| {
        let moves: Vec<_> = targets
            .iter()
            .map(|&to| {
                scope.spawn({
                    let urls = &urls;
                    move || script("move", &["1", "4", &urls[1], &urls[to]])
                })
            })
            .collect();
        moves.into_iter().map(|one| one.join().expect("a script")).filter(Result::is_ok).count()
    });
    println!("{moved} of {} say that they moved it", targets.len());
    let at: Vec<usize> = (0..3).filter(|&node| nodes.at(node).contains(&1)).collect();
    assert_eq!(at.len(), 1, "partition 1 is at {at:?}");
    // Where all of them gave up it is open where it was, or the next one goes on.
    if at == [1] {
        script("move", &["1", "4", &urls[1], &urls[0]]).expect("a move");
    }
    load.wait_for(100);
    let attempts = load.finish();
    wait_until("a count of all partitions", || {
        server.ask("GET", "/contagem-pessoas", "").text() == nodes.rows("id").len().to_string()
    });
    verify_rows(&attempts, &nodes.shown(), &server.tcp());
}

/// Other partitions of the node go on while somebody holds a table.
#[test]
fn a_locked_partition_holds_up_no_other() {
    let nodes = Nodes::start(1, 2);
    let server = nodes.serve(&["--cores", "1"]);
    block_on(async {
        let client = connect(&nodes.clusters[0].config()).await;
        client
            .batch_execute("begin; lock table partition_1_of_2.pessoas in access exclusive mode")
            .await
            .expect("a lock");
        holds_up_no_other(
            &server,
            |number| of_home(&format!("locked{number}."), 1),
            |number| of_home(&format!("free{number}."), 2),
        );
        client.batch_execute("rollback").await.expect("its end");
    });
    wait_until("creates of it", || server.ask("POST", "/pessoas", &body(&of_home("z", 1))).status != 503);
}
