//! The containers of a Compose project, by the command line of the engine that runs them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use super::service::{COMMAND_TIME_MAX, DOWN_TIME_MAX, PSQL, Service, UP_TIME_MAX};
use crate::process::{clean_up, output, output_of, output_told};
use crate::progress::step;

/// The Compose project of the stress test, so that nobody's database is thrown away but its own, and the project that
/// compose.yml names.
pub const OWN: &str = "rinha-stress";
pub(super) const USUAL: &str = "rinha";
/// The volume of compose.yml that has the database.
const DATABASE: &str = "data";

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `docker` and `docker compose`.
    Docker,
    /// `podman` and `podman-compose`.
    Podman,
}

/// A project of Compose.
#[derive(Clone, Debug)]
pub struct Project {
    /// Which engine runs its containers.
    engine: Engine,
    /// The project's name, which is in a label of all of them.
    name: String,
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

    /// The first engine that answers.
    pub(super) fn find() -> Option<Self> {
        [Engine::Docker, Engine::Podman].into_iter().find(|engine| engine.answers())
    }

    pub(super) fn project(self, name: &str) -> Project {
        Project { engine: self, name: name.to_owned() }
    }
}

impl Project {
    /// What people call the engine.
    pub(super) fn engine_name(&self) -> &'static str {
        match self.engine {
            Engine::Docker => "docker compose",
            Engine::Podman => "podman-compose",
        }
    }

    /// The project that compose.yml names, if it runs and must make room.
    pub(super) fn in_the_way(&self) -> Result<Option<Project>> {
        let usual = self.engine.project(USUAL);
        let away = self.name == USUAL || usual.services()?.is_empty();
        Ok((!away).then_some(usual))
    }

    /// The project that compose.yml names, which a killed run has stopped.
    pub(super) fn displaced_before(&self) -> Project {
        self.engine.project(USUAL)
    }

    /// Stops the project that compose.yml names, and keeps its data.
    pub(super) fn displace(&self) -> Result<()> {
        let usual = self.engine.project(USUAL);
        if let Err(error) = output(usual.compose().arg("stop"), DOWN_TIME_MAX) {
            // Some containers may have stopped. An error of their new start must not hide the one that stopped this.
            let _ = clean_up(|| usual.start_again());
            return Err(error);
        }
        Ok(())
    }

    /// An error if compose.yml is given wrong values, which `up` would find out only after other things were stopped.
    pub(super) fn check(&self) -> Result<()> {
        let engine = match self.engine {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        };
        output(Command::new("tools/check").args(["--values", engine]), COMMAND_TIME_MAX).map(drop)
    }

    /// Starts a displaced project again.
    pub fn start_again(&self) -> Result<()> {
        output(self.compose().arg("start"), DOWN_TIME_MAX).map(drop)
    }

    /// Whether it has containers that run.
    pub(super) fn is_running(&self) -> bool {
        !self.services().unwrap_or_default().is_empty()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether one of its containers has this port of the host.
    pub(super) fn publishes(&self, port: u16) -> bool {
        let published = self.listed("{{.Ports}}");
        published.is_ok_and(|ports| ports.contains(&format!(":{port}->")))
    }

    /// Builds its images and starts it with an empty database.
    pub(super) fn up(&self) -> Result<()> {
        // An earlier run may have left containers and volumes.
        self.down()?;
        let name = self.engine_name();
        let building = step(format!("{name}: building the images; the first time that takes some minutes"));
        output_told(self.compose().arg("build"), UP_TIME_MAX, &building)?;
        drop(building);
        let starting = step(format!("{name}: starting the containers"));
        output_told(self.compose().args(["up", "-d"]), UP_TIME_MAX, &starting).map(drop)
    }

    /// Stops it and throws away its database.
    pub(super) fn down(&self) -> Result<()> {
        output(self.compose().args(["down", "--volumes"]), DOWN_TIME_MAX).map(drop)
    }

    pub(super) fn services(&self) -> Result<Vec<Service>> {
        let listed = self.listed(r#"{{.ID}} {{.Label "com.docker.compose.service"}}"#)?;
        let services = listed.lines().filter_map(|line| line.split_once(' '));
        services
            .map(|(container, name)| {
                let format = "{{.State.Pid}} {{.RestartCount}}";
                let printed = self
                    .engine
                    .command()
                    .args(["inspect", "--format", format, container])
                    .to_owned_output()?;
                let (pid, restarts) =
                    printed.trim().split_once(' ').context("expected a pid and a number of restarts")?;
                Ok(Service { name: name.trim().to_owned(), pid: pid.parse()?, restarts: restarts.parse()? })
            })
            .collect()
    }

    /// Where the engine has the volume of the database. It may be the path of another machine, or one that only root can
    /// write.
    pub(super) fn storage(&self) -> Result<PathBuf> {
        let volume = format!("{}_{DATABASE}", self.name);
        let printed = self
            .engine
            .command()
            .args(["volume", "inspect", "--format", "{{.Mountpoint}}", &volume])
            .to_owned_output()?;
        let path = PathBuf::from(printed.trim());
        ensure!(path.is_absolute(), "the volume {volume}: expected a directory, got {:?}", printed.trim());
        Ok(path)
    }

    /// The rows of one statement.
    pub(super) fn sql(&self, statement: &str) -> Result<String> {
        // With the password, where compose.yml was given one.
        let script = format!("PGPASSWORD=$POSTGRES_PASSWORD exec {PSQL}");
        self.within("postgres", &["sh", "-c", &script], statement.as_bytes())
    }

    /// A command on the balancer's admin socket.
    pub(super) fn balancer(&self, command: &str) -> Result<String> {
        const CLIENT: &str = r#"
            my $socket = IO::Socket::UNIX->new("/run/rinha/haproxy-admin.sock") or die "haproxy-admin.sock: $!";
            print $socket <STDIN>; $socket->flush; print while <$socket>;"#;
        self.within(
            "haproxy",
            &["perl", "-MIO::Socket::UNIX", "-e", CLIENT],
            format!("{command}\n").as_bytes(),
        )
    }

    /// What the balancer says of itself.
    pub(super) fn balancer_version(&self) -> Result<String> {
        self.within("haproxy", &["haproxy", "-v"], b"")
    }

    fn compose(&self) -> Command {
        self.engine.compose(&self.name)
    }

    /// A line for each of its containers that run.
    fn listed(&self, format: &str) -> Result<String> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        self.engine.command().args(["ps", "--filter", &label, "--format", format]).to_owned_output()
    }

    /// Runs a program inside of a service's container.
    fn within(&self, service: &str, program: &[&str], input: &[u8]) -> Result<String> {
        let filters = [("project", self.name.as_str()), ("service", service)]
            .map(|(key, value)| format!("label=com.docker.compose.{key}={value}"));
        let id = self
            .engine
            .command()
            .args(["ps", "-q", "--filter", &filters[0], "--filter", &filters[1]])
            .to_owned_output()?;
        let id = id.lines().next().ok_or_else(|| anyhow!("{service}: no such container"))?;
        output_of(self.engine.command().args(["exec", "-i", id]).args(program), input, COMMAND_TIME_MAX)
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
