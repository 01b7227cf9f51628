//! What is broken here: the cluster, four instances on it, and the report of what that did. Two instances name all nodes
//! in their URL, one from the first to the last and one the other way round; one has a balancer beside it that asks
//! Patroni, and one a PgBouncer with session pooling before such a balancer.

use std::collections::HashSet;
use std::process::Child;
use std::time::{Duration, Instant};

use ha::cluster::Cluster;
use ha::network::Network;
use ha::programs::Programs;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::Config;

use crate::clients::{Clients, told};
use crate::cluster::{query, temporary_directory};
use crate::engine::Engine;
use crate::history::{Asked, Before, Entry, Told, Verdict, judge};
use crate::load::Pessoa;
use crate::pooler::start_pooler;
use crate::report::{Line, silences};
use crate::server::{Address, Connection, Server, request};
use crate::tell;

/// Pessoas that are read all the time.
const KNOWN: usize = 50;
/// 201s of each instance before the fault and after it.
const STEADY: usize = 40;
/// From the end of a fault to a cluster that is whole and instances that all create.
const MEND_TIME_MAX: Duration = Duration::from_secs(150);
/// How long a start that must fail may take to say so.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(20);
/// Requests on their way at once while everything is read back.
const PIPELINE: usize = 64;
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// How the two forms are called in the report, with the instances of each.
const FORMS: [(&str, &[usize]); 3] = [("hosts", &[0, 1]), ("haproxy", &[2]), ("pgbouncer", &[3])];
/// Ports of loopback: of the balancers, and of PgBouncer.
const BALANCER_PORT: u16 = 16_001;
const POOLER_PORT: u16 = 16_101;

/// The cluster and its instances. The fields are dropped in order.
pub(crate) struct Lab {
    pub(crate) instances: Vec<Server>,
    /// Balancers and PgBouncer.
    helpers: Vec<Child>,
    pub(crate) cluster: Cluster,
    directory: TempDir,
    seed: u64,
    /// Every apelido that was sent in an earlier run.
    sent: HashSet<String>,
    runs: usize,
    /// The primary when the fault began.
    pub(crate) primary: usize,
    pub(crate) report: Vec<Line>,
}

impl Lab {
    pub(crate) fn start(programs: &Programs, seed: u64) -> Lab {
        let directory = temporary_directory();
        let network = Network::namespaces(ha::cluster::NODES).expect("a network of the test's own");
        let mut cluster = Cluster::start(directory.path(), network, programs, true).expect("a cluster");
        let began = Instant::now();
        cluster.wait_until_whole().expect("a whole cluster");
        tell!("whole after {:?}", began.elapsed());
        let mut lab = Lab {
            instances: Vec::new(),
            helpers: Vec::new(),
            cluster,
            directory,
            seed,
            sent: HashSet::new(),
            runs: 0,
            primary: 0,
            report: Vec::new(),
        };
        query(&lab.primary_config(), "create table engine_writes (at timestamptz default clock_timestamp())");
        for (number, order) in [[0, 1, 2], [2, 1, 0]].iter().enumerate() {
            lab.add_instance(&lab.cluster.url(order), &format!("1@{number}"));
        }
        for number in 0..2 {
            let listen = format!("127.0.0.1:{}", BALANCER_PORT + number);
            let balancer =
                lab.cluster.start_balancer(&listen, &format!("balancer{number}")).expect("HAProxy");
            lab.helpers.push(balancer);
        }
        let pooler =
            start_pooler(&lab.cluster, lab.directory.path(), "session", POOLER_PORT, BALANCER_PORT + 1);
        let last = if pooler.is_some() { POOLER_PORT } else { BALANCER_PORT + 1 };
        if pooler.is_none() {
            tell!(
                "SKIPPED: session pooling: no PgBouncer was found (apt-get install pgbouncer); a balancer instead"
            );
        }
        lab.helpers.extend(pooler);
        for (number, port) in [BALANCER_PORT, last].into_iter().enumerate() {
            lab.add_instance(&lab.cluster.url_of(&format!("127.0.0.1:{port}")), &format!("1@{number}"));
        }
        lab
    }

    fn add_instance(&mut self, url: &str, cores: &str) {
        self.instances.push(Server::start(&["--database-url", url, "--cores", cores]));
    }

    fn addresses(&self) -> Vec<Address> {
        self.instances.iter().map(Server::tcp).collect()
    }

    /// How to reach the Postgres of one node.
    pub(crate) fn config(&self, node: usize) -> Config {
        let mut config: Config = self.cluster.url(&[node]).parse().expect("a URL");
        config.connect_timeout(Duration::from_secs(2)).application_name("the test");
        config
    }

    /// How to reach the primary, once there is one.
    pub(crate) fn primary_config(&self) -> Config {
        self.config(self.wait_for_primary())
    }

    /// How to reach a node as superuser.
    pub(crate) fn superuser(&self, node: usize) -> Config {
        let mut config = self.config(node);
        config.user("postgres").password(self.cluster.password()).dbname("postgres");
        config
    }

    pub(crate) fn wait_for_primary(&self) -> usize {
        let began = Instant::now();
        loop {
            if let Some(primary) = self.cluster.primary() {
                return primary;
            }
            assert!(began.elapsed() < MEND_TIME_MAX, "expected a primary: {:?}", self.cluster.members());
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// A whole cluster whose primary is at an end of the instances' URLs: the first of one, and the last of the other.
    fn put_primary_at_an_end(&mut self) {
        self.cluster.wait_until_whole().expect("a whole cluster");
        if self.cluster.primary() == Some(1) {
            // Only the synchronous standby may be chosen.
            let standby = self.cluster.sync_standby().expect("a synchronous standby");
            self.cluster.switch_over(standby).expect("a switchover");
            self.cluster.wait_until_whole().expect("a whole cluster");
        }
        self.primary = self.wait_for_primary();
    }

    /// The nodes that were no primary when the fault began.
    pub(crate) fn standbys(&self) -> Vec<usize> {
        (0..self.cluster.nodes.len()).filter(|node| *node != self.primary).collect()
    }

    /// Whether a server that would share its sessions with others, behind PgBouncer with transaction pooling, refuses to
    /// start and says why.
    pub(crate) fn refuses_transaction_pooling(&mut self) -> bool {
        tell!("-- transaction pooling");
        let (port, database) = (POOLER_PORT + 1, BALANCER_PORT);
        let directory = self.directory.path();
        let Some(mut pooler) = start_pooler(&self.cluster, directory, "transaction", port, database) else {
            tell!("   SKIPPED: no PgBouncer was found (apt-get install pgbouncer)");
            return true;
        };
        let url = self.cluster.url_of(&format!("127.0.0.1:{port}"));
        let mut command = crate::server::binary();
        command.args([
            "--log-format",
            "json",
            "--listen",
            "127.0.0.1:0",
            "--cores",
            "1",
            "--database-url",
            &url,
        ]);
        let mut server = Server::spawn(command);
        let began = Instant::now();
        while !server.has_ended() && began.elapsed() < REFUSAL_TIME_MAX {
            std::thread::sleep(LOOK_PERIOD);
        }
        let refused = server.has_ended() && server.log().iter().any(|line| line.contains("session mode"));
        tell!("   refused: {refused}, {:?}", server.log().last());
        let _ = pooler.kill();
        let _ = pooler.wait();
        refused
    }

    /// Clients at work, a fault and its end, and what came of it. `fault` returns when everything may mend.
    pub(crate) fn run(&mut self, name: &str, fault: impl FnOnce(&mut Lab, &Clients)) {
        tell!("-- {name}");
        self.put_primary_at_an_end();
        self.runs += 1;
        let prefix = format!("{:x}.{}", self.seed & 0xFFFF_FFFF, self.runs);
        let addresses = self.addresses();
        let table = self.table();
        let mut before = Before { rows: table.len(), apelidos: self.sent.clone(), ..Before::default() };
        before.apelidos.extend(table.iter().map(|row| row["apelido"].as_str().expect("a text").to_owned()));
        let epoch = Instant::now();
        let (known, mut history) = self.seed_known(&prefix, epoch);
        let nodes: Vec<Config> = (0..self.cluster.nodes.len()).map(|node| self.config(node)).collect();
        let balancer = self.cluster.url_of(&format!("127.0.0.1:{BALANCER_PORT}"));
        let engine = Engine::start(&nodes, &balancer.parse().expect("a URL"), epoch);
        let clients = Clients::start(&addresses, known, &prefix, self.seed, epoch);
        self.wait_for_creates(&clients);

        let struck = epoch.elapsed();
        fault(self, &clients);
        let mended = epoch.elapsed();
        self.cluster.wait_until_whole().expect("a whole cluster");
        let whole = epoch.elapsed();
        self.wait_for_creates(&clients);
        let until = epoch.elapsed();

        history.extend(clients.finish());
        let engine = engine.finish();
        self.read_back(&mut history, epoch);
        let table = self.table();
        let verdict = judge(&history, &table, &before);
        self.sent.extend(history.iter().filter_map(|entry| match &entry.asked {
            Asked::Create(pessoa) => Some(pessoa.apelido.clone()),
            _ => None,
        }));
        tell!(
            "   struck at {struck:.1?}, over at {mended:.1?}, whole at {whole:.1?}; {} questions, {} rows",
            history.len(),
            table.len()
        );
        progress::show(&verdict.explain());
        self.tell(name, &history, engine, &verdict, (struck, until));
    }

    /// Waits until every instance creates, and has for a while.
    pub(crate) fn wait_for_creates(&self, clients: &Clients) {
        let began = Instant::now();
        let goal: Vec<usize> = clients.acknowledged().iter().map(|count| count + STEADY).collect();
        while clients.acknowledged().iter().zip(&goal).any(|(count, goal)| count < goal) {
            assert!(
                began.elapsed() < MEND_TIME_MAX,
                "expected creates of every instance, got {:?} of {goal:?}: {:?}",
                clients.acknowledged(),
                self.instances
                    .iter()
                    .map(|server| server.log().split_off(server.log().len().saturating_sub(5)))
                    .collect::<Vec<_>>()
            );
            std::thread::sleep(LOOK_PERIOD);
        }
    }

    /// Pessoas that each instance has in memory: created through the first, and searched for until all find them.
    fn seed_known(&self, prefix: &str, epoch: Instant) -> (Vec<String>, Vec<Entry>) {
        let mut history = Vec::new();
        let mut connection = self.instances[0].connect();
        for number in 0..KNOWN {
            let pessoa = Pessoa::named(&format!("{prefix}k{number}."));
            let began = epoch.elapsed();
            let response = connection.ask("POST", "/pessoas", &pessoa.body());
            let asked = Asked::Create(pessoa);
            let told = told(&response, &asked);
            assert!(matches!(told, Told::Created { .. }), "{response:?}");
            history.push(Entry { instance: 0, began, ended: epoch.elapsed(), asked, told });
        }
        for server in &self.instances {
            crate::load::wait_until("what is known, in every memory", || {
                let found = server.ask("GET", &format!("/pessoas?t={prefix}k"), "");
                found.status == 200 && found.json().as_array().is_some_and(|list| list.len() == KNOWN)
            });
        }
        let known = history.iter().filter_map(|entry| match &entry.told {
            Told::Created { id, .. } => Some(id.clone()),
            _ => None,
        });
        (known.collect(), history)
    }

    /// Every acknowledged pessoa through every instance.
    fn read_back(&self, history: &mut Vec<Entry>, epoch: Instant) {
        let ids: Vec<String> = history
            .iter()
            .filter_map(|entry| match &entry.told {
                Told::Created { id, .. } => Some(id.clone()),
                _ => None,
            })
            .collect();
        for (instance, server) in self.instances.iter().enumerate() {
            let mut connection: Connection = server.connect();
            for some in ids.chunks(PIPELINE) {
                let began = epoch.elapsed();
                let requests: String =
                    some.iter().map(|id| request("GET", &format!("/pessoas/{id}"), "")).collect();
                connection.send(requests);
                for id in some {
                    let response = connection.receive();
                    let asked = Asked::Get { id: id.clone(), known: false };
                    let told = told(&response, &asked);
                    // Now nothing is away.
                    assert!(!matches!(told, Told::Unavailable), "{response:?}");
                    history.push(Entry { instance, began, ended: epoch.elapsed(), asked, told });
                }
            }
        }
    }

    /// The table of the primary, each row as the API shows it.
    fn table(&self) -> Vec<Value> {
        let rows = query(
            &self.primary_config(),
            "select json_build_object('id', id, 'apelido', apelido, 'nome', nome, 'nascimento', \
                    nascimento::text, 'stack', stack) from pessoas",
        );
        rows.iter().map(|row| serde_json::from_str(row).expect("JSON of Postgres")).collect()
    }

    fn tell(
        &mut self,
        name: &str,
        history: &[Entry],
        (nodes, balancer): (Vec<Duration>, Vec<Duration>),
        verdict: &Verdict,
        (from, to): (Duration, Duration),
    ) {
        let seconds = |silence: &(Duration, Duration)| format!("{:.1?} to {:.1?}", silence.0, silence.1);
        let silences: Vec<String> = silences(&nodes, (from, to)).iter().map(seconds).collect();
        tell!("   the engine was silent from {}", silences.join(", "));
        for (form, instances) in FORMS {
            let way = if form == "hosts" { &nodes } else { &balancer };
            let line = Line::of((name, form, instances), history, (&nodes, way), (from, to));
            let line = Line { lost: verdict.lost(), wrong: verdict.wrong(), ..line };
            tell!("   {line}");
            self.report.push(line);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        if std::thread::panicking() || std::env::var_os("HA_KEEP").is_some() {
            self.save_logs();
        }
    }
}

impl Lab {
    /// Keeps the logs of a run that failed: the directory goes.
    fn save_logs(&self) {
        let kept = std::env::temp_dir().join(format!("rinha-ha-logs-{}", std::process::id()));
        let copy = || -> std::io::Result<()> {
            std::fs::create_dir_all(&kept)?;
            for node in &self.cluster.nodes {
                for service in ["etcd", "patroni"] {
                    std::fs::copy(node.log(service), kept.join(format!("{}-{service}.log", node.name)))?;
                }
            }
            for (number, server) in self.instances.iter().enumerate() {
                std::fs::write(kept.join(format!("instance{number}.log")), server.log().join("\n"))?;
            }
            Ok(())
        };
        tell!("logs in {}: {:?}", kept.display(), copy());
    }
}
