//! What listens, and how to reach behind the balancer: containers of a Compose project, the local topology, or
//! something unknown. This module starts and stops them; it does not know what they are asked.

pub mod compose;
pub mod local;
pub mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;

use crate::floor::Floor;
use crate::http::{self, Address};
use crate::process::{tail, terminate, undisturbed};
use crate::progress::step;
use compose::{Engine, Project, USUAL};
use local::Processes;
use service::{DOWN_TIME_MAX, Service};

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
    Compose(Project),
    /// Plain processes.
    Local(Processes),
    /// Only its port is known.
    Unknown,
}

/// A way to ask a single instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instance {
    /// Its own socket.
    Socket(String, Address),
    /// The balancer, while it sends nothing to the servers of the other instances.
    Drained(String, Vec<String>),
}

impl Target {
    /// What is to be tested: with `as_is` what runs, else what is to be started. `base` is the balancer's address.
    pub fn find(kind: Kind, project: &str, base: &Address, as_is: bool) -> Result<Self> {
        let engine = match kind {
            Kind::Auto | Kind::Compose => Engine::find(),
            Kind::Local | Kind::Unknown => None,
        };
        let compose = |project: &str| engine.map(|engine| Target::Compose(engine.project(project)));
        let [own, usual] = Processes::own_and_usual().map(Target::Local);
        let mut known = vec![own.clone(), usual];
        known.extend([project, USUAL].into_iter().filter_map(compose));
        match kind {
            Kind::Unknown => Ok(Target::Unknown),
            _ if as_is => Ok(known.into_iter().find(|target| target.listens_on(base)).unwrap_or(Target::Unknown)),
            Kind::Local => Ok(own),
            Kind::Auto => Ok(compose(project).unwrap_or(own)),
            Kind::Compose => compose(project).ok_or_else(|| {
                anyhow!("expected `docker compose` or `podman-compose` to answer; without either: --topology local")
            }),
        }
    }

    /// What people call it.
    pub fn name(&self) -> String {
        let name = match self {
            Target::Compose(project) => project.engine_name(),
            Target::Local(_) => "local processes",
            Target::Unknown => "unknown",
        };
        name.to_owned()
    }

    /// The project that compose.yml names, if it runs and must make room.
    pub fn in_the_way(&self) -> Result<Option<Project>> {
        match self {
            Target::Compose(project) => project.in_the_way(),
            Target::Local(_) | Target::Unknown => Ok(None),
        }
    }

    /// The project that compose.yml names, which a killed run has stopped.
    pub fn displaced_before(&self) -> Option<Project> {
        match self {
            Target::Compose(project) => Some(project.displaced_before()),
            Target::Local(_) | Target::Unknown => None,
        }
    }

    /// Stops the project that is in the way, and keeps its data.
    pub fn displace(&self) -> Result<()> {
        match self {
            Target::Compose(project) => project.displace(),
            Target::Local(_) | Target::Unknown => Ok(()),
        }
    }

    /// An error if it cannot be started: compose.yml is given wrong values, or somebody else has its port. All of that is
    /// asked before anything is prepared, built or stopped.
    pub fn check(&self, base: &Address) -> Result<()> {
        match self {
            Target::Compose(project) => project.check()?,
            Target::Local(_) => Processes::check()?,
            Target::Unknown => return Ok(()),
        }
        let own = self.is_running(base)
            || self
                .in_the_way()?
                .is_some_and(|project| port(base).is_some_and(|port| project.publishes(port)));
        if !own && http::is_listened_on(base) {
            let port = port(base).unwrap_or_default();
            bail!(
                "something else listens on {base}: stop it (as root, ss -ltnp 'sport = :{port}' names it), set another \
                 PORT, or test it as it is (--as-is)"
            );
        }
        Ok(())
    }

    /// Whether its services are there. The local topology must also be the one that listens on the port.
    pub fn is_running(&self, base: &Address) -> bool {
        match self {
            Target::Compose(project) => project.is_running(),
            Target::Local(processes) => port(base).is_some_and(|port| processes.listen_on(port)),
            Target::Unknown => http::get(base, "/contagem-pessoas").is_ok(),
        }
    }

    /// Whether its services are there and listen on the port; containers must publish it.
    fn listens_on(&self, base: &Address) -> bool {
        match self {
            Target::Compose(project) => port(base).is_some_and(|port| project.publishes(port)),
            Target::Local(_) | Target::Unknown => self.is_running(base),
        }
    }

    /// An error if only the server can be started, which is asked before anything is prepared. An image holds the server
    /// and no other program, and one of this machine need not run there.
    pub fn check_floor(&self) -> Result<()> {
        match self {
            Target::Local(_) => Ok(()),
            Target::Compose(_) | Target::Unknown => bail!(
                "--baseline and --limit: expected --topology local, as only plain processes can have another program in \
                 the server's place"
            ),
        }
    }

    /// Starts it with an empty database, and waits until it answers.
    /// `keep`: it outlives this process. A `floor` is started in the server's place.
    pub fn up(&self, base: &Address, log: &Path, keep: bool, floor: Option<Floor>) -> Result<()> {
        let mut started = match self {
            Target::Compose(project) => {
                project.up()?;
                None
            }
            Target::Local(processes) => Some(processes.start(log, keep, floor)?),
            Target::Unknown => bail!("nothing listens on {base}, and what to start is not known"),
        };
        let waiting = step(format!("{}: waiting for the first answer", self.name()));
        let ready = self.wait_until_ready(base, started.as_mut(), log);
        drop(waiting);
        let ready = ready.with_context(|| format!("{}: not ready", self.name()));
        if let (Err(_), Some(mut local)) = (&ready, started) {
            terminate(&mut local, DOWN_TIME_MAX)?;
        }
        ready
    }

    /// Stops it and throws away its database.
    pub fn down(&self) -> Result<()> {
        match self {
            Target::Compose(project) => project.down(),
            Target::Local(processes) => processes.down(),
            Target::Unknown => bail!("what runs is not known, so that it cannot be stopped"),
        }
    }

    fn wait_until_ready(&self, base: &Address, mut local: Option<&mut Child>, log: &Path) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Some(local) = &mut local
                && let Some(status) = local.try_wait()?
            {
                bail!("{status}\n{}", tail(&fs::read_to_string(log)?));
            }
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
            Target::Compose(project) => project.services(),
            Target::Local(processes) => processes.services(),
            Target::Unknown => Ok(Vec::new()),
        }
    }

    /// A directory in the filesystem in which its Postgres keeps its data, or why none is known.
    pub fn storage(&self) -> Result<PathBuf> {
        match self {
            Target::Compose(project) => project.storage(),
            Target::Local(processes) => Ok(processes.storage()),
            Target::Unknown => bail!("the topology is unknown, and so is where its database is"),
        }
    }

    /// The rows of one statement, columns joined by `|`. None if Postgres cannot be reached.
    pub fn sql(&self, statement: &str) -> Result<Option<Vec<String>>> {
        let printed = match self {
            Target::Compose(project) => project.sql(statement)?,
            Target::Local(processes) => processes.sql(statement)?,
            Target::Unknown => return Ok(None),
        };
        Ok(Some(printed.lines().map(str::to_owned).collect()))
    }

    /// How to ask each instance alone: on its own socket, or through the balancer if the socket cannot be reached or
    /// `drain` is wanted.
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

    /// The socket of an instance's first core, if it can be reached: a container's through the root of its process.
    fn socket(&self, api: &Service) -> Option<PathBuf> {
        let directory = match self {
            Target::Local(processes) => processes.sockets(),
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
        match self {
            Target::Compose(project) => project.balancer(command),
            Target::Local(processes) => processes.balancer(command),
            Target::Unknown => bail!("haproxy: expected a container"),
        }
    }

    /// The balancer's version, as it says it itself; empty if there is none.
    pub fn balancer_version(&self) -> String {
        let printed = match self {
            Target::Compose(project) => project.balancer_version(),
            Target::Local(_) => Processes::balancer_version(),
            Target::Unknown => return String::new(),
        };
        let printed = printed.unwrap_or_default();
        printed.split_whitespace().nth(2).unwrap_or_default().to_owned()
    }
}

fn port(base: &Address) -> Option<u16> {
    let Address::Tcp(authority) = base else { return None };
    authority.rsplit_once(':')?.1.parse().ok()
}
