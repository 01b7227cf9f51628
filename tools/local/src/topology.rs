//! The running services: their start, their health, their restarts and their end.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::command;
use crate::compose::{self, Compose};
use crate::error::{Result, say};
use crate::health::is_healthy;
use crate::left::{Described, Description};
use crate::place::Place;
use crate::port::Port;
use crate::process::Identity;
use crate::stop::Stop;

/// From the start of all services to the balancer's first 200.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the processes are looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(20);
/// Pause before a service that ended is started again. It doubles with each time in a row.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// A service that lived for so long had started well.
const RESTART_LIFE_MIN: Duration = Duration::from_secs(5);
/// How often in a row a service may end before it had started well: 3.1 s of pauses.
const RESTARTS_MAX: u32 = 5;
/// Lines of a service's log that say why it ended.
const REASON_LINES: usize = 5;

/// A service's process.
struct Running {
    name: String,
    child: Child,
    identity: Option<Identity>,
    started: Instant,
    /// How often in a row it ended before it had started well.
    failures: u32,
    command: Vec<String>,
    group: Option<Group>,
    stop: compose::Stop,
}

/// All services, in the order of their start. Dropping the topology stops them.
pub(crate) struct Topology<'a> {
    place: &'a Place,
    /// The balancer's.
    port: Port,
    running: Vec<Running>,
    stop: &'a Stop,
}

impl<'a> Topology<'a> {
    /// Starts the services of `compose`, within its limits if `limited`; none if `stop` was set meanwhile. `api` is the
    /// program of the instances, in place of the server.
    pub(crate) fn start(
        place: &'a Place,
        compose: &Compose,
        limited: bool,
        api: Option<&str>,
        stop: &'a Stop,
    ) -> Result<Option<Topology<'a>>> {
        let mut topology = Topology { place, port: compose.port, running: Vec::new(), stop };
        // The port keeps the cgroups of two topologies on one machine apart.
        let groups = format!("rinha-local-{}", compose.port.number);
        for name in compose.start_order()? {
            let service = &compose.services[&name];
            let group = match &service.limits {
                Some(limits) if limited => Some(Group::create(&groups, &name, limits)?),
                _ => None,
            };
            let Some(command) = command::prepare(place, &name, service, api, stop)? else {
                return Ok(None);
            };
            fs::write(place.log(&name), "")?;
            let child = topology.spawn(&name, &command, group.as_ref())?;
            topology.running.push(Running {
                identity: identity(&child),
                name,
                child,
                started: Instant::now(),
                failures: 0,
                command,
                group,
                stop: service.stop.clone(),
            });
            // At once: if this process is killed, the next one must know whom to end.
            topology.describe()?;
        }
        Ok(Some(topology))
    }

    fn spawn(&self, name: &str, command: &[String], group: Option<&Group>) -> Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.place.log(name))?;
        // The shell enters the group before it becomes the service, so that the group counts all that the service does.
        let enter: String = group
            .iter()
            .flat_map(|group| group.processes())
            .map(|file| format!("echo $$ >{} && ", file.display()))
            .collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{enter}exec \"$@\""), "sh"]).args(command);
        // A process group of its own: Ctrl-C and the end of a terminal reach only this process, which stops the services
        // in their order.
        shell.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        Ok(shell.spawn().map_err(|error| format!("{name}: {error}"))?)
    }

    /// Writes `services.json`: each service's process and cgroups.
    fn describe(&self) -> Result<()> {
        let services = self.running.iter().filter_map(|running| {
            let cgroups = running.group.as_ref().map(Group::directories).unwrap_or_default();
            Some((running.name.clone(), Described { process: running.identity.clone()?, cgroups }))
        });
        let description = Description {
            directory: self.place.directory.clone(),
            port: self.port.number,
            pid: std::process::id(),
            services: services.collect(),
        };
        description.write(self.place)
    }

    /// Waits for the balancer's first 200; false if `stop` was set before. It is an error if a service ends before.
    pub(crate) fn wait_until_healthy(&mut self) -> Result<bool> {
        let began = Instant::now();
        let admin = self.admin_socket();
        let balancer = self.running.iter().find(|running| running.name == "haproxy");
        let balancer = balancer.ok_or("compose.yml: expected a service haproxy")?.child.id();
        loop {
            if self.stop.is_set() {
                return Ok(false);
            }
            for running in &mut self.running {
                if let Some(status) = running.child.try_wait()? {
                    return Err(ended(self.place, &running.name, status).into());
                }
            }
            if is_healthy(self.port.reached(), &admin, balancer).unwrap_or(false) {
                return Ok(true);
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
    }

    fn admin_socket(&self) -> PathBuf {
        self.place.volume("sockets").join("haproxy-admin.sock")
    }

    /// Keeps all services running until `stop` is set. It is an error if one ends again and again.
    pub(crate) fn keep(&mut self) -> Result<()> {
        while !self.stop.is_set() {
            if self.restart_ended()? {
                self.describe()?;
            }
            thread::sleep(WATCH_PERIOD);
        }
        Ok(())
    }

    /// Starts again each service that ended, and says whether there was one.
    fn restart_ended(&mut self) -> Result<bool> {
        let mut any = false;
        for position in 0..self.running.len() {
            let running = &mut self.running[position];
            let Some(status) = running.child.try_wait()? else { continue };
            if running.started.elapsed() >= RESTART_LIFE_MIN {
                running.failures = 0;
            }
            running.failures += 1;
            if running.failures > RESTARTS_MAX {
                let why = ended(self.place, &running.name, status);
                return Err(format!("{why}\n  {RESTARTS_MAX} starts in a row ended so: stopping").into());
            }
            say(&format!("{} ended: {status}; starting it again", running.name));
            thread::sleep(RESTART_PAUSE * 2_u32.pow(running.failures - 1));
            let running = &self.running[position];
            let child = self.spawn(&running.name, &running.command, running.group.as_ref())?;
            let running = &mut self.running[position];
            running.identity = identity(&child);
            running.child = child;
            running.started = Instant::now();
            any = true;
        }
        Ok(any)
    }
}

fn identity(child: &Child) -> Option<Identity> {
    Identity::of(i32::try_from(child.id()).expect("a pid of Linux fits an i32"))
}

/// Why a service ended: its last words.
fn ended(place: &Place, name: &str, status: ExitStatus) -> String {
    let log = place.log(name);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(REASON_LINES);
    let words: String = lines[first..].iter().map(|line| format!("\n  {line}")).collect();
    format!("{name} ended: {status}; see {}{words}", log.display())
}

impl Drop for Topology<'_> {
    fn drop(&mut self) {
        if !self.running.is_empty() {
            say("stopping");
        }
        for running in self.running.iter_mut().rev() {
            let pid = Pid::from_raw(i32::try_from(running.child.id()).expect("a pid of Linux fits an i32"));
            if matches!(running.child.try_wait(), Ok(None)) {
                let _ = kill(pid, running.stop.signal);
            }
            let began = Instant::now();
            while matches!(running.child.try_wait(), Ok(None)) {
                let impatient = self.stop.is_repeated();
                if impatient || began.elapsed() > running.stop.grace {
                    let why = if impatient { "a second signal" } else { "it did not end in time" };
                    say(&format!("{}: {why}: killed", running.name));
                    let _ = running.child.kill();
                    let _ = running.child.wait();
                }
                thread::sleep(WATCH_PERIOD);
            }
        }
        let _ = fs::remove_file(self.place.state());
        if !self.running.is_empty() {
            say("stopped");
        }
    }
}
