// The live page: takes the differences of the snapshots that come once a second, and shows them. What it is told is text:
// nothing of it becomes markup.
"use strict";

/** Seconds of the charts, and of the window that percentiles and rates in the tables are of. */
const CHART_SECONDS = 180;
const WINDOW_SECONDS = 5;
/** A page that was told nothing for so long says so. */
const SILENT_MS = 4000;

const by = (id) => document.getElementById(id);

// Numbers.

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

// What was told: for each instance its last snapshots, newest last.

const instances = new Map();

class History {
  constructor() { this.told = []; this.away = null; this.name = "?"; }

  add(at, snapshot) {
    const last = this.told.at(-1);
    // Numbers begin anew with the process.
    if (last && snapshot.uptime_seconds < last.snapshot.uptime_seconds) this.told = [];
    this.told.push({ at, snapshot });
    while (this.told.length > WINDOW_SECONDS + 1) this.told.shift();
    this.away = null;
  }

  get now() { return this.away === null ? this.told.at(-1)?.snapshot ?? null : null; }

  /** What has changed: in the last second, or in the whole window. */
  change(whole) {
    if (this.now === null || this.told.length < 2) return null;
    const from = whole ? this.told[0] : this.told.at(-2);
    const to = this.told.at(-1);
    return { seconds: to.snapshot.uptime_seconds - from.snapshot.uptime_seconds, from: from.snapshot, to: to.snapshot };
  }
}

const keyOf = (each) => `${each.route} ${each.method} ${each.status}`;

/** The requests of a change, each kind with its histogram. */
function requestsOf(change) {
  const before = new Map(change.from.requests.map((each) => [keyOf(each), each.seconds]));
  return change.to.requests.map((each) => ({ ...each, total: each.seconds.count, seconds: less(each.seconds, before.get(keyOf(each)) ?? NOTHING) }));
}

/** All instances together: requests by kind, statements, batches, and seconds of the longest change. */
function together(whole) {
  const kinds = new Map(), operations = new Map();
  let batches = NOTHING, rate = 0;
  const perSecond = (histogram, seconds) => histogram.count / seconds;
  for (const history of instances.values()) {
    const change = history.change(whole);
    if (!change || change.seconds <= 0) continue;
    for (const each of requestsOf(change)) {
      const kind = kinds.get(keyOf(each)) ?? { ...each, seconds: NOTHING, rate: 0, total: 0 };
      kind.rate += perSecond(each.seconds, change.seconds);
      kind.seconds = plus(kind.seconds, each.seconds);
      kind.total += each.total;
      kinds.set(keyOf(each), kind);
      rate += perSecond(each.seconds, change.seconds);
    }
    for (const [index, each] of change.to.operations.entries()) {
      const difference = less(each.seconds, change.from.operations[index]?.seconds ?? NOTHING);
      const sum = operations.get(each.name) ?? { name: each.name, seconds: NOTHING, rate: 0 };
      sum.rate += perSecond(difference, change.seconds);
      sum.seconds = plus(sum.seconds, difference);
      operations.set(each.name, sum);
    }
    batches = plus(batches, less(change.to.batches, change.from.batches));
  }
  return { kinds: [...kinds.values()], operations: [...operations.values()], batches, rate };
}

// Showing.

function row(body, cells) {
  const line = document.createElement("tr");
  for (const [text, look] of cells) {
    const cell = document.createElement("td");
    cell.textContent = text;
    if (look) cell.className = look;
    line.append(cell);
  }
  body.append(line);
}
function table(id, rows, empty) {
  const body = by(id);
  const fresh = document.createElement("tbody");
  for (const cells of rows) row(fresh, cells);
  if (rows.length === 0) row(fresh, [[empty, "faint"]]);
  body.replaceChildren(...fresh.children);
}

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
function key(id, names) {
  for (const [index, name] of names.entries()) {
    const sample = shape("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" });
    sample.append(shape("line", { x1: 0, y1: 4, x2: 26, y2: 4, class: `curve ${["one", "two", "three"][index]}` }));
    const entry = document.createElement("span");
    entry.append(sample, name);
    by(id).append(entry);
  }
}
/** Draws curves, each of CHART_SECONDS values or null where nothing is known; `place` puts a value between 0 and 1. */
function chart(id, curves, place, grid, filled) {
  const [width, height] = [600, 180];
  const x = (index) => (index * width / (CHART_SECONDS - 1)).toFixed(1);
  const y = (value) => (height - 2 - Math.max(0, Math.min(1, place(value))) * (height - 6)).toFixed(1);
  const shapes = grid.map((value) => shape("line", { x1: 0, x2: width, y1: y(value), y2: y(value), class: "grid" }));
  for (const [index, values] of curves.entries()) {
    let path = "", area = "", began = null;
    for (const [at, value] of values.entries()) {
      if (value === null) { began = null; continue; }
      path += `${began === null ? "M" : "L"}${x(at)},${y(value)}`;
      if (began === null) { began = at; area += `M${x(at)},${height}`; }
      area += `L${x(at)},${y(value)}`;
      if ((values[at + 1] ?? null) === null) area += `L${x(at)},${height}Z`;
    }
    if (filled && index === 0) shapes.push(shape("path", { d: area, class: "area" }));
    shapes.push(shape("path", { d: path, class: `curve ${["one", "two", "three"][index]}` }));
  }
  by(id).replaceChildren(...shapes);
}

const drawn = { good: [], client: [], server: [], p50: [], p99: [], p999: [] };
function remember(name, value) {
  const values = drawn[name];
  values.push(value);
  while (values.length > CHART_SECONDS) values.shift();
}
const padded = (name) => [...Array(CHART_SECONDS - drawn[name].length).fill(null), ...drawn[name]];
/** The next of 1, 2, 5, 10, 20 .. that is no smaller. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= value);
}

function charts() {
  const second = together(false);
  const known = [...instances.values()].some((history) => history.change(false));
  const of = (from, below) => second.kinds.filter((kind) => kind.status >= from && kind.status < below);
  const rate = (kinds) => kinds.reduce((sum, kind) => sum + kind.rate, 0);
  remember("good", known ? rate(of(200, 400)) : null);
  remember("client", known ? rate(of(400, 500)) : null);
  remember("server", known ? rate(of(500, 600)) : null);
  const all = plus(...second.kinds.map((kind) => kind.seconds));
  for (const [name, share] of [["p50", 0.5], ["p99", 0.99], ["p999", 0.999]]) {
    const value = all.count ? quantile(all, share) : null;
    remember(name, value === Infinity ? 10 : value);
  }
  const rates = ["good", "client", "server"].map(padded);
  const top = round(Math.max(10, ...rates.flat().map((value) => value ?? 0)));
  chart("rate-chart", rates, (value) => value / top, [0, top / 2, top], true);
  by("rate-top").textContent = `top line: ${number(top)}/s`;
  // From 10 us to 10 s, six powers of ten.
  const lines = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10];
  chart("time-chart", ["p50", "p99", "p999"].map(padded), (value) => Math.log10(Math.max(value, lines[0]) / lines[0]) / 6, lines, false);
  by("time-top").textContent = "lines: 10 µs, 100 µs, 1 ms .. 10 s";
}

function tiles(sum) {
  const of = (from, below) => sum.kinds.filter((kind) => kind.status >= from && kind.status < below).reduce((all, kind) => all + kind.rate, 0);
  const all = plus(...sum.kinds.map((kind) => kind.seconds));
  by("rate").textContent = rounded(sum.rate);
  by("created").textContent = rounded(of(201, 202));
  by("p50").textContent = time(quantile(all, 0.5));
  by("p99").textContent = time(quantile(all, 0.99));
  by("batch").textContent = sum.batches.count ? rounded(sum.batches.sum / sum.batches.count) : "–";
  // Each instance holds all of them; one that loads has not seen all.
  by("pessoas").textContent = number(Math.max(0, ...now().map((each) => each.pessoas)));
  const failed = of(500, 600);
  by("failed").textContent = rounded(failed);
  by("failing").classList.toggle("bad", failed > 0);
}

const now = () => [...instances.values()].map((history) => history.now).filter((each) => each !== null);

function requests(sum) {
  const kinds = sum.kinds.sort((a, b) => a.route.localeCompare(b.route) || a.method.localeCompare(b.method) || a.status - b.status);
  table("requests", kinds.map((kind) => [
    [`${kind.method === "_OTHER" ? "other" : kind.method} ${kind.route || "(no route)"}`],
    [String(kind.status), kind.status >= 500 ? "bad" : ""],
    [rounded(kind.rate), "n"],
    ...[0.5, 0.95, 0.99, 0.999].map((share) => [time(quantile(kind.seconds, share)), "n"]),
    [number(kind.total), "n faint"],
  ]), "no request yet");
}

/** The fullest of all instances, by what it is of. */
function meters() {
  const fullest = new Map();
  const put = (name, used, limit, show) => {
    const share = limit > 0 ? used / limit : 0;
    if (share >= (fullest.get(name)?.share ?? -1)) fullest.set(name, { share, text: `${show(used)} of ${show(limit)}` });
  };
  for (const each of now()) {
    for (const queue of each.queues) {
      const waits = { commit: "creates that wait", read: "reads that wait", search: "searches that wait", mesh: "questions between cores", "feed bytes": "rows on their way" };
      put(waits[queue.name] ?? queue.name, queue.used, queue.limit, queue.name === "feed bytes" ? bytes : number);
    }
    put("connections", each.connections.used, each.connections.limit, number);
    put("held for clients", each.ledger.used, each.ledger.limit, bytes);
    put("cache", each.cache.bytes, each.cache.budget_bytes, bytes);
  }
  by("meters").replaceChildren(...[...fullest].map(([name, { share, text }]) => {
    const entry = document.createElement("li");
    const label = document.createElement("span");
    label.textContent = name;
    const value = document.createElement("span");
    value.textContent = share >= 0.8 ? `${text}, nearly full` : text;
    if (share >= 0.8) value.className = "bad";
    const bar = document.createElement("div");
    bar.className = share >= 0.8 ? "bar full" : "bar";
    const inner = document.createElement("i");
    inner.style.width = `${Math.min(100, share * 100)}%`;
    bar.append(inner);
    entry.append(label, value, bar);
    return entry;
  }));
}

function database(sum) {
  table("operations", sum.operations.map((each) => [
    [{ insert: "insert of a batch", fetch: "point reads", count: "count", search: "search", feed: "feed" }[each.name] ?? each.name],
    [rounded(each.rate), "n"],
    [time(quantile(each.seconds, 0.5)), "n"],
    [time(quantile(each.seconds, 0.99)), "n"],
  ]), "nothing is known yet");
  const facts = new Map();
  for (const each of now()) {
    const { connected, durable, address, timeline } = each.database;
    const text = `${connected ? "connected" : "NOT connected"}${address ? ` to ${address}` : ""}${timeline === null ? "" : `, timeline ${timeline}`}${durable ? "" : ", NOT durable (fsync or full_page_writes is off)"}`;
    facts.set(text, [...(facts.get(text) ?? []), nameOf(each)]);
  }
  by("facts").replaceChildren(...[...facts].flatMap(([text, names]) => {
    const term = document.createElement("dt"), fact = document.createElement("dd");
    term.textContent = names.length === instances.size ? "all instances" : names.join(", ");
    fact.textContent = text;
    return [term, fact];
  }));
}

/** The last part of the first address: `api1-0.sock`, `0.0.0.0:9999`. */
const nameOf = (snapshot) => (snapshot.addresses[0] ?? "?").split("/").at(-1);

function list() {
  const notes = [];
  table("instances", [...instances].map(([peer, history]) => {
    const snapshot = history.now;
    if (snapshot === null) return [[history.name === "?" ? peer : history.name], ["away", "bad"], ...Array(7).fill(["–", "n faint"])];
    const change = history.change(true);
    const kinds = change && change.seconds > 0 ? requestsOf(change) : [];
    const all = plus(...kinds.map((kind) => kind.seconds));
    const drivers = [...new Set(snapshot.drivers)].join(", ");
    const cores = snapshot.drivers.length;
    const age = snapshot.feed_age_seconds;
    return [
      [nameOf(snapshot)],
      [snapshot.stage, snapshot.stage === "serving" ? "" : "bad"],
      [drivers ? `${drivers}, ${cores} ${cores === 1 ? "core" : "cores"}` : "–"],
      [change ? rounded(all.count / change.seconds) : "–", "n"],
      [time(quantile(all, 0.99)), "n"],
      [number(snapshot.pessoas), "n"],
      [number(snapshot.connections.used), "n"],
      [time(age), age !== null && age > 1 ? "n bad" : "n"],
      [span(snapshot.uptime_seconds), "n"],
    ];
  }), "nothing is known yet");
  for (const [peer, history] of instances) {
    const name = history.name === "?" ? peer : history.name;
    if (history.away !== null) { notes.push(`${name} is away: ${history.away}`); continue; }
    const snapshot = history.now;
    if (snapshot === null) continue;
    if (snapshot.silent.length) notes.push(`${name}: cores that do not answer: ${snapshot.silent.join(", ")}`);
    if (!snapshot.cache.search_complete && snapshot.stage === "serving") notes.push(`${name}: searches go to the database`);
    if (snapshot.cache.bodies_dropped) notes.push(`${name}: ${number(snapshot.cache.bodies_dropped)} bodies dropped for want of memory`);
    if (snapshot.panics) notes.push(`${name}: panics: ${snapshot.panics}`);
    if (snapshot.log_lines_lost) notes.push(`${name}: log lines lost: ${number(snapshot.log_lines_lost)}`);
    const refused = snapshot.refusals.filter((each) => each.count > 0);
    if (refused.length) notes.push(`${name}: refused since its start: ${refused.map((each) => `${each.reason} ${number(each.count)}`).join(", ")}`);
  }
  const known = by("notes");
  // A screen reader hears what is new, not the same each second.
  if (notes.join("\n") !== [...known.children].map((each) => each.textContent).join("\n")) {
    known.replaceChildren(...notes.map((text) => { const note = document.createElement("li"); note.textContent = text; return note; }));
  }
}

/** One event: what each instance said, or why it said nothing. */
function take(event) {
  const at = Date.now();
  for (const { peer, snapshot, away } of event.instances) {
    const name = peer ?? "this instance";
    if (!instances.has(name)) instances.set(name, new History());
    const history = instances.get(name);
    try {
      if (snapshot === null) throw new Error(away ?? "no reason was given");
      const told = JSON.parse(snapshot);
      nameOf(told);
      if (!Array.isArray(told.requests) || typeof told.uptime_seconds !== "number") throw new Error("what it said is no snapshot");
      history.add(at, told);
      history.name = nameOf(told);
    } catch (error) {
      history.away = error.message;
      history.told = [];
    }
  }
  const sum = together(true);
  charts();
  tiles(sum);
  requests(sum);
  meters();
  database(sum);
  list();
}

// Listening.

let heard = 0;
function state(text, lost) {
  const shown = by("state");
  if (shown.textContent !== text) shown.textContent = text;
  shown.classList.toggle("lost", lost);
}
function listen() {
  const source = new EventSource("live/events");
  source.onmessage = (message) => {
    heard = Date.now();
    try {
      take(JSON.parse(message.data));
      const away = [...instances.values()].filter((history) => history.now === null).length;
      state(away ? `live, ${away} of ${instances.size} instances away` : `live, ${instances.size} ${instances.size === 1 ? "instance" : "instances"}`, away > 0);
    } catch (error) {
      state(`an event could not be shown: ${error.message}`, true);
      throw error;
    }
  };
  source.onerror = () => {
    state("not connected, trying again …", true);
    // A browser gives up after an answer such as 503.
    if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 2000); }
  };
}
setInterval(() => { if (heard && Date.now() - heard > SILENT_MS) state(`nothing was heard for ${Math.round((Date.now() - heard) / 1000)} s`, true); }, 1000);
key("rate-key", ["2xx, 3xx", "4xx", "5xx"]);
key("time-key", ["p50", "p99", "p99.9"]);
listen();
