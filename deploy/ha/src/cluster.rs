//! The three nodes together: their start, who is the primary, and when all is well.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use crate::Result;
use crate::network::Network;
use crate::node::{Common, Node};
use crate::patroni::{self, Member};
use crate::process::{start, wait_for};
use crate::programs::Programs;

/// Of etcd and of Postgres: the fewest of which one may be lost.
pub const NODES: usize = 3;
/// From the start of all nodes to a primary with two standbys, a first initdb and two copies included.
const START_TIME_MAX: Duration = Duration::from_secs(120);

/// The nodes, with what they have in common. All end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// `node1` to `node3`.
    pub nodes: Vec<Node>,
    /// The way between them.
    pub network: Network,
    common: Common,
    directory: PathBuf,
}

impl Cluster {
    /// Starts the nodes below `directory`, which the services' user must be able to enter; `fresh` throws away what is
    /// there. Returns before they are ready.
    pub fn start(directory: &Path, network: Network, programs: &Programs, fresh: bool) -> Result<Cluster> {
        fs::create_dir_all(directory)?;
        let members =
            (0..NODES).map(|number| (format!("node{}", number + 1), network.address(number))).collect();
        let common = Common {
            programs: programs.clone(),
            members,
            password: password(&directory.join("password"))?,
            shared_buffers: "64MB".to_owned(),
        };
        let nodes = common.members.iter().enumerate().map(|(at, (name, address))| {
            Node::prepare(name, *address, network.enter(at), directory, &common, fresh)
        });
        let nodes = nodes.collect::<Result<Vec<Node>>>()?;
        let mut cluster = Cluster { nodes, network, common, directory: directory.to_owned() };
        for node in &mut cluster.nodes {
            node.start_etcd()?;
        }
        for node in &mut cluster.nodes {
            node.start_patroni()?;
        }
        Ok(cluster)
    }

    /// Of every role, and of Patroni's interface.
    pub fn password(&self) -> &str {
        &self.common.password
    }

    /// The URL with all nodes, in this order (0 is the first node).
    pub fn url(&self, order: &[usize]) -> String {
        let hosts: Vec<String> =
            order.iter().map(|&node| format!("{}:5432", self.nodes[node].address)).collect();
        self.url_of(&hosts.join(","))
    }

    /// The URL with these hosts.
    pub fn url_of(&self, hosts: &str) -> String {
        format!("postgresql://rinha:{}@{hosts}/rinha", self.common.password)
    }

    /// The cluster as the primary sees it, or, without one, the first Patroni that answers. A node that was away sees what
    /// was before.
    pub fn members(&self) -> Result<Vec<Member>> {
        if let Some(primary) = self.primary() {
            return patroni::members(self.nodes[primary].address);
        }
        let seen = self.nodes.iter().find_map(|node| patroni::members(node.address).ok());
        seen.ok_or_else(|| "expected a Patroni that answers".into())
    }

    /// The number of the node that holds the lock and serves, as it says itself.
    pub fn primary(&self) -> Option<usize> {
        self.nodes.iter().position(|node| patroni::is_primary(node.address))
    }

    /// The number of the standby that has all that was acknowledged.
    pub fn sync_standby(&self) -> Result<usize> {
        let members = self.members()?;
        let standby = members.iter().find(|member| member.role == "sync_standby");
        let standby = standby.ok_or("expected a synchronous standby")?;
        self.position(&standby.name)
    }

    /// The number of the node with this name.
    pub fn position(&self, name: &str) -> Result<usize> {
        let position = self.nodes.iter().position(|node| node.name == name);
        position.ok_or_else(|| format!("expected a node {name}").into())
    }

    /// Whether there is one primary, a synchronous standby, and every node follows on the same timeline, as all of them
    /// say.
    pub fn is_whole(&self) -> bool {
        let seen: Option<Vec<Vec<Member>>> =
            self.nodes.iter().map(|node| patroni::members(node.address).ok()).collect();
        let Some(seen) = seen else { return false };
        let members = &seen[0];
        let is = |role: &str| members.iter().filter(|member| member.role == role).count();
        let follows = |member: &Member| match member.role.as_str() {
            "leader" => member.state == "running",
            _ => member.state == "streaming",
        };
        members.len() == NODES
            && is("leader") == 1
            && is("sync_standby") == 1
            && members.iter().all(|member| follows(member) && member.timeline == members[0].timeline)
            && seen.iter().all(|view| view == members)
            && self.primary().is_some()
    }

    /// Starts what has ended, until it is whole. A Patroni that meets an etcd without a majority ends, for one.
    pub fn wait_until_whole(&mut self) -> Result<()> {
        let what = "a primary, a synchronous standby and a third node that follows";
        let whole = wait_for(what, START_TIME_MAX, || {
            self.keep()?;
            Ok(self.is_whole())
        });
        whole.map_err(|error| {
            format!("{error}: {:?}; logs in {}", self.members(), self.directory.display()).into()
        })
    }

    /// Starts what has ended: the part of a service manager.
    pub fn keep(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::keep)
    }

    /// Moves the primary to a node.
    pub fn switch_over(&self, to: usize) -> Result<()> {
        let from = self.primary().ok_or("expected a primary")?;
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        patroni::switch_over(from.address, &from.name, &to.name, &self.common.password)
    }

    /// Starts a balancer that leads `listen` to the primary.
    pub fn start_balancer(&self, listen: &str, name: &str) -> Result<Child> {
        let file = self.directory.join("haproxy-database.cfg");
        fs::write(&file, include_str!("../haproxy.cfg"))?;
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.address.to_string()).collect();
        let environment = [
            ("LISTEN", listen),
            ("NODE1", addresses[0].as_str()),
            ("NODE2", addresses[1].as_str()),
            ("NODE3", addresses[2].as_str()),
        ];
        let haproxy = self.common.programs.haproxy.display().to_string();
        let words = [haproxy, "-db".to_owned(), "-f".to_owned(), file.display().to_string()];
        let log = self.directory.join(format!("{name}.log"));
        start(&[], &words, &environment, &log)
    }

    /// Ends everything in an order in which nothing is recovered at the next start: standbys, primary, etcd.
    pub fn stop(&mut self) -> Result<()> {
        let primary = self.primary();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if Some(number) != primary {
                node.stop_patroni()?;
            }
        }
        for node in &mut self.nodes {
            node.stop_patroni()?;
        }
        for node in &mut self.nodes {
            node.stop_etcd()?;
        }
        Ok(())
    }

    /// Cuts a node off, without a word to anybody.
    pub fn cut(&self, node: usize) -> Result<()> {
        self.network.cut(node)
    }

    /// Ends the cut.
    pub fn heal(&self, node: usize) -> Result<()> {
        self.network.heal(node)
    }

    /// The address of a node.
    pub fn address(&self, node: usize) -> Ipv4Addr {
        self.nodes[node].address
    }
}

/// The password of an earlier run, or a new one, which only the caller can read.
fn password(file: &Path) -> Result<String> {
    if let Ok(password) = fs::read_to_string(file) {
        return Ok(password);
    }
    let mut random = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(file, "")?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    fs::write(file, &password)?;
    Ok(password)
}
