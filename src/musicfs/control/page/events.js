// The list of events: the newest first, equal ones in a short time as one.

import { byId, el, renderEach, setText } from "./dom.js";
import { sentence, timeOfDay, tone } from "./words.js";

const MAX_KEPT = 400;
const MAX_SHOWN = 60;
const SAME_SECS = 10;

const ALIKE = {
  FailedOver: (event) => [event.source, event.target],
  HedgeWon: (event) => [event.late, event.winner],
  ReplicaSuspect: (event) => [event.origin],
};

let numbers = 0;

/** Adds an event, or counts it with the last one like it. kept: the events, the newest first. */
export function remember(kept, event) {
  if (sentence(event) === null) return;
  const alike = ALIKE[event.event];
  if (alike !== undefined) {
    const same = kept.find((each) => each.event === event.event && String(alike(each)) === String(alike(event)) && event.at - each.at < SAME_SECS);
    if (same !== undefined) {
      same.times += 1;
      same.gap_ms = Math.max(same.gap_ms ?? 0, event.gap_ms ?? 0);
      return;
    }
  }
  numbers += 1;
  kept.unshift({ ...event, times: 1, id: String(numbers) });
  kept.splice(MAX_KEPT);
}

export function showEvents(kept) {
  byId("no-events").hidden = kept.length > 0;
  renderEach(byId("events"), kept.slice(0, MAX_SHOWN), create, (item, event) => {
    item.dataset.tone = tone(event);
    setText(item.lastElementChild, sentence(event));
  });
}

function create(event) {
  return el("li", {}, el("time", { datetime: new Date(event.at * 1000).toISOString() }, timeOfDay(event.at)), el("span"));
}
