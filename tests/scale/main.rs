//! The people in partitions, at one node and at several: real servers and real Postgres clusters. Where Citus is installed
//! it is one of the engines; else that is said.

mod away;
mod citus;
#[path = "../support/cluster.rs"]
mod cluster;
mod layout;
#[path = "../support/load.rs"]
mod load;
mod moves;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/race.rs"]
mod race;
mod races;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/standby.rs"]
mod standby;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cluster::Cluster;
use load::{ROWS, wait_until};
use server::{Server, binary, database_url};

/// Some nodes, each a cluster of its own, that share so many partitions.
struct Nodes {
    clusters: Vec<Cluster>,
    partitions: usize,
}

impl Nodes {
    /// Empty ones.
    fn start(nodes: usize, partitions: usize) -> Nodes {
        let clusters = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..nodes).map(|_| scope.spawn(Cluster::start)).collect();
            starts.into_iter().map(|start| start.join().expect("a cluster")).collect()
        });
        Nodes { clusters, partitions }
    }

    /// What a server is told of them.
    fn arguments(&self) -> Vec<String> {
        let urls =
            self.clusters.iter().map(|cluster| format!("--database-url={}", database_url(&cluster.config())));
        urls.chain([format!("--partitions={}", self.partitions)]).collect()
    }

    /// A server on them.
    fn serve(&self, more: &[&str]) -> Server {
        let arguments = self.arguments();
        Server::start(&arguments.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    }

    /// The schema of a partition.
    fn schema(&self, partition: usize) -> String {
        format!("partition_{partition}_of_{}", self.partitions)
    }

    /// The partitions that are at a node.
    fn at(&self, node: usize) -> Vec<usize> {
        let is_here = |partition: &usize| {
            let question = format!("select to_regclass('{}.pessoas') is not null", self.schema(*partition));
            self.clusters[node].query(&question) == ["t"]
        };
        (0..self.partitions).filter(is_here).collect()
    }

    /// The rows of `columns` of every partition, at whichever node it is.
    fn rows(&self, columns: &str) -> Vec<String> {
        let of_node = |node: usize| {
            let each = move |partition| {
                self.clusters[node]
                    .query(&format!("select {columns} from {}.pessoas", self.schema(partition)))
            };
            self.at(node).into_iter().flat_map(each).collect::<Vec<_>>()
        };
        (0..self.clusters.len()).flat_map(of_node).collect()
    }

    /// What the judge of a load wants to see.
    fn shown(&self) -> Vec<String> {
        self.rows(ROWS.strip_prefix("select ").and_then(|rows| rows.strip_suffix(" from")).expect("a select"))
    }
}

/// What a server says, asked again while it has no answer: a machine that is busy elsewhere may lose a connection.
fn answered(server: &Server, target: &str) -> String {
    let mut answer = server.ask("GET", target, "");
    wait_until("an answer", || {
        if answer.status == 503 {
            answer = server.ask("GET", target, "");
        }
        answer.status != 503
    });
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.text().to_owned()
}

/// Creates of `free` apelidos go on while those of `held` ones wait for a lock, all on one core and at one node. Each would take
/// 200 ms or more if it waited behind those, which wait for 4 s in all.
fn holds_up_no_other(server: &Server, held: impl Fn(usize) -> String, free: impl Fn(usize) -> String) {
    const FREE: usize = 100;
    let body = |apelido: &str| format!(r#"{{"apelido":"{apelido}","nome":"Ana","nascimento":"2000-01-01"}}"#);
    let created = std::thread::scope(|scope| {
        let waits: Vec<_> = (0..4)
            .map(|number| {
                let body = body(&held(number));
                scope.spawn(move || server.ask("POST", "/pessoas", &body).status)
            })
            .collect();
        std::thread::sleep(Duration::from_millis(900));
        let mut connection = server.connect();
        let mut created = 0;
        for number in 0..FREE {
            let answer = connection.ask("POST", "/pessoas", &body(&free(number)));
            if waits.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            created += usize::from(answer.status == 201);
        }
        for waits in waits {
            assert_eq!(waits.join().expect("a client"), 503);
        }
        created
    });
    assert!(created > FREE / 4, "{created} creates while the others waited");
}

/// What a start said that could not be.
fn refused(arguments: &[String]) -> String {
    let output: Output = binary().args(arguments).args(["--listen", "127.0.0.1:0"]).output().expect("an end");
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    said.lines().last().expect("a line").to_owned()
}

/// Runs a script of `deploy/scale`; returns what it said.
fn script(name: &str, arguments: &[&str]) -> Result<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/scale").join(name);
    let output = Command::new(path).args(arguments).output().expect("a script");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(said) }
}
