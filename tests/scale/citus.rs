//! The people on a Citus cluster: a coordinator and nodes that have the partitions as sharded schemas. Where the extension is
//! not installed each of these tests says that it was skipped.

use std::collections::HashSet;
use std::time::Duration;

use rinha::pessoa::home_of_apelido;

use crate::cluster::{Cluster, block_on, connect};
use crate::load::{Attempt, Load, Pessoa, ROWS, seed, verify_rows, wait_until};
use crate::processes::{Frozen, kill_family};
use crate::race::race;
use crate::server::{Address, Server, database_url};
use crate::{answered, holds_up_no_other, refused};

const CONNECTIONS: u32 = 150;
/// Where each of these clusters listens, of its socket's directory.
const PORT: u16 = 5432;

/// A Citus cluster of a test's own.
struct Citus {
    coordinator: Cluster,
    nodes: Vec<Cluster>,
    partitions: usize,
}

impl Citus {
    /// An empty one; `None` where Citus is not installed, which is said.
    fn start(nodes: usize, partitions: usize) -> Option<Citus> {
        let mut clusters: Vec<Cluster> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..=nodes).map(|_| scope.spawn(|| Cluster::with_connections(CONNECTIONS))).collect();
            starts.into_iter().map(|start| start.join().expect("a cluster")).collect()
        });
        let there = clusters[0].query("select count(*) from pg_available_extensions where name = 'citus'");
        if there == ["0"] {
            println!("SKIPPED: Citus: the extension is not installed");
            return None;
        }
        for cluster in &mut clusters {
            cluster.query("alter system set shared_preload_libraries = 'citus'");
            cluster.query("alter system set wal_level = 'logical'");
            kill_family(cluster.embedded.pid().expect("a running Postgres"));
            assert!(cluster.embedded.ensure_running().expect("a start"));
            cluster.query("create extension citus");
            // To itself too it connects by the socket.
            let itself = cluster.embedded.socket_dir().display().to_string();
            cluster.query(&format!("alter system set citus.local_hostname = '{itself}'"));
            cluster.query("select pg_reload_conf()");
        }
        let coordinator = clusters.remove(0);
        coordinator.query(&format!("select citus_set_coordinator_host({})", host(&coordinator)));
        for node in &clusters {
            coordinator.query(&format!("select citus_add_node({})", host(node)));
        }
        Some(Citus { coordinator, nodes: clusters, partitions })
    }

    fn arguments(&self) -> Vec<String> {
        let url = format!("--database-url={}", database_url(&self.coordinator.config()));
        vec![url, format!("--partitions={}", self.partitions)]
    }

    fn serve(&self, more: &[&str]) -> Server {
        let arguments = self.arguments();
        Server::start(&arguments.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// The answers of all partitions, through the coordinator.
    fn of_all(&self, select: &str) -> Vec<String> {
        let of = |partition| {
            let statement = format!("{select} partition_{partition}_of_{}.pessoas", self.partitions);
            self.coordinator.query(&statement)
        };
        (0..self.partitions).flat_map(of).collect()
    }

    /// The shard of a partition, and the node that has it.
    fn shard(&self, partition: usize) -> (String, usize) {
        let found = self.coordinator.query(&format!(
            "select shardid, groupid from pg_dist_placement join pg_dist_shard using (shardid) \
             where logicalrelid = 'partition_{partition}_of_{}.pessoas'::regclass",
            self.partitions
        ));
        let (shard, group) = found[0].split_once('|').expect("two columns");
        // The coordinator is group 0.
        (shard.to_owned(), group.parse::<usize>().expect("a number") - 1)
    }

    /// Moves a partition to another node, as its operator does.
    fn move_to(&self, partition: usize, node: usize, mode: &str) {
        let (shard, from) = self.shard(partition);
        self.coordinator.query(&format!(
            "select citus_move_shard_placement({shard}, {}, {}, '{mode}')",
            host(&self.nodes[from]),
            host(&self.nodes[node])
        ));
        assert_eq!(self.shard(partition), (shard, node));
    }

    /// From now on the nodes' logs have every statement; returns how long they are.
    fn log_statements(&self) -> Vec<usize> {
        for node in &self.nodes {
            node.query("alter system set log_statement = 'all'");
            node.query("select pg_reload_conf()");
        }
        self.nodes.iter().map(|node| log(node).len()).collect()
    }
}

fn host(cluster: &Cluster) -> String {
    format!("'{}', {PORT}", cluster.embedded.socket_dir().display())
}

fn log(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.directory().join("data/postgres.log")).expect("its log")
}

fn body(apelido: &str) -> String {
    format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-01-01"}}"#)
}

/// An apelido of a partition, of so many.
fn of_partition(prefix: &str, partition: u8, of: u8) -> String {
    let mut all = (0..).map(|number| format!("{prefix}{number}"));
    all.find(|apelido| home_of_apelido(apelido) % of == partition).expect("there is always one more")
}

/// Many who want the same apelidos at once, while a node is killed: one winner each, and commits of one phase.
#[test]
fn one_winner_on_citus_while_a_node_is_killed() {
    const APELIDOS: usize = 1500;
    let Some(mut citus) = Citus::start(2, 4) else { return };
    let servers: Vec<Server> = ["1", "2"].iter().map(|cores| citus.serve(&["--cores", cores])).collect();
    let logged = citus.log_statements();
    let addresses: Vec<Address> = servers.iter().map(Server::tcp).collect();
    let winners = std::thread::scope(|scope| {
        let race = scope.spawn(|| race(&addresses, APELIDOS));
        std::thread::sleep(Duration::from_millis(300));
        let dies = &mut citus.nodes[1];
        kill_family(dies.embedded.pid().expect("a running Postgres"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(dies.embedded.ensure_running().expect("a start"));
        race.join().expect("the race")
    });
    assert_eq!(winners.len(), APELIDOS, "each apelido has exactly one 201");
    let rows = citus.of_all("select apelido from");
    assert_eq!((rows.len(), rows.iter().collect::<HashSet<_>>().len()), (APELIDOS, APELIDOS));
    for server in &servers {
        let mut connection = server.connect();
        for winner in &winners {
            let found = connection.ask("GET", &format!("/pessoas/{}", winner.response.id()), "");
            assert_eq!((found.status, found.body), (200, winner.response.body.clone()));
        }
        assert_eq!(answered(server, "/contagem-pessoas"), APELIDOS.to_string());
        wait_until("all in memory", || {
            server.ask("GET", "/healthz", "").json()["cache"]["pessoas"] == APELIDOS
        });
    }
    for (node, from) in citus.nodes.iter().zip(logged) {
        let log = &log(node)[from..];
        assert!(log.contains("INSERT INTO partition_"), "every statement is logged");
        assert!(!log.to_uppercase().contains("PREPARE TRANSACTION"), "a create is a commit of one phase");
    }
}

/// Citus moves a partition there and back while clients create: nothing is lost of it, and memory has all of it in the end.
#[test]
fn a_partition_moves_on_citus_under_load() {
    let Some(citus) = Citus::start(2, 4) else { return };
    let servers = [citus.serve(&["--cores", "2"]), citus.serve(&["--cores", "1"])];
    let seed = seed();
    let loads = [Load::start(&servers[0].tcp(), 4, seed), Load::start(&servers[1].tcp(), 4, seed + 1_000)];
    let home = citus.shard(1).1;
    let mut made = Vec::new();
    for (node, mode) in [(1 - home, "auto"), (home, "block_writes"), (1 - home, "force_logical")] {
        loads.iter().for_each(|load| _ = load.wait_for(60));
        citus.move_to(1, node, mode);
        loads.iter().for_each(|load| _ = load.wait_for(60));
        // What is committed where it is now bears a transaction of that node.
        let fresh = of_partition(&format!("at{node}{mode}"), 1, 4);
        let pessoa = Pessoa::named(&fresh);
        let answer = pessoa.post_to(&servers[0]);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let own = format!(
            "select txid_status(tx::text::bigint), tx > '0' from partition_1_of_4.pessoas_{} \
             where apelido = '{fresh}' and tx < pg_snapshot_xmax(pg_current_snapshot())",
            citus.shard(1).0
        );
        assert_eq!(citus.nodes[node].query(&own), ["committed|t"]);
        made.push(Attempt::acknowledged(&pessoa, &answer));
    }
    let attempts: Vec<_> = loads.into_iter().flat_map(Load::finish).chain(made).collect();
    for server in &servers {
        let rows = citus.of_all(ROWS);
        assert_eq!(answered(server, "/contagem-pessoas"), rows.len().to_string());
        verify_rows(&attempts, &rows, &server.tcp());
        wait_until("searches by memory", || {
            server.ask("GET", "/healthz", "").json()["cache"]["pessoas"] == rows.len()
        });
        assert!(server.log().iter().any(|line| line.contains("a partition has changed")));
    }
}

/// A partition goes and comes back while a server sees nothing: it reads it anew, as Citus copies rows with the transactions
/// of the node where they were made.
#[test]
fn a_server_that_was_frozen_while_a_partition_was_away_has_all_of_it() {
    let Some(citus) = Citus::start(2, 2) else { return };
    let servers = [citus.serve(&["--cores", "1"]), citus.serve(&["--cores", "1"])];
    let home = citus.shard(1).1;
    // So that the transactions there are not yet those of here.
    for _ in 0..200 {
        citus.nodes[home].query("select pg_current_xact_id()");
    }
    assert_eq!(servers[0].ask("POST", "/pessoas", &body(&of_partition("before", 1, 2))).status, 201);
    let ice = Frozen::freeze(vec![servers[0].pid().cast_signed()]);
    citus.move_to(1, 1 - home, "block_writes");
    let away: Vec<String> = (0..20).map(|number| of_partition(&format!("away{number}."), 1, 2)).collect();
    for apelido in &away {
        wait_until("a create where it is", || {
            matches!(servers[1].ask("POST", "/pessoas", &body(apelido)).status, 201 | 422)
        });
    }
    citus.move_to(1, home, "block_writes");
    drop(ice);
    wait_until("all of it in memory", || {
        servers[0].ask("GET", "/healthz", "").json()["cache"]["pessoas"] == 21
    });
    for apelido in &away {
        let found = answered(&servers[0], &format!("/pessoas?t={apelido}"));
        assert!(found.contains(apelido), "{apelido} is not in {found}");
    }
}

/// While Citus holds up one partition's creates, those of others at the same node go on.
#[test]
fn a_partition_that_citus_holds_up_holds_up_no_other() {
    let Some(citus) = Citus::start(1, 2) else { return };
    let server = citus.serve(&["--cores", "1"]);
    let (shard, node) = citus.shard(1);
    block_on(async {
        let client = connect(&citus.nodes[node].config()).await;
        // What a move does to its nodes: ExclusiveLock, by its number.
        let lock = format!("begin; select lock_shard_metadata(7, array[{shard}])");
        client.batch_execute(&lock).await.expect("a lock");
        holds_up_no_other(
            &server,
            |number| of_partition(&format!("held{number}."), 1, 2),
            |number| of_partition(&format!("free{number}."), 0, 2),
        );
        client.batch_execute("rollback").await.expect("its end");
    });
    wait_until("creates of it", || {
        matches!(server.ask("POST", "/pessoas", &body(&of_partition("later", 1, 2))).status, 201 | 422)
    });
}

/// A node that has prepared what may be the end of a move does not say what is there; nothing that others know is touched.
#[test]
fn a_node_in_doubt_is_not_believed() {
    let Some(citus) = Citus::start(2, 2) else { return };
    let server = citus.serve(&["--cores", "1"]);
    let known = server.ask("POST", "/pessoas", &body(&of_partition("known", 1, 2)));
    assert_eq!(known.status, 201);
    let node = &citus.nodes[citus.shard(1).1];
    node.query("begin; lock table pg_dist_placement in row exclusive mode; prepare transaction 'citus_test'");
    // What is not in memory may be elsewhere.
    let unknown = |home: u8| {
        server.ask("GET", &format!("/pessoas/018f4a52-0000-7000-80{home:02x}-000000000000"), "").status
    };
    assert_eq!((unknown(0), unknown(1)), (404, 503));
    assert_eq!(server.ask("GET", &format!("/pessoas/{}", known.id()), "").status, 200);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").status, 503);
    node.query("rollback prepared 'citus_test'");
    wait_until("an answer", || unknown(1) == 404);
    assert_eq!(answered(&server, "/contagem-pessoas"), "1");
    wait_until("a create", || {
        matches!(server.ask("POST", "/pessoas", &body(&of_partition("after", 1, 2))).status, 201 | 422)
    });
}

#[test]
fn a_restart_on_citus_touches_no_row() {
    let Some(citus) = Citus::start(2, 2) else { return };
    let rows = || {
        let mut rows = citus.of_all("select id, tx from");
        rows.sort();
        rows
    };
    let server = citus.serve(&[]);
    for number in 0..40 {
        assert_eq!(server.ask("POST", "/pessoas", &body(&format!("kept{number}"))).status, 201);
    }
    let before = rows();
    drop(server);
    let server = citus.serve(&["--cores", "2"]);
    assert_eq!(rows(), before);
    assert_eq!(answered(&server, "/contagem-pessoas"), "40");
    assert_eq!(server.ask("POST", "/pessoas", &body("kept7")).status, 422);
}

#[test]
fn what_cannot_work_on_citus_is_refused() {
    let Some(citus) = Citus::start(2, 2) else { return };
    let url = |cluster: &Cluster| format!("--database-url={}", database_url(&cluster.config()));
    let said = refused(&[url(&citus.nodes[0]), "--partitions=2".to_owned()]);
    assert!(said.contains("is no coordinator of its Citus cluster"), "{said}");
    let set = |how: &str| {
        let alone = "set citus.enable_ddl_propagation = off; alter role rinha";
        citus.nodes[1].query(&format!("{alone} {how}"));
    };
    set("set synchronous_commit = 'off'");
    let said = refused(&citus.arguments());
    assert!(said.contains("its synchronous_commit is off by default"), "{said}");
    set("reset synchronous_commit");
    let several: Vec<String> = citus.nodes.iter().map(url).chain(["--partitions=2".to_owned()]).collect();
    let said = refused(&several);
    assert!(said.contains("belongs to a Citus cluster; expected its coordinator's URL"), "{said}");
    let made = "select nspname from pg_namespace where nspname ~ '^partition_'";
    assert_eq!(citus.coordinator.query(made), [] as [&str; 0]);
    // As its users are told to, by its documentation.
    citus.coordinator.query("alter role rinha set citus.enable_schema_based_sharding = on");
    let server = citus.serve(&[]);
    assert_eq!(server.ask("POST", "/pessoas", &body("ana")).status, 201);
    citus.coordinator.query("alter role rinha reset citus.enable_schema_based_sharding");
    // The table of everybody, as an earlier start on a database that became a coordinator made it.
    citus.coordinator.query(
        "set citus.enable_unsafe_triggers = on; create schema other; set search_path = other; \
         create table pessoas (id uuid primary key, apelido varchar(32) collate \"C\" not null, \
             nome varchar(100) not null, nascimento date not null, stack text[], search bytea, \
             tx xid8 not null default pg_current_xact_id()); \
         create unique index on pessoas (apelido); \
         select create_distributed_table('pessoas', null)",
    );
    let one = format!("{} options='-csearch_path=other'", database_url(&citus.coordinator.config()));
    let said = refused(&[format!("--database-url={one}")]);
    assert!(said.contains("its table pessoas is distributed by Citus"), "{said}");
}
