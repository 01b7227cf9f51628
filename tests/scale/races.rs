//! Many who want the same apelidos at once, through all instances, while a node is killed.

use std::collections::HashSet;
use std::time::Duration;

use crate::Nodes;
use crate::processes::kill_family;
use crate::race::race;
use crate::server::{Address, Server};

#[test]
fn one_winner_on_two_and_four_nodes_while_one_is_killed() {
    const APELIDOS: usize = 600;
    for (count, partitions) in [(2, 4), (4, 4)] {
        let mut nodes = Nodes::start(count, partitions);
        for cluster in &nodes.clusters {
            cluster.query("alter system set log_statement = 'all'");
            cluster.query("select pg_reload_conf()");
        }
        let servers: Vec<Server> = ["1", "2"].iter().map(|cores| nodes.serve(&["--cores", cores])).collect();
        let addresses: Vec<Address> = servers.iter().map(Server::tcp).collect();
        let winners = std::thread::scope(|scope| {
            let race = scope.spawn(|| race(&addresses, APELIDOS));
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(300));
                let dies = &mut nodes.clusters[1];
                kill_family(dies.embedded.pid().expect("a running Postgres"));
                std::thread::sleep(Duration::from_millis(200));
                assert!(dies.embedded.ensure_running().expect("a start"));
            }
            race.join().expect("the race")
        });
        assert_eq!(winners.len(), APELIDOS, "each apelido has exactly one 201");
        let distinct: HashSet<usize> = winners.iter().map(|winner| winner.apelido).collect();
        assert_eq!(distinct.len(), APELIDOS);
        let rows = nodes.rows("apelido");
        assert_eq!((rows.len(), rows.iter().collect::<HashSet<_>>().len()), (APELIDOS, APELIDOS));
        for server in &servers {
            let mut connection = server.connect();
            for winner in &winners {
                let found = connection.ask("GET", &format!("/pessoas/{}", winner.response.id()), "");
                assert_eq!((found.status, found.body), (200, winner.response.body.clone()));
            }
        }
        for cluster in &nodes.clusters {
            let log =
                std::fs::read_to_string(cluster.directory().join("data/postgres.log")).expect("its log");
            assert!(log.contains("INSERT INTO partition_"), "every statement is logged");
            assert!(!log.to_uppercase().contains("PREPARE TRANSACTION"), "a create is a commit of one phase");
        }
    }
}
