//! What the kernel says of each thread of the topology. It judges nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use tools::services::Description;

use crate::backends::Backends;

/// Of one thread or process, since its start.
#[derive(Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) cpu_ns: u64,
    pub(crate) switches: u64,
}

/// By service, and by what its threads and backends are called.
pub(crate) type Usage = BTreeMap<(String, String), Used>;

/// The services that `tools/local` runs.
pub(crate) struct Services {
    balancer: u32,
    instances: Vec<u32>,
    postmaster: u32,
    backends: Backends,
}

impl Services {
    /// Those of a topology by its directory.
    pub(crate) fn find(directory: &Path) -> Result<Services, Box<dyn Error>> {
        let description = Description::read(directory)?;
        let pid = |name: &str| description.pid(name);
        Ok(Services {
            balancer: pid("haproxy")?,
            instances: vec![pid("api1")?, pid("api2")?],
            postmaster: pid("postgres")?,
            backends: Backends::of(directory)?,
        })
    }

    /// What all of them used since their starts. Processes that ended are left out: the few that Postgres starts and
    /// ends within a measurement are seen by its files alone.
    pub(crate) fn usage(&mut self) -> Result<Usage, Box<dyn Error>> {
        let mut usage = Usage::new();
        let mut add = |service: &str, part: &str, used: Used| {
            let sum = usage.entry((service.to_owned(), part.to_owned())).or_default();
            sum.cpu_ns += used.cpu_ns;
            sum.switches += used.switches;
        };
        for (_, used) in threads(self.balancer)? {
            add("HAProxy", "all", used);
        }
        for instance in &self.instances {
            for (name, used) in threads(*instance)? {
                let part = match name.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit()) {
                    "core" => "cores",
                    "postgres" => "postgres threads",
                    "feed" => "feed thread",
                    _ => "others",
                };
                add("APIs", part, used);
            }
        }
        let (purposes, own) = (self.backends.purposes()?, self.backends.own()?);
        for pid in children(self.postmaster)?.into_iter().filter(|pid| *pid != own).chain([self.postmaster]) {
            let part =
                purposes.get(&pid).map_or("others".to_owned(), |purpose| format!("{purpose} backends"));
            for (_, used) in threads(pid).unwrap_or_default() {
                add("Postgres", &part, used);
            }
        }
        Ok(usage)
    }
}

/// The name of each thread, and what it used.
fn threads(pid: u32) -> Result<Vec<(String, Used)>, Box<dyn Error>> {
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path();
        // A thread may end while it is looked at.
        let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
        let (name, times, status) = (read("comm"), read("schedstat"), read("status"));
        let switches = status.lines().filter(|line| line.contains("voluntary_ctxt_switches"));
        let switches = switches.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok()).sum();
        let cpu_ns = times.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        threads.push((name.trim().to_owned(), Used { cpu_ns, switches }));
    }
    Ok(threads)
}

fn children(parent: u32) -> Result<Vec<u32>, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_of_this_process_are_seen_with_what_they_used() {
        let thread = std::thread::Builder::new().name("core-7".to_owned());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel();
        let work = move || {
            // It has its name by now.
            begin.send(()).unwrap();
            ended.recv()
        };
        let running = thread.spawn(work).unwrap();
        begun.recv().unwrap();
        let threads = threads(std::process::id()).unwrap();
        assert!(threads.iter().any(|(name, _)| name == "core-7"), "{:?}", threads.len());
        assert!(threads.iter().map(|(_, used)| used.cpu_ns).sum::<u64>() > 0);
        drop(end);
        let _ = running.join().unwrap();
    }
}
