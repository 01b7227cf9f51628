//! The topology of `compose.yml` as plain processes of this machine: for people without a container engine, and for
//! profiles.
//!
//! `cargo run --release -p tools --bin local -- [--fresh] [--directory PATH] [--api PROGRAM] [--unlimited]`, or
//! `make up-local`
//!
//! HAProxy, two instances and Postgres run with the commands, the environment, the stop signals and (as root) the CPU
//! and memory limits of `compose.yml`, with this machine's own programs. `services.json` in the directory says which
//! process each service is. SIGTERM or Ctrl-C stops all services, in the reverse order of the start; a service that
//! ends by itself is started again.
//!
//! [`compose`] reads the file, [`place`] has the directory, [`command`] says what is run for a service, [`initdb`]
//! makes the database, [`cgroup`] sets its limits, and [`topology`] runs it; [`health`] says when everything is ready.

mod cgroup;
mod command;
mod compose;
mod error;
mod health;
mod initdb;
mod place;
mod topology;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

use compose::Compose;
use error::Result;
use place::Place;
use topology::Topology;

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
    // HAProxy itself would not refuse a port that another HAProxy has: the two would share it.
    drop(
        TcpListener::bind(("0.0.0.0", compose.port))
            .map_err(|error| format!("port {}: {error}", compose.port))?,
    );
    let place = Place::prepare(&directory)?;
    let _lock = place.lock()?;
    place.clear(arguments.fresh)?;
    // The services inherit the limit of open files: each gets as many as this process may have.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;

    let stop = signals()?;
    let limited = root && !arguments.unlimited;
    let mut topology = Topology::start(&place, &compose, limited, arguments.api.as_deref())?;
    let limits = if limited { "limits of compose.yml" } else { "no limits" };
    topology.wait_until_healthy(&stop)?;
    println!("local: ready on port {}, {limits}, files in {}", compose.port, place.directory.display());
    topology.keep(&stop)
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
