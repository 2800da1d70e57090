// The page's sentences, made from the answers of the API. Pure functions.

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
  if (origins.length === 0) return { state: "unknown", verdict: "No origin is enabled yet.", story: "" };
  const away = origins.filter(isAway);
  if (away.length === origins.length) return nothingAnswers(away, cache);
  if (away.length > 0) return someAway(away, origins.filter((origin) => !isAway(origin)), cache);
  const waiting = origins.filter((origin) => origin.health === "unknown");
  if (waiting.length > 0) {
    return { state: "unknown", verdict: "Connecting.", story: `Waiting for the first answer from ${names(waiting)}.` };
  }
  const degraded = origins.filter((origin) => origin.health === "degraded");
  if (degraded.length > 0) {
    const story = degraded.map((origin) => `${origin.id} is degraded: ${origin.reason}.`).join(" ");
    return { state: "covered", verdict: "Everything plays.", story };
  }
  const left = sum((status.problems ?? []).filter((each) => !each.note), "number");
  if (left > 0) {
    const story = `${counted(left, "problem")}: files that are left out, or shown without their tags. The origins below say which; \`musicfs problems\` lists them.`;
    return { state: "covered", verdict: "Everything that is shown plays.", story };
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
  return `${names(reading)} ${verb(reading, "is", "are")} being scanned for the first time; the folder fills as files are read.`;
}

function hasMusic(cache) {
  return cache !== null && cache.blocks > 0;
}

function nothingAnswers(away, cache) {
  const gone = `${names(away)} ${verb(away, "does", "do")} not answer.`;
  if (hasMusic(cache)) {
    return { state: "bad", verdict: "Only the cache plays.", story: `${gone} Cached music plays; all other music stays listed and plays when an origin answers.` };
  }
  return { state: "bad", verdict: "Nothing plays.", story: `${gone} Your music stays listed and plays when an origin answers.` };
}

function someAway(away, others, cache) {
  const gone = `${names(away)} ${verb(away, "does", "do")} not answer`;
  const its = verb(away, "its", "their");
  const helpers = others.map((origin) => origin.id);
  const uncounted = away.some((origin) => origin.also_elsewhere === null);
  if (uncounted) {
    return { state: "covered", verdict: "Most of your music plays.", story: `${gone}; ${listed(helpers)} ${verb(helpers, "serves the files that it also has", "serve the files that they also have")}.` };
  }
  const files = sum(away, "files");
  const elsewhere = sum(away, "also_elsewhere");
  if (elsewhere >= files) {
    const servers = hasMusic(cache) ? [...helpers, "the cache"] : helpers;
    return { state: "covered", verdict: "Everything plays.", story: `${gone}; ${listed(servers)} ${verb(servers, "serves", "serve")} ${its} music.` };
  }
  const rest = hasMusic(cache) ? "cached files play" : `the others play when ${verb(away, "it answers", "they answer")} again`;
  const most = elsewhere > 0 ? `${listed(helpers)} ${verb(helpers, "serves", "serve")} ${number.format(elsewhere)} of ${its} ${counted(files, "file")}; ${rest}.`
    : `No other origin has ${its} ${counted(files, "file")}; ${rest}.`;
  return { state: "partly", verdict: "Some of your music does not play.", story: `${gone}. ${most}` };
}

function sum(items, key) {
  return items.reduce((total, item) => total + item[key], 0);
}

export function summary(status) {
  const origins = status.origins.filter((origin) => origin.enabled);
  return `${counted(status.files, "file")}, ${size(status.bytes)}, from ${counted(origins.length, "origin")}; ` +
    `up for ${duration(status.uptime_secs)}, ${counted(status.open_files, "file")} open.`;
}

/** What the user can do, one sentence each. */
export function advice(status) {
  return status.origins.filter((origin) => origin.enabled).flatMap((origin) => {
    const lines = [];
    if (isAway(origin)) {
      lines.push(`${origin.id}: ${origin.reason || "it does not answer"}. When it answers again, MusicFS uses it within seconds.`);
    } else if (origin.scan.error !== null) {
      lines.push(`The last scan of ${origin.id} failed, and nothing was removed: ${origin.scan.error}.`);
    }
    if (origin.removals_held > 0) {
      lines.push(`${counted(origin.removals_held, "file")} are gone from ${origin.id} but kept in the folder, because many vanished at once. ` +
        `To remove them: musicfs origin accept-removals ${origin.id}`);
    }
    if (origin.files_left_out > 0) {
      lines.push(`${counted(origin.files_left_out, "file")} of ${origin.id} are no longer shown, because they are behind symbolic links. ` +
        `Its setting is links = "${origin.links}".`);
    }
    return lines;
  });
}

const HEALTH = { healthy: "Healthy", degraded: "Degraded", unhealthy: "Does not answer", unknown: "Not checked yet" };

export function health(origin) {
  if (!origin.enabled) return "Disabled";
  return HEALTH[origin.health];
}

export function scan(origin) {
  const scan = origin.scan;
  if (!origin.enabled) return "";
  if (scan.state === "scanning") return `Scanning: ${counted(scan.listed, "file")} listed, ${number.format(scan.read)} read.`;
  if (scan.state === "failed") return "The last scan failed.";
  if (origin.scanned_at === null) return "Not scanned yet.";
  return `Last scanned ${duration(Date.now() / 1000 - origin.scanned_at)} ago.`;
}

const SENTENCES = {
  HealthChanged: (e) => {
    if (e.after === "healthy") return e.before === "unknown" ? `${e.origin} answers.` : `${e.origin} answers again.`;
    if (e.after === "unhealthy") return `${e.origin} no longer answers: ${e.reason}.`;
    return `${e.origin} is degraded: ${e.reason || e.after}.`;
  },
  AllOriginsUnhealthy: (e) => `No origin answers: ${listed(e.origins)}.`,
  FailedOver: (e) => `${times(e, "read", "A")} failed over from ${e.source} to ${e.target} within ${ms(e.gap_ms)}: ${e.path}.`,
  HedgeWon: (e) => `${e.winner} answered before ${e.late} for ${times(e, "read")}: ${e.path}.`,
  ReplicaSuspect: (e) => `A file at ${e.origin} has changed: ${e.path}; it is scanned again.`,
  ReplicaQuarantined: (e) => `A file at ${e.origin} is damaged and is no longer read: ${e.path}.`,
  ReplicasDisagree: (e) => `The copies at ${e.origin} and ${e.other} differ; only the one at ${e.origin} is read now: ${e.path}.`,
  CopiesDiffer: (e) => `A file at ${e.other} only looks like the one at ${e.origin} and is not read: ${e.other_path}.`,
  ScrubMismatch: (e) => e.against === null ? `A copy at ${e.origin} is damaged in block ${e.block}: ${e.path}.`
    : `A copy at ${e.origin} differs from the one at ${e.against}${e.block < 0 ? "" : ` in block ${e.block}`}: ${e.path}.`,
  ScrubFinished: (e) => `${counted(e.files, "copy", "copies")} verified: ${number.format(e.found)} differ, ${number.format(e.unchecked)} could not be read.`,
  OriginRegistered: (e) => `${e.origin} was added.`,
  OriginUnregistered: (e) => `${e.origin} was removed.`,
  ScanFinished: (e) => e.error !== null ? `The scan of ${e.origin} failed: ${e.error}.`
    : `${e.origin} was scanned: ${counted(e.listed, "file")}, ${number.format(e.added)} new, ${number.format(e.changed)} changed, ${number.format(e.removed)} removed.`,
  CacheStopped: (e) => `The cache is off, and music plays without it: ${e.reason}.`,
  CacheResumed: () => "The cache works again.",
  EventsDropped: (e) => `${counted(e.count, "event")} came too fast to show them here.`,
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

/** A sentence; null for an event that the page does not show. */
export function sentence(event) {
  const text = SENTENCES[event.event]?.(event);
  return text === undefined ? null : visible(text).replace(/\.\.$/, ".");
}

/** Escapes control characters, and characters that turn the direction of text: names may contain them. */
export function visible(text) {
  return text.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);
}
