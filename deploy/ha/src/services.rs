//! What is run beside the nodes: the instances, the balancers beside them, and the balancer before them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use clap::ValueEnum;
use ha::Result;
use ha::cluster::Cluster;
use ha::process::{account, end, pid, start};
use ha::programs::Programs;
use nix::sys::signal::Signal;
use nix::unistd::chown;

/// Servers and balancer drain for up to 10 s each.
const GRACE: Duration = Duration::from_secs(20);

/// How the instances find the primary.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Way {
    /// A HAProxy beside each instance, which asks Patroni
    Balancer,
    /// All nodes in the URL
    Hosts,
}

/// What is run beside the nodes, in the order of its start; ended in the reverse order.
pub(crate) struct Services(Vec<Service>);

struct Service {
    child: Child,
    stop: Signal,
    words: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
}

impl Services {
    pub(crate) fn start(
        directory: &Path,
        cluster: &Cluster,
        way: Way,
        port: u16,
        api: &str,
        programs: &Programs,
    ) -> Result<Services> {
        let sockets = directory.join("sockets");
        fs::create_dir_all(&sockets)?;
        if let Some(account) = account()? {
            chown(&sockets, Some(account.uid), Some(account.gid))?;
        }
        // Where the services' user can read it.
        let server = directory.join("rinha");
        let _ = fs::remove_file(&server);
        fs::copy(api, &server).map_err(|error| format!("{api}: {error}"))?;
        let front = directory.join("haproxy.cfg");
        fs::write(&front, include_str!("../../../haproxy.cfg"))?;
        let back = directory.join("haproxy-database.cfg");
        fs::write(&back, include_str!("../haproxy.cfg"))?;
        let haproxy = |file: &Path| {
            let words = [&programs.haproxy.display().to_string(), "-db", "-f", &file.display().to_string()];
            words.map(str::to_owned).to_vec()
        };
        let mut services = Services(Vec::new());
        for (number, order) in [(1, [0, 1, 2]), (2, [2, 1, 0])] {
            let socket = |name: &str| format!("{}/{name}", sockets.display());
            let url = match way {
                Way::Hosts => cluster.url(&order),
                Way::Balancer => {
                    let listen = format!("127.77.0.{}:5432", 20 + number);
                    let mut environment = vec![("LISTEN".to_owned(), listen.clone())];
                    environment.extend(
                        (1..=3).map(|node| (format!("NODE{node}"), cluster.address(node - 1).to_string())),
                    );
                    let log = directory.join(format!("database{number}.log"));
                    services.add(haproxy(&back), environment, Signal::SIGUSR1, log)?;
                    cluster.url_of(&listen)
                }
            };
            let environment = vec![
                ("DATABASE_URL".to_owned(), url),
                ("LISTEN".to_owned(), format!("unix:{}", socket(&format!("api{number}-{{core}}.sock")))),
                ("CORES".to_owned(), format!("1@{}", number - 1)),
            ];
            let words = vec![server.display().to_string()];
            services.add(words, environment, Signal::SIGTERM, directory.join(format!("api{number}.log")))?;
        }
        let environment = vec![
            ("SOCKETS".to_owned(), sockets.display().to_string()),
            ("PORT".to_owned(), port.to_string()),
            ("API_CORES".to_owned(), "1".to_owned()),
        ];
        services.add(haproxy(&front), environment, Signal::SIGUSR1, directory.join("haproxy.log"))?;
        Ok(services)
    }

    fn add(
        &mut self,
        words: Vec<String>,
        environment: Vec<(String, String)>,
        stop: Signal,
        log: PathBuf,
    ) -> Result<()> {
        let child = spawn(&words, &environment, &log)?;
        self.0.push(Service { child, stop, words, environment, log });
        Ok(())
    }

    /// Starts again what has ended.
    pub(crate) fn keep(&mut self) -> Result<()> {
        for service in &mut self.0 {
            if let Some(status) = service.child.try_wait()? {
                eprintln!("ha: {} ended: {status}; starting it again", service.log.display());
                service.child = spawn(&service.words, &service.environment, &service.log)?;
            }
        }
        Ok(())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for service in self.0.iter_mut().rev() {
            if let Err(error) = end(&mut service.child, service.stop, GRACE) {
                eprintln!("ha: {}: {error}", pid(&service.child));
            }
        }
    }
}

fn spawn(words: &[String], environment: &[(String, String)], log: &Path) -> Result<Child> {
    let environment: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    start(&[], words, &environment, log)
}
