// What the live page reads and writes: numbers as people read them, histograms, and what a snapshot is. It knows no element of
// the page.
"use strict";

/** How many. */
function number(value) { return value.toLocaleString("en-US"); }
/** A rate or a mean, as short as it can be read. */
function rounded(value) { return value > 0 && value < 10 ? value.toFixed(1) : number(Math.round(value)); }
function bytes(value) {
  if (value < 1024) return `${value} B`;
  const units = ["KiB", "MiB", "GiB"];
  let unit = -1;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}
/** Seconds, three digits at most. */
function time(seconds) {
  if (seconds === null) return "–";
  if (seconds === Infinity) return "> 10 s";
  if (seconds < 0.0009995) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) { const ms = seconds * 1000; return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`; }
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}
function span(seconds) {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

// Histograms: {count, sum, cumulative: [[bound, how many are no greater], ..]}, where that number grows, and before.

const NOTHING = { count: 0, sum: 0, cumulative: [] };
/** How many are no greater than the bound. */
function upTo(histogram, bound) {
  let found = 0;
  for (const [each, count] of histogram.cumulative) { if (each > bound) break; found = count; }
  return found;
}
/** The bounds of all, in order, each once. */
function boundsOf(histograms) {
  return [...new Set(histograms.flatMap((histogram) => histogram.cumulative.map(([bound]) => bound)))].sort((a, b) => a - b);
}
function less(later, earlier) {
  return {
    count: later.count - earlier.count,
    sum: later.sum - earlier.sum,
    cumulative: boundsOf([later, earlier]).map((bound) => [bound, upTo(later, bound) - upTo(earlier, bound)]),
  };
}
function plus(...histograms) {
  return {
    count: histograms.reduce((sum, each) => sum + each.count, 0),
    sum: histograms.reduce((sum, each) => sum + each.sum, 0),
    cumulative: boundsOf(histograms).map((bound) => [bound, histograms.reduce((sum, each) => sum + upTo(each, bound), 0)]),
  };
}
/** As Prometheus' histogram_quantile has it: values are spread evenly within a bucket. */
function quantile(histogram, share) {
  if (histogram.count <= 0) return null;
  const rank = share * histogram.count;
  let [lower, before] = [0, 0];
  for (const [bound, count] of histogram.cumulative) {
    if (count >= rank && count > before) return lower + (bound - lower) * ((rank - before) / (count - before));
    [lower, before] = [bound, count];
  }
  return Infinity;
}

// What a snapshot is. A peer's comes from elsewhere, so one that is none must not keep the others from being shown.

const LIST_MAX = 10000;
const text = (value) => typeof value === "string";
const quantity = (value) => Number.isFinite(value);
const flag = (value) => typeof value === "boolean";
const known = (is) => (value) => value === null || is(value);
const list = (is) => (value) => Array.isArray(value) && value.length <= LIST_MAX && value.every(is);
const pair = (value) => Array.isArray(value) && value.length === 2 && value.every(quantity);
const record = (members) => (value) => typeof value === "object" && value !== null && Object.entries(members).every(([name, is]) => is(value[name]));
const histogram = record({ count: quantity, sum: quantity, cumulative: list(pair) });
const room = { used: quantity, limit: quantity };
const isSnapshot = record({
  addresses: list(text), version: text, commit: known(text), stage: text, reloading: flag, uptime_seconds: quantity, drivers: list(text), silent: list(quantity),
  requests: list(record({ method: text, route: text, status: quantity, seconds: histogram })),
  operations: list(record({ name: text, seconds: histogram })),
  batches: histogram, queues: list(record({ name: text, ...room })), pessoas: quantity,
  cache: record({ bytes: quantity, budget_bytes: quantity, bodies_dropped: quantity, search_complete: flag }),
  ledger: record(room), connections: record(room), feed_age_seconds: known(quantity),
  refusals: list(record({ reason: text, count: quantity })), panics: quantity, log_lines_lost: quantity,
  database: record({ connected: flag, durable: flag, address: text, timeline: known(quantity) }),
});
