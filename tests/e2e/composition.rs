//! What is up: containers of an engine, or plain processes. A composition can be looked into by its processes' pids,
//! and is gone when dropped, also when the test panics. This module knows nothing of what is asked of it.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::Config;

use crate::cluster::temporary_directory;
use crate::processes;
use crate::server::{Address, Connection};
use crate::tell;

/// Every service of compose.yml.
pub(crate) const SERVICES: [&str; 4] = ["haproxy", "api1", "api2", "postgres"];
/// Those that speak the contract.
pub(crate) const INSTANCES: [&str; 2] = ["api1", "api2"];

/// A project of the test's own, so that it touches no composition of a user's.
const PROJECT: &str = "rinha-e2e";
/// The servers'.
pub(crate) const IMAGE: &str = "localhost/rinha-e2e:latest";
/// Below the range from which clients' ports are taken.
const PORT: u16 = 19_999;
/// The same for operators.
pub(crate) const METRICS_PORT: u16 = 19_998;
/// The variables of compose.yml, which the machine's environment must not decide.
const VARIABLES: [&str; 18] = [
    "API_CORES",
    "API_CPUS",
    "API_MEMORY",
    "DATABASE_URL",
    "DRIVER",
    "GRAFANA_PORT",
    "HAPROXY_CPUS",
    "HAPROXY_MEMORY",
    "LOG",
    "METRICS_PORT",
    "POSTGRES_CPUS",
    "POSTGRES_HOST_AUTH_METHOD",
    "POSTGRES_INITDB_ARGS",
    "POSTGRES_MEMORY",
    "POSTGRES_PASSWORD",
    "PROMETHEUS_PORT",
    "SECURITY_OPT",
    "VOLUME_LABEL",
];
/// From the start of the last service to answers of both instances, a first initdb within a third of a CPU included.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// Longer than `stop_grace_period`.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// What the tests of every engine need.
pub(crate) trait Composition {
    /// The first process of a service, as this machine numbers it.
    fn pid(&self, service: &str) -> i32;

    /// Where the sockets of the servers and of the balancer's statistics are, for this process.
    fn sockets(&self) -> PathBuf;

    /// Where the socket of Postgres is, for this process.
    fn postgres_socket(&self) -> PathBuf;

    /// The one port, as a client sees it.
    fn address(&self) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], PORT)))
    }

    /// One instance, past the balancer.
    fn instance(&self, name: &str) -> Address {
        Address::Unix(self.sockets().join(format!("{name}-0.sock")))
    }

    /// The database, past the instances.
    fn database(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.postgres_socket()).user("rinha").dbname("rinha");
        config
    }

    /// What HAProxy says of each server.
    fn statistics(&self) -> HashMap<String, Statistics> {
        let mut socket = UnixStream::connect(self.sockets().join("haproxy-admin.sock")).unwrap();
        socket.write_all(b"show stat\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        Statistics::parse(&text)
    }

    /// Waits until both instances answer through the port.
    fn wait_until_serving(&self) {
        let began = Instant::now();
        let mut seen = BTreeMap::new();
        while seen.len() < INSTANCES.len() {
            assert!(began.elapsed() < START_TIME_MAX, "expected both instances to serve, got {seen:?}");
            match health(&self.address()) {
                Some(health) => drop(seen.insert(health["cores"].to_string(), health)),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

/// `/healthz` of whoever answers with 200.
pub(crate) fn health(address: &Address) -> Option<Value> {
    let answer = Connection::try_open(address).ok()?.try_ask("GET", "/healthz", "").ok()?;
    (answer.status == 200).then(|| answer.json())
}

/// A line of `show stat`.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// `UP`, `DOWN`, or one of their transitions.
    pub(crate) status: String,
    /// Requests that were sent there.
    pub(crate) requests: u64,
}

impl Statistics {
    /// Comma-separated; the first line has the names.
    fn parse(text: &str) -> HashMap<String, Statistics> {
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let names = lines.next().unwrap();
        let column = |name: &str| names.iter().position(|found| *found == name).unwrap();
        let (name, status, requests) = (column("svname"), column("status"), column("stot"));
        // Of the backend `api`: that of long bodies has the same servers once more.
        let servers = lines
            .filter(|fields| fields.len() > name && fields[0] == "api" && fields[name].starts_with("api"));
        servers
            .map(|fields| {
                let of = Statistics {
                    status: fields[status].to_owned(),
                    requests: fields[requests].parse().unwrap(),
                };
                (fields[name].to_owned(), of)
            })
            .collect()
    }
}

/// Containers of Docker or Podman.
pub(crate) struct Containers {
    engine: &'static str,
    /// What a file of variables may hold; see `epoll.env`.
    pub(crate) variables_file: Option<&'static str>,
    /// Variables for compose.yml, beside the port and the image.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Containers {
    /// Starts nothing yet; removes what a killed run left behind.
    pub(crate) fn new(engine: &'static str) -> Containers {
        let containers = Containers { engine, variables_file: None, variables: Vec::new() };
        containers.down(&["--volumes"]);
        containers
    }

    /// Builds the image, unless BUILD=no says that it is there.
    pub(crate) fn build(&self) {
        match env::var("BUILD").as_deref() {
            Ok("no") => tell!("   BUILD=no: {IMAGE} as it is"),
            _ => drop(self.compose(&["build"])),
        }
    }

    /// Starts all of them, and waits until they serve.
    pub(crate) fn up(&self, arguments: &[&str]) {
        let output = self.command(&[&["up", "--detach"], arguments].concat()).output().unwrap();
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        // What Compose has to say of the file itself; Podman warns of what its host lacks.
        assert!(self.engine == "podman" || !said.contains("level=warning"), "{said}");
        self.wait_until_serving();
    }

    /// What `tools/check` makes of these variables: its exit status, and what it said.
    pub(crate) fn check(&self, variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new("tools/check");
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env("PORT", PORT.to_string()).env("COMPOSE_PROJECT_NAME", PROJECT);
        let output = command.arg(self.engine).envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), said(&output))
    }

    /// What a service's container said, on both streams.
    pub(crate) fn logs(&self, service: &str) -> String {
        self.logs_of(&self.container(service))
    }

    /// What a container said, on both streams.
    pub(crate) fn logs_of(&self, container: &str) -> String {
        said(&Command::new(self.engine).args(["logs", container]).output().unwrap())
    }

    /// `docker` or `podman`.
    pub(crate) fn engine_name(&self) -> &'static str {
        self.engine
    }

    /// Starts these and nothing else.
    pub(crate) fn start_alone(&self, services: &[&str]) {
        self.compose(&[&["up", "--detach", "--no-deps"], services].concat());
    }

    /// Removes the containers; the volumes too when told so.
    pub(crate) fn down(&self, arguments: &[&str]) {
        self.compose(&[&["--profile", "live", "down"], arguments].concat());
    }

    /// A command of Compose; what it printed.
    pub(crate) fn compose(&self, arguments: &[&str]) -> String {
        self.try_compose(arguments).unwrap_or_else(|why| panic!("{why}"))
    }

    fn try_compose(&self, arguments: &[&str]) -> Result<String, String> {
        run(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.engine {
            "docker" => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
            _ => Command::new("podman-compose"),
        };
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env("PORT", PORT.to_string()).env("METRICS_PORT", METRICS_PORT.to_string());
        command.env("IMAGE", IMAGE);
        // With the usual interval `up --wait` would wait long for the first check.
        command.env("HEALTH_INTERVAL", "5s");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.args(["-p", PROJECT]);
        if let Some(file) = self.variables_file {
            command.args(["--env-file", file]);
        }
        command.args(arguments);
        command
    }

    /// A command of the engine; what it printed.
    pub(crate) fn engine(&self, arguments: &[&str]) -> String {
        self.try_engine(arguments).unwrap_or_else(|why| panic!("{why}"))
    }

    /// A command of the engine; what it printed, or what it said when it failed.
    pub(crate) fn try_engine(&self, arguments: &[&str]) -> Result<String, String> {
        run(Command::new(self.engine).args(arguments))
    }

    /// The engine's own name for a service's container.
    pub(crate) fn container(&self, service: &str) -> String {
        let project = format!("label=com.docker.compose.project={PROJECT}");
        let label = format!("label=com.docker.compose.service={service}");
        let found =
            self.engine(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &project, "--filter", &label]);
        assert_eq!(found.lines().count(), 1, "containers of {service}: {found:?}");
        found.trim().to_owned()
    }

    /// What the engine knows of a service's container, by a template.
    pub(crate) fn inspect(&self, service: &str, template: &str) -> String {
        let container = self.container(service);
        self.engine(&["inspect", "--format", template, &container]).trim().to_owned()
    }

    /// The balancer without the engine's forwarding in between, which is another party that may close a connection.
    pub(crate) fn balancer(&self) -> Address {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = self.inspect("haproxy", template).parse().unwrap();
        Address::Tcp(SocketAddr::new(address, 9999))
    }

    /// A directory in a container; it is not there while the container does not run.
    fn inside(&self, service: &str, directory: &str) -> PathBuf {
        format!("/proc/{}/root{directory}", self.inspect(service, "{{.State.Pid}}")).into()
    }
}

impl Composition for Containers {
    fn pid(&self, service: &str) -> i32 {
        let pid = self.inspect(service, "{{.State.Pid}}").parse().unwrap();
        // Zero would be this process and its family.
        assert!(pid > 0, "expected {service} to run");
        pid
    }

    fn sockets(&self) -> PathBuf {
        self.inside("haproxy", "/run/rinha")
    }

    fn postgres_socket(&self) -> PathBuf {
        self.inside("postgres", "/run/postgresql")
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if thread::panicking() {
            // What the services said may tell why.
            eprintln!("{}", self.try_compose(&["logs", "--tail", "30"]).unwrap_or_else(|why| why));
        }
        if let Err(why) = self.try_compose(&["--profile", "live", "down", "--volumes"]) {
            eprintln!("{why}");
        }
    }
}

/// The program `local` of `tools/`.
pub(crate) struct Processes {
    child: Child,
    directory: TempDir,
}

impl Processes {
    /// Starts them with the release build, as `make up-local` does.
    pub(crate) fn start() -> Processes {
        Processes::start_with(&[])
    }

    /// Starts them with these variables of compose.yml.
    pub(crate) fn start_with(variables: &[(&str, String)]) -> Processes {
        let release = Path::new(env!("CARGO_BIN_EXE_rinha")).ancestors().nth(2).unwrap().join("release");
        let directory = temporary_directory();
        let mut command = Command::new(release.join("local"));
        for name in VARIABLES {
            command.env_remove(name);
        }
        command.env("PORT", PORT.to_string()).env("METRICS_PORT", METRICS_PORT.to_string());
        command.arg("--directory").arg(directory.path());
        command.arg("--api").arg(release.join("rinha")).envs(variables.iter().cloned());
        let child = command.spawn().expect("the release build: make e2e makes it");
        Processes { child, directory }
    }

    fn state(&self) -> Value {
        let text = fs::read(self.directory.path().join("services.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

impl Composition for Processes {
    fn pid(&self, service: &str) -> i32 {
        self.state()["services"][service]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    fn sockets(&self) -> PathBuf {
        self.directory.path().join("sockets")
    }

    fn postgres_socket(&self) -> PathBuf {
        self.directory.path().join("postgres-socket")
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        if thread::panicking() {
            for service in SERVICES {
                let log = fs::read_to_string(self.directory.path().join(service).with_extension("log"));
                eprintln!("{service}: {}", log.unwrap_or_default());
            }
        }
        processes::send(self.child.id().try_into().unwrap(), Signal::SIGTERM);
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            assert!(
                began.elapsed() < STOP_TIME_MAX || thread::panicking(),
                "expected an end within {STOP_TIME_MAX:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What a command said, on both streams.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// What a command printed, or everything it said when it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => {
            Err(format!("{command:?}: {}: {}{}", output.status, text(&output.stdout), text(&output.stderr)))
        }
    }
}
