//! The topology of `compose.yml` as plain processes of this machine: for people without a container engine, and for
//! profiles.
//!
//! `cargo run --release -p local -- [--fresh] [--directory PATH] [--compose FILE] [--api PROGRAM] [--unlimited]`, or `make up-local`
//!
//! HAProxy, two instances and Postgres run with the commands, the environment, the stop signals and (as root) the CPU
//! and memory limits of `compose.yml`, with this machine's own programs. `services.json` in the directory says which
//! process each service is. SIGTERM, Ctrl-C or a terminal that is closed (SIGHUP) stops all services, in the reverse
//! order of the start; if this process is killed, the kernel tells them to end, and the next start waits for that. A
//! service that ends by itself is started again, unless it ends again and again.
//!
//! [`compose`] reads the file, [`port`] is the balancer's, [`place`] has the directory, [`left`] ends what an earlier
//! topology left, by [`process`], [`command`] says what is run for a service, [`initdb`] makes the database, [`cgroup`]
//! sets its limits, and [`topology`] runs it until [`stop`]; [`health`] says when everything is ready, and [`forward`] leads
//! to the live page.

mod cgroup;
mod command;
mod compose;
mod error;
mod forward;
mod health;
mod initdb;
mod left;
mod place;
mod port;
mod process;
mod stop;
mod topology;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

use compose::Compose;
use error::{Result, say};
use place::Place;
use stop::Stop;
use topology::Topology;

/// The script that knows which values of compose.yml's variables are right.
const CHECK: &str = "tools/check";
/// Exit status of a wrong value, which the script has said.
const EXIT_USAGE: u8 = 2;

/// compose.yml without containers.
#[derive(Parser)]
struct Arguments {
    /// Where sockets, data and logs are [default: /var/lib/rinha/local, or ./data/local if not root]
    #[arg(long, env = "LOCAL_DIR")]
    directory: Option<PathBuf>,
    /// Throw away the database of an earlier run
    #[arg(long)]
    fresh: bool,
    /// Another composition than the project's, such as deploy/scale/compose.yml
    #[arg(long, default_value = "compose.yml")]
    compose: PathBuf,
    /// Another program in place of target/release/rinha: it finds its LISTEN in the environment
    #[arg(long)]
    api: Option<String>,
    /// No limits of CPU and memory (nobody but root can set them)
    #[arg(long)]
    unlimited: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Command::new(CHECK).arg("local").status() {
        Ok(status) if status.success() => {}
        Ok(_) => return ExitCode::from(EXIT_USAGE),
        Err(error) => {
            say(&format!("{CHECK}: {error}; run it from the repository's root"));
            return ExitCode::from(EXIT_USAGE);
        }
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let root = geteuid().is_root();
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None if root => PathBuf::from("/var/lib/rinha/local"),
        None => PathBuf::from("data/local"),
    };
    let stop = Stop::on_signals()?;
    let compose = Compose::read(&arguments.compose, Path::new(".env"))?;
    let _claim = compose.port.claim()?;
    let place = Place::prepare(&directory)?;
    let _lock = place.lock()?;
    left::end(&place, &compose)?;
    compose.port.check()?;
    place.clear(&compose.volumes(), arguments.fresh)?;
    // The services inherit the limit of open files: each gets as many as this process may have.
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;

    let limited = root && !arguments.unlimited;
    let started = Topology::start(&place, &compose, limited, arguments.api.as_deref(), &stop)?;
    let Some(mut topology) = started else {
        say("stopped before it was ready");
        return Ok(());
    };
    if !topology.wait_until_healthy()? {
        return Ok(());
    }
    let limits = match limited {
        true => format!("limits of {}", arguments.compose.display()),
        false => "no limits".to_owned(),
    };
    let files = place.directory.display();
    say(&format!("ready on port {}, {limits}, files in {files}", compose.port.number));
    lead_to_the_live_page(&place, compose.operators.number);
    topology.keep()
}

/// A second topology finds the port taken, and goes on without.
fn lead_to_the_live_page(place: &Place, port: u16) {
    match forward::start(port, &place.volume("sockets").join("operators.sock")) {
        Ok(address) => say(&format!("live page: http://{address}/live")),
        Err(error) => say(&format!("no live page: port {port}: {error}; set another METRICS_PORT")),
    }
}
