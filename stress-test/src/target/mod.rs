//! What listens, and how to reach behind the balancer: containers of a Compose project, the local topology, or something unknown. It
//! starts and stops them; it does not know what they are asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde::Deserialize;

use crate::http::{self, Address};
use crate::process::{clean_up, logged, output, output_of, terminate, undisturbed};

/// The Compose project of the stress test, and the one that compose.yml names: nobody's database is thrown away but our own.
pub const OWN: &str = "rinha-stress";
const USUAL: &str = "rinha";
/// Images are built within this.
const UP_TIME_MAX: Duration = Duration::from_secs(20 * 60);
const DOWN_TIME_MAX: Duration = Duration::from_secs(90);
/// Something short of an engine, of psql or of the balancer.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(30);
/// From the start of the last service to the first answer.
const READY_TIME_MAX: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

/// Which kind of topology is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Containers if there is an engine, else the local topology; with --as-is whichever runs and listens there.
    Auto,
    /// Containers, by Docker Compose or podman-compose.
    Compose,
    /// compose.yml as plain processes.
    Local,
    /// Whatever listens: only HTTP is spoken to it.
    Unknown,
}

/// What is under test.
#[derive(Clone, Debug)]
pub enum Target {
    /// Containers of a project.
    Compose {
        /// Which engine runs them.
        engine: Engine,
        /// The label that all of them have.
        project: String,
    },
    /// Plain processes, described in this directory.
    Local(PathBuf),
    /// Only its port is known.
    Unknown,
}

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `docker` and `docker compose`.
    Docker,
    /// `podman` and `podman-compose`.
    Podman,
}

/// A service's main process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// As compose.yml calls it.
    pub name: String,
    /// As this process sees it.
    pub pid: u32,
    /// How often it was started again, as far as an engine counts that.
    pub restarts: u32,
}

/// A server line of the balancer or a socket: one way to ask a single instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instance {
    /// Its own socket.
    Socket(String, Address),
    /// The balancer, while it sends nothing to the servers of the other instances.
    Drained(String, Vec<String>),
}

#[derive(Deserialize)]
struct Description {
    pid: i32,
    port: u16,
    services: BTreeMap<String, Process>,
}

#[derive(Deserialize)]
struct Process {
    pid: u32,
}

impl Engine {
    fn command(self) -> Command {
        Command::new(match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        })
    }

    fn compose(self, project: &str) -> Command {
        let mut command = match self {
            Engine::Docker => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
            Engine::Podman => Command::new("podman-compose"),
        };
        command.args(["-p", project]);
        command
    }

    fn answers(self) -> bool {
        output(self.command().arg("version"), COMMAND_TIME_MAX).is_ok()
            && output(self.compose(OWN).arg("version"), COMMAND_TIME_MAX).is_ok()
    }

    /// The first that works.
    fn find() -> Option<Self> {
        [Engine::Docker, Engine::Podman].into_iter().find(|engine| engine.answers())
    }
}

impl Target {
    /// What is to be tested: with `as_is` what runs, else what is to be started. `base` is the balancer's address.
    pub fn find(kind: Kind, project: &str, base: &Address, as_is: bool) -> Result<Self> {
        let engine = match kind {
            Kind::Auto | Kind::Compose => Engine::find(),
            Kind::Local | Kind::Unknown => None,
        };
        let compose =
            |project: &str| engine.map(|engine| Target::Compose { engine, project: project.to_owned() });
        let [own_directory, usual_directory] = local_directories();
        let mut known = vec![Target::Local(own_directory.clone()), Target::Local(usual_directory)];
        known.extend([project, USUAL].into_iter().filter_map(compose));
        match kind {
            Kind::Unknown => Ok(Target::Unknown),
            _ if as_is => Ok(known.into_iter().find(|target| target.listens_on(base)).unwrap_or(Target::Unknown)),
            Kind::Local => Ok(Target::Local(own_directory)),
            Kind::Auto => Ok(compose(project).unwrap_or(Target::Local(own_directory))),
            Kind::Compose => compose(project).ok_or_else(|| {
                anyhow!("expected `docker compose` or `podman-compose` to answer; without either: --topology local")
            }),
        }
    }

    /// Said to people.
    pub fn name(&self) -> String {
        match self {
            Target::Compose { engine: Engine::Docker, .. } => "docker compose".to_owned(),
            Target::Compose { engine: Engine::Podman, .. } => "podman-compose".to_owned(),
            Target::Local(_) => "local processes".to_owned(),
            Target::Unknown => "unknown".to_owned(),
        }
    }

    /// Stops, with its data kept, the project that compose.yml names; returned if there was one.
    pub fn displace(&self) -> Result<Option<Self>> {
        let Target::Compose { engine, project } = self else { return Ok(None) };
        let usual = Target::Compose { engine: *engine, project: USUAL.to_owned() };
        if project == USUAL || usual.services()?.is_empty() {
            return Ok(None);
        }
        if let Err(error) = output(engine.compose(USUAL).arg("stop"), DOWN_TIME_MAX) {
            // Some of it may have stopped. Its own error would hide the one that matters.
            let _ = clean_up(|| usual.start_again());
            return Err(error);
        }
        Ok(Some(usual))
    }

    /// Starts a displaced one again.
    pub fn start_again(&self) -> Result<()> {
        let Target::Compose { engine, project } = self else { return Ok(()) };
        output(engine.compose(project).arg("start"), DOWN_TIME_MAX).map(drop)
    }

    /// Whether its services are there. The local topology must also be the one that listens on the port.
    pub fn is_running(&self, base: &Address) -> bool {
        match self {
            Target::Compose { .. } => !self.services().unwrap_or_default().is_empty(),
            Target::Local(directory) => {
                description(directory).is_ok_and(|description| port(base) == Some(description.port))
            }
            Target::Unknown => http::get(base, "/contagem-pessoas").is_ok(),
        }
    }

    /// The same, and of containers that they publish the port.
    fn listens_on(&self, base: &Address) -> bool {
        let Target::Compose { engine, project } = self else { return self.is_running(base) };
        let label = format!("label=com.docker.compose.project={project}");
        let published =
            engine.command().args(["ps", "--filter", &label, "--format", "{{.Ports}}"]).to_owned_output();
        let wanted = port(base).map(|port| format!(":{port}->"));
        published.is_ok_and(|ports| wanted.is_some_and(|port| ports.contains(&port)))
    }

    /// Starts it with an empty database, and waits until it answers.
    pub fn up(&self, base: &Address, log: &Path) -> Result<()> {
        let mut started = None;
        match self {
            Target::Compose { engine, project } => {
                // What an earlier run left.
                self.down()?;
                output(engine.compose(project).arg("build"), UP_TIME_MAX)?;
                output(engine.compose(project).args(["up", "-d"]), UP_TIME_MAX)?;
            }
            Target::Local(directory) => {
                let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
                let build = "build --release --locked -p rinha -p tools --bin rinha --bin local".split(' ');
                let mut command = Command::new(&cargo);
                // What `cargo run` says of this package would let build scripts, and with them half of the tree, run again.
                for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
                    command.env_remove(name);
                }
                output(command.args(build), UP_TIME_MAX)?;
                let program = Path::new(&target_directory()).join("release/local");
                // It outlives this process unless `down` ends it.
                let mut local = Command::new(program);
                local.arg("--fresh").arg("--directory").arg(directory);
                started = Some(logged(&mut local, &fs::File::create(log)?)?);
            }
            Target::Unknown => bail!("nothing listens on {base}, and what to start is not known"),
        }
        let ready = self.wait_until_ready(base).with_context(|| format!("{}: not ready", self.name()));
        if let (Err(_), Some(mut local)) = (&ready, started) {
            terminate(&mut local, DOWN_TIME_MAX)?;
        }
        ready
    }

    /// Stops it and throws away its database.
    pub fn down(&self) -> Result<()> {
        match self {
            Target::Compose { engine, project } => {
                output(engine.compose(project).args(["down", "--volumes"]), DOWN_TIME_MAX).map(drop)
            }
            Target::Local(directory) => {
                kill(Pid::from_raw(description(directory)?.pid), Signal::SIGTERM)?;
                let began = Instant::now();
                while is_held(directory) {
                    if began.elapsed() > DOWN_TIME_MAX {
                        bail!("local: it did not end within {} s", DOWN_TIME_MAX.as_secs());
                    }
                    thread::sleep(POLL);
                }
                Ok(fs::remove_dir_all(directory.join("data"))?)
            }
            Target::Unknown => bail!("what runs is not known, so that it cannot be stopped"),
        }
    }

    fn wait_until_ready(&self, base: &Address) -> Result<()> {
        let began = Instant::now();
        loop {
            match http::count(base) {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > READY_TIME_MAX => return Err(error),
                Err(_) => thread::sleep(POLL),
            }
            undisturbed()?;
        }
    }

    /// Its services and their processes; none if it is unknown.
    pub fn services(&self) -> Result<Vec<Service>> {
        match self {
            Target::Unknown => Ok(Vec::new()),
            Target::Local(directory) => {
                let services = description(directory)?.services;
                let service =
                    |(name, process): (String, Process)| Service { name, pid: process.pid, restarts: 0 };
                Ok(services.into_iter().map(service).collect())
            }
            Target::Compose { engine, project } => {
                let label = format!("label=com.docker.compose.project={project}");
                let format = r#"{{.ID}} {{.Label "com.docker.compose.service"}}"#;
                let listed = engine
                    .command()
                    .args(["ps", "--filter", &label, "--format", format])
                    .to_owned_output()?;
                let services = listed.lines().filter_map(|line| line.split_once(' '));
                services
                    .map(|(container, name)| {
                        let format = "{{.State.Pid}} {{.RestartCount}}";
                        let printed = engine
                            .command()
                            .args(["inspect", "--format", format, container])
                            .to_owned_output()?;
                        let (pid, restarts) = printed
                            .trim()
                            .split_once(' ')
                            .context("expected a pid and a number of restarts")?;
                        Ok(Service {
                            name: name.trim().to_owned(),
                            pid: pid.parse()?,
                            restarts: restarts.parse()?,
                        })
                    })
                    .collect()
            }
        }
    }

    /// The rows of one statement, columns joined by `|`. None if Postgres cannot be reached.
    pub fn sql(&self, statement: &str) -> Result<Option<Vec<String>>> {
        const PSQL: &str = "psql -XAt -U rinha -d rinha -v ON_ERROR_STOP=1";
        let printed = match self {
            Target::Unknown => return Ok(None),
            Target::Local(directory) => {
                let mut words = PSQL.split(' ');
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words).arg("-h").arg(directory.join("postgres-socket"));
                if let Some(password) = std::env::var_os("POSTGRES_PASSWORD") {
                    command.env("PGPASSWORD", password);
                }
                output_of(&mut command, statement.as_bytes(), COMMAND_TIME_MAX)?
            }
            // With the password, where compose.yml was given one.
            Target::Compose { .. } => {
                let script = format!("PGPASSWORD=$POSTGRES_PASSWORD exec {PSQL}");
                self.within("postgres", &["sh", "-c", &script], statement.as_bytes())?
            }
        };
        Ok(Some(printed.lines().map(str::to_owned).collect()))
    }

    /// How to ask each instance alone: on its own socket where this user may, else, or if `drain` is wanted, through the balancer.
    pub fn instances(&self, drain: bool) -> Result<Vec<Instance>> {
        let services = self.services()?;
        let apis: Vec<&Service> = services.iter().filter(|service| service.name.starts_with("api")).collect();
        let own =
            apis.iter().map(|api| Some(Instance::Socket(api.name.clone(), Address::Unix(self.socket(api)?))));
        match own.collect::<Option<Vec<_>>>() {
            Some(sockets) if !drain || sockets.is_empty() => return Ok(sockets),
            _ => {}
        }
        let listed = self.balancer("show servers state api")?;
        // See the management guide: the columns are `be_id be_name srv_id srv_name ..`, after a version and a comment.
        let servers =
            listed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').nth(3));
        let servers: Vec<&str> = servers.collect();
        let others = |api: &Service| {
            let own = format!("{}-", api.name);
            servers
                .iter()
                .filter(|server| !server.starts_with(&own))
                .map(|server| (*server).to_owned())
                .collect()
        };
        Ok(apis.into_iter().map(|api| Instance::Drained(api.name.clone(), others(api))).collect())
    }

    /// Of the first core. Containers' paths are reached through their processes' root.
    fn socket(&self, api: &Service) -> Option<PathBuf> {
        let directory = match self {
            Target::Local(directory) => directory.join("sockets"),
            _ => PathBuf::from(format!("/proc/{}/root/run/rinha", api.pid)),
        };
        let path = directory.join(format!("{}-0.sock", api.name));
        path.exists().then_some(path)
    }

    /// Sets whether the balancer sends requests to these servers.
    pub fn drain(&self, servers: &[String], state: &str) -> Result<()> {
        for server in servers {
            self.balancer(&format!("set server api/{server} state {state}"))?;
        }
        Ok(())
    }

    /// A command on the balancer's admin socket.
    fn balancer(&self, command: &str) -> Result<String> {
        const CLIENT: &str = r#"
            my $socket = IO::Socket::UNIX->new("/run/rinha/haproxy-admin.sock") or die "haproxy-admin.sock: $!";
            print $socket <STDIN>; $socket->flush; print while <$socket>;"#;
        if let Target::Local(directory) = self {
            let mut socket = UnixStream::connect(directory.join("sockets/haproxy-admin.sock"))?;
            socket.set_read_timeout(Some(COMMAND_TIME_MAX))?;
            socket.set_write_timeout(Some(COMMAND_TIME_MAX))?;
            socket.write_all(format!("{command}\n").as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            return Ok(answer);
        }
        self.within(
            "haproxy",
            &["perl", "-MIO::Socket::UNIX", "-e", CLIENT],
            format!("{command}\n").as_bytes(),
        )
    }

    /// As it says itself; empty if there is none.
    pub fn balancer_version(&self) -> String {
        let printed = match self {
            Target::Compose { .. } => self.within("haproxy", &["haproxy", "-v"], b""),
            Target::Local(_) => output(Command::new("haproxy").arg("-v"), COMMAND_TIME_MAX),
            Target::Unknown => return String::new(),
        };
        let printed = printed.unwrap_or_default();
        printed.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }

    /// Runs a program inside of a service's container.
    fn within(&self, service: &str, program: &[&str], input: &[u8]) -> Result<String> {
        let Target::Compose { engine, project } = self else { bail!("{service}: expected a container") };
        let filters = [("project", project.as_str()), ("service", service)]
            .map(|(key, value)| format!("label=com.docker.compose.{key}={value}"));
        let id = engine
            .command()
            .args(["ps", "-q", "--filter", &filters[0], "--filter", &filters[1]])
            .to_owned_output()?;
        let id = id.lines().next().ok_or_else(|| anyhow!("{service}: no such container"))?;
        output_of(engine.command().args(["exec", "-i", id]).args(program), input, COMMAND_TIME_MAX)
    }
}

trait Output {
    fn to_owned_output(&mut self) -> Result<String>;
}

impl Output for Command {
    fn to_owned_output(&mut self) -> Result<String> {
        output(self, COMMAND_TIME_MAX)
    }
}

fn port(base: &Address) -> Option<u16> {
    let Address::Tcp(authority) = base else { return None };
    authority.rsplit_once(':')?.1.parse().ok()
}

/// Of what runs there now. A file that a killed one left would name processes that may be anybody's by now.
fn description(directory: &Path) -> Result<Description> {
    let file = directory.join("services.json");
    let text =
        fs::read_to_string(&file).with_context(|| format!("{}: nothing runs there", file.display()))?;
    if !is_held(directory) {
        bail!("{}: it ended", file.display());
    }
    Ok(serde_json::from_str(&text)?)
}

/// Whether a local topology runs there: it holds its lock as long as it lives.
fn is_held(directory: &Path) -> bool {
    let Ok(lock) = fs::File::open(directory.join("lock")) else { return false };
    Flock::lock(lock, FlockArg::LockSharedNonblock).is_err()
}

/// Our own, so that no database is lost, and the topology's default.
fn local_directories() -> [PathBuf; 2] {
    let parent = if geteuid().is_root() { "/var/lib/rinha" } else { "data" };
    let usual = std::env::var_os("LOCAL_DIR").map_or_else(|| Path::new(parent).join("local"), PathBuf::from);
    [Path::new(parent).join("stress"), usual]
}

fn target_directory() -> String {
    std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned())
}

fn is_of_this_package(variable: &std::ffi::OsStr) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"]
        .iter()
        .any(|prefix| variable.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_that_was_left_behind_stops_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut other = Command::new("sleep").arg("60").spawn().expect("somebody else's process");
        let text = format!(r#"{{"pid": {}, "port": 9999, "services": {{}}}}"#, other.id());
        fs::write(directory.path().join("services.json"), text).expect("a file");
        let (target, base) =
            (Target::Local(directory.path().to_owned()), Address::Tcp("localhost:9999".to_owned()));
        let check = |expected: bool| assert_eq!(target.is_running(&base), expected);
        check(false);
        let lock = fs::File::create(directory.path().join("lock")).expect("a file");
        check(false);
        let held = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
        check(true);
        drop(held);
        check(false);
        assert!(target.down().is_err());
        thread::sleep(POLL);
        assert_eq!(other.try_wait().expect("a child"), None);
        other.kill().and_then(|()| other.wait()).expect("its end");
    }
}
