//! Where the database is: its addresses, how a connection is protected, and what this process learnt of it. It opens
//! nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::history::{History, Identity};
use super::layout::Partitions;
use super::placement::Engine;
use super::tls::Tls;

/// The port of a database when the configuration names none.
const PORT_DEFAULT: u16 = 5432;

/// Where the database is. Clones share what the process learns of it.
#[derive(Clone)]
pub struct Source(Arc<Place>);

struct Place {
    /// User, password, database and options; its hosts are `addresses`.
    config: Config,
    addresses: Vec<Address>,
    tls: Option<Arc<Tls>>,
    /// Of all nodes together.
    partitions: Partitions,
    engine: Engine,
    history: History,
    /// The address that a session was last made with.
    last_good: AtomicUsize,
}

/// What the process knows of the primary.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The history that it follows; `None` before it has met one.
    pub history: Option<Identity>,
    /// Where the last session was made.
    pub address: String,
}

/// One place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// A name or an IP address, and a port.
    Tcp {
        /// What a certificate must name.
        host: String,
        /// Where to connect; the name's addresses when they differ.
        at: String,
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Tcp { at, port, .. } if at.contains(':') => write!(f, "[{at}]:{port}"),
            Address::Tcp { at, port, .. } => write!(f, "{at}:{port}"),
        }
    }
}

impl Source {
    /// A database by its URL or its key=value pairs, as libpq knows them; `sslmode` may be `disable`, `require`, `verify-ca`
    /// or `verify-full`, and `sslrootcert` a file of certificates in place of the system's.
    ///
    /// # Errors
    ///
    /// One line that says what was expected.
    pub fn parse(url: &str) -> Result<Source, String> {
        let (plain, wish) = super::tls::split(url)?;
        let mut config: Config = plain.parse().map_err(|error| {
            let cause = std::error::Error::source(&error);
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}; expected postgres://USER@HOST/DATABASE or key=value pairs")
        })?;
        let tls = Tls::new(&wish)?;
        // By default a connection is not encrypted; whoever wants it says so.
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        Source::new(config, tls)
    }

    /// The same, as one of those that share so many partitions.
    ///
    /// # Panics
    ///
    /// It is in use already.
    pub fn with_partitions(self, partitions: Partitions) -> Source {
        let place = Arc::into_inner(self.0).expect("a source that nobody else uses yet");
        Source(Arc::new(Place { partitions, ..place }))
    }

    /// A node of the Citus cluster whose coordinator this is.
    pub(super) fn node_of_citus(&self, host: &str, port: u16) -> Source {
        self.of_citus(vec![match host.starts_with('/') {
            true => Address::Unix(Path::new(host).join(format!(".s.PGSQL.{port}"))),
            false => Address::Tcp { host: host.to_owned(), at: host.to_owned(), port },
        }])
    }

    /// This coordinator as one of its nodes.
    pub(super) fn coordinator_of_citus(&self) -> Source {
        self.of_citus(self.0.addresses.clone())
    }

    fn of_citus(&self, addresses: Vec<Address>) -> Source {
        let Place { config, tls, partitions, .. } = &*self.0;
        Source(Arc::new(Place {
            config: config.clone(),
            addresses,
            tls: tls.clone(),
            partitions: *partitions,
            engine: Engine::Citus,
            history: History::default(),
            last_good: AtomicUsize::new(0),
        }))
    }

    /// Whose schemas the partitions are.
    pub(super) fn engine(&self) -> Engine {
        self.0.engine
    }

    /// How many partitions all nodes have together.
    pub fn partitions(&self) -> Partitions {
        self.0.partitions
    }

    /// A database on this machine.
    ///
    /// # Panics
    ///
    /// The configuration names no host.
    pub fn local(config: Config) -> Source {
        Source::new(config, None).expect("a configuration of this process' own names a host")
    }

    fn new(config: Config, tls: Option<Tls>) -> Result<Source, String> {
        if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err("target_session_attrs=read-only: expected a database that takes writes".to_owned());
        }
        let addresses = addresses(&config)?;
        Ok(Source(Arc::new(Place {
            config,
            addresses,
            tls: tls.map(Arc::new),
            partitions: Partitions::ONE,
            engine: Engine::default(),
            history: History::default(),
            last_good: AtomicUsize::new(0),
        })))
    }

    /// User, password, database and options of a connection for `purpose`, which the server's list of sessions shows.
    pub(super) fn config_for(&self, purpose: &str) -> Config {
        let mut config = self.0.config.clone();
        let name = match self.0.config.get_application_name() {
            Some(name) => name.to_owned(),
            None => {
                let host = nix::unistd::gethostname().unwrap_or_default();
                format!("rinha {}/{}", host.to_string_lossy(), std::process::id())
            }
        };
        config.application_name(application_name(&name, purpose));
        config
    }

    pub(super) fn addresses(&self) -> &[Address] {
        &self.0.addresses
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.0.tls.as_deref()
    }

    pub(super) fn history(&self) -> &History {
        &self.0.history
    }

    /// The numbers of the addresses, the last good one first.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (count, first) = (self.0.addresses.len(), self.0.last_good.load(Ordering::Relaxed));
        (0..count).map(move |number| (first + number) % count)
    }

    /// What the process knows of the primary at the moment.
    pub fn seen(&self) -> Seen {
        Seen { history: self.0.history.current(), address: self.address().to_string() }
    }

    /// The address that a session was last made with.
    pub(super) fn address(&self) -> &Address {
        &self.0.addresses[self.0.last_good.load(Ordering::Relaxed)]
    }

    pub(super) fn was_good(&self, address: usize) {
        self.0.last_good.store(address, Ordering::Relaxed);
    }
}

/// Postgres keeps 63 bytes of a name; the purpose is not what is cut off.
fn application_name(name: &str, purpose: &str) -> String {
    const BYTES_MAX: usize = 63;
    let mut room = (BYTES_MAX - purpose.len() - 1).min(name.len());
    while !name.is_char_boundary(room) {
        room -= 1;
    }
    format!("{} {purpose}", &name[..room])
}

fn addresses(config: &Config) -> Result<Vec<Address>, String> {
    let (hosts, hostaddrs, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(hostaddrs.len());
    if count == 0 {
        return Err("expected a host, as in postgres://USER@HOST/DATABASE".to_owned());
    }
    if !hosts.is_empty() && !hostaddrs.is_empty() && hosts.len() != hostaddrs.len() {
        return Err(format!(
            "expected as many hosts as hostaddrs, got {} and {}",
            hosts.len(),
            hostaddrs.len()
        ));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("expected one port, or one for each of {count} hosts, got {}", ports.len()));
    }
    let port = |number: usize| match ports {
        [] => PORT_DEFAULT,
        [port] => *port,
        ports => ports[number],
    };
    let address = |number: usize| match (hosts.get(number), hostaddrs.get(number)) {
        (Some(Host::Unix(directory)), _) => {
            Address::Unix(directory.join(format!(".s.PGSQL.{}", port(number))))
        }
        (Some(Host::Tcp(host)), hostaddr) => Address::Tcp {
            host: host.clone(),
            at: hostaddr.map_or_else(|| host.clone(), ToString::to_string),
            port: port(number),
        },
        (None, hostaddr) => {
            let at = hostaddr.map(ToString::to_string).unwrap_or_default();
            Address::Tcp { host: at.clone(), at, port: port(number) }
        }
    };
    Ok((0..count).map(address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Result<Vec<String>, String> {
        Source::parse(url).map(|source| source.addresses().iter().map(Address::to_string).collect())
    }

    #[test]
    fn every_host_is_an_address() {
        for (url, expected) in [
            ("postgres://u@a/d", &["a:5432"][..]),
            ("postgres://u@a:1,b:2/d", &["a:1", "b:2"]),
            ("host=a,b,c port=7", &["a:7", "b:7", "c:7"]),
            ("host=/run port=7", &["/run/.s.PGSQL.7"]),
            ("host=/run,::1 port=7,8", &["/run/.s.PGSQL.7", "[::1]:8"]),
            ("host=a hostaddr=10.0.0.1", &["10.0.0.1:5432"]),
            ("hostaddr=10.0.0.1,10.0.0.2", &["10.0.0.1:5432", "10.0.0.2:5432"]),
        ] {
            assert_eq!(
                shown(url).as_deref(),
                Ok(expected.iter().map(|&text| text.to_owned()).collect::<Vec<_>>().as_slice()),
                "{url}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_one_line() {
        for (url, expected) in [
            ("user=u", "expected a host"),
            ("foo", "expected postgres://USER@HOST/DATABASE"),
            ("host=a,b hostaddr=10.0.0.1", "as many hosts as hostaddrs"),
            ("host=a,b,c port=1,2", "one for each of 3 hosts"),
            ("host=a target_session_attrs=read-only", "takes writes"),
            ("host=a sslmode=maybe", "expected sslmode="),
            ("host=a sslmode=verify-full sslrootcert=/nowhere", "/nowhere"),
            ("host=a sslrootcert=/nowhere", "expected sslmode=require"),
        ] {
            let error = shown(url).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{url}: {error}");
        }
    }

    #[test]
    fn a_session_is_named_by_instance_and_purpose() {
        let name = |url: &str| {
            Source::parse(url).unwrap().config_for("commit").get_application_name().unwrap().to_owned()
        };
        assert!(name("host=a").starts_with("rinha ") && name("host=a").ends_with(" commit"));
        assert_eq!(name("host=a application_name=api1"), "api1 commit");
        let long = name(&format!("host=a application_name={}", "ã".repeat(60)));
        assert!(long.len() <= 63 && long.ends_with("ã commit"), "{long}");
    }
}
