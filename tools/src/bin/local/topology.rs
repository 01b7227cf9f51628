//! The running services: their start, their health, their restarts and their end.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::command;
use crate::compose::{Compose, Stop};
use crate::error::Result;
use crate::health::is_healthy;
use crate::place::Place;

/// From the start of all services to the balancer's first 200.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How often the processes are looked at.
const WATCH_PERIOD: Duration = Duration::from_millis(20);
/// Pause before a service that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// A service's process.
struct Running {
    name: String,
    child: Child,
    command: Vec<String>,
    group: Option<Group>,
    stop: Stop,
}

/// All services, in the order of their start. Dropping the topology stops them.
pub(crate) struct Topology<'a> {
    place: &'a Place,
    /// The balancer's.
    port: u16,
    running: Vec<Running>,
}

impl<'a> Topology<'a> {
    /// Starts the services of `compose`, within its limits if `limited`. `api` is the program of the instances, in
    /// place of the server.
    pub(crate) fn start(
        place: &'a Place,
        compose: &Compose,
        limited: bool,
        api: Option<&str>,
    ) -> Result<Topology<'a>> {
        let mut topology = Topology { place, port: compose.port, running: Vec::new() };
        // The port keeps the cgroups of two topologies on one machine apart.
        let groups = format!("rinha-local-{}", compose.port);
        for name in compose.start_order()? {
            let service = &compose.services[&name];
            let group = match &service.limits {
                Some(limits) if limited => Some(Group::create(&groups, &name, limits)?),
                _ => None,
            };
            let command = command::prepare(place, &name, service, api)?;
            fs::write(place.log(&name), "")?;
            let child = topology.spawn(&name, &command, group.as_ref())?;
            topology.running.push(Running { name, child, command, group, stop: service.stop.clone() });
        }
        topology.describe()?;
        Ok(topology)
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
        shell.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(shell.spawn().map_err(|error| format!("{name}: {error}"))?)
    }

    /// Writes `services.json`: each service's process and cgroups.
    fn describe(&self) -> Result<()> {
        let services: BTreeMap<_, _> = self
            .running
            .iter()
            .map(|running| {
                let groups = running.group.as_ref().map(Group::directories).unwrap_or_default();
                (&running.name, serde_json::json!({ "pid": running.child.id(), "cgroups": groups }))
            })
            .collect();
        let text = serde_json::json!({
            "directory": self.place.directory, "port": self.port, "pid": std::process::id(), "services": services,
        });
        let file = self.place.state();
        fs::write(file.with_extension("new"), format!("{text:#}\n"))?;
        Ok(fs::rename(file.with_extension("new"), file)?)
    }

    /// Waits for the balancer's first 200. It is an error if a service ends before, or if `stop` has a message.
    pub(crate) fn wait_until_healthy(&mut self, stop: &Receiver<()>) -> Result<()> {
        let began = Instant::now();
        while !is_healthy(self.port).unwrap_or(false) {
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

    /// Keeps all services running until `stop` has a message.
    pub(crate) fn keep(&mut self, stop: &Receiver<()>) -> Result<()> {
        while stop.try_recv().is_err() {
            if self.restart_ended()? {
                self.describe()?;
            }
            thread::sleep(WATCH_PERIOD);
        }
        Ok(())
    }

    /// Starts again each service that ended, and says whether there was one.
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
}

impl Drop for Topology<'_> {
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
