//! Several runs side by side in one page.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{Markup, html};

use crate::disk::Disk;
use crate::monitor::{GATLING, MACHINE};
use crate::records::Records;
use crate::report::{all, api_cpu, created, creates, figure, known, latencies, load, page, score, thousands};
use crate::run::Run;
use crate::verdict::Outcome;

const MIB: f64 = 1024.0 * 1024.0;

/// A row: its name, and what it says of a run.
type Row = (&'static str, fn(&Run) -> String);

const ROWS: [Row; 20] = [
    ("verdict", |run| run.verdict.word().to_owned()),
    ("date", |run| run.date.strftime("%F %R").to_string()),
    ("load", load),
    ("target", |run| run.target.clone()),
    ("driver", |run| version(run, "driver")),
    ("CPUs of the services", |run| {
        limits(run, |total| total.limits.cpus.filter(|_| total.is_service()).map(|cpus| format!("{cpus:.2}")))
    }),
    ("memory of the services, MiB", |run| {
        limits(run, |total| {
            let limit = total.limits.memory.filter(|_| total.is_service());
            limit.map(|bytes| format!("{:.0}", bytes as f64 / MIB))
        })
    }),
    ("requests", |run| thousands(all(run).count)),
    ("KO", |run| thousands(all(run).ko)),
    ("201s", |run| thousands(created(run))),
    ("rows", score),
    ("p50 / p95 ms", |run| format!("{} / {}", all(run).p50, all(run).p95)),
    ("p99 / p99.9 ms", |run| format!("{} / {}", all(run).p99, known(all(run).p999))),
    ("max ms", |run| thousands(all(run).max)),
    ("creates: p50 / p99 / p99.9 / max ms", creates_ms),
    ("disk: fdatasync of 8 KiB: p50 / p99 / p99.9 / max ms (samples)", |run| {
        run.disk.as_ref().map_or_else(unknown, |disk| match disk {
            Disk::Sampled(_) => disk.figures(),
            Disk::NotSampled(_) => disk.said(),
        })
    }),
    ("CPU s of the instances", |run| format!("{:.1}", api_cpu(run))),
    ("CPU s: each service", |run| limits(run, |total| Some(format!("{:.1}", total.cpu_seconds)))),
    ("memory peak MiB: each service", |run| {
        limits(run, |total| Some(format!("{:.0}", total.anonymous_peak as f64 / MIB)))
    }),
    ("restarts + kills for memory", |run| {
        limits(run, |total| {
            let any = total.restarts > 0 || total.oom_kills > 0;
            any.then(|| format!("{} + {}", total.restarts, total.oom_kills))
        })
    }),
];

fn unknown() -> String {
    "–".to_owned()
}

fn creates_ms(run: &Run) -> String {
    creates(run).map_or_else(unknown, |times| {
        format!("{} / {} / {} / {}", times.p50, times.p99, known(times.p999), thousands(times.max))
    })
}

fn version(run: &Run, part: &str) -> String {
    run.versions.iter().find(|(name, _)| name == part).map(|(_, version)| version.clone()).unwrap_or_default()
}

fn limits(run: &Run, value: impl Fn(&crate::monitor::Total) -> Option<String>) -> String {
    let each = run.totals.iter().filter_map(|total| Some(format!("{} {}", total.service, value(total)?)));
    each.collect::<Vec<_>>().join(", ")
}

/// Writes the page.
pub fn write(directories: &[PathBuf], file: &Path) -> Result<()> {
    let runs: Vec<Run> = directories.iter().map(|directory| Run::read(directory)).collect::<Result<_>>()?;
    let requests: Vec<_> = directories
        .iter()
        .zip(&runs)
        .map(|(directory, run)| Ok((run.title(), Records::requests_of(directory)?)))
        .collect::<Result<_>>()?;
    let body = html! {
        header { h1 { "Stress tests side by side" } }
        section { (table(&runs)) }
        section { h2 { "99th percentile of each second" } (figure(&latencies(&requests))) }
        @for run in &runs { section { h2 { "Verdict: " (run.title()) } (crate::report::verdict(&run.verdict)) } }
    };
    Ok(fs::write(file, page("Stress tests side by side", &body).into_string())?)
}

fn table(runs: &[Run]) -> Markup {
    html! {
        table {
            tr { th {} @for run in runs { th { (run.title()) } } }
            @for (name, value) in ROWS {
                tr { th { (name) } @for run in runs { td class=[class(name, run)] { (value(run)) } } }
            }
        }
    }
}

fn class(name: &str, run: &Run) -> Option<&'static str> {
    (name == "verdict").then_some(match run.verdict.outcome() {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Skipped => "skipped",
    })
}

/// The main figures as a table in Markdown with a line for each run: for the README and for a terminal.
pub fn markdown(runs: &[Run]) -> String {
    let mut text = String::from(
        "| run | CPUs | requests | KO | 201s | rows | p50 / p95 / p99 / p99.9 / max ms | creates: p50 / p99 / p99.9 / max ms | disk: p50 / p99 / p99.9 / max ms (samples) | CPU s: instances, services, Gatling, machine | throttled most | verdict |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for run in runs {
        let (all, services) = (all(run), run.totals.iter().filter(|total| total.is_service()));
        let cpus: Vec<f64> = services.clone().filter_map(|total| total.limits.cpus).collect();
        let cpus = if cpus.is_empty() { unknown() } else { format!("{:.2}", cpus.iter().sum::<f64>()) };
        let cpu: f64 = services.clone().map(|total| total.cpu_seconds).sum();
        let of = |name| {
            run.totals.iter().find(|total| total.service == name).map_or(0.0, |total| total.cpu_seconds)
        };
        let (gatling, machine) = (of(GATLING), of(MACHINE));
        let most = services.max_by(|a, b| a.throttled_periods.total_cmp(&b.throttled_periods));
        let most = most.filter(|total| total.throttled_periods > 0.0).map_or_else(
            || "none".to_owned(),
            |total| format!("{} in {:.0} % of its periods", total.service, 100.0 * total.throttled_periods),
        );
        let verdict = run.verdict.checks.iter().find(|check| check.outcome == Outcome::Failed);
        let verdict = verdict.map_or_else(
            || run.verdict.word().to_owned(),
            // An error may have lines, and a row has none.
            |check| format!("failed: {}: {}", check.name, check.found.replace('\n', " ")),
        );
        text += &format!(
            "| {} | {cpus} | {} | {} | {} | {} | {} / {} / {} / {} / {} | {} | {} | {:.1}, {cpu:.1}, {gatling:.0}, {machine:.0} | {most} | {verdict} |\n",
            run.title(),
            thousands(all.count),
            thousands(all.ko),
            thousands(created(run)),
            score(run),
            all.p50,
            all.p95,
            all.p99,
            known(all.p999),
            thousands(all.max),
            creates_ms(run),
            run.disk.as_ref().map_or_else(unknown, Disk::figures),
            api_cpu(run),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::LABEL;
    use crate::floor::Floor;
    use crate::run::written::run;

    #[test]
    fn a_floor_is_not_taken_for_the_server() {
        let mut run = run("");
        (run.verdict.score, run.verdict.floor) = (None, Some(Floor::BareInsert));
        let title = "a (limit: a bare insert for each create)";
        let (text, page) = (markdown(&[run.clone()]), table(&[run]).into_string());
        assert!(text.contains(&format!("| {title} |")) && text.contains("| 0 | – |"), "{text}");
        assert!(page.contains(&format!("<th>{title}</th>")), "{page}");
    }

    #[test]
    fn the_disk_is_beside_the_creates() {
        let sampled =
            r#""disk":{"sampled":{"samples":99,"p50":0.25,"p95":0.5,"p99":1.0,"p999":2.0,"max":12.0}},"#;
        for (disk, row, cell) in [
            (sampled, "0.25 / 1.00 / 2.00 / 12.0 (99)", "0.25 / 1.00 / 2.00 / 12.0 (99)"),
            (r#""disk":{"not_sampled":"a reason"},"#, "not sampled: a reason", "not sampled"),
            ("", "–", "–"),
        ] {
            let run = run(disk);
            let at = ROWS.iter().position(|(name, _)| name.starts_with(LABEL)).expect("a row");
            assert_eq!([ROWS[at - 1].1(&run), ROWS[at].1(&run)], ["1 / 3 / 4 / 5", row]);
            let text = markdown(&[run]);
            assert!(text.contains(&format!(" | 1 / 3 / 4 / 5 | {cell} | ")), "{text}");
            let columns: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
            assert!(columns.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        }
    }
}
