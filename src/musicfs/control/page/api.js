// Requests to the mount: the token, single answers, and the stream of events.

const KEY = "musicfs-token";

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export function saveToken(token) {
  sessionStorage.setItem(KEY, token);
}

/**
 * Exchanges what the user typed for a token: the code of `musicfs page`, or a token of the mount when the mount itself
 * serves the page. Returns a sentence about what is wrong, or null.
 */
export async function unlock(typed) {
  const response = await fetch("page/code", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ code: typed }),
    cache: "no-store",
    credentials: "omit",
  });
  if (response.ok) saveToken((await response.json()).token);
  else if (response.status === 403) return (await response.json()).error;
  else saveToken(typed);
  return null;
}

function ask(path, signal) {
  const token = sessionStorage.getItem(KEY);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  return fetch(path, { headers, signal, cache: "no-store", credentials: "omit" });
}

/** Returns the JSON answer to a GET. Throws Refused for an HTTP error, TypeError when no server answers. */
export async function get(path) {
  const response = await ask(path, AbortSignal.timeout(10_000));
  if (!response.ok) throw new Refused(response.status, response.statusText);
  return response.json();
}

const absent = new Set();

/** Returns the JSON answer to a GET; null when this mount has no such resource, which is then not requested again. */
export async function getIfThere(path) {
  if (absent.has(path)) return null;
  try {
    return await get(path);
  } catch (error) {
    if (!(error instanceof Refused) || ![404, 409].includes(error.status)) throw error;
    absent.add(path);
    return null;
  }
}

/** Calls `onEvent` with every event from now on; returns when the stream ends. EventSource can't send the token. */
export async function follow(path, onOpen, onEvent) {
  const response = await ask(path);
  if (!response.ok) throw new Refused(response.status, response.statusText);
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const frames = text.split("\n\n");
    text = frames.pop();
    for (const frame of frames) {
      const data = frame.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim());
      if (data.length > 0) onEvent(JSON.parse(data.join("\n")));
    }
  }
}
