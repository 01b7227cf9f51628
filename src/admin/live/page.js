// The live page: takes the differences of the snapshots that come once a second, and shows them. What it is told is text:
// nothing of it becomes markup.
"use strict";

/** Seconds of the window that percentiles and rates in the tables are of. */
const WINDOW_SECONDS = 5;
/** A page that was told nothing for so long says so. */
const SILENT_MS = 4000;

const by = (id) => document.getElementById(id);

// What was told: for each instance its last snapshots, newest last.

const instances = new Map();

class History {
  constructor() { this.told = []; this.away = null; this.name = "?"; }

  add(at, snapshot) {
    const last = this.told.at(-1);
    // Numbers begin anew with the process.
    if (last && snapshot.uptime_seconds < last.snapshot.uptime_seconds) this.told = [];
    this.told.push({ at, snapshot });
    // Events come once a second, or later. Half of one is the nearest that a window comes to its length.
    while (this.told.length > 2 && at - this.told[1].at >= (WINDOW_SECONDS - 0.5) * 1000) this.told.shift();
    this.away = null;
  }

  get now() { return this.away === null ? this.told.at(-1)?.snapshot ?? null : null; }

  /** What has changed: since the last event, or in the whole window. */
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
      const waits = { commit: "creates that wait", read: "reads that wait", count: "counts that wait", search: "searches that wait", mesh: "questions between cores", "feed bytes": "rows on their way" };
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

function rows() {
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
    if (snapshot.silent.length) notes.push(`${name}: cores that do not answer: ${snapshot.silent.join(", ")}; of these the last is shown that they said`);
    if (snapshot.reloading) notes.push(`${name}: reads the table again, as the database has another history`);
    if (!snapshot.cache.search_complete && snapshot.stage === "serving") notes.push(`${name}: searches go to the database`);
    if (snapshot.cache.bodies_dropped) notes.push(`${name}: ${number(snapshot.cache.bodies_dropped)} bodies dropped for want of memory`);
    if (snapshot.panics) notes.push(`${name}: panics: ${snapshot.panics}`);
    if (snapshot.log_lines_lost) notes.push(`${name}: log lines lost: ${number(snapshot.log_lines_lost)}`);
    const refused = snapshot.refusals.filter((each) => each.count > 0);
    if (refused.length) notes.push(`${name}: refused since its start: ${refused.map((each) => `${each.reason} ${number(each.count)}`).join(", ")}`);
  }
  const versions = new Set(now().map(({ version, commit }) => `rinha ${version}${commit === null ? "" : ` (${commit})`}. `));
  by("versions").textContent = [...versions].join("");
  const shown = by("notes");
  // A screen reader hears what is new, not the same each second.
  if (notes.join("\n") !== [...shown.children].map((each) => each.textContent).join("\n")) {
    shown.replaceChildren(...notes.map((text) => { const note = document.createElement("li"); note.textContent = text; return note; }));
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
      if (!isSnapshot(told)) throw new Error("what it said is no snapshot; is it of another version?");
      history.add(at, told);
      history.name = nameOf(told);
    } catch (error) {
      history.away = error.message;
      history.told = [];
    }
  }
  const isKnown = [...instances.values()].some((history) => history.change(false));
  remember(at, isKnown ? together(false).kinds : null);
  charts(at);
  const sum = together(true);
  tiles(sum);
  requests(sum);
  meters();
  database(sum);
  rows();
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
  // Behind a balancer another instance may answer now, to which the others have other names.
  source.onopen = () => instances.clear();
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
setInterval(() => {
  const now = Date.now();
  if (!heard || now - heard <= SILENT_MS) return;
  state(`nothing was heard for ${Math.round((now - heard) / 1000)} s`, true);
  charts(now);
}, 1000);
key("rate-key", ["2xx, 3xx", "4xx", "5xx"]);
key("time-key", ["p50", "p99", "p99.9"]);
listen();
