//! What is tortured: two servers, each with a proxy between it and the one Postgres, all plain processes on unix sockets in a
//! directory of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::Config;

use crate::balancer::Balancer;
use crate::beside::Session;
use crate::cluster::temporary_directory;
use crate::ends;
use crate::history::{Asked, Entry, Told};
use crate::load::Pessoa;
use crate::postgres::Postgres;
use crate::processes::send;
use crate::proxy::{Mode, Proxy};
use crate::run::ask_in_time;
use crate::server::{Address, Connection, Server, program, request};

/// Pessoas that each server has in memory from the beginning: fewer than a search finds.
const KNOWN: usize = 20;
/// Until all have them. An honest server does so within a second.
const KNOWN_TIME_MAX: Duration = Duration::from_secs(5);
/// How many servers there are.
pub(crate) const INSTANCES: usize = 2;
/// What a server under test gets from the environment, when it is one that lies.
const LIE: &str = "RINHA_LIE";
/// An orderly end takes no longer: the contract's ten seconds, and what a busy machine adds.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// Until then a server serves, and a Postgres runs, once nothing is broken any more.
pub(crate) const MEND_TIME_MAX: Duration = Duration::from_secs(20);
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// Before a server that ended is started again.
pub(crate) const START_PAUSE: Duration = Duration::from_millis(200);
/// A clock as crate and package faketime read it: right, and an hour away.
const CLOCK_RIGHT: &str = "+0";
const CLOCK_BACK: &str = "-3600";
const CLOCK_AHEAD: &str = "+3600";
/// Where Debian's libfaketime has the library for programs with threads.
const CLOCK_LIBRARIES: &str = "/usr/lib/*/faketime/libfaketimeMT.so.1";
/// Last lines of a log that a finding shows.
const LOG_LINES: usize = 12;

/// Which program is tortured.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) program: PathBuf,
    /// The lie that it is told to tell.
    pub(crate) lie: Option<String>,
    /// The people are in two partitions, the second of them at a Postgres that no proxy is before.
    pub(crate) has_two_nodes: bool,
}

/// Everything that is up. The fields are dropped in order.
pub(crate) struct Lab {
    pub(crate) balancer: Option<Balancer>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) postgres: Postgres,
    pub(crate) second: Option<Postgres>,
}

/// The schemas of the two partitions: of each, what is at the node of that number.
const SCHEMAS: [&str; 2] = ["partition_0_of_2", "partition_1_of_2"];

impl Lab {
    pub(crate) fn start(subject: &Subject) -> Lab {
        let directory = temporary_directory();
        let path = directory.path().to_owned();
        ends::remember(path.clone());
        let postgres = Postgres::start(directory);
        let socket = postgres.cluster.embedded.socket_dir().to_owned();
        let second = subject.has_two_nodes.then(|| {
            let directory = temporary_directory();
            ends::remember(directory.path().to_owned());
            Postgres::start(directory)
        });
        let second_socket = second.as_ref().map(|second| second.cluster.embedded.socket_dir().to_owned());
        let clock_library = clock_library();
        if clock_library.is_none() {
            ends::skipped(&format!("clocks that jump: no {CLOCK_LIBRARIES} (apt-get install libfaketime)"));
        }
        let proxy = |number: usize| Proxy::start(&path.join(format!("proxy{number}")), &socket);
        let proxies: Vec<Proxy> = (0..INSTANCES).map(proxy).collect();
        let instances = proxies.iter().enumerate().map(|(number, proxy)| {
            let mut instance = Instance {
                number,
                subject: subject.clone(),
                listen: path.join(format!("api{}-{{core}}.sock", number + 1)),
                database: proxy.directory().to_owned(),
                second: second_socket.clone(),
                server: None,
                clock: path.join(format!("clock{number}")),
                clock_library: clock_library.clone(),
                serving: false,
                findings: Vec::new(),
                starts: 0,
            };
            instance.set_clock_right();
            instance.revive();
            instance
        });
        let instances = instances.collect();
        let mut lab = Lab { balancer: None, instances, proxies, postgres, second };
        for instance in &mut lab.instances {
            instance.wait_until_serving(Instant::now());
        }
        lab.balancer = Balancer::start(&path);
        if lab.balancer.is_none() {
            ends::skipped("the balancer: no HAProxy was found (apt-get install haproxy)");
        }
        lab.heal();
        lab
    }

    /// Where clients ask: each server, and the balancer behind them.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let instances = self.instances.iter().map(Instance::address);
        instances.chain(self.balancer.as_ref().map(Balancer::address)).collect()
    }

    /// Pessoas that each server has in memory: created through the first, and searched for until all find them. A server that
    /// lies may not answer: then there are fewer of them, or none that all have.
    pub(crate) fn seed_known(&self, prefix: &str, epoch: Instant) -> (Vec<String>, Vec<Entry>) {
        let (mut known, mut history) = (Vec::new(), Vec::new());
        let ask = |address: &Address, method: &str, target: &str, body: &str, asked: &Asked| {
            ask_in_time(address, &request(method, target, body), asked)
        };
        for number in 0..KNOWN {
            let pessoa = Pessoa::named(&format!("{prefix}k{number}."));
            let (body, asked) = (pessoa.body(), Asked::Create(pessoa));
            let began = epoch.elapsed();
            let told = ask(&self.instances[0].address(), "POST", "/pessoas", &body, &asked);
            history.push(Entry { instance: 0, began, ended: epoch.elapsed(), asked, told: told.clone() });
            match told {
                Told::Created { id, .. } => known.push(id),
                _ => break,
            }
        }
        let began = Instant::now();
        let all = |instance: &Instance| {
            let apelido = format!("{prefix}k");
            let target = format!("/pessoas?t={apelido}");
            let told = ask(&instance.address(), "GET", &target, "", &Asked::Search { apelido });
            matches!(told, Told::List(list) if list.len() == known.len())
        };
        while !self.instances.iter().all(all) {
            if began.elapsed() > KNOWN_TIME_MAX {
                known.clear();
                break;
            }
            thread::sleep(LOOK_PERIOD);
        }
        (known, history)
    }

    /// How to reach Postgres past the proxies: the table that it has is `pessoas`, whatever its schema.
    pub(crate) fn session(&self) -> Session {
        Session { config: self.config(&self.postgres, 0), partitioned: self.second.is_some() }
    }

    fn config(&self, postgres: &Postgres, node: usize) -> Config {
        let mut config = postgres.cluster.config();
        if self.second.is_some() {
            config.options(format!("-c search_path={}", SCHEMAS[node]));
        }
        config
    }

    /// How to reach every table.
    pub(crate) fn tables(&self) -> Vec<Config> {
        let nodes = std::iter::once(&self.postgres).chain(&self.second).enumerate();
        nodes.map(|(node, postgres)| self.config(postgres, node)).collect()
    }

    /// Undoes whatever was done, and waits until everything runs.
    pub(crate) fn heal(&mut self) {
        self.postgres.heal();
        if let Some(second) = &mut self.second {
            second.heal();
            second.revive();
        }
        for proxy in &self.proxies {
            proxy.set(Mode::Pass);
        }
        self.session().reset_settings();
        // All that do not come back take no longer than one of them.
        let began = Instant::now();
        for instance in &mut self.instances {
            instance.thaw();
            instance.set_clock_right();
            instance.revive();
        }
        for instance in &mut self.instances {
            instance.wait_until_serving(began);
        }
        if let Some(balancer) = &mut self.balancer {
            balancer.thaw();
            balancer.revive();
            // A server that it has not looked at yet is none.
            while !is_healthy(&balancer.address()) && began.elapsed() < MEND_TIME_MAX {
                thread::sleep(LOOK_PERIOD);
            }
        }
    }

    /// What was seen that no rule of a history names.
    pub(crate) fn findings(&mut self) -> Vec<String> {
        let mut findings = self.postgres.findings();
        findings.extend(self.second.iter_mut().flat_map(Postgres::findings));
        for instance in &mut self.instances {
            findings.append(&mut instance.findings);
        }
        findings
    }
}

/// A server that dies and comes back at the same place.
pub(crate) struct Instance {
    number: usize,
    subject: Subject,
    listen: PathBuf,
    database: PathBuf,
    /// Where the second node is, if there is one.
    second: Option<PathBuf>,
    server: Option<Server>,
    /// The file that says how far its clock is from the right one.
    clock: PathBuf,
    clock_library: Option<PathBuf>,
    /// Whether the process has served.
    serving: bool,
    findings: Vec<String>,
    starts: usize,
}

impl Instance {
    /// Where clients find it: the socket of its first core.
    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.listen.with_file_name(format!("api{}-0.sock", self.number + 1)))
    }

    /// Starts it, and does not wait for anything.
    pub(crate) fn revive(&mut self) {
        self.look();
        if self.server.is_some() {
            return;
        }
        let mut command: Command = program(self.subject.program.clone());
        let database = format!("host={} user=rinha dbname=postgres", self.database.display());
        let listen = format!("unix:{}", self.listen.display());
        // One with a core and one with two: some keys are a hop away from who is asked.
        let cores = format!("{}", 1 + self.number % 2);
        command.args([
            "--log-format",
            "json",
            "--cores",
            &cores,
            "--listen",
            &listen,
            "--database-url",
            &database,
            // haproxy.cfg sends lookups by it.
            "--instance",
            &self.number.to_string(),
        ]);
        if let Some(second) = &self.second {
            let database = format!("host={} user=rinha dbname=postgres", second.display());
            command.args(["--partitions", "2", "--database-url", &database]);
        }
        if let Some(library) = &self.clock_library {
            // Only the wall clock lies, and only to this process: files have their own times.
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &self.clock);
            command
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("NO_FAKE_STAT", "1")
                .env("FAKETIME_CACHE_DURATION", "1");
        }
        if let Some(lie) = &self.subject.lie {
            command.env(LIE, lie);
        }
        self.server = Some(Server::spawn(command));
        self.serving = false;
        self.starts += 1;
    }

    /// Notices that it ended by itself. One that never served may: Postgres may have been away for too long.
    fn look(&mut self) {
        let Some(server) = &mut self.server else { return };
        self.serving = self.serving || server.events().iter().any(|event| event["message"] == "serving");
        if server.has_ended() {
            if self.serving {
                self.findings.push(format!("instance {} ended by itself: {}", self.number, tail(server)));
            }
            self.server = None;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.look();
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// SIGTERM, and its orderly end.
    pub(crate) fn stop(&mut self) {
        self.look();
        let Some(mut server) = self.server.take() else { return };
        server.signal(Signal::SIGTERM);
        let began = Instant::now();
        while !server.has_ended() {
            if began.elapsed() > STOP_TIME_MAX {
                let finding = format!("instance {} did not end by SIGTERM: {}", self.number, tail(&server));
                self.findings.push(finding);
                server.kill();
                return;
            }
            thread::sleep(LOOK_PERIOD);
        }
        let status = server.wait(STOP_TIME_MAX);
        if self.serving && !status.success() {
            self.findings.push(format!("instance {}, by SIGTERM: {status}: {}", self.number, tail(&server)));
        }
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    /// Its wall clock is an hour behind.
    pub(crate) fn set_clock_back(&mut self) {
        self.set_clock(CLOCK_BACK);
    }

    /// Its wall clock is an hour ahead.
    pub(crate) fn set_clock_ahead(&mut self) {
        self.set_clock(CLOCK_AHEAD);
    }

    /// Its wall clock is right again.
    pub(crate) fn set_clock_right(&mut self) {
        self.set_clock(CLOCK_RIGHT);
    }

    /// The file is replaced: whoever reads it sees the one time or the other.
    fn set_clock(&mut self, time: &str) {
        let new = self.clock.with_extension("new");
        if let Err(why) = std::fs::write(&new, time).and_then(|()| std::fs::rename(&new, &self.clock)) {
            self.findings.push(format!("the clock of instance {}: {why}", self.number));
        }
    }

    fn signal(&mut self, signal: Signal) {
        self.look();
        if let Some(server) = &self.server {
            send(i32::try_from(server.pid()).expect("a pid of Linux fits an i32"), signal);
        }
    }

    /// Waits until it answers, and starts it again if it gave up before it ever served.
    fn wait_until_serving(&mut self, began: Instant) {
        loop {
            self.revive();
            if is_healthy(&self.address()) {
                return;
            }
            if began.elapsed() > MEND_TIME_MAX {
                let log = self.server.as_ref().map(tail).unwrap_or_default();
                self.findings.push(format!("instance {} does not serve: {log}", self.number));
                return;
            }
            thread::sleep(START_PAUSE);
        }
    }

    /// How many processes it was.
    pub(crate) fn starts(&self) -> usize {
        self.starts
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        self.server.as_ref().map(tail).unwrap_or_default()
    }
}

/// The library that lets a program's wall clock lie.
fn clock_library() -> Option<PathBuf> {
    let (before, behind) = CLOCK_LIBRARIES.split_once('*')?;
    let directories = std::fs::read_dir(before).ok()?.flatten();
    directories.map(|entry| entry.path().join(behind.trim_start_matches('/'))).find(|path| path.is_file())
}

fn is_healthy(address: &Address) -> bool {
    let answer =
        Connection::try_open(address).and_then(|mut connection| connection.try_ask("GET", "/healthz", ""));
    answer.is_ok_and(|answer| answer.status == 200)
}

fn tail(server: &Server) -> String {
    let log = server.log();
    format!("\n      {}", log[log.len().saturating_sub(LOG_LINES)..].join("\n      "))
}

/// The program beside this one.
pub(crate) fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program's path");
    own.parent().unwrap_or_else(|| Path::new(".")).join(name)
}
