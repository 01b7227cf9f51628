//! HAProxy before the servers, with the configuration of compose.yml. Where it is not installed, clients ask the servers only.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::processes::{self, send};
use crate::server::Address;

const CONFIGURATION: &str = include_str!("../../../haproxy.cfg");

/// A balancer that dies and comes back on the same port.
pub(crate) struct Balancer {
    program: PathBuf,
    configuration: PathBuf,
    sockets: PathBuf,
    port: u16,
    child: Option<Child>,
    /// Those that end once their clients' requests are answered.
    leaving: Vec<Child>,
}

impl Balancer {
    /// Starts one for the servers whose sockets are in `directory`; `None` where there is no HAProxy.
    pub(crate) fn start(directory: &Path) -> Option<Balancer> {
        let program = processes::Child::find("haproxy")?;
        let configuration = directory.join("haproxy.cfg");
        std::fs::write(&configuration, CONFIGURATION).expect("the lab's directory can be written to");
        let mut balancer = Balancer {
            program,
            configuration,
            sockets: directory.to_owned(),
            port: processes::Child::free_port(),
            child: None,
            leaving: Vec::new(),
        };
        balancer.revive();
        Some(balancer)
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> Address {
        Address::Tcp(SocketAddr::from(([127, 0, 0, 1], self.port)))
    }

    /// Starts it if it does not run.
    pub(crate) fn revive(&mut self) {
        self.leaving.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        if self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return;
        }
        let mut command = Command::new(&self.program);
        command.arg("-db").arg("-f").arg(&self.configuration);
        command.env("SOCKETS", &self.sockets).env("API_CORES", "1").env("ADDRESS", "127.0.0.1");
        command.env("PORT", self.port.to_string()).env("STATE", "");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("HAProxy"));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end once what its clients asked is answered.
    pub(crate) fn leave(&mut self) {
        self.signal(Signal::SIGUSR1);
        self.leaving.extend(self.child.take());
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            send(i32::try_from(child.id()).expect("a pid of Linux fits an i32"), signal);
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.kill();
        for child in &mut self.leaving {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
