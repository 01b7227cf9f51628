//! What is kept of each sample, and how much of it may move. It knows units and names; [`verdict`](crate::verdict) judges.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use progress::show;

use crate::sample::{Metrics, Services};
use crate::verdict::{Fault, Outcome, Tolerance, judge};
use tools::users::{Answers, Kind};

/// Memory that is not the people's: a twentieth, and what an allocator takes at a time.
const MEMORY: Tolerance = Tolerance { fault: Fault::Growth, relative: 0.05, absolute: 4.0 };
/// The share of what the people grew by that may come on top: the allocator's sizes are up to an eighth apart.
const ROUNDING: f64 = 0.125;
/// Descriptors that are no client's: what is counted a moment later than the connections may differ by some of them.
const DESCRIPTORS: Tolerance = Tolerance { fault: Fault::Growth, relative: 0.1, absolute: 4.0 };
/// Connections come and go with the users of the moment, and with how long the moment's answers take.
const CONNECTIONS: Tolerance = Tolerance { fault: Fault::Growth, relative: 0.5, absolute: 16.0 };
/// Threads and sessions are there for good.
const CONSTANT: Tolerance = Tolerance { fault: Fault::Change, relative: 0.0, absolute: 0.0 };
const LATENCY: Tolerance = Tolerance { fault: Fault::Growth, relative: 0.2, absolute: 0.5 };
/// Microseconds a request.
const CPU: Tolerance = Tolerance { fault: Fault::Growth, relative: 0.15, absolute: 2.0 };

const WITHOUT_PEOPLE: &str = "RSS without people";

struct Column {
    name: String,
    unit: &'static str,
    /// `None`: it is kept for the reader, and not judged.
    tolerance: Option<Tolerance>,
    /// The column before it has what was taken off: [`ROUNDING`].
    is_rest: bool,
    values: Vec<f64>,
}

/// The samples of a run.
pub(crate) struct Series {
    columns: Vec<Column>,
    /// CPU time of each process, and of Postgres, at the last sample.
    cpu: Vec<Duration>,
}

/// One sample: the columns are in the order in which it adds to them.
struct Row<'a> {
    columns: &'a mut Vec<Column>,
    at: usize,
}

impl Row<'_> {
    fn add(&mut self, name: &str, unit: &'static str, tolerance: Option<Tolerance>, value: f64) {
        if self.columns.len() == self.at {
            let is_rest = name.ends_with(WITHOUT_PEOPLE);
            self.columns.push(Column { name: name.to_owned(), unit, tolerance, is_rest, values: Vec::new() });
        }
        debug_assert_eq!(self.columns[self.at].name, name);
        self.columns[self.at].values.push(value);
        self.at += 1;
    }
}

fn cpu(services: &Services) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut cpu = Vec::new();
    for process in &services.watched {
        cpu.push(process.held()?.cpu);
    }
    cpu.push(services.postgres_cpu()?);
    Ok(cpu)
}

impl Series {
    pub(crate) fn begin(services: &Services) -> Result<Series, Box<dyn Error>> {
        Ok(Series { columns: Vec::new(), cpu: cpu(services)? })
    }

    /// Adds a sample: `answers` are those of the last `period`, `since` is the time since the beginning.
    pub(crate) fn add(
        &mut self,
        since: Duration,
        period: Duration,
        services: &mut Services,
        answers: &Answers,
    ) -> Result<(), Box<dyn Error>> {
        let now = cpu(services)?;
        let requests = answers.requests();
        let micros = now
            .iter()
            .zip(&self.cpu)
            .map(|(now, before)| now.saturating_sub(*before).as_secs_f64() * 1e6 / (requests.max(1) as f64));
        let micros: Vec<f64> = micros.collect();
        self.cpu = now;
        let metrics: Vec<Metrics> =
            services.admins.iter_mut().map(Metrics::ask).collect::<Result<_, Box<dyn Error>>>()?;

        let mut row = Row { columns: &mut self.columns, at: 0 };
        row.add("time", "s", None, since.as_secs_f64());
        for (at, process) in services.watched.iter().enumerate() {
            let held = process.held()?;
            let mut add = |what: &str, unit, tolerance, value| {
                row.add(&format!("{} {what}", process.name), unit, tolerance, value);
            };
            match metrics.get(at) {
                Some(metrics) => {
                    // The rows grow, and so does the memory for them: it is the instance's own account that is taken off.
                    let people = metrics.people_mib();
                    add("RSS", "MiB", None, held.rss_mib);
                    add("people", "MiB", None, people);
                    add(WITHOUT_PEOPLE, "MiB", Some(MEMORY), held.rss_mib - people);
                    // With no room for a body any more other ways are measured than before.
                    let out = metrics.sum("rinha_bodies_dropped");
                    add("bodies dropped", "", Some(CONSTANT), out);
                }
                None => add("RSS", "MiB", Some(MEMORY), held.rss_mib),
            }
            match metrics.get(at) {
                Some(metrics) => {
                    let connections = metrics.sum("rinha_connections");
                    add("connections", "", Some(CONNECTIONS), connections);
                    add(
                        "descriptors without connections",
                        "",
                        Some(DESCRIPTORS),
                        held.descriptors - connections,
                    );
                }
                // All but a few are connections.
                None => add("descriptors", "", Some(CONNECTIONS), held.descriptors),
            }
            add("threads", "", Some(CONSTANT), held.threads);
            add("CPU a request", "us", Some(CPU), micros[at]);
        }
        row.add("Postgres sessions", "", Some(CONSTANT), services.backends()? as f64);
        row.add("Postgres CPU a request", "us", Some(CPU), micros[micros.len() - 1]);
        for kind in Kind::MEASURED {
            for (what, percentile, tolerance) in
                [("p50", 50.0, Some(LATENCY)), ("p99", 99.0, Some(LATENCY)), ("max", 100.0, None)]
            {
                // Where nothing was answered in a whole period, it took as long at least.
                let latency = answers.percentile(kind, percentile);
                let latency = latency.unwrap_or(period.as_secs_f64() * 1000.0);
                row.add(&format!("{} {what}", kind.name()), "ms", tolerance, latency);
            }
        }
        row.add("requests", "1/s", None, requests as f64 / period.as_secs_f64());
        row.add("errors", "", None, answers.errors.values().sum::<u64>() as f64);
        row.add("pessoas", "", None, metrics.first().map_or(0.0, |metrics| metrics.sum("rinha_pessoas")));
        Ok(())
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// Writes the newest sample as a line, and before the first one the names.
    pub(crate) fn write_last(&self, out: &mut impl Write) -> io::Result<()> {
        if self.len() == 1 {
            let named = self.columns.iter().map(|Column { name, unit, .. }| match *unit {
                "" => name.clone(),
                unit => format!("{name} {unit}"),
            });
            writeln!(out, "{}", named.collect::<Vec<_>>().join(","))?;
        }
        let newest = self.columns.iter().filter_map(|column| column.values.last());
        writeln!(out, "{}", newest.map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(","))?;
        out.flush()
    }

    /// Prints a line for each series that is judged, and says whether all are flat; `None` if there are too few samples.
    pub(crate) fn judge(&self) -> Option<bool> {
        let mut flat = None;
        for (at, Column { name, unit, values, tolerance, is_rest }) in self.columns.iter().enumerate() {
            let Some(mut tolerance) = *tolerance else { continue };
            if *is_rest {
                tolerance.absolute += ROUNDING * grown(&self.columns[at - 1].values);
            }
            let found = judge(values, tolerance)?;
            if flat.is_none() {
                show(&format!(
                    "{:<38}{:>10} {:>10} {:>22} {:>10}  verdict\n",
                    "second half", "median", "drift", "between", "allowed"
                ));
            }
            flat = Some(flat.unwrap_or(true) && found.outcome != Outcome::Moves);
            let name = format!("{name} {unit}");
            let between = format!("{:+.2} .. {:+.2}", found.between.0, found.between.1);
            let (median, drift, allowed) = (found.median, found.drift, found.allowed);
            show(&format!(
                "{name:<38}{median:>10.2} {drift:>+10.2} {between:>22} {allowed:>10.2}  {}\n",
                found.outcome
            ));
        }
        flat
    }
}

/// What a series that only grows grew by in its second half.
fn grown(values: &[f64]) -> f64 {
    let half = &values[values.len() / 2..];
    half.last().zip(half.first()).map_or(0.0, |(last, first)| (last - first).max(0.0))
}
