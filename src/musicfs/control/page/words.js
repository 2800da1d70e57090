// What the page says: from the answers of the API to sentences. Pure functions.

const UNITS = ["B", "kB", "MB", "GB", "TB"];
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export function counted(count, noun, plural = `${noun}s`) {
  return `${number.format(count)} ${count === 1 ? noun : plural}`;
}

export function size(bytes) {
  let unit = 0;
  while (bytes >= 999.5 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 99.5 ? number.format(bytes) : bytes.toFixed(1)} ${UNITS[unit]}`;
}

export function ms(value) {
  if (value === null) return "–";
  return value < 99.5 ? `${value.toFixed(1)} ms` : `${number.format(value)} ms`;
}

export function duration(secs) {
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (secs >= length) return counted(Math.floor(secs / length), unit);
  }
  return counted(Math.max(0, Math.floor(secs)), "second");
}

export function timeOfDay(at, now = Date.now() / 1000) {
  const date = new Date(at * 1000);
  return now - at < 43200 ? clock.format(date) : `${day.format(date)}, ${clock.format(date)}`;
}

export function listed(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

export function isAway(origin) {
  return origin.health === "unhealthy";
}

/** The answer to "is my music fine?": state is fine, covered, partly, bad or unknown. */
export function verdict(status, cache) {
  const origins = status.origins.filter((origin) => origin.enabled);
  if (origins.length === 0) return { state: "unknown", verdict: "No place takes part yet.", story: "" };
  const away = origins.filter(isAway);
  if (away.length === origins.length) return nothingAnswers(away, cache);
  if (away.length > 0) return someAway(away, origins.filter((origin) => !isAway(origin)), cache);
  const waiting = origins.filter((origin) => origin.health === "unknown");
  if (waiting.length > 0) {
    return { state: "unknown", verdict: "Nearly there.", story: `Waiting for the first answer of ${names(waiting)}.` };
  }
  const degraded = origins.filter((origin) => origin.health === "degraded");
  if (degraded.length > 0) {
    const story = degraded.map((origin) => `${origin.id} is not at its best: ${origin.reason}.`).join(" ");
    return { state: "covered", verdict: "Everything plays.", story };
  }
  return { state: "fine", verdict: "Everything plays.", story: firstScan(origins) };
}

function names(origins) {
  return listed(origins.map((origin) => origin.id));
}

function verb(origins, one, several) {
  return origins.length === 1 ? one : several;
}

function firstScan(origins) {
  const reading = origins.filter((origin) => origin.scan.state === "scanning" && origin.scanned_at === null);
  if (reading.length === 0) return "";
  return `${names(reading)} ${verb(reading, "is", "are")} being read for the first time; the folder fills meanwhile.`;
}

function hasMusic(cache) {
  return cache !== null && cache.blocks > 0;
}

function nothingAnswers(away, cache) {
  const gone = `${names(away)} ${verb(away, "does", "do")} not answer.`;
  if (hasMusic(cache)) {
    return { state: "bad", verdict: "Only the cache plays.", story: `${gone} What the cache holds plays on; all else is listed and waits.` };
  }
  return { state: "bad", verdict: "Nothing plays.", story: `${gone} Your music stays listed and waits.` };
}

function someAway(away, others, cache) {
  const gone = `${names(away)} ${verb(away, "is", "are")} away`;
  const its = verb(away, "its", "their");
  const helpers = others.map((origin) => origin.id);
  const uncounted = away.some((origin) => origin.also_elsewhere === null);
  if (uncounted) {
    return { state: "covered", verdict: "Most of it plays.", story: `${gone}; ${listed(helpers)} ${verb(helpers, "serves what it also has", "serve what they also have")}.` };
  }
  const files = sum(away, "files");
  const elsewhere = sum(away, "also_elsewhere");
  if (elsewhere >= files) {
    const servers = hasMusic(cache) ? [...helpers, "the cache"] : helpers;
    return { state: "covered", verdict: "Everything plays.", story: `${gone}; ${its} music is served by ${listed(servers)}.` };
  }
  const rest = hasMusic(cache) ? "what the cache holds plays all the same" : `the others wait for ${verb(away, "it", "them")}`;
  const most = elsewhere > 0 ? `${number.format(elsewhere)} of ${its} ${counted(files, "file")} ${elsewhere === 1 ? "is" : "are"} served by ${listed(helpers)}; ${rest}.`
    : `${its === "its" ? "Its" : "Their"} ${counted(files, "file")} ${files === 1 ? "is" : "are"} nowhere else; ${rest}.`;
  return { state: "partly", verdict: "Some of your music waits.", story: `${gone}. ${most}` };
}

function sum(items, key) {
  return items.reduce((total, item) => total + item[key], 0);
}

export function summary(status) {
  const origins = status.origins.filter((origin) => origin.enabled);
  return `${counted(status.files, "file")}, ${size(status.bytes)}, from ${counted(origins.length, "place")}; ` +
    `up for ${duration(status.uptime_secs)}, ${counted(status.open_files, "file")} open.`;
}

/** What there is to do, one sentence each. */
export function advice(status) {
  return status.origins.filter((origin) => origin.enabled).flatMap((origin) => {
    const lines = [];
    if (isAway(origin)) {
      lines.push(`${origin.id}: ${origin.reason || "it does not answer"}. Bring it back; MusicFS notices within seconds.`);
    } else if (origin.scan.error !== null) {
      lines.push(`The last scan of ${origin.id} failed, and nothing was removed: ${origin.scan.error}.`);
    }
    if (origin.removals_held > 0) {
      lines.push(`${counted(origin.removals_held, "file")} are gone from ${origin.id} but kept in the folder, since that is many at once. ` +
        `If it is right: musicfs origin accept-removals ${origin.id}`);
    }
    if (origin.files_left_out > 0) {
      lines.push(`${counted(origin.files_left_out, "file")} of ${origin.id} that used to be shown are hidden, since they lie behind symbolic links. ` +
        `Its setting is links = "${origin.links}".`);
    }
    return lines;
  });
}

const HEALTH = { healthy: "Here", degraded: "Not at its best", unhealthy: "Away", unknown: "Not asked yet" };

export function health(origin) {
  if (!origin.enabled) return "Switched off";
  return HEALTH[origin.health];
}

export function scan(origin) {
  const scan = origin.scan;
  if (!origin.enabled) return "";
  if (scan.state === "scanning") return `Looking through it: ${counted(scan.listed, "file")} seen, ${number.format(scan.read)} read.`;
  if (scan.state === "failed") return "The last look at it failed.";
  if (origin.scanned_at === null) return "Not looked at yet.";
  return `Last looked at ${duration(Date.now() / 1000 - origin.scanned_at)} ago.`;
}

const SENTENCES = {
  HealthChanged: (e) => {
    if (e.after === "healthy") return e.before === "unknown" ? `${e.origin} answers.` : `${e.origin} is back.`;
    if (e.after === "unhealthy") return `${e.origin} went away: ${e.reason}.`;
    return `${e.origin} is not at its best: ${e.reason || e.after}.`;
  },
  AllOriginsUnhealthy: (e) => `No place answers any more: ${listed(e.origins)}.`,
  FailedOver: (e) => `${times(e, "read", "A")} went from ${e.source} to ${e.target}, ${ms(e.gap_ms)} later: ${e.path}.`,
  HedgeWon: (e) => `${e.winner} was quicker than ${e.late} for ${times(e, "read")}: ${e.path}.`,
  ReplicaSuspect: (e) => `A file at ${e.origin} has changed: ${e.path}; it is looked at again.`,
  ReplicaQuarantined: (e) => `A file at ${e.origin} is damaged and no longer used: ${e.path}.`,
  ReplicasDisagree: (e) => `The copies at ${e.origin} and ${e.other} differ; that of ${e.origin} goes on serving: ${e.path}.`,
  ScrubMismatch: (e) => e.against === null ? `A copy at ${e.origin} is damaged in block ${e.block}: ${e.path}.`
    : `A copy at ${e.origin} differs from that at ${e.against} in block ${e.block}: ${e.path}.`,
  ScrubFinished: (e) => `${counted(e.files, "copy", "copies")} verified: ${number.format(e.found)} differ, ${number.format(e.unchecked)} could not be read.`,
  OriginRegistered: (e) => `${e.origin} takes part.`,
  OriginUnregistered: (e) => `${e.origin} takes part no more.`,
  ScanFinished: (e) => e.error !== null ? `The scan of ${e.origin} failed: ${e.error}.`
    : `${e.origin} was looked through: ${counted(e.listed, "file")}, ${number.format(e.added)} new, ${number.format(e.changed)} changed, ${number.format(e.removed)} gone.`,
  CacheStopped: (e) => `The cache rests, music plays on without it: ${e.reason}.`,
  CacheResumed: () => "The cache works again.",
  EventsDropped: (e) => `${counted(e.count, "event")} came too fast to be shown here.`,
};

function times(event, noun, one = "a") {
  return event.times > 1 ? counted(event.times, noun) : `${one} ${noun}`;
}

const GOOD = new Set(["CacheResumed", "OriginRegistered"]);
const BAD = new Set(["AllOriginsUnhealthy", "ReplicaQuarantined", "ScrubMismatch", "CacheStopped"]);

export function tone(event) {
  if (event.event === "HealthChanged") return event.after === "healthy" ? "good" : event.after === "unhealthy" ? "bad" : "fair";
  if (event.event === "ScanFinished") return event.error === null ? "plain" : "bad";
  if (event.event === "FailedOver") return "fair";
  return GOOD.has(event.event) ? "good" : BAD.has(event.event) ? "bad" : "plain";
}

/** A sentence, or null for what a person need not be told. */
export function sentence(event) {
  const text = SENTENCES[event.event]?.(event);
  return text === undefined ? null : visible(text).replace(/\.\.$/, ".");
}

/** Names may hold characters that steer the line or turn its direction. They are written out. */
export function visible(text) {
  return text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);
}
