// Charts as inline SVG, each with a sentence of the same meaning.

import { svg } from "./dom.js";
import { counted, duration, isAway, ms, timeOfDay } from "./words.js";

export const LONGEST_SECS = 3600;
const SPANS = [300, 900, LONGEST_SECS];
const LANE = 30;

/** The length of the past to show, in seconds: a round number, not much longer than the mount is up. */
export function span(uptime) {
  return SPANS.find((secs) => secs >= uptime) ?? LONGEST_SECS;
}

function fraction(at, { now, secs }) {
  return Math.min(1, Math.max(0, 1 - (now - at) / secs));
}

/** The latency of reads: the typical one as a line, the slowest as an area above it. time: {now, secs}, the end and the length of the chart. */
export function latency(name, samples, time) {
  const shown = samples.filter((sample) => sample.at >= time.now - time.secs);
  const known = shown.filter((sample) => sample.p50_ms !== null);
  const label = latencyLabel(name, known);
  const chart = svg("svg", { class: "latency", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": label });
  if (known.length === 0) return chart;
  const most = Math.max(...known.map((sample) => sample.p99_ms)) * 1.1 || 1;
  const x = (sample) => (fraction(sample.at, time) * 100).toFixed(2);
  const y = (value) => (39 - (value / most) * 38).toFixed(2);
  for (const run of runs(shown)) {
    if (run.length === 1) run.unshift({ ...run[0], at: run[0].at - time.secs / 100 });
    const upper = run.map((sample) => `${x(sample)},${y(sample.p99_ms)}`);
    const line = run.map((sample) => `${x(sample)},${y(sample.p50_ms)}`);
    chart.append(
      svg("polygon", { class: "slowest", points: [`${x(run[0])},40`, ...upper, `${x(run.at(-1))},40`].join(" ") }),
      svg("polyline", { class: "typical", points: line.join(" ") }),
    );
  }
  return chart;
}

/** Stretches without a gap. */
function runs(samples) {
  const found = [];
  let run = [];
  for (const sample of samples) {
    if (sample.p50_ms !== null) {
      if (run.length === 0) found.push(run);
      run.push(sample);
    } else {
      run = [];
    }
  }
  return found;
}

function latencyLabel(name, known) {
  if (known.length === 0) return `Read times of ${name}: no reads yet.`;
  const typical = known.map((sample) => sample.p50_ms);
  const slowest = Math.max(...known.map((sample) => sample.p99_ms));
  return `Read times of ${name} over ${duration(known.at(-1).at - known[0].at)}: typically ${ms(typical.at(-1))}, ` +
    `between ${ms(Math.min(...typical))} and ${ms(Math.max(...typical))}; the slowest took ${ms(slowest)}.`;
}

/** One lane for each origin, coloured by its health; a line from lane to lane where reads failed over. */
export function lanes(origins, events, started, time) {
  const chart = svg("svg", { class: "lanes", height: origins.length * LANE, role: "img", "aria-label": lanesLabel(origins, events, time) });
  const row = new Map(origins.map((origin, number) => [origin.id, number * LANE + LANE / 2]));
  for (const origin of origins) {
    for (const part of stretches(origin, events, started, time)) {
      const from = fraction(part.from, time) * 100;
      const width = Math.max(0.4, fraction(part.to, time) * 100 - from);
      chart.append(svg("rect", {
        class: `lane ${part.health}`, x: `${from}%`, width: `${width}%`, y: row.get(origin.id) - (part.health === "unhealthy" ? 2 : 5),
        height: part.health === "unhealthy" ? 4 : 10, rx: 2,
      }));
    }
  }
  for (const move of moves(events, time)) {
    if (!row.has(move.source) || !row.has(move.target)) continue;
    const x = `${fraction(move.at, time) * 100}%`;
    chart.append(
      svg("line", { class: "move", x1: x, x2: x, y1: row.get(move.source), y2: row.get(move.target) }),
      svg("circle", { class: "move", cx: x, cy: row.get(move.target), r: 4 }),
    );
  }
  return chart;
}

function healthEvents(origin, events, { now, secs }) {
  return events
    .filter((event) => event.event === "HealthChanged" && event.origin === origin.id && event.at >= now - secs)
    .toSorted((a, b) => a.at - b.at);
}

/** The origin's health over that time: {health, from, to} each. */
function stretches(origin, events, started, time) {
  const changes = healthEvents(origin, events, time);
  const begin = Math.max(started, time.now - time.secs);
  const found = [];
  let from = begin;
  for (const change of changes) {
    found.push({ health: change.before, from, to: change.at });
    from = change.at;
  }
  found.push({ health: origin.health, from, to: time.now });
  return found.filter((part) => part.to > part.from);
}

/** Failovers between the same two within half a minute are one. */
function moves(events, { now, secs }) {
  const found = [];
  for (const event of events.filter((each) => each.event === "FailedOver").toSorted((a, b) => a.at - b.at)) {
    if (event.at < now - secs) continue;
    const last = found.findLast((move) => move.source === event.source && move.target === event.target);
    if (last !== undefined && event.at - last.at < 30) last.times += event.times ?? 1;
    else found.push({ at: event.at, source: event.source, target: event.target, times: event.times ?? 1 });
  }
  return found;
}

function lanesLabel(origins, events, time) {
  const parts = origins.map((origin) => {
    const lost = healthEvents(origin, events, time).filter((change) => change.after === "unhealthy");
    if (lost.length === 0) return `${origin.id} ${isAway(origin) ? "does not answer" : "answered all the time"}`;
    return `${origin.id} stopped answering at ${lost.map((change) => timeOfDay(change.at)).join(", ")}${isAway(origin) ? " and does not answer" : " and answers again"}`;
  });
  const moved = moves(events, time).map((move) => `at ${timeOfDay(move.at)} ${counted(move.times, "read")} failed over from ${move.source} to ${move.target}`);
  return `The last ${duration(time.secs)}: ${[...parts, ...moved].join("; ")}.`;
}

/** Shares of a whole: parts of {share, kind}. */
export function bar(parts, label) {
  const chart = svg("svg", { class: "bar", height: 14, role: "img", "aria-label": label });
  let from = 0;
  for (const part of parts) {
    if (part.share > 0) chart.append(svg("rect", { class: part.kind, x: `${from}%`, width: `${part.share * 100}%`, height: 14 }));
    from += part.share * 100;
  }
  return chart;
}
