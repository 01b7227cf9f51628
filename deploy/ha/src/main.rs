//! The database of `docs/ha.md` on this machine, with two instances and the balancer before them.
//!
//! `ha up` runs it until Ctrl-C or `ha down`; `ha kill-primary` kills the Postgres that is the primary; `ha status` shows
//! who is what. The Makefile has them as `make ha-up` and so on.

mod services;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ha::Result;
use ha::cluster::{Cluster, NODES};
use ha::http::{self, Question};
use ha::network::Network;
use ha::process::{send, wait_for};
use ha::programs::Programs;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use services::{Services, Way};

/// How often the processes are looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(200);
/// For an answer of `/healthz`.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);
/// From the start of the instances to their first answer.
const START_TIME_MAX: Duration = Duration::from_secs(90);
/// For `down`, which waits for everything.
const DOWN_TIME_MAX: Duration = Duration::from_secs(120);

/// Three etcd, three Postgres under Patroni, two instances, the balancers.
#[derive(Parser)]
struct Arguments {
    /// Where data, sockets and logs are [default: /var/lib/rinha/ha, or ./data/ha if not root]
    #[arg(long, env = "HA_DIR")]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Start everything, and keep it running
    Up {
        /// Throw away the database of an earlier run
        #[arg(long)]
        fresh: bool,
        /// How the instances find the primary
        #[arg(long, value_enum, default_value_t = Way::Balancer)]
        way: Way,
        /// The port of the API
        #[arg(long, env = "PORT", default_value_t = 9999)]
        port: u16,
        /// The server
        #[arg(long, default_value = "target/release/rinha")]
        api: String,
    },
    /// Stop it
    Down,
    /// `kill -9` of the Postgres that is the primary
    KillPrimary,
    /// Who is what
    Status,
}

fn main() {
    let arguments = Arguments::parse();
    if let Err(error) = run(&arguments) {
        eprintln!("ha: {error}");
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None if geteuid().is_root() => PathBuf::from("/var/lib/rinha/ha"),
        None => PathBuf::from("data/ha"),
    };
    match &arguments.command {
        What::Up { fresh, way, port, api } => up(&directory, *fresh, *way, *port, api),
        What::Down => down(&directory),
        What::KillPrimary => kill_primary(&directory),
        What::Status => status(),
    }
}

fn up(directory: &Path, fresh: bool, way: Way, port: u16, api: &str) -> Result<()> {
    let programs = Programs::find().map_err(|missing| missing.join("\nha: "))?;
    fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    let lock = fs::File::create(directory.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|_| format!("expected {} to be free: another one runs there", directory.display()))?;
    let stop = signals()?;
    fs::write(directory.join("pid"), std::process::id().to_string())?;
    let mut cluster = Cluster::start(&directory, Network::Loopback, &programs, fresh)?;
    println!("ha: starting; logs in {}", directory.display());
    cluster.wait_until_whole()?;
    let mut services = Services::start(&directory, &cluster, way, port, api, &programs)?;
    let mut stopped = false;
    wait_for("an answer of the API", START_TIME_MAX, || {
        stopped = stopped || stop.try_recv().is_ok();
        Ok(stopped || is_healthy(port))
    })?;
    println!("ha: ready on port {port}");
    while !stopped && stop.try_recv().is_err() {
        cluster.keep()?;
        services.keep()?;
        thread::sleep(WATCH_PERIOD);
    }
    drop(services);
    cluster.stop()
}

/// Whether an instance answers behind the balancer.
fn is_healthy(port: u16) -> bool {
    let question =
        Question { method: "GET", path: "/healthz", body: "", credentials: None, time_max: HEALTH_TIME_MAX };
    http::ask(([127, 0, 0, 1], port).into(), &question).is_ok_and(|(status, _)| status == 200)
}

fn down(directory: &Path) -> Result<()> {
    let file = directory.join("pid");
    let pid: i32 = fs::read_to_string(&file).map_err(|_| "nothing runs")?.trim().parse()?;
    let works = |pid: i32| {
        // The lock says whether the number is still its own.
        let lock = fs::File::create(directory.join("lock")).ok();
        lock.is_some_and(|lock| Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_err()) && pid > 1
    };
    if !works(pid) {
        return Err("nothing runs".into());
    }
    send(pid, Signal::SIGTERM)?;
    wait_for("the end of everything", DOWN_TIME_MAX, || Ok(!works(pid)))
}

/// The nodes of `up` as anybody on this machine can ask them.
fn addresses() -> impl Iterator<Item = (usize, std::net::Ipv4Addr)> {
    (0..NODES).map(|node| (node + 1, Network::Loopback.address(node)))
}

fn kill_primary(directory: &Path) -> Result<()> {
    let (node, _) =
        addresses().find(|(_, address)| ha::patroni::is_primary(*address)).ok_or("expected a primary")?;
    let file = directory.canonicalize()?.join(format!("node{node}/postgres/postmaster.pid"));
    let pid: i32 = fs::read_to_string(file)?.lines().next().ok_or("expected a pid")?.trim().parse()?;
    send(pid, Signal::SIGKILL)?;
    println!("ha: killed node{node}'s Postgres, process {pid}");
    Ok(())
}

fn status() -> Result<()> {
    let members = addresses().find_map(|(_, address)| ha::patroni::members(address).ok());
    for member in members.ok_or("expected a Patroni that answers")? {
        println!("{:8} {:14} {:12} timeline {:?}", member.name, member.role, member.state, member.timeline);
    }
    Ok(())
}

/// A message for each SIGTERM or SIGINT.
fn signals() -> Result<Receiver<()>> {
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
