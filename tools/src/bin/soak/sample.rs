//! What the kernel and the instances say of the services at one time. It judges nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use tools::client::{Address, Client};
use tools::services::Description;

const MIB: f64 = 1024.0 * 1024.0;

/// A process that must be the same one at all times.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pid: u32,
    started: u64,
}

/// What it held at one time.
pub(crate) struct Held {
    pub(crate) rss_mib: f64,
    pub(crate) descriptors: f64,
    pub(crate) threads: f64,
    /// Since its start.
    pub(crate) cpu: Duration,
}

/// The services that `tools/local` runs.
pub(crate) struct Services {
    pub(crate) watched: Vec<Process>,
    /// Of each instance, in the order of `watched`.
    pub(crate) admins: Vec<Client>,
    postmaster: u32,
}

impl Services {
    /// Those of a topology by its directory.
    pub(crate) fn find(directory: &Path) -> Result<Services, Box<dyn Error>> {
        let description = Description::read(directory)?;
        let pid = |name: &str| description.pid(name);
        let watched = ["api1", "api2", "haproxy"].into_iter().map(|name| {
            let pid = pid(name)?;
            Ok(Process { name, pid, started: Stat::of(pid)?.started })
        });
        let socket = |name: &str| -> PathBuf { directory.join("sockets").join(format!("{name}-admin.sock")) };
        Ok(Services {
            watched: watched.collect::<Result<_, Box<dyn Error>>>()?,
            admins: ["api1", "api2"].map(|name| Client::new(Address::Unix(socket(name)))).into(),
            postmaster: pid("postgres")?,
        })
    }

    /// Sessions of clients: the children of Postgres that say so in their title.
    pub(crate) fn backends(&self) -> Result<usize, Box<dyn Error>> {
        let title = |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Ok(children(self.postmaster)?.into_iter().filter(|pid| title(*pid).contains("[local]")).count())
    }

    /// CPU time of Postgres and of all its children, those that ended included.
    pub(crate) fn postgres_cpu(&self) -> Result<Duration, Box<dyn Error>> {
        let own = Stat::of(self.postmaster)?;
        let living = children(self.postmaster)?.into_iter().filter_map(|pid| Stat::of(pid).ok());
        Ok(living.fold(own.cpu + own.cpu_of_ended, |all, child| all + child.cpu))
    }
}

impl Process {
    /// An error if it ended meanwhile.
    pub(crate) fn held(&self) -> Result<Held, Box<dyn Error>> {
        let Process { name, pid, started } = self;
        let stat = Stat::of(*pid).map_err(|error| format!("{name} ended: {error}"))?;
        if stat.started != *started {
            return Err(format!("{name} ended: its pid is another process").into());
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Held {
            rss_mib: number(&status, "VmRSS:")? * 1024.0 / MIB,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
            threads: number(&status, "Threads:")?,
            cpu: stat.cpu,
        })
    }
}

/// The number of a line of `/proc/PID/status`.
fn number(status: &str, name: &str) -> Result<f64, String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("expected a number {name} in {status}"))
}

/// Of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    /// In ticks since the machine's start.
    started: u64,
    cpu: Duration,
    cpu_of_ended: Duration,
}

impl Stat {
    fn of(pid: u32) -> Result<Stat, Box<dyn Error>> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold anything, and ends with the last bracket.
        let fields: Vec<&str> =
            text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let field = |number: usize| -> Result<u64, Box<dyn Error>> {
            // Counted as proc(5) does, where the first after the name is the third.
            Ok(fields.get(number - 3).ok_or("a field of stat")?.parse()?)
        };
        let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK)?.ok_or("ticks a second")?)?;
        let time = |ticks: u64| Duration::from_millis(ticks * 1000 / per_second);
        Ok(Stat {
            parent: u32::try_from(field(4)?)?,
            started: field(22)?,
            cpu: time(field(14)? + field(15)?),
            cpu_of_ended: time(field(16)? + field(17)?),
        })
    }
}

fn children(parent: u32) -> Result<Vec<u32>, Box<dyn Error>> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process may end while it is looked at.
    Ok(pids.filter(|pid| Stat::of(*pid).is_ok_and(|stat| stat.parent == parent)).collect())
}

/// The metrics of an instance: of each name the sum over its labels.
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn ask(admin: &mut Client) -> Result<Metrics, Box<dyn Error>> {
        let answer = admin.ask(b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n", true)?;
        if answer.status != 200 {
            return Err(format!("/metrics: {}", answer.status).into());
        }
        Metrics::read(std::str::from_utf8(answer.body)?)
    }

    fn read(text: &str) -> Result<Metrics, Box<dyn Error>> {
        let mut sums = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').ok_or_else(|| format!("a metric: {line}"))?;
            let name = series.split('{').next().unwrap_or(series);
            *sums.entry(name.to_owned()).or_default() += value.parse::<f64>()?;
        }
        Ok(Metrics(sums))
    }

    /// 0 if there is none: a counter that was never needed is left out.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// What the people in memory take.
    pub(crate) fn people_mib(&self) -> f64 {
        self.sum("rinha_cache_bytes") / MIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text =
            "# HELP a b\n# TYPE a gauge\na{core=\"0\",part=\"x y\"} 1048576\na{core=\"1\"} 2\nb_total 3\n";
        let metrics = Metrics::read(text).unwrap();
        assert_eq!([metrics.sum("a"), metrics.sum("b_total"), metrics.sum("c")], [1_048_578.0, 3.0, 0.0]);
        assert!(Metrics::read("a{} many\n").is_err());
    }

    #[test]
    fn this_process_and_its_children_are_seen() {
        let own = std::process::id();
        let process = |started| Process { name: "this", pid: own, started };
        let held = process(Stat::of(own).unwrap().started).held().unwrap();
        assert!(held.rss_mib > 0.5 && held.descriptors >= 3.0 && held.threads >= 1.0);
        assert!(process(1).held().is_err(), "another process has its pid");
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        assert!(children(own).unwrap().contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!children(own).unwrap().contains(&child.id()));
    }
}
