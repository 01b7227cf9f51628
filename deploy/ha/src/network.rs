//! An address for each node: of loopback, or in a network namespace of its own, which can be cut off. This module does
//! not know what runs there.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{pid, wait_for};

/// Where the nodes are. The first node is number 0.
#[derive(Debug)]
pub enum Network {
    /// Addresses of loopback: 127.77.0.11 and up. Anybody may use them, and nothing can be cut.
    Loopback,
    /// A namespace each, joined by a bridge: 10.99.0.11 and up. The children hold the namespaces.
    Namespaces(Vec<Child>),
}

/// Rules that drop whatever comes into or leaves a namespace, without a word to either side.
const CUT: &str = "
table inet cut {
    chain input { type filter hook input priority 0; policy drop; iif lo accept; }
    chain output { type filter hook output priority 0; policy drop; oif lo accept; }
}";

impl Network {
    /// Makes a namespace for each of so many nodes, and a bridge in the namespace of the caller, which must be a new
    /// one: nothing is ever changed in a network that is in use.
    pub fn namespaces(nodes: usize) -> Result<Network> {
        if fs::read_to_string("/proc/net/route")?.lines().count() > 1 {
            return Err(
                "expected a new network namespace, as `unshare --net` makes it; this one has routes".into()
            );
        }
        run(
            &["ip", "-batch", "-"],
            "link set lo up\nlink add ha type bridge\naddr add 10.99.0.1/24 dev ha\nlink set ha up",
        )?;
        let own = fs::read_link("/proc/self/ns/net")?;
        let mut holders = Vec::new();
        for node in 0..nodes {
            let mut holder = Command::new("setpriv");
            holder.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
            let holder = holder.stdin(Stdio::null()).spawn()?;
            let namespace = format!("/proc/{}/ns/net", holder.id());
            wait_for("a new network namespace", Duration::from_secs(5), || {
                Ok(fs::read_link(&namespace).is_ok_and(|namespace| namespace != own))
            })?;
            let outside = format!(
                "link add node{node} type veth peer name eth0 netns {}\nlink set node{node} master ha up",
                pid(&holder)
            );
            run(&["ip", "-batch", "-"], &outside)?;
            let inside =
                format!("link set lo up\naddr add 10.99.0.{}/24 dev eth0\nlink set eth0 up", 11 + node);
            run(&["nsenter", &format!("--net={namespace}"), "ip", "-batch", "-"], &inside)?;
            holders.push(holder);
        }
        Ok(Network::Namespaces(holders))
    }

    /// The address of a node.
    pub fn address(&self, node: usize) -> Ipv4Addr {
        let last = u8::try_from(11 + node).expect("few nodes");
        match self {
            Network::Loopback => Ipv4Addr::new(127, 77, 0, last),
            Network::Namespaces(_) => Ipv4Addr::new(10, 99, 0, last),
        }
    }

    /// What a command begins with that runs on a node.
    pub fn enter(&self, node: usize) -> Vec<String> {
        match self {
            Network::Loopback => Vec::new(),
            Network::Namespaces(holders) => {
                vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", holders[node].id())]
            }
        }
    }

    /// Cuts a node off: what comes or goes is dropped, and nobody is told. Only what is on the node still hears itself.
    pub fn cut(&self, node: usize) -> Result<()> {
        self.rules(node, CUT)
    }

    /// Ends the cut.
    pub fn heal(&self, node: usize) -> Result<()> {
        self.rules(node, "delete table inet cut")
    }

    fn rules(&self, node: usize, rules: &str) -> Result<()> {
        let mut words = self.enter(node);
        if words.is_empty() {
            return Err("expected namespaces: loopback cannot be cut".into());
        }
        words.extend(["nft", "-f", "-"].map(str::to_owned));
        run(&words.iter().map(String::as_str).collect::<Vec<_>>(), rules)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Network::Namespaces(holders) = self {
            for holder in holders {
                let _ = holder.kill();
                let _ = holder.wait();
            }
            // The nodes' ends went with their namespaces.
            let _ = run(&["ip", "link", "delete", "ha"], "");
        }
    }
}

/// Runs a command with this input, to its success.
fn run(words: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", words[0]))?;
    child.stdin.take().ok_or("expected a standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)).into()),
    }
}
