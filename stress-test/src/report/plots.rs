//! The figures, without colours of the page: `page.js` adds those of the theme.

use std::collections::BTreeMap;

use plotly::common::{DashType, Fill, Line, LineShape, Mode, Orientation, Title};
use plotly::layout::{Axis, HoverMode, Legend, Margin, RangeMode};
use plotly::{Layout, Plot, Scatter};

use crate::monitor::{Sample, Total};
use crate::records::{KINDS, Percentiles, Request};

/// Colours that can be told apart on a light page and on a dark one, also by those who see few colours.
const COLORS: [&str; 6] = ["#3b82f6", "#e0912f", "#14a38b", "#c65bb5", "#8b93a1", "#d9534f"];
const ROWS: &str = "rows (201)";
const LIMIT_COLOR: &str = "#d9534f";
const MIB: f64 = 1024.0 * 1024.0;

/// Groups requests by the second of the run in which they began. A second without requests is left out.
fn by_second<'a>(requests: impl Iterator<Item = &'a Request>, start: u64) -> BTreeMap<u64, Vec<&'a Request>> {
    let mut seconds: BTreeMap<u64, Vec<&Request>> = BTreeMap::new();
    for request in requests {
        seconds.entry(request.began.saturating_sub(start) / 1000).or_default().push(request);
    }
    seconds
}

/// When the first request was sent.
pub(super) fn start(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.began).min().unwrap_or(0)
}

/// In each second, the requests of each kind that begin, and the rows whose 201s arrive.
pub(super) fn throughput(requests: &[Request]) -> Plot {
    let start = start(requests);
    // The last second is not a whole one: it is left out.
    let last = requests.iter().map(|request| (request.began - start) / 1000).max().unwrap_or(0);
    let mut plot = figure("a second");
    let mut line =
        |name: &str, color: usize, at: fn(&Request) -> u64, matching: &dyn Fn(&Request) -> bool| {
            let x: Vec<u64> = (0..last).collect();
            let mut y = vec![0_u64; x.len()];
            for request in requests.iter().filter(|request| matching(request)) {
                let second = usize::try_from((at(request) - start) / 1000).expect("a second of the run");
                y.get_mut(second).into_iter().for_each(|count| *count += 1);
            }
            // Most rows are asked for right after their 201, so that their line lies upon that of the GETs: it is
            // dotted.
            let dash = if name == ROWS { DashType::Dot } else { DashType::Solid };
            let line = Line::new().color(COLORS[color]).width(2.0).dash(dash);
            plot.add_trace(Scatter::new(x, y).name(name).mode(Mode::Lines).line(line));
        };
    for (color, kind) in KINDS.iter().enumerate() {
        line(kind, color, |request| request.began, &|request| request.kind == *kind);
    }
    let stored = |request: &Request| request.kind == KINDS[0] && request.status == 201;
    line(ROWS, 4, Request::ended, &stored);
    line("KO", 5, |request| request.began, &|request| !request.ok);
    plot
}

/// Median, 99th percentile and maximum of all requests of each second.
pub(super) fn latency(requests: &[Request]) -> Plot {
    let seconds = by_second(requests.iter(), start(requests));
    let of: Vec<(u64, Percentiles)> = seconds
        .into_iter()
        .map(|(second, requests)| (second, Percentiles::of(requests.into_iter())))
        .collect();
    let mut plot = figure("ms");
    let mut line = |name: &str, color: &'static str, value: fn(&Percentiles) -> u32| {
        let (x, y): (Vec<u64>, Vec<u32>) =
            of.iter().map(|(second, percentiles)| (*second, value(percentiles))).unzip();
        plot.add_trace(
            Scatter::new(x, y).name(name).mode(Mode::Lines).line(Line::new().color(color).width(1.6)),
        );
    };
    line("max", COLORS[4], |percentiles| percentiles.max);
    line("p99", COLORS[1], |percentiles| percentiles.p99);
    line("p50", COLORS[0], |percentiles| percentiles.p50);
    plot
}

/// The 99th percentile of each second of several runs.
pub(crate) fn latencies(runs: &[(String, Vec<Request>)]) -> Plot {
    let mut plot = figure("p99, ms");
    for (number, (name, requests)) in runs.iter().enumerate() {
        let seconds = by_second(requests.iter(), start(requests));
        let (x, y): (Vec<u64>, Vec<u32>) = seconds
            .into_iter()
            .map(|(second, requests)| (second, Percentiles::of(requests.into_iter()).p99))
            .unzip();
        let color = COLORS[number % COLORS.len()];
        plot.add_trace(
            Scatter::new(x, y).name(name).mode(Mode::Lines).line(Line::new().color(color).width(1.6)),
        );
    }
    plot
}

/// The CPUs that one service used, and those that throttling kept from it, between each two samples, against its limit.
pub(super) fn cpu(total: &Total, samples: &[Sample], start: u64) -> Plot {
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.service == total.service).collect();
    let mut seconds = Vec::new();
    let mut used = Vec::new();
    let mut throttled = Vec::new();
    for pair in own.windows(2) {
        let wall = (pair[1].at.saturating_sub(pair[0].at)).max(1) as f64 / 1000.0;
        let rate = |value: fn(&Sample) -> std::time::Duration| {
            value(pair[1]).saturating_sub(value(pair[0])).as_secs_f64() / wall
        };
        seconds.push(seconds_after(start, pair[1].at));
        used.push(rate(|sample| sample.usage.cpu));
        throttled.push(rate(|sample| sample.usage.throttled));
    }
    let mut plot = small_figure();
    plot.add_trace(area("CPUs", seconds.clone(), used, COLORS[0]));
    if throttled.iter().any(|share| *share > 0.0) {
        plot.add_trace(area("throttled", seconds.clone(), throttled, COLORS[1]));
    }
    limit(&mut plot, &seconds, total.limits.cpus);
    plot
}

/// The memory of one service that no file backs, against its limit.
pub(super) fn memory(total: &Total, samples: &[Sample], start: u64) -> Plot {
    let own: Vec<&Sample> = samples.iter().filter(|sample| sample.service == total.service).collect();
    let seconds: Vec<f64> = own.iter().map(|sample| seconds_after(start, sample.at)).collect();
    let mebibytes = own.iter().map(|sample| sample.usage.anonymous as f64 / MIB).collect();
    let mut plot = small_figure();
    plot.add_trace(area("MiB", seconds.clone(), mebibytes, COLORS[2]));
    limit(&mut plot, &seconds, total.limits.memory.map(|bytes| bytes as f64 / MIB));
    plot
}

/// Seconds since the first request; negative while Gatling starts.
fn seconds_after(start: u64, at: u64) -> f64 {
    (at as f64 - start as f64) / 1000.0
}

fn area(name: &str, x: Vec<f64>, y: Vec<f64>, color: &'static str) -> Box<Scatter<f64, f64>> {
    let line = Line::new().color(color).width(1.4).shape(LineShape::Linear);
    Scatter::new(x, y).name(name).mode(Mode::Lines).line(line).fill(Fill::ToZeroY)
}

fn limit(plot: &mut Plot, x: &[f64], limit: Option<f64>) {
    let (Some(limit), Some(first), Some(last)) = (limit, x.first(), x.last()) else { return };
    let line = Line::new().color(LIMIT_COLOR).width(1.4).dash(DashType::Dash);
    plot.add_trace(
        Scatter::new(vec![*first, *last], vec![limit; 2]).name("limit").mode(Mode::Lines).line(line),
    );
}

fn figure(y_title: &str) -> Plot {
    let layout = Layout::new()
        .margin(Margin::new().left(52).right(12).top(8).bottom(40))
        .legend(Legend::new().orientation(Orientation::Horizontal).y(1.14))
        .hover_mode(HoverMode::XUnified)
        .x_axis(Axis::new().title(Title::with_text("s")))
        .y_axis(Axis::new().title(Title::with_text(y_title)).range_mode(RangeMode::ToZero));
    let mut plot = Plot::new();
    plot.set_layout(layout);
    plot
}

fn small_figure() -> Plot {
    let layout = Layout::new()
        .margin(Margin::new().left(38).right(8).top(6).bottom(24))
        .show_legend(false)
        .hover_mode(HoverMode::XUnified)
        .y_axis(Axis::new().range_mode(RangeMode::ToZero));
    let mut plot = Plot::new();
    plot.set_layout(layout);
    plot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_when_their_201s_arrive() {
        let request = |kind: &str, began: u64, millis: u32, status: u16| Request {
            kind: kind.to_owned(),
            began,
            millis,
            status,
            ok: true,
        };
        let requests = [
            request("create", 5_000, 1, 201),
            request("create", 5_900, 200, 201),
            request("create", 5_950, 1, 422),
            request("get", 5_960, 1, 200),
            request("create", 7_100, 1, 201),
            request("get", 8_000, 1, 200),
        ];
        let plot: serde_json::Value = serde_json::from_str(&throughput(&requests).to_json()).expect("JSON");
        let of = |name: &str| {
            let trace = plot["data"].as_array()?.iter().find(|trace| trace["name"] == name)?;
            Some((trace["x"].clone(), trace["y"].clone()))
        };
        let expected = |y: [u64; 3]| Some((serde_json::json!([0, 1, 2]), serde_json::json!(y)));
        assert_eq!(of(ROWS), expected([1, 1, 1]));
        assert_eq!(of("create"), expected([3, 0, 1]));
        assert_eq!(of("KO"), expected([0, 0, 0]));
    }
}
