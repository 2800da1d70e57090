// The cards of the origins, and the lanes of the last hour.

import { LONGEST_SECS, lanes, latency } from "./charts.js";
import { el, render, renderEach, setText } from "./dom.js";
import { health, isAway, listed, ms, scan, size, counted, visible } from "./words.js";

/** serving: for each origin the names of the open files that are read from it. */
export function showOrigins(list, origins, problems, samples, serving, time) {
  renderEach(list, origins, create, (card, origin) => {
    update(card, origin, samples.get(origin.id) ?? [], serving.get(origin.id) ?? [], time);
    showProblems(card.querySelector(".problems"), problems.filter((each) => each.origin === origin.id));
  });
}

/** A line for each reason to leave something out of the tree. */
function showProblems(node, problems) {
  render(node, problems.map((each) => each.says), () => problems.filter((each) => !each.note).map((each) => el("li", {}, `${each.says}.`)));
}

function create(origin) {
  const id = `origin-${crypto.randomUUID?.() ?? Math.random()}`;
  return el("li", { class: "card", "aria-labelledby": id },
    el("h3", { id }, el("span", { class: "lamp", "aria-hidden": "true" }), visible(origin.id), " ", el("span", { class: "health" })),
    el("p", { class: "where" }),
    el("p", { class: "serving" }),
    el("figure", {},
      el("div", { class: "chart" }),
      el("figcaption", {}, el("span", { class: "key typical" }, "typical ", el("b")), el("span", { class: "key slowest" }, "slowest ", el("b")))),
    el("p", { class: "holds" }),
    el("p", { class: "scan" }),
    el("ul", { class: "problems" }),
    el("progress", { "aria-label": `Scan of ${visible(origin.id)}`, hidden: "" }));
}

function update(card, origin, samples, serving, time) {
  const find = (selector) => card.querySelector(selector);
  card.dataset.state = origin.enabled ? origin.health : "off";
  setText(find(".health"), health(origin));
  setText(find(".where"), visible(`${origin.kind}: ${origin.location}`));
  setText(find(".serving"), servingText(origin, serving));
  const [typical, slowest] = card.querySelectorAll("figcaption b");
  setText(typical, ms(origin.p50_ms));
  setText(slowest, ms(origin.p99_ms));
  const last = samples.at(-1)?.at ?? 0;
  render(find(".chart"), [samples.length, last, time.secs], () => [latency(visible(origin.id), samples, time)]);
  setText(find(".holds"), `${counted(origin.files, "file")}, ${size(origin.bytes)}`);
  setText(find(".scan"), scan(origin));
  find("progress").hidden = origin.scan.state !== "scanning";
}

function servingText(origin, serving) {
  if (serving.length === 0) return isAway(origin) ? "Its music stays listed." : "Idle.";
  const rest = serving.length > 2 ? `, and ${serving.length - 2} more` : "";
  return visible(`Serving ${listed(serving.slice(0, 2))}${rest}.`);
}

export function showTimeline(node, origins, events, started, time) {
  const shown = origins.filter((origin) => origin.enabled);
  const key = [shown.map((origin) => [origin.id, origin.health]), events.length, events[0]?.at, events[0]?.times, Math.floor(time.now / 5), time.secs];
  render(node, key, () => [
    el("div", { class: "lanes-grid" },
      el("div", { class: "lane-names", "aria-hidden": "true" }, ...shown.map((origin) => el("span", {}, visible(origin.id)))),
      lanes(shown, events, started, time),
      el("p", { class: "axis", "aria-hidden": "true" }, ...ticks(time.secs).map((minutes) => el("span", {}, `${minutes} min ago`)), el("span", {}, "now"))),
    el("p", { class: "legend", "aria-hidden": "true" },
      el("span", { class: "key healthy" }, "healthy"), el("span", { class: "key degraded" }, "degraded"),
      el("span", { class: "key unhealthy" }, "does not answer"), el("span", { class: "key move" }, "reads failed over")),
  ]);
}

/** The labels of the axis, in minutes ago. */
function ticks(secs) {
  const minutes = secs / 60;
  const step = { 5: 1, 15: 5, 60: 15 }[minutes];
  return Array.from({ length: minutes / step }, (_, number) => minutes - number * step);
}

/** Adds a sample, at most one every five seconds, and drops those older than an hour. */
export function addSample(samples, origin, now) {
  const its = samples.get(origin.id) ?? [];
  samples.set(origin.id, its);
  if (its.length > 0 && now - its.at(-1).at < 5) return;
  const measured = origin.p50_ms !== null && !isAway(origin);
  its.push({ at: now, p50_ms: measured ? origin.p50_ms : null, p99_ms: measured ? origin.p99_ms : null });
  while (its.length > 0 && its[0].at < now - LONGEST_SECS) its.shift();
}
