//! One self-contained page of a run: the verdict, percentiles, throughput and latency over time, CPU and memory against
//! their limits, and how to do it again. It needs no network to be seen.

mod plots;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotly::Plot;

pub(crate) use plots::latencies;

use crate::disk::{Disk, LABEL, ms};
use crate::floor::Floor;
use crate::monitor::{self, MACHINE, Total};
use crate::records::{KINDS, Percentiles, Records};
use crate::run::Run;
use crate::verdict::{Outcome, Verdict};

const MIB: f64 = 1024.0 * 1024.0;

/// Writes `report.html` into the run's directory.
pub fn write(directory: &Path) -> Result<PathBuf> {
    let run = Run::read(directory)?;
    let requests = Records::requests_of(directory)?;
    let samples = monitor::read(&directory.join("samples.tsv"))?;
    let start = match requests.as_slice() {
        [] => samples.first().map_or(0, |sample| sample.at),
        requests => plots::start(requests),
    };
    let body = html! {
        (head(&run))
        (tiles(&run))
        section { h2 { "Verdict" } (verdict(&run.verdict)) @if let Some(floor) = run.verdict.floor { (not_the_server(floor)) } }
        section { h2 { "Response times in ms" } (percentiles(&run)) }
        // A simulation without records has its requests in Gatling's own report.
        @if !requests.is_empty() {
            section { h2 { "Requests" } (figure(&plots::throughput(&requests))) }
            section { h2 { "Response times over time" } (figure(&plots::latency(&requests))) }
        }
        section {
            h2 { "CPUs in use, and throttled, against the limit" }
            div.small { @for total in &run.totals { div { (total.service) (figure(&plots::cpu(total, &samples, start))) } } }
        }
        section {
            h2 { "Memory in MiB, without page cache, against the limit" }
            div.small { @for total in &run.totals { div { (total.service) (figure(&plots::memory(total, &samples, start))) } } }
        }
        section { h2 { "Resources" } (totals(&run.totals)) }
        section { h2 { "Where and how" } (circumstances(&run)) }
    };
    let file = directory.join("report.html");
    fs::write(&file, page(&format!("Stress test: {}", run.title()), &body).into_string())?;
    Ok(file)
}

/// Everything around the body, the plotting library included.
pub(crate) fn page(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
                (PreEscaped(library()))
            }
            body {
                main { (body) }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    }
}

/// plotly.js: the first of the scripts that the crate brings; the second would typeset formulas.
fn library() -> String {
    const END: &str = "</script>";
    let scripts = Plot::offline_js_sources();
    let end = scripts.find(END).map_or(scripts.len(), |at| at + END.len());
    scripts[..end].to_owned()
}

/// An empty element and, beside it, the figure that `page.js` draws there.
pub(crate) fn figure(plot: &Plot) -> Markup {
    let json = plot.to_json().replace("</", "<\\/");
    html! { div.plot {} script type="application/json" { (PreEscaped(json)) } }
}

fn head(run: &Run) -> Markup {
    let class = match run.verdict.outcome() {
        Outcome::Passed => "badge",
        Outcome::Failed => "badge failed",
        Outcome::Skipped => "badge skipped",
    };
    html! {
        header { h1 { "Stress test: " (run.title()) } span class=(class) { (run.verdict.word()) } }
        p {
            (run.date.strftime("%F %R UTC")) " · " (load(run)) " · " (run.target)
            " · " a href=(run.gatling) { "Gatling's own report" }
        }
    }
}

pub(crate) fn load(run: &Run) -> String {
    let seconds = crate::gatling::CONTEST_SECONDS * run.scale;
    match run.load {
        1.0 => format!("the contest's load for {seconds:.0} s"),
        load => format!("{load} times the contest's load for {seconds:.0} s"),
    }
}

fn tiles(run: &Run) -> Markup {
    let all = all(run);
    let created = created(run);
    let stored = match run.verdict.floor {
        None => "rows (the contest's score)",
        Some(_) => "rows, which are not counted,",
    };
    let tile = |value: &str, what: &str| html! { div.tile { b { (value) } span { (what) } } };
    html! {
        div.tiles {
            (tile(&thousands(all.ko), &format!("KO of {} requests", thousands(all.count))))
            (tile(&score(run), &format!("{stored} for {} 201s", thousands(created))))
            (tile(&format!("{} ms", all.p50), "p50 of all requests"))
            (tile(&format!("{} ms", all.p99), "p99"))
            (tile(&format!("{} ms", known(all.p999)), "p99.9"))
            (tile(&format!("{:.1} s", api_cpu(run)), "CPU time of the API instances"))
        }
    }
}

/// The contest's score, which a floor does not have.
pub(crate) fn score(run: &Run) -> String {
    let unknown = if run.verdict.floor.is_some() { "–" } else { "?" };
    run.verdict.score.map_or_else(|| unknown.to_owned(), thousands)
}

fn not_the_server(floor: Floor) -> Markup {
    html! {
        p {
            "Not the server: " (floor.name()) ". Its answers are judged, and not what it keeps. The times are the floor of "
            "those of other reports."
        }
    }
}

pub(crate) fn known(figure: Option<u32>) -> String {
    figure.map_or_else(|| "–".to_owned(), thousands)
}

pub(crate) fn all(run: &Run) -> Percentiles {
    run.percentiles.last().map(|(_, all)| *all).unwrap_or_default()
}

pub(crate) fn created(run: &Run) -> usize {
    let create = run.statuses.iter().find(|(kind, _)| kind == "create");
    create.and_then(|(_, statuses)| statuses.get(&201).copied()).unwrap_or(0)
}

/// Of the creates, if they are known by that name.
pub(crate) fn creates(run: &Run) -> Option<Percentiles> {
    run.percentiles.iter().find(|(kind, _)| kind == KINDS[0]).map(|(_, percentiles)| *percentiles)
}

pub(crate) fn api_cpu(run: &Run) -> f64 {
    run.totals.iter().filter(|total| total.service.starts_with("api")).map(|total| total.cpu_seconds).sum()
}

pub(crate) fn verdict(verdict: &Verdict) -> Markup {
    html! {
        table {
            @for check in &verdict.checks {
                @let (class, word) = match check.outcome {
                    Outcome::Passed => ("passed", "✓ passed"),
                    Outcome::Failed => ("failed", "✗ failed"),
                    Outcome::Skipped => ("skipped", "– skipped"),
                };
                tr { td class=(class) { (word) } td { (check.name) } td { (check.found) } }
            }
        }
    }
}

fn percentiles(run: &Run) -> Markup {
    let statuses = |kind: &str| {
        let of = run.statuses.iter().find(|(name, _)| name == kind).map(|(_, statuses)| statuses);
        let shown = of.into_iter().flatten().map(|(status, count)| match status {
            0 => format!("no answer: {}", thousands(*count)),
            status => format!("{status}: {}", thousands(*count)),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    // Beside the creates, which wait for the disk.
    let creates = run.percentiles.iter().position(|(kind, _)| kind == KINDS[0]);
    let beside = creates.unwrap_or(run.percentiles.len().saturating_sub(1));
    html! {
        table {
            tr {
                th { "request" }
                @for name in ["count", "KO", "p50", "p95", "p99", "p99.9", "max"] { th.number { (name) } }
                th { "statuses" }
            }
            @for (row, (kind, percentiles)) in run.percentiles.iter().enumerate() {
                tr {
                    td { (kind) }
                    td.number { (thousands(percentiles.count)) }
                    td.number { (thousands(percentiles.ko)) }
                    @for value in [percentiles.p50, percentiles.p95, percentiles.p99] {
                        td.number { (thousands(value)) }
                    }
                    td.number { (known(percentiles.p999)) }
                    td.number { (thousands(percentiles.max)) }
                    td { (statuses(kind)) }
                }
                @if let Some(disk) = run.disk.as_ref().filter(|_| row == beside) { (disk_row(disk)) }
            }
        }
        p {
            "From before the connection is made to the end of the answer, as Gatling measures it, in whole milliseconds."
            @if let Some(Disk::Sampled(_)) = run.disk {
                " The disk: a probe of its own, " (::disk::RATE) " writes a second meanwhile in the filesystem of the "
                "database. No create is durable sooner."
            }
        }
    }
}

fn disk_row(disk: &Disk) -> Markup {
    html! {
        tr {
            td { (LABEL) }
            @match disk {
                Disk::Sampled(times) => {
                    td.number { (thousands(times.samples)) }
                    td.number { "–" }
                    @for value in [times.p50, times.p95, times.p99, times.p999, times.max] {
                        td.number { (ms(value)) }
                    }
                    td {}
                }
                Disk::NotSampled(why) => td colspan="8" { "not sampled: " (why) }
            }
        }
    }
}

fn totals(totals: &[Total]) -> Markup {
    let mebibytes = |bytes: u64| format!("{:.0}", bytes as f64 / MIB);
    html! {
        table {
            tr {
                th { "service" }
                @for name in ["CPU s", "CPU limit", "throttled s", "throttled periods", "memory peak MiB", "with page cache", "memory limit", "restarts", "killed for memory"] {
                    th.number { (name) }
                }
            }
            @for total in totals {
                tr {
                    td { (total.service) }
                    td.number { (format!("{:.1}", total.cpu_seconds)) }
                    td.number { (total.limits.cpus.map_or_else(|| "–".to_owned(), |cpus| format!("{cpus:.2}"))) }
                    td.number { (format!("{:.1}", total.throttled_seconds)) }
                    td.number { (format!("{:.1} %", 100.0 * total.throttled_periods)) }
                    td.number { (mebibytes(total.anonymous_peak)) }
                    td.number { (mebibytes(total.memory_peak)) }
                    td.number { (total.limits.memory.map_or_else(|| "–".to_owned(), mebibytes)) }
                    td.number { (total.restarts) }
                    td.number { (total.oom_kills) }
                }
            }
        }
        p {
            "Gatling ran on the same machine, outside of the limits. What the machine did beyond the services and Gatling, "
            "neighbours and the kernel's own work, took " (format!("{:.1}", others(totals))) " s."
        }
    }
}

fn others(totals: &[Total]) -> f64 {
    let (machine, ours): (Vec<&Total>, _) = totals.iter().partition(|total| total.service == MACHINE);
    let sum = |totals: Vec<&Total>| totals.iter().map(|total| total.cpu_seconds).sum::<f64>();
    sum(machine) - sum(ours)
}

fn circumstances(run: &Run) -> Markup {
    html! {
        table {
            @for (name, value) in run.machine.iter().chain(&run.versions) { tr { td { (name) } td { (value) } } }
            tr { td { "command" } td { code { (run.command) } } }
        }
    }
}

/// A number with a comma between each three digits.
pub(crate) fn thousands(number: impl std::fmt::Display) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::written::run;

    #[test]
    fn the_library_is_one_whole_script() {
        let library = library();
        assert!(library.starts_with("<script") && library.ends_with("</script>"));
        assert!(library.contains("plotly.js v") && !library.contains("MathJax.js"));
    }

    #[test]
    fn the_disk_is_shown_beside_the_creates() {
        let shown = |disk: &str| percentiles(&run(disk)).into_string();
        let sampled =
            r#""disk":{"sampled":{"samples":1234,"p50":0.25,"p95":0.5,"p99":1.0,"p999":2.0,"max":12.0}},"#;
        for (disk, expected) in [
            (
                sampled,
                "<td class=\"number\">1,234</td><td class=\"number\">–</td><td class=\"number\">0.25</td>",
            ),
            (
                r#""disk":{"not_sampled":"no <right>"},"#,
                "<td colspan=\"8\">not sampled: no &lt;right&gt;</td>",
            ),
        ] {
            let text = shown(disk);
            assert!(text.contains(expected), "{text}");
            let [create, disk, get] =
                ["<td>create</td>", LABEL, "<td>get</td>"].map(|part| text.find(part).expect(part));
            assert!(create < disk && disk < get, "{text}");
        }
        // A run of before has none.
        assert!(!shown("").contains("disk"));
    }

    #[test]
    fn a_floor_is_not_taken_for_the_server() {
        let shown = |floor: Option<Floor>| {
            let mut run = run("");
            run.verdict.score = run.verdict.score.filter(|_| floor.is_none());
            run.verdict.floor = floor;
            (head(&run).into_string(), tiles(&run).into_string())
        };
        let (head, tiles) = shown(None);
        assert!(
            head.contains("<h1>Stress test: a</h1>") && tiles.contains("<b>1</b><span>rows (the contest")
        );
        let (head, tiles) = shown(Some(Floor::ConstantAnswer));
        assert!(head.contains("<h1>Stress test: a (baseline: a constant answer)</h1>"), "{head}");
        assert!(
            head.contains("passed") && tiles.contains("<b>–</b><span>rows, which are not counted"),
            "{tiles}"
        );
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 46_576, 1_234_567].map(thousands),
            ["0", "999", "1,000", "46,576", "1,234,567"]
        );
    }
}
