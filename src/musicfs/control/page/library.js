// How safe the music is: how many origins have it, what the cache contains, and which files are open.

import { bar } from "./charts.js";
import { byId, el, render } from "./dom.js";
import { counted, listed, size, visible } from "./words.js";

const ORIGINS = ["at no enabled origin", "at one origin", "at two origins", "at three origins"];
const KINDS = ["lost", "once", "twice"];

function originsWord(places) {
  return ORIGINS[places] ?? `at ${places} origins`;
}

/** view: the answer of /redundancy. */
export function showCopies(view) {
  byId("copies-section").hidden = view === null || view.places.length === 0;
  if (byId("copies-section").hidden) return;
  const [unfolded, differing] = ["albums", "differing"].map((name) => byId("copies").querySelector(`.${name}`)?.closest("details").open ?? false);
  render(byId("copies"), view, () => {
    const total = view.places.reduce((sum, each) => sum + each.tracks, 0) || 1;
    const kind = (each) => KINDS[each.places] ?? "more";
    const label = (each) => `${counted(each.tracks, "track")} ${originsWord(each.places)}`;
    return [
      bar(view.places.map((each) => ({ share: each.tracks / total, kind: kind(each) })), `Copies: ${view.places.map(label).join(", ")}.`),
      el("ul", { class: "legend" }, ...view.places.map((each) =>
        el("li", {}, el("span", { class: `key ${kind(each)}` }, label(each)), el("small", {}, size(each.bytes))))),
      albums(view, unfolded),
      differences(view, differing),
    ].filter((child) => child !== null);
  });
}

/** The quarantined copies; null when there are none. */
function differences(view, unfolded) {
  if (view.differing_copies === 0) return null;
  const items = view.differing.map((copy) => el("li", {}, el("span", {}, visible(copy.file ?? copy.path)), " ", el("small", {}, visible(difference(copy)))));
  const more = view.differing_copies - view.differing.length;
  if (more > 0) items.push(el("li", {}, `and ${more} more`));
  return el("details", { open: unfolded && "" },
    el("summary", {}, `${counted(view.differing_copies, "copy", "copies")} quarantined`),
    el("ul", { class: "albums differing", tabindex: "0", "aria-label": "Quarantined copies" }, ...items));
}

function difference(copy) {
  return copy.against === null ? `damaged at ${copy.origin}` : `${copy.origin} differs from ${copy.against}`;
}

function albums(view, unfolded) {
  if (view.albums_in_one === 0) return el("p", {}, "Every album is at two origins or more.");
  const items = view.albums.map((album) => el("li", {}, el("span", {}, visible(album.path)), " ", el("small", {}, visible(risk(album)))));
  const more = view.albums_in_one - view.albums.length;
  if (more > 0) items.push(el("li", {}, `and ${more} more`));
  return el("details", { open: unfolded && "" },
    el("summary", {}, `${counted(view.albums_in_one, "album")} with music that only one origin has`),
    el("ul", { class: "albums", tabindex: "0", "aria-label": "Albums with music that only one origin has" }, ...items));
}

function risk(album) {
  const where = `only at ${listed(album.origins)}`;
  return album.in_one === album.tracks ? where : `${album.in_one} of ${album.tracks} tracks ${where}`;
}

/** view: the answer of /cache. */
export function showCache(view) {
  byId("cache-section").hidden = view === null;
  if (view === null) return;
  render(byId("cache"), view, () => {
    const share = view.limit > 0 ? Math.min(1, view.bytes / view.limit) : 0;
    const pinned = view.limit > 0 ? Math.min(share, view.pinned_bytes / view.limit) : 0;
    const holds = `${size(view.bytes)} of ${size(view.limit)}, of ${counted(view.contents, "file")}`;
    return [
      bar([{ share: pinned, kind: "pinned" }, { share: share - pinned, kind: "cached" }], `The cache contains ${holds}.`),
      el("p", {}, `Contains ${holds}${view.pinned_bytes > 0 ? `; ${size(view.pinned_bytes)} pinned` : ""}.`),
      el("p", {}, view.hits > 0 ? `It had ${Math.ceil((100 * view.hits) / (view.hits + view.misses))} % of what was requested.` : "It was not needed yet."),
      view.working ? null : el("p", { class: "bad" }, `It is off: ${view.problem}. Music plays without it.`),
    ].filter((child) => child !== null);
  });
}

/** files: of the answer of /open. */
export function showOpen(files) {
  byId("playing-section").hidden = files === null || files.length === 0;
  if (files === null) return;
  render(byId("playing"), files, () => files.slice(0, 12).map((file) =>
    el("li", {}, el("span", {}, visible(nameOf(file.path))), " ", el("small", {}, visible(source(file))))));
}

function source(file) {
  const cached = file.cached > 0 ? `${Math.round(file.cached * 100)} % cached` : "";
  return [file.origin ?? "no origin that answers has it", cached].filter(Boolean).join(", ");
}

export function nameOf(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}
