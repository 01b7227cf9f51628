//! The topology as plain processes: the program `local` of tools/ starts them, and describes them in a directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde::Deserialize;

use super::service::{COMMAND_TIME_MAX, DOWN_TIME_MAX, PSQL, Service, UP_TIME_MAX};
use crate::floor::{Floor, NO_INSERTS, PROGRAM};
use crate::process::{logged, mortal, output, output_of, output_told};
use crate::progress::step;

const POLL: Duration = Duration::from_millis(100);

/// Plain processes, described in this directory.
#[derive(Clone, Debug)]
pub struct Processes(PathBuf);

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

impl Processes {
    /// The stress test's own directory, so that no other database is lost, and the default directory of `local`.
    pub(super) fn own_and_usual() -> [Self; 2] {
        let parent = if geteuid().is_root() { "/var/lib/rinha" } else { "data" };
        let usual =
            std::env::var_os("LOCAL_DIR").map_or_else(|| Path::new(parent).join("local"), PathBuf::from);
        [Self(Path::new(parent).join("stress")), Self(usual)]
    }

    /// Whether they run, and their balancer has this port.
    pub(super) fn listen_on(&self, port: u16) -> bool {
        self.description().is_ok_and(|description| description.port == port)
    }

    /// An error if compose.yml is given wrong values.
    pub(super) fn check() -> Result<()> {
        output(Command::new("tools/check").arg("local"), COMMAND_TIME_MAX).map(drop)
    }

    /// Builds the programs and starts them with an empty database; what they say goes to `log`. They end with this
    /// process, unless `keep`. A `floor` stands in the server's place.
    pub(super) fn start(&self, log: &Path, keep: bool, floor: Option<Floor>) -> Result<Child> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(&cargo);
        // `cargo run` sets variables that describe this package. Inherited by the build, they would make it run build
        // scripts and compile half of the tree again.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_this_package(name)) {
            command.env_remove(name);
        }
        let program = Path::new(&target_directory()).join("release/local");
        let first = if program.exists() { "" } else { "; the first time that takes some minutes" };
        let building = step(format!("local processes: building{first}"));
        output_told(command.args(build(floor)), UP_TIME_MAX, &building)?;
        drop(building);
        let mut local = if keep { Command::new(program) } else { mortal(Signal::SIGTERM, program) };
        local.arg("--fresh").arg("--directory").arg(&self.0);
        instead(&mut local, floor);
        logged(&mut local, &fs::File::create(log)?)
    }

    /// Stops them and throws away their database.
    pub(super) fn down(&self) -> Result<()> {
        kill(Pid::from_raw(self.description()?.pid), Signal::SIGTERM)?;
        let began = Instant::now();
        while self.is_held() {
            if began.elapsed() > DOWN_TIME_MAX {
                bail!("local: it did not end within {} s", DOWN_TIME_MAX.as_secs());
            }
            thread::sleep(POLL);
        }
        Ok(fs::remove_dir_all(self.0.join("data"))?)
    }

    pub(super) fn services(&self) -> Result<Vec<Service>> {
        let services = self.description()?.services;
        let service = |(name, process): (String, Process)| Service { name, pid: process.pid, restarts: 0 };
        Ok(services.into_iter().map(service).collect())
    }

    /// The directory in which each instance has a socket for each core.
    pub(super) fn sockets(&self) -> PathBuf {
        self.0.join("sockets")
    }

    /// Beside Postgres' data, which is a directory of Postgres' own.
    pub(super) fn storage(&self) -> PathBuf {
        self.0.clone()
    }

    /// The rows of one statement.
    pub(super) fn sql(&self, statement: &str) -> Result<String> {
        let mut command = self.psql()?;
        if let Some(password) = std::env::var_os("POSTGRES_PASSWORD") {
            command.env("PGPASSWORD", password);
        }
        output_of(&mut command, statement.as_bytes(), COMMAND_TIME_MAX)
    }

    fn psql(&self) -> Result<Command> {
        let mut words = PSQL.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        // psql takes a relative path, as it is for everybody but root, for the name of a host.
        command.args(words).arg("-h").arg(std::path::absolute(self.0.join("postgres-socket"))?);
        Ok(command)
    }

    /// A command on the balancer's admin socket.
    pub(super) fn balancer(&self, command: &str) -> Result<String> {
        let mut socket = UnixStream::connect(self.sockets().join("haproxy-admin.sock"))?;
        socket.set_read_timeout(Some(COMMAND_TIME_MAX))?;
        socket.set_write_timeout(Some(COMMAND_TIME_MAX))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What the balancer says of itself: it is this machine's own.
    pub(super) fn balancer_version() -> Result<String> {
        output(Command::new("haproxy").arg("-v"), COMMAND_TIME_MAX)
    }

    /// The description of what runs there. The file of a topology that was killed is an error: its pids may be
    /// anybody's.
    fn description(&self) -> Result<Description> {
        let file = self.0.join("services.json");
        let text =
            fs::read_to_string(&file).with_context(|| format!("{}: nothing runs there", file.display()))?;
        if !self.is_held() {
            bail!("{}: it ended", file.display());
        }
        Ok(serde_json::from_str(&text)?)
    }

    /// Whether a local topology runs there: it holds its lock as long as it lives.
    fn is_held(&self) -> bool {
        let Ok(lock) = fs::File::open(self.0.join("lock")) else { return false };
        Flock::lock(lock, FlockArg::LockSharedNonblock).is_err()
    }
}

/// What cargo is told, to build the programs that run.
fn build(floor: Option<Floor>) -> Vec<String> {
    let mut words: Vec<String> = ["build", "--release", "--locked", "-p", "local"].map(str::to_owned).into();
    match floor {
        None => words.extend(["-p", "rinha"].map(str::to_owned)),
        // Of the tools only this one.
        Some(_) => words.extend(["-p", "tools", "--bin", "local", "--bin", PROGRAM].map(str::to_owned)),
    }
    words
}

/// Tells the topology what to run in the server's place. The services have its environment.
fn instead(local: &mut Command, floor: Option<Floor>) {
    // Whatever is set here must not make one floor the other.
    local.env_remove(NO_INSERTS);
    if let Some(floor) = floor {
        local.arg("--api").arg(Path::new(&target_directory()).join("release").join(PROGRAM));
        if floor == Floor::ConstantAnswer {
            local.env(NO_INSERTS, "1");
        }
    }
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
    fn a_floor_is_built_and_stands_in_the_servers_place() {
        let check = |floor: Option<Floor>, built: &str, program: Option<&str>, no_inserts: Option<&str>| {
            assert_eq!(build(floor).join(" "), built);
            let mut local = Command::new("local");
            instead(&mut local, floor);
            let words: Vec<String> =
                local.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            assert_eq!(words.first().map(String::as_str), program.map(|_| "--api"));
            assert!(program.is_none_or(|program| words[1].ends_with(program)), "{words:?}");
            let set = local.get_envs().find(|(name, _)| *name == NO_INSERTS).expect("set or removed").1;
            assert_eq!(set.and_then(|value| value.to_str()), no_inserts);
        };
        check(None, "build --release --locked -p local -p rinha", None, None);
        let built = "build --release --locked -p local -p tools --bin local --bin limit";
        check(Some(Floor::ConstantAnswer), built, Some("release/limit"), Some("1"));
        check(Some(Floor::BareInsert), built, Some("release/limit"), None);
    }

    #[test]
    fn psql_is_told_a_directory_and_no_host() {
        for directory in ["data/stress", "/var/lib/rinha/stress"] {
            let command = Processes(PathBuf::from(directory)).psql().expect("a command");
            let last = command.get_args().last().expect("an argument").to_string_lossy().into_owned();
            assert!(last.starts_with('/') && last.ends_with("stress/postgres-socket"), "{last}");
        }
    }

    #[test]
    fn a_description_that_was_left_behind_stops_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut other = Command::new("sleep").arg("60").spawn().expect("somebody else's process");
        let text = format!(r#"{{"pid": {}, "port": 9999, "services": {{}}}}"#, other.id());
        fs::write(directory.path().join("services.json"), text).expect("a file");
        let processes = Processes(directory.path().to_owned());
        let check = |expected: bool| assert_eq!(processes.listen_on(9999), expected);
        check(false);
        let lock = fs::File::create(directory.path().join("lock")).expect("a file");
        check(false);
        let held = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock");
        check(true);
        drop(held);
        check(false);
        assert!(processes.down().is_err());
        thread::sleep(POLL);
        assert_eq!(other.try_wait().expect("a child"), None);
        other.kill().and_then(|()| other.wait()).expect("its end");
    }
}
