//! One machine of the three: etcd, Patroni, and the Postgres that Patroni runs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::chown;

use crate::Result;
use crate::process::{Frozen, account, end, families, kill_all, pid, runs, start};
use crate::programs::Programs;

/// Patroni stops its Postgres before it ends.
const PATRONI_GRACE: Duration = Duration::from_secs(30);
const ETCD_GRACE: Duration = Duration::from_secs(5);

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// What is run.
    pub programs: Programs,
    /// Name and address of each node.
    pub members: Vec<(String, Ipv4Addr)>,
    /// Of every role, and of Patroni's interface.
    pub password: String,
    /// Of each Postgres.
    pub shared_buffers: String,
}

/// A node. What runs on it ends when this is dropped.
#[derive(Debug)]
pub struct Node {
    /// `node1` and so on.
    pub name: String,
    /// Of all its services.
    pub address: Ipv4Addr,
    directory: PathBuf,
    enter: Vec<String>,
    common: Common,
    etcd: Option<Child>,
    patroni: Option<Child>,
}

/// Which part of a node something happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The Postgres alone.
    Postgres,
    /// Patroni alone.
    Patroni,
    /// Both, and etcd.
    All,
}

impl Node {
    /// A node below `directory` with nothing running. What an earlier run left there is ended; with `fresh` its data
    /// goes too.
    pub fn prepare(
        name: &str,
        address: Ipv4Addr,
        enter: Vec<String>,
        directory: &Path,
        common: &Common,
        fresh: bool,
    ) -> Result<Node> {
        let node = Node {
            name: name.to_owned(),
            address,
            directory: directory.join(name),
            enter,
            common: common.clone(),
            etcd: None,
            patroni: None,
        };
        node.end_what_was_left()?;
        if fresh && node.directory.exists() {
            fs::remove_dir_all(&node.directory)?;
        }
        fs::create_dir_all(&node.directory)?;
        node.give(&node.directory)?;
        for name in ["etcd", "socket"] {
            fs::create_dir_all(node.directory.join(name))?;
            node.give(&node.directory.join(name))?;
            fs::set_permissions(
                node.directory.join(name),
                std::os::unix::fs::PermissionsExt::from_mode(0o700),
            )?;
        }
        for service in ["etcd", "patroni"] {
            fs::write(node.log(service), "")?;
        }
        let configuration = node.directory.join("patroni.yml");
        fs::write(&configuration, node.configuration())?;
        fs::set_permissions(&configuration, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        node.give(&configuration)?;
        let post_init = node.directory.join("post_init");
        fs::write(&post_init, include_str!("../post_init"))?;
        fs::set_permissions(&post_init, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(node)
    }

    fn give(&self, path: &Path) -> Result<()> {
        if let Some(account) = account()? {
            chown(path, Some(account.uid), Some(account.gid))?;
        }
        Ok(())
    }

    /// `patroni.yml` with this node's values.
    fn configuration(&self) -> String {
        let path = |name: &str| self.directory.join(name).display().to_string();
        let hosts: Vec<String> =
            self.common.members.iter().map(|(_, address)| format!("{address}:2379")).collect();
        [
            ("ETCD_HOSTS", hosts.join(", ")),
            ("SHARED_BUFFERS", self.common.shared_buffers.clone()),
            ("POST_INIT", path("post_init")),
            ("DATA_DIR", path("postgres")),
            ("BIN_DIR", self.common.programs.postgres.display().to_string()),
            ("SOCKETS", path("socket")),
            ("PGPASS", path("pgpass")),
            ("PASSWORD", self.common.password.clone()),
            ("ADDRESS", self.address.to_string()),
            ("NAME", self.name.clone()),
        ]
        .into_iter()
        .fold(include_str!("../patroni.yml").to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), &value)
        })
    }

    /// Starts etcd, if it does not run.
    pub fn start_etcd(&mut self) -> Result<()> {
        if self.etcd.as_mut().is_some_and(|etcd| matches!(etcd.try_wait(), Ok(None))) {
            return Ok(());
        }
        let address = self.address;
        let members = self.common.members.iter();
        let cluster: Vec<String> =
            members.map(|(name, address)| format!("{name}=http://{address}:2380")).collect();
        let words = [
            self.common.programs.etcd.display().to_string(),
            format!("--name={}", self.name),
            format!("--data-dir={}", self.directory.join("etcd").display()),
            format!("--listen-peer-urls=http://{address}:2380"),
            format!("--initial-advertise-peer-urls=http://{address}:2380"),
            format!("--listen-client-urls=http://{address}:2379"),
            format!("--advertise-client-urls=http://{address}:2379"),
            format!("--initial-cluster={}", cluster.join(",")),
            "--initial-cluster-token=rinha".to_owned(),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        self.etcd = Some(start(&self.enter, &words, &[], &self.log("etcd"))?);
        Ok(())
    }

    /// Starts Patroni, if it does not run; it starts Postgres.
    pub fn start_patroni(&mut self) -> Result<()> {
        if self.patroni.as_mut().is_some_and(|patroni| matches!(patroni.try_wait(), Ok(None))) {
            return Ok(());
        }
        let words = [&self.common.programs.patroni, &self.directory.join("patroni.yml")];
        let words = words.map(|word| word.display().to_string());
        // Patroni's `post_init` runs psql.
        let path = format!("{}:/usr/bin:/bin", self.common.programs.postgres.display());
        let environment = [("RINHA_PASSWORD", self.common.password.as_str()), ("PATH", path.as_str())];
        self.patroni = Some(start(&self.enter, &words, &environment, &self.log("patroni"))?);
        Ok(())
    }

    /// Where a service of it writes its log.
    pub fn log(&self, service: &str) -> PathBuf {
        self.directory.join(format!("{service}.log"))
    }

    /// The postmaster, as its pid file has it.
    pub fn postmaster(&self) -> Option<i32> {
        let file = fs::read_to_string(self.directory.join("postgres/postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok()?;
        // The number may be another's by now: a postmaster works in its data directory.
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (works_in == self.directory.join("postgres") && runs(pid)).then_some(pid)
    }

    /// The processes that a part of it begins with.
    fn roots(&self, part: Part) -> Vec<i32> {
        let etcd = self.etcd.as_ref().filter(|_| part == Part::All).map(pid);
        let patroni = self.patroni.as_ref().filter(|_| part != Part::Postgres).map(pid);
        let postmaster = self.postmaster().filter(|_| part != Part::Patroni);
        // Patroni first: it would start again what it sees ending.
        [patroni, postmaster, etcd].into_iter().flatten().collect()
    }

    /// Stops a part of it until the answer is dropped. Patroni alone means that: what it started goes on.
    pub fn freeze(&self, part: Part) -> Result<Frozen> {
        Frozen::freeze(&self.roots(part))
    }

    /// `kill -9` of the postmaster; its children end by themselves.
    pub fn kill_postmaster(&self) -> Result<()> {
        let postmaster = self.postmaster().ok_or("expected a running Postgres")?;
        crate::process::send(postmaster, Signal::SIGKILL)
    }

    /// `kill -9` of a part of it.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        kill_all(&self.roots(part))?;
        for child in [&mut self.etcd, &mut self.patroni].into_iter().flatten() {
            child.try_wait()?;
        }
        Ok(())
    }

    /// `kill -9` of etcd alone.
    pub fn kill_etcd(&mut self) -> Result<()> {
        let etcd: Vec<i32> = self.etcd.iter().map(pid).collect();
        kill_all(&etcd)
    }

    /// Starts what has ended.
    pub fn keep(&mut self) -> Result<()> {
        self.start_etcd()?;
        self.start_patroni()
    }

    /// A Postgres whose Patroni is gone, from a run that was killed.
    fn end_what_was_left(&self) -> Result<()> {
        match self.postmaster() {
            Some(postmaster) => kill_all(&families(&[postmaster])),
            None => Ok(()),
        }
    }

    /// Ends Patroni, and Postgres with it.
    pub fn stop_patroni(&mut self) -> Result<()> {
        match self.patroni.take() {
            Some(mut patroni) => end(&mut patroni, Signal::SIGTERM, PATRONI_GRACE),
            None => Ok(()),
        }
    }

    /// Ends etcd.
    pub fn stop_etcd(&mut self) -> Result<()> {
        match self.etcd.take() {
            Some(mut etcd) => end(&mut etcd, Signal::SIGTERM, ETCD_GRACE),
            None => Ok(()),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whoever wanted an orderly end has had it.
        let _ = kill_all(&self.roots(Part::All));
        for child in [&mut self.etcd, &mut self.patroni].into_iter().flatten() {
            let _ = child.wait();
        }
    }
}
