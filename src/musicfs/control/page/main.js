// The status page: requests the state of the mount every few seconds, and at once after an event, and shows it.

import { Refused, follow, get, getIfThere, unlock } from "./api.js";
import { span } from "./charts.js";
import { byId, el, render, setText } from "./dom.js";
import { remember, showEvents } from "./events.js";
import { nameOf, showCache, showCopies, showOpen } from "./library.js";
import { addSample, showOrigins, showTimeline } from "./origins.js";
import { advice, summary, verdict, visible } from "./words.js";

const EVERY_MS = 2_000;
const RARELY_MS = 20_000;
const SOON_MS = 150;

const samples = new Map();
const kept = [];
let copies = null;
let copiesAt = -Infinity;
let wake = () => {};
let stream = null;
let refused = false;

function pause(milliseconds) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    wake = () => {
      clearTimeout(timer);
      setTimeout(resolve, SOON_MS);
    };
  });
}

async function look() {
  const status = await get("status");
  const [cache, open] = await Promise.all([getIfThere("cache"), getIfThere("open")]);
  if (performance.now() - copiesAt > RARELY_MS) {
    copiesAt = performance.now();
    copies = await getIfThere("redundancy");
  }
  show(status, cache, open?.files ?? null);
  return status;
}

function show(status, cache, open) {
  const now = Date.now() / 1000;
  const time = { now, secs: span(status.uptime_secs) };
  const said = verdict(status, cache);
  byId("verdict").dataset.state = said.state;
  document.documentElement.dataset.state = said.state;
  setText(byId("verdict"), said.verdict);
  setText(byId("story"), visible(said.story));
  setText(byId("summary"), summary(status));
  setText(byId("mount-point"), visible(status.mount_point));
  document.title = `${said.verdict} MusicFS`;
  const sentences = advice(status).map(visible);
  render(byId("advice"), sentences, () => sentences.map((text) => el("li", {}, text)));
  for (const origin of status.origins) addSample(samples, origin, now);
  showOrigins(byId("origins"), status.origins, status.problems, samples, serving(open), time);
  setText(byId("timeline-title"), `The last ${time.secs === 3600 ? "hour" : `${time.secs / 60} minutes`}`);
  showTimeline(byId("timeline"), status.origins, kept, now - status.uptime_secs, time);
  showCache(cache);
  showCopies(copies);
  showOpen(open);
  showEvents(kept);
  byId("main").hidden = false;
  byId("token-form").hidden = true;
}

function serving(open) {
  const found = new Map();
  for (const file of open ?? []) {
    if (file.origin !== null) found.set(file.origin, [...(found.get(file.origin) ?? []), nameOf(file.path)]);
  }
  return found;
}

/** Loads the events and the latencies from before this page was opened. */
async function recall(status) {
  const recent = await getIfThere("events/recent");
  for (const event of (recent?.events ?? []).toReversed()) remember(kept, event);
  const histories = await Promise.all(status.origins.map((origin) => getIfThere(`origins/${encodeURIComponent(origin.id)}/history`)));
  status.origins.forEach((origin, number) => {
    const before = histories[number]?.samples ?? [];
    samples.set(origin.id, [...before, ...(samples.get(origin.id) ?? [])].filter((each, i, all) => i === 0 || each.at > all[i - 1].at));
  });
}

/** Keeps one stream of events. Without it the page still polls. */
function listen() {
  if (stream !== null) return;
  stream = follow("events", () => {}, (event) => {
    remember(kept, event);
    if (event.event === "ScanFinished" || event.event === "FilesChanged") copiesAt = Math.min(copiesAt, performance.now() - RARELY_MS + 2_000);
    wake();
  }).catch((error) => error).then((error) => {
    if (!(error instanceof Refused)) stream = null;
  });
}

function lost(error) {
  if (error instanceof Refused && error.status === 401) {
    refused = true;
    byId("main").hidden = true;
    byId("token-form").hidden = false;
    byId("verdict").dataset.state = "unknown";
    setText(byId("verdict"), "Enter the code.");
    setText(byId("story"), "");
    setText(byId("connection"), "");
    return;
  }
  byId("verdict").dataset.state = "bad";
  document.documentElement.dataset.state = "unknown";
  setText(byId("verdict"), "MusicFS does not answer.");
  setText(byId("story"), "The mount or `musicfs page` has ended. The data below is old. This page keeps trying.");
  setText(byId("connection"), "Not connected.");
}

async function main() {
  byId("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const wrong = await unlock(byId("token").value.trim()).catch(() => "MusicFS does not answer.");
    setText(byId("token-problem"), wrong ?? "");
    byId("token").value = "";
    if (wrong !== null) return;
    refused = false;
    wake();
  });
  document.addEventListener("visibilitychange", () => wake());
  let recalled = 0;
  for (;;) {
    if (!document.hidden && !refused) {
      try {
        const status = await look();
        if (recalled !== status.pid) {
          kept.length = 0;
          samples.clear();
          recalled = status.pid;
          await recall(status);
          await look();
        }
        listen();
        setText(byId("connection"), `Connected to the mount, version ${status.version}.`);
      } catch (error) {
        lost(error);
      }
    }
    await pause(EVERY_MS);
  }
}

main();
