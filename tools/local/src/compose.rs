//! What `compose.yml` says, as far as plain processes need it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_yaml_ng::Value;

use crate::error::Result;
use crate::port::Port;

/// The services of the file, and where they are reached.
pub(crate) struct Compose {
    pub(crate) services: BTreeMap<String, Service>,
    /// The balancer's port on this machine.
    pub(crate) port: Port,
    /// The port for operators.
    pub(crate) operators: Port,
}

/// Where Postgres' image keeps its clusters, and its socket.
const DATA: &str = "/var/lib/postgresql";
const SOCKET: &str = "/run/postgresql";

/// A service that is a database: its volumes.
pub(crate) struct Database<'a> {
    pub(crate) data: &'a str,
    pub(crate) socket: &'a str,
}

/// One service.
pub(crate) struct Service {
    /// Whether its program is this project's own.
    pub(crate) built: bool,
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Each volume's source and its target in the container.
    pub(crate) volumes: Vec<(String, String)>,
    pub(crate) limits: Option<Limits>,
    pub(crate) stop: Stop,
    depends_on: Vec<String>,
}

/// How a service is stopped.
#[derive(Clone)]
pub(crate) struct Stop {
    /// What its process is sent.
    pub(crate) signal: Signal,
    /// How long its end is waited for before it is killed.
    pub(crate) grace: Duration,
}

/// What a service may use.
pub(crate) struct Limits {
    pub(crate) cpus: f64,
    /// Bytes.
    pub(crate) memory: u64,
}

#[derive(Deserialize)]
struct File {
    services: BTreeMap<String, Raw>,
}

#[derive(Deserialize)]
struct Raw {
    /// Only if somebody asks for one of these.
    #[serde(default)]
    profiles: Vec<String>,
    image: String,
    build: Option<Value>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    depends_on: Vec<String>,
    stop_signal: Option<String>,
    stop_grace_period: Option<String>,
    deploy: Option<Deploy>,
}

#[derive(Deserialize)]
struct Deploy {
    resources: Resources,
}

#[derive(Deserialize)]
struct Resources {
    limits: RawLimits,
}

#[derive(Deserialize)]
struct RawLimits {
    cpus: Value,
    memory: String,
}

impl Compose {
    /// Reads the file at `path`. Its variables get their values from the environment, or else from `defaults`, a file
    /// of `NAME=VALUE` lines that need not exist.
    pub(crate) fn read(path: &Path, defaults: &Path) -> Result<Compose> {
        let defaults = fs::read_to_string(defaults).unwrap_or_default();
        let variables = defaults
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .filter(|(name, _)| !name.starts_with('#'))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['"', '\'']).to_owned()))
            .chain(env::vars())
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut value: Value = serde_yaml_ng::from_str(&interpolate(&text, &variables)?)?;
        value.apply_merge()?;
        let mut file: File = serde_yaml_ng::from_value(value)?;
        let operators = file.services.get("operators").and_then(|raw| Port::published(raw.ports.first()?));
        let operators = operators
            .ok_or("METRICS_PORT: expected a port such as 9100 that a service operators publishes")?;
        file.services.retain(|_, raw| raw.profiles.is_empty());
        let mut port = None;
        let built: Vec<_> =
            file.services.values().filter(|raw| raw.build.is_some()).map(|raw| raw.image.clone()).collect();
        let mut services = BTreeMap::new();
        for (name, raw) in file.services {
            for published in &raw.ports {
                let read = Port::published(published);
                port = Some(read.ok_or_else(|| {
                    format!("PORT: expected a port such as 9999 or 127.0.0.1:9999, got {published}")
                })?);
            }
            let built = built.contains(&raw.image);
            let mut service = Service { built, ..raw.try_into()? };
            // The file's paths are seen from its own directory.
            let directory = path.parent().unwrap_or(Path::new(""));
            for (source, _) in service.volumes.iter_mut().filter(|(source, _)| is_path(source)) {
                *source = directory.join(&*source).to_string_lossy().into_owned();
            }
            services.insert(name, service);
        }
        let port = port.ok_or("compose.yml: expected a published port")?;
        // In a container the balancer may listen on another port than the published one, and on every address. Without,
        // it listens where it is published.
        let balancer: &mut Service =
            services.get_mut("haproxy").ok_or("compose.yml: expected a service haproxy")?;
        balancer.environment.insert("PORT".to_owned(), port.number.to_string());
        let address = port.address.map(|address| address.to_string()).unwrap_or_default();
        balancer.environment.insert("ADDRESS".to_owned(), address);
        Ok(Compose { services, port, operators })
    }

    /// The named volumes, and whether each is a database's data.
    pub(crate) fn volumes(&self) -> BTreeMap<&str, bool> {
        let volumes = self.services.values().flat_map(|service| &service.volumes);
        let named = volumes.filter(|(source, _)| !is_path(source));
        named.map(|(source, target)| (source.as_str(), target == DATA)).collect()
    }

    /// The names of the services, each after those it depends on.
    pub(crate) fn start_order(&self) -> Result<Vec<String>> {
        let mut order: Vec<String> = Vec::new();
        while order.len() < self.services.len() {
            let next = self.services.iter().find(|(name, service)| {
                !order.contains(name)
                    && service.depends_on.iter().all(|dependency| order.contains(dependency))
            });
            order.push(next.ok_or("compose.yml: expected dependencies without a circle")?.0.clone());
        }
        Ok(order)
    }
}

/// Whether a volume is a file of the project.
pub(crate) fn is_path(source: &str) -> bool {
    source.contains('/')
}

impl Service {
    /// Its volumes, if it is a database.
    pub(crate) fn database(&self) -> Option<Database<'_>> {
        let at = |place: &str| {
            self.volumes.iter().find(|(_, target)| target == place).map(|(source, _)| source.as_str())
        };
        Some(Database { data: at(DATA)?, socket: at(SOCKET)? })
    }
}

impl TryFrom<Raw> for Service {
    type Error = Box<dyn std::error::Error>;

    fn try_from(raw: Raw) -> Result<Service> {
        let volumes = raw
            .volumes
            .iter()
            .map(|volume| match volume.split(':').collect::<Vec<_>>()[..] {
                [source, target, ..] => Ok((source.to_owned(), target.to_owned())),
                _ => Err(format!("compose.yml: expected SOURCE:TARGET, got {volume}")),
            })
            .collect::<std::result::Result<_, _>>()?;
        let limits = match raw.deploy {
            None => None,
            Some(deploy) => {
                let limits = deploy.resources.limits;
                let cpus = limits.cpus.as_f64().ok_or("compose.yml: expected a number of cpus")?;
                Some(Limits { cpus, memory: memory(&limits.memory)? })
            }
        };
        Ok(Service {
            built: false,
            // In compose.yml two dollars stand for one.
            command: raw.command.iter().map(|argument| argument.replace("$$", "$")).collect(),
            environment: raw.environment,
            volumes,
            limits,
            stop: Stop {
                signal: raw.stop_signal.as_deref().unwrap_or("SIGTERM").parse::<Signal>()?,
                grace: seconds(raw.stop_grace_period.as_deref().unwrap_or("10s"))?,
            },
            depends_on: raw.depends_on,
        })
    }
}

/// The bytes of a size: Compose counts in powers of two, whatever the suffix.
fn memory(text: &str) -> Result<u64> {
    let binary = match text.strip_suffix(['K', 'M', 'G', 'k', 'm', 'g']) {
        Some(_) => format!("{text}iB"),
        None => text.to_owned(),
    };
    Ok(binary
        .parse::<ByteSize>()
        .map_err(|_| format!("compose.yml: expected a size such as 512M, got {text}"))?
        .as_u64())
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
    Ok(Duration::from_secs(
        seconds.ok_or_else(|| format!("compose.yml: expected seconds such as 10s, got {text}"))?,
    ))
}

/// Puts values in place of variables. `${NAME:-default}` is the only form that `compose.yml` uses.
fn interpolate(text: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (variable, after) = after.split_once('}').ok_or("compose.yml: expected a closing brace")?;
        let (name, default) = variable
            .split_once(":-")
            .ok_or_else(|| format!("compose.yml: expected ${{NAME:-default}}, got ${{{variable}}}"))?;
        result.push_str(before);
        result.push_str(variables.get(name).map_or(default, String::as_str));
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}
