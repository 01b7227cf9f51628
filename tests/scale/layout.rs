//! Which partition is where: dealt out, found again, and refused where it would make a second judge of uniqueness.

use std::process::Stdio;

use rinha::pessoa::home_of_apelido;

use crate::cluster::Cluster;
use crate::processes::Child;
use crate::server::{Server, database_url};
use crate::standby::program;
use crate::{Nodes, binary, refused, script};

fn body(apelido: &str) -> String {
    format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-01-01"}}"#)
}

/// An id whose home is that of this apelido.
fn id_at_home(apelido: &str, number: u32) -> String {
    format!("018f4a52-0000-7000-80{:02x}-{number:012}", home_of_apelido(apelido))
}

#[test]
fn partitions_are_dealt_out_once_and_found_again() {
    let nodes = Nodes::start(2, 4);
    for _ in 0..2 {
        let server = nodes.serve(&["--cores", "2"]);
        assert_eq!((nodes.at(0), nodes.at(1)), (vec![0, 2], vec![1, 3]));
        let health = server.ask("GET", "/healthz", "").json();
        let database = &health["database"];
        assert_eq!(database["partitions"], 4);
        assert_eq!(database["nodes"][0]["partitions"], serde_json::json!([0, 2]));
        assert_eq!(database["nodes"][1]["partitions"], serde_json::json!([1, 3]));
        assert_eq!(database["nodes"][1]["reachable"], true);
    }
    // In another order they are the same nodes: what they have decides.
    let mut arguments = nodes.arguments();
    arguments.swap(0, 1);
    let server = Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(server.ask("POST", "/pessoas", &body("ana")).status, 201);
    assert_eq!((nodes.at(0), nodes.at(1)), (vec![0, 2], vec![1, 3]));
}

#[test]
fn every_kind_of_request_over_partitions() {
    for (count, partitions) in [(1, 4), (2, 2), (2, 8)] {
        let nodes = Nodes::start(count, partitions);
        for cores in ["1", "2"] {
            let server = nodes.serve(&["--cores", cores]);
            let other = nodes.serve(&["--cores", cores]);
            let mut made = Vec::new();
            for number in 0..60 {
                let apelido = format!("p{partitions}n{count}c{cores}.{number}");
                let created = server.ask("POST", "/pessoas", &body(&apelido));
                assert_eq!(created.status, 201, "{}", created.text());
                // At once through the other instance, and a duplicate everywhere.
                let found = other.ask("GET", &format!("/pessoas/{}", created.id()), "");
                assert_eq!((found.status, &found.body), (200, &created.body));
                assert_eq!(other.ask("POST", "/pessoas", &body(&apelido)).status, 422);
                made.push(apelido);
            }
            assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), nodes.rows("id").len().to_string());
            let term = format!("p{partitions}n{count}c{cores}.");
            let found = server.ask("GET", &format!("/pessoas?t={term}"), "").json();
            let ids: Vec<&str> =
                found.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), 50);
            assert!(ids.is_sorted());
            for apelido in &made {
                let found = server.ask("GET", &format!("/pessoas?t={apelido}"), "").json();
                assert!(found.as_array().unwrap().iter().any(|one| one["apelido"] == **apelido), "{apelido}");
            }
            let unknown = server.ask("GET", "/pessoas/018f4a52-0000-7000-8000-000000000000", "");
            assert_eq!(unknown.status, 404);
        }
    }
}

/// Also after its body and its index were dropped, and after a restart.
#[test]
fn memory_that_is_full_asks_every_partition() {
    let nodes = Nodes::start(2, 4);
    let arguments = ["--cores", "1", "--cache-bytes", "64KiB"];
    let server = nodes.serve(&arguments);
    let mut connection = server.connect();
    let made: Vec<_> = (0..1_200)
        .map(|number| {
            let created = connection.ask("POST", "/pessoas", &body(&format!("much.{number}")));
            assert_eq!(created.status, 201);
            created
        })
        .collect();
    for server in [server, nodes.serve(&arguments)] {
        let health = server.ask("GET", "/healthz", "").json();
        assert_eq!(health["cache"]["search_complete"], false, "expected a memory that is full");
        let mut connection = server.connect();
        for created in made.iter().step_by(37) {
            let found = connection.ask("GET", &format!("/pessoas/{}", created.id()), "");
            assert_eq!((found.status, &found.body), (200, &created.body));
        }
        let found = connection.ask("GET", "/pessoas?t=much.", "").json();
        let ids: Vec<&str> =
            found.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert!(ids.len() == 50 && ids.is_sorted(), "{ids:?}");
        for apelido in ["much.7.", "much.1199", "MUCH.600"] {
            let found = connection.ask("GET", &format!("/pessoas?t={apelido}"), "").json();
            let expected = usize::from(!apelido.ends_with('.'));
            assert_eq!(found.as_array().unwrap().len(), expected, "{apelido}");
        }
    }
}

#[test]
fn a_row_at_another_home_is_refused_by_the_database() {
    let nodes = Nodes::start(1, 4);
    let server = nodes.serve(&[]);
    let cluster = &nodes.clusters[0];
    for (number, apelido) in
        (0..).zip(["", "a", "josé", "😀😀😀", "foobar", "x y", "ÁÉ", "0123456789abcdefghijklmnopqrstuv"])
    {
        let home = home_of_apelido(apelido);
        let computed = cluster.query(&format!("select partition_0_of_4.home_of_apelido('{apelido}')"));
        assert_eq!(computed, [home.to_string()], "{apelido:?}");
        for partition in 0..4 {
            let insert = format!(
                "do $$ begin insert into {}.pessoas (id, apelido, nome, nascimento) \
                 values ('{}', '{apelido}', 'By Hand', '1999-12-31'); \
                 exception when check_violation then raise notice 'no'; end $$",
                nodes.schema(partition),
                id_at_home(apelido, number)
            );
            cluster.query(&insert);
            let count = cluster.query(&format!(
                "select count(*) from {}.pessoas where apelido = '{apelido}'",
                nodes.schema(partition)
            ));
            let is_home = usize::from(home) % 4 == partition;
            assert_eq!(count, [u8::from(is_home).to_string()], "{apelido:?} in {partition}");
        }
    }
    // The right partition, and an id that is not at home.
    let stray = format!(
        "do $$ begin insert into {}.pessoas (id, apelido, nome, nascimento) \
         values ('018f4a52-0000-7000-80{:02x}-0000000000ff', 'stray', 'By Hand', '1999-12-31'); \
         raise 'taken'; exception when check_violation then null; end $$",
        nodes.schema(usize::from(home_of_apelido("stray")) % 4),
        home_of_apelido("stray") ^ 4
    );
    cluster.query(&stray);
    // Rows by hand are found like any other.
    let found = crate::load::wait_until("a row that was put in by hand", || {
        server.ask("GET", "/pessoas?t=foobar", "").json().as_array().is_some_and(|found| found.len() == 1)
    });
    assert!(found.as_millis() < 1_000, "{found:?}");
}

#[test]
fn a_start_that_would_make_a_second_judge_is_refused() {
    let nodes = Nodes::start(2, 2);
    drop(nodes.serve(&[]));
    let url = |node: usize| format!("--database-url={}", database_url(&nodes.clusters[node].config()));
    let stranger = Cluster::start();
    let empty = format!("--database-url={}", database_url(&stranger.config()));
    let one = Cluster::start();
    drop(Server::on(&one.config(), &[]));
    let of_one = format!("--database-url={}", database_url(&one.config()));
    let partitions = |count: usize| format!("--partitions={count}");
    for (arguments, expected) in [
        (vec![url(0), url(1), partitions(4)], "expected partitions of 4"),
        (vec![url(0)], "the people of this database are in partitions"),
        (vec![url(0), partitions(2)], "partition 1 of 2 is at none of"),
        // Not made once more elsewhere.
        (vec![url(0), empty.clone(), partitions(2)], "partition 1 of 2 is at none of"),
        (vec![url(0), url(0), partitions(2)], "are one cluster"),
        (vec![of_one, partitions(2)], "has a table pessoas, for all people"),
        (vec![url(0), url(1)], "--partitions: expected as many as there are databases"),
        (vec![url(0), url(1), partitions(3)], "expected a power of two"),
    ] {
        let said = refused(&arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert_eq!(stranger.query("select count(*) from pg_namespace where nspname ~ '^partition_'"), ["0"]);

    // What a promise rests on, at every node.
    let socket = stranger.directory().to_owned();
    let directory = stranger.leave(|mut embedded| embedded.stop().expect("an end"));
    let pgdata = directory.path().join("data/postgres");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("a mode");
    let mut careless = program("postgres");
    careless.args(["-c", "fsync=off", "-c", "listen_addresses=", "-k"]).arg(&socket).arg("-D").arg(&pgdata);
    let _careless = Child::start_as_owner_of(&pgdata, careless);
    let other = Cluster::start();
    let arguments = vec![
        format!("--database-url={}", database_url(&other.config())),
        format!("--database-url=host={} user=rinha dbname=postgres", socket.display()),
        partitions(2),
    ];
    let said = refused(&arguments);
    assert!(said.contains("fsync or full_page_writes is off"), "{said}");
    assert_eq!(other.query("select count(*) from pg_namespace where nspname ~ '^partition_'"), ["0"]);
}

/// All partitions have left: who knows only that node makes none anew.
#[test]
fn a_node_that_all_have_left_is_not_begun_anew() {
    let nodes = Nodes::start(2, 2);
    drop(nodes.serve(&[]));
    let url = |node: usize| database_url(&nodes.clusters[node].config());
    script("move", &["0", "2", &url(0), &url(1)]).unwrap();
    assert_eq!((nodes.at(0), nodes.at(1)), (vec![], vec![0, 1]));
    let old = format!("--database-url={}", url(0));
    for (arguments, expected) in [
        (vec![old.clone(), "--partitions=2".to_owned()], "so its partitions have moved"),
        (vec![old], "or have moved"),
    ] {
        let said = refused(&arguments);
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(nodes.at(0), [] as [usize; 0]);
    drop(nodes.serve(&[]));
}

/// A user who may not add what a later version has is told so beforehand.
#[test]
fn a_look_at_a_partition_of_an_earlier_version_names_it() {
    let nodes = Nodes::start(1, 2);
    drop(nodes.serve(&[]));
    nodes.clusters[0].query(
        "drop index partition_1_of_2.pessoas_unlowered; create role other login; \
         grant usage on schema partition_0_of_2, partition_1_of_2 to other; \
         grant select, insert on partition_0_of_2.pessoas, partition_1_of_2.pessoas to other",
    );
    let url = database_url(&nodes.clusters[0].config()).replace("user=rinha", "user=other");
    let arguments = [format!("--database-url={url}"), "--partitions=2".to_owned()];
    let looked = binary().arg("check").args(&arguments).stdout(Stdio::piped()).output().expect("an end");
    let said = String::from_utf8(looked.stdout).expect("UTF-8");
    assert!(
        said.contains("partition 1 of 2: its table pessoas belongs to another user, and lacks"),
        "{said}"
    );
    assert!(said.contains("pessoas_unlowered"), "{said}");
    let said = refused(&arguments);
    assert!(said.contains("partition 1 of 2: "), "{said}");
}

#[test]
fn a_look_says_what_a_start_would_do() {
    let nodes = Nodes::start(2, 4);
    let check = |arguments: &[String]| {
        let output = binary()
            .arg("check")
            .args(arguments)
            .arg("--listen=127.0.0.1:0")
            .stdout(Stdio::piped())
            .output()
            .expect("an end");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    let line = |said: &str| said.lines().find(|line| line.contains("partitions")).expect(said).to_owned();
    let (code, said) = check(&nodes.arguments());
    assert_eq!(code, Some(0), "{said}");
    assert!(
        line(&said).contains("0, 2 would be made") && line(&said).contains("1, 3 would be made"),
        "{said}"
    );
    assert_eq!((nodes.at(0), nodes.at(1)), (vec![], vec![]), "a look makes nothing");
    drop(nodes.serve(&[]));
    let (code, said) = check(&nodes.arguments());
    assert_eq!(code, Some(0), "{said}");
    assert!(line(&said).contains(": 0, 2; ") && !said.contains("would be made"), "{said}");
    let mut half = nodes.arguments();
    half.remove(1);
    let (code, said) = check(&half);
    assert_eq!(code, Some(1), "{said}");
    assert!(line(&said).contains("partition 1 of 4 is at none of"), "{said}");
}

#[test]
fn a_variable_names_several_databases() {
    let nodes = Nodes::start(2, 2);
    let url = |node: usize| {
        let directory = nodes.clusters[node].directory().join("data/socket");
        format!("postgres://rinha@{}/postgres", directory.to_str().unwrap().replace('/', "%2F"))
    };
    let mut command = binary();
    command.args(["--log-format", "json", "--listen", "127.0.0.1:0"]);
    command.env("DATABASE_URL", format!("{} {}", url(0), url(1))).env("PARTITIONS", "2");
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "0");
    assert_eq!((nodes.at(0), nodes.at(1)), (vec![0], vec![1]));
}

/// From the table of today to partitions, by the script: every row, and its transaction is that of the split.
#[test]
fn a_table_is_split() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    let mut connection = server.connect();
    let made: Vec<_> = (0..300)
        .map(|number| connection.ask("POST", "/pessoas", &body(&format!("split.{number}"))))
        .collect();
    let url = database_url(&cluster.config());

    // A row that fits nowhere: all stays as it was.
    let insert = "insert into pessoas (id, apelido, nome, nascimento) \
                  values ('018f4a52-0000-7000-8000-000000000000', 'stranger', 'By Hand', '1999-12-31')";
    cluster.query(insert);
    assert_ne!(home_of_apelido("stranger"), 0);
    let said = script("split", &["4", &url]).unwrap_err();
    assert!(said.contains("018f4a52-0000-7000-8000-000000000000 stranger"), "{said}");
    assert_eq!(connection.ask("POST", "/pessoas", &body("still works")).status, 201);
    cluster.query("delete from pessoas where apelido = 'still works'");

    script("split", &["4", &url, "--new-ids"]).unwrap();
    // Nothing is taken by the old layout any more.
    assert_eq!(connection.ask("POST", "/pessoas", &body("too late")).status, 503);
    drop(server);
    let nodes = Nodes { clusters: vec![cluster], partitions: 4 };
    assert_eq!(nodes.rows("id").len(), 301);
    let server = nodes.serve(&[]);
    let mut connection = server.connect();
    for created in &made {
        let found = connection.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((found.status, &found.body), (200, &created.body));
    }
    assert_eq!(connection.ask("POST", "/pessoas", &body("split.7")).status, 422);
    assert_eq!(connection.ask("GET", "/contagem-pessoas", "").text(), "301");
    let stranger = connection.ask("GET", "/pessoas?t=stranger", "").json();
    let (id, home) = (stranger[0]["id"].as_str().unwrap(), home_of_apelido("stranger"));
    assert_eq!(id, format!("018f4a52-0000-7000-80{home:02x}-000000000000"));
    // A second time there is nothing to split.
    assert!(script("split", &["4", &url]).is_err());
    assert_eq!(nodes.rows("id").len(), 301);
}

#[test]
fn a_restart_touches_no_row() {
    let nodes = Nodes::start(2, 2);
    let server = nodes.serve(&[]);
    for number in 0..50 {
        assert_eq!(server.ask("POST", "/pessoas", &body(&format!("kept.{number}"))).status, 201);
    }
    drop(server);
    let before = nodes.rows("id, tx, xmin, ctid");
    drop(nodes.serve(&[]));
    assert_eq!(nodes.rows("id, tx, xmin, ctid"), before);
}
