//! The topology of `compose.yml` as plain processes of this machine: for people without a container engine, and for
//! profiles.
//!
//! `cargo run --release -p tools --bin local -- [--fresh] [--directory PATH] [--api PROGRAM] [--unlimited]`, or `make up-local`
//!
//! HAProxy, two instances and Postgres run with the commands, the environment, the stop signals and (as root) the CPU and memory
//! limits of `compose.yml`, with this machine's own programs. `services.json` in the directory says which process each one is. SIGTERM
//! or Ctrl-C stops all, in the reverse order of the start; a service that ends by itself is started again.

mod cgroup;
mod compose;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use rinha::embedded::default_search;

use cgroup::Group;
use compose::{Compose, Service};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// From the start of all services to the balancer's first 200.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the processes are looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(20);
/// Pause before a service that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// One question to the balancer.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);

/// compose.yml without containers.
#[derive(Parser)]
struct Arguments {
    /// Where sockets, data and logs are [default: /var/lib/rinha/local, or ./data/local if not root]
    #[arg(long, env = "LOCAL_DIR")]
    directory: Option<PathBuf>,
    /// Throw away the database of an earlier run
    #[arg(long)]
    fresh: bool,
    /// Another program in place of target/release/rinha: it finds its LISTEN in the environment
    #[arg(long)]
    api: Option<String>,
    /// No limits of CPU and memory (nobody but root can set them)
    #[arg(long)]
    unlimited: bool,
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("local: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let root = geteuid().is_root();
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None if root => PathBuf::from("/var/lib/rinha/local"),
        None => PathBuf::from("data/local"),
    };
    let compose = Compose::read(Path::new("compose.yml"), Path::new(".env"))?;
    // HAProxy would share the port with whoever has it.
    drop(
        TcpListener::bind(("0.0.0.0", compose.port))
            .map_err(|error| format!("port {}: {error}", compose.port))?,
    );
    let place = Place::prepare(&directory)?;
    let _lock = place.lock()?;
    place.clear(arguments.fresh)?;
    // As many as this process may have, for all of them.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;

    let stop = signals()?;
    let mut topology = Topology { place, running: Vec::new() };
    // Two topologies on one machine have different ports.
    let groups = format!("rinha-local-{}", compose.port);
    for name in compose.start_order()? {
        let service = &compose.services[&name];
        let group = match &service.limits {
            Some(limits) if root && !arguments.unlimited => Some(Group::create(&groups, &name, limits)?),
            _ => None,
        };
        let command = topology.place.command(&name, service, arguments)?;
        fs::write(topology.place.log(&name), "")?;
        let child = topology.spawn(&name, &command, group.as_ref())?;
        topology.running.push(Running { name, child, command, group, stop: service.stop.clone() });
    }
    topology.describe(compose.port)?;
    let limits = if root && !arguments.unlimited { "limits of compose.yml" } else { "no limits" };
    topology.wait_until_healthy(compose.port, &stop)?;
    println!(
        "local: ready on port {}, {limits}, files in {}",
        compose.port,
        topology.place.directory.display()
    );
    while stop.try_recv().is_err() {
        if topology.restart_ended()? {
            topology.describe(compose.port)?;
        }
        thread::sleep(WATCH_PERIOD);
    }
    Ok(())
}

/// A message for each SIGTERM or SIGINT.
fn signals() -> io::Result<Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = sender.send(());
        }
    });
    Ok(receiver)
}

/// How a service is stopped: what it is sent, and how long it is waited for.
#[derive(Clone)]
struct Stop {
    signal: Signal,
    grace: Duration,
}

/// Where the topology's files are.
struct Place {
    directory: PathBuf,
    /// Of Postgres' programs.
    postgres: PathBuf,
    /// Who runs the services when root starts them: nothing of them needs root, and Postgres refuses it.
    account: Option<User>,
}

impl Place {
    fn prepare(directory: &Path) -> Result<Place> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let postgres = default_search()
            .into_iter()
            .find(|directory| directory.join("initdb").exists())
            .ok_or("expected Postgres' programs; install them: apt-get install postgresql")?;
        let account = match geteuid().is_root() {
            true => Some(
                User::from_name("postgres")?.ok_or("expected a user `postgres`, as Postgres refuses root")?,
            ),
            false => None,
        };
        Ok(Place { directory, postgres, account })
    }

    /// Leaves nothing of an earlier run but its database, and not that either when it is to be `fresh`.
    fn clear(&self, fresh: bool) -> Result<()> {
        let missing = |result: io::Result<()>| match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        missing(fs::remove_file(self.state()))?;
        for volume in ["data", "sockets", "postgres-socket", "programs"] {
            let path = self.volume(volume);
            if fresh || volume != "data" {
                missing(fs::remove_dir_all(&path))?;
            }
            fs::create_dir_all(&path)?;
            // Whoever reaches a socket there may do everything.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            self.give(&path)?;
        }
        Ok(())
    }

    /// Makes a file or directory that of the services.
    fn give(&self, path: &Path) -> Result<()> {
        if let Some(account) = &self.account {
            nix::unistd::chown(path, Some(account.uid), Some(account.gid))?;
        }
        Ok(())
    }

    /// A file of the project where the services can read it.
    fn copy(&self, file: &str) -> Result<PathBuf> {
        let name = Path::new(file).file_name().ok_or_else(|| format!("expected a file, got {file}"))?;
        let copy = self.volume("programs").join(name);
        // Both instances run the same one.
        if !copy.exists() {
            fs::copy(file, &copy).map_err(|error| format!("{file}: {error}"))?;
            self.give(&copy)?;
        }
        Ok(copy)
    }

    /// What a service said since the topology was started.
    fn log(&self, service: &str) -> PathBuf {
        self.directory.join(service).with_extension("log")
    }

    /// Says which process is which while the topology runs.
    fn state(&self) -> PathBuf {
        self.directory.join("services.json")
    }

    /// Held as long as this process lives, so that no two use one directory.
    fn lock(&self) -> Result<nix::fcntl::Flock<fs::File>> {
        let file = fs::File::create(self.directory.join("lock"))?;
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|_| {
            format!("expected {} to be free: another one runs there", self.directory.display()).into()
        })
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What to run for a service, with the paths of this machine in place of the containers'.
    fn command(&self, name: &str, service: &Service, arguments: &Arguments) -> Result<Vec<String>> {
        let mut replaced: Vec<(String, PathBuf)> = service
            .volumes
            .iter()
            .map(|(source, target)| {
                let here = if source.starts_with("./") { self.copy(source)? } else { self.volume(source) };
                Ok((target.clone(), here))
            })
            .collect::<Result<_>>()?;
        // The longest first: a path may begin like another.
        replaced.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        let here = |text: &str| {
            replaced
                .iter()
                .fold(text.to_owned(), |text, (target, path)| text.replace(target, &path.to_string_lossy()))
        };
        let mut command = vec!["env".to_owned()];
        command.extend(service.environment.iter().map(|(name, value)| format!("{name}={}", here(value))));
        if let Some(account) = &self.account {
            command.extend(["setpriv", "--init-groups"].map(str::to_owned));
            command.extend([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
        }
        if name == "postgres" {
            self.initialize(&command, service)?;
            command.push(self.postgres.join("postgres").to_string_lossy().into_owned());
            command.extend(["-D".to_owned(), self.cluster().to_string_lossy().into_owned()]);
            command.extend(["-k".to_owned(), self.volume("postgres-socket").to_string_lossy().into_owned()]);
            command.extend(service.command.iter().skip(1).map(|argument| here(argument)));
        } else if service.built {
            let program = arguments.api.as_deref().unwrap_or("target/release/rinha");
            command.push(self.copy(program)?.to_string_lossy().into_owned());
            command.extend(service.command.iter().map(|argument| here(argument)));
        } else {
            command.extend(service.command.iter().map(|argument| here(argument)));
        }
        Ok(command)
    }

    fn cluster(&self) -> PathBuf {
        self.volume("data").join("postgres")
    }

    /// What the image's entrypoint does before the first start: a cluster, its user and its database.
    fn initialize(&self, prefix: &[String], service: &Service) -> Result<()> {
        if self.cluster().join("PG_VERSION").exists() {
            return Ok(());
        }
        let of = |name: &str| {
            service.environment.get(name).cloned().ok_or_else(|| format!("expected {name} in compose.yml"))
        };
        let (user, database) = (of("POSTGRES_USER")?, of("POSTGRES_DB")?);
        let program = |name: &str| {
            let mut command = Command::new(&prefix[0]);
            command.args(&prefix[1..]).arg(self.postgres.join(name)).arg("-D").arg(self.cluster());
            command.current_dir(self.volume("data")).stdout(Stdio::null()).stderr(Stdio::piped());
            command
        };
        let password = self.volume("data").join("password");
        fs::write(&password, "")?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        // The program refuses an empty one; where none is set, nobody is asked for it.
        let given = Some(of("POSTGRES_PASSWORD")?).filter(|given| !given.is_empty());
        fs::write(&password, given.as_deref().unwrap_or("unused"))?;
        self.give(&password)?;
        let mut initdb = program("initdb");
        initdb.args(["--encoding=UTF8", "--username", &user]).arg("--pwfile").arg(&password);
        match of("POSTGRES_INITDB_ARGS")?.split_whitespace().collect::<Vec<_>>()[..] {
            [] => initdb.arg("--auth=trust"),
            ref arguments => initdb.args(arguments),
        };
        succeed("initdb", initdb.spawn()?)?;
        fs::remove_file(password)?;
        let mut single = Command::new(&prefix[0]);
        single
            .args(&prefix[1..])
            .arg(self.postgres.join("postgres"))
            .arg("--single")
            .arg("-D")
            .arg(self.cluster());
        single.arg("postgres").current_dir(self.volume("data"));
        let mut single = single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut statements = single.stdin.take().ok_or("expected a standard input")?;
        writeln!(statements, "CREATE DATABASE \"{database}\"")?;
        drop(statements);
        succeed("postgres --single", single)
    }
}

fn succeed(name: &str, child: Child) -> Result<()> {
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
        }
    }
}

/// A service's process.
struct Running {
    name: String,
    child: Child,
    command: Vec<String>,
    group: Option<Group>,
    stop: Stop,
}

/// All of them, in the order of the start; stopped when dropped.
struct Topology {
    place: Place,
    running: Vec<Running>,
}

impl Topology {
    fn spawn(&self, name: &str, command: &[String], group: Option<&Group>) -> Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.place.log(name))?;
        // The shell enters the group before it becomes the service, so that all it does is counted there.
        let enter: String = group
            .iter()
            .flat_map(|group| group.processes())
            .map(|file| format!("echo $$ >{} && ", file.display()))
            .collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{enter}exec \"$@\""), "sh"]).args(command);
        shell.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(shell.spawn().map_err(|error| format!("{name}: {error}"))?)
    }

    /// Starts again what ended; whether there was any.
    fn restart_ended(&mut self) -> Result<bool> {
        let mut ended = Vec::new();
        for (position, running) in self.running.iter_mut().enumerate() {
            if let Some(status) = running.child.try_wait()? {
                eprintln!("local: {} ended: {status}; starting it again", running.name);
                ended.push(position);
            }
        }
        for &position in &ended {
            thread::sleep(RESTART_PAUSE);
            let running = &self.running[position];
            let child = self.spawn(&running.name, &running.command, running.group.as_ref())?;
            self.running[position].child = child;
        }
        Ok(!ended.is_empty())
    }

    /// Writes `services.json`: each service's process and cgroups.
    fn describe(&self, port: u16) -> Result<()> {
        let services: BTreeMap<_, _> = self
            .running
            .iter()
            .map(|running| {
                let groups = running.group.as_ref().map(Group::directories).unwrap_or_default();
                (&running.name, serde_json::json!({ "pid": running.child.id(), "cgroups": groups }))
            })
            .collect();
        let text = serde_json::json!({
            "directory": self.place.directory, "port": port, "pid": std::process::id(), "services": services,
        });
        let file = self.place.state();
        fs::write(file.with_extension("new"), format!("{text:#}\n"))?;
        Ok(fs::rename(file.with_extension("new"), file)?)
    }

    fn wait_until_healthy(&mut self, port: u16, stop: &Receiver<()>) -> Result<()> {
        let began = Instant::now();
        while !is_healthy(port).unwrap_or(false) {
            if stop.try_recv().is_ok() {
                return Err("stopped before it was ready".into());
            }
            for running in &mut self.running {
                if let Some(status) = running.child.try_wait()? {
                    let log = self.place.log(&running.name);
                    return Err(format!("{} ended: {status}; see {}", running.name, log.display()).into());
                }
            }
            if began.elapsed() > START_TIME_MAX {
                let logs = self.place.directory.display();
                return Err(format!(
                    "expected 200 of /healthz within {START_TIME_MAX:?}; see the logs in {logs}"
                )
                .into());
            }
            thread::sleep(WATCH_PERIOD);
        }
        Ok(())
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for running in self.running.iter_mut().rev() {
            let pid = Pid::from_raw(i32::try_from(running.child.id()).expect("a pid of Linux fits an i32"));
            let _ = kill(pid, running.stop.signal);
            let began = Instant::now();
            while matches!(running.child.try_wait(), Ok(None)) {
                if began.elapsed() > running.stop.grace {
                    eprintln!("local: {} did not end within {:?}: killed", running.name, running.stop.grace);
                    let _ = running.child.kill();
                    let _ = running.child.wait();
                }
                thread::sleep(WATCH_PERIOD);
            }
        }
        let _ = fs::remove_file(self.place.state());
    }
}

fn is_healthy(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(HEALTH_TIME_MAX))?;
    stream.set_write_timeout(Some(HEALTH_TIME_MAX))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer.ends_with(b" 200"))
}
