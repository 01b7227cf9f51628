// The charts of the live page, by time: where nothing was told there is a gap.
"use strict";

/** How far back the charts go; the page says so below them. */
const CHART_MS = 180000;
/** Two values that are further apart are not joined. With an instance that does not answer, events come every 1.5 s. */
const GAP_MS = 3500;

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
/**
 * Draws curves, each a list of times and of values, `[at, value]`, whose value is null where it is not known. `place` puts a
 * value between 0 and 1; `grid` has the values of lines, each with its label.
 */
function chart(name, now, curves, place, grid, filled) {
  const [width, height] = [600, 180];
  const x = (at) => ((1 - (now - at) / CHART_MS) * width).toFixed(1);
  // Room above and below for half a line and half a label.
  const y = (value) => (height - 6 - Math.max(0, Math.min(1, place(value))) * (height - 12)).toFixed(1);
  const shapes = grid.map(([value]) => shape("line", { x1: 0, x2: width, y1: y(value), y2: y(value), class: "grid" }));
  by(`${name}-ticks`).replaceChildren(...grid.map(([value, text]) => {
    const tick = document.createElement("span");
    tick.textContent = text;
    tick.style.top = `${y(value) / height * 100}%`;
    return tick;
  }));
  for (const [index, values] of curves.entries()) {
    let path = "", area = "";
    for (const piece of pieces(values)) {
      const points = piece.map(([at, value]) => `${x(at)},${y(value)}`).join("L");
      path += `M${points}`;
      area += `M${x(piece[0][0])},${y(-Infinity)}L${points}L${x(piece.at(-1)[0])},${y(-Infinity)}Z`;
    }
    if (filled && index === 0) shapes.push(shape("path", { d: area, class: "area" }));
    shapes.push(shape("path", { d: path, class: `curve ${["one", "two", "three"][index]}` }));
  }
  by(`${name}-chart`).replaceChildren(...shapes);
}
/** What of a curve is joined: known values that came one soon after the other. */
function pieces(values) {
  const all = [];
  let last = null;
  for (const [at, value] of values) {
    if (value === null) { last = null; continue; }
    if (last === null || at - last > GAP_MS) all.push([]);
    all.at(-1).push([at, value]);
    last = at;
  }
  return all;
}

/** What the charts show, oldest first, each with the time at which it was told. */
let samples = [];

/** Keeps what all instances said at that time, of which `kinds` are the requests; null: nothing is known. */
function remember(at, kinds) {
  const rate = (from, below) => kinds && kinds.filter((kind) => kind.status >= from && kind.status < below).reduce((sum, kind) => sum + kind.rate, 0);
  const all = plus(...(kinds ?? []).map((kind) => kind.seconds));
  const within = (share) => all.count ? Math.min(quantile(all, share), 10) : null;
  // A clock that was set back must not have them out of order.
  samples = samples.filter((each) => each.at < at && each.at >= at - CHART_MS);
  samples.push({
    at, good: rate(200, 400), client: rate(400, 500), server: rate(500, 600),
    p50: within(0.5), p99: within(0.99), p999: within(0.999),
  });
}

/** The next of 1, 2, 5, 10, 20 .. that is no smaller. */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= value);
}

/** Draws them as they are seen at this time: they move on while nothing is told. */
function charts(now) {
  const shown = samples.filter((each) => each.at >= now - CHART_MS);
  const curves = (names) => names.map((name) => shown.map((each) => [each.at, each[name]]));
  const rates = curves(["good", "client", "server"]);
  const top = round(Math.max(10, ...rates.flat().map(([, value]) => value ?? 0)));
  chart("rate", now, rates, (value) => value / top, [0, top / 2, top].map((value) => [value, number(value)]), true);
  // From 10 us to 10 s, six powers of ten.
  const [least, lines] = [1e-5, ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]];
  const power = (value) => Math.log10(Math.max(value, least) / least) / 6;
  chart("time", now, curves(["p50", "p99", "p999"]), power, lines.map((text, index) => [least * 10 ** index, text]), false);
}
