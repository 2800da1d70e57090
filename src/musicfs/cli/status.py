"""`musicfs status`: whether the music of a running mount is fine, and if not, what to do."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import click

from musicfs.cli.options import PATH, json_option
from musicfs.cli.origins import health_word
from musicfs.cli.output import Word, counted, duration_text, ms_text, say, say_json, size_text, table

_SUBJECTS = 6
_SLOW_SCAN_SECS = 600.0


@click.command()
@click.argument("mount_point", type=PATH, required=False)
@json_option
def status(mount_point: Path | None, as_json: bool) -> None:
    """Show whether your music is fine, and if not, what to do.

    \b
    Examples:
      musicfs status
      musicfs status ~/Tunes --json
    """
    from musicfs.control.client import find_mount

    view = find_mount(mount_point).get("/status")
    if as_json:
        say_json(view)
        return
    say(_headline(view))
    if step := _next_step(view):
        say(f"Next: {step}")
    say(
        f"{counted(view['files'], 'file')} in {counted(view['directories'], 'folder')}, {size_text(view['bytes'])};"
        f" mounted on {view['mount_point']} for {duration_text(view['uptime_secs'])},"
        f" {counted(view['open_files'], 'file')} open."
    )
    if sentence := _unreached(view):
        say(sentence)
    if view["cache_problem"]:
        say(f"The cache in {view['cache_dir']} does not work ({view['cache_problem']}): music plays on uncached.")
    say("")
    header = ("ORIGIN", "HEALTH", "PRIORITY", "FILES", "SIZE", "TYPICAL", "SLOWEST", "SCAN")
    rows = [
        (
            o["id"], health_word(o), str(o["priority"]), f"{o['files']:,}", size_text(o["bytes"]),
            ms_text(o["p50_ms"]), ms_text(o["p99_ms"]), _scan_word(o),
        )
        for o in view["origins"]
    ]  # fmt: skip
    table(header, rows, right=(2, 3, 4, 5, 6))
    for origin in view["origins"]:
        for line in advice(origin):
            say(line)
    for line in _problems(view["problems"]):
        say(line)


def _problems(counts: list[dict[str, Any]]) -> list[str]:
    """Returns a line for each reason to leave something out, and what to do about it."""
    lines = [f"{each['origin']}: {each['says']}." for each in counts if not each["note"]]
    if lines:
        lines = ["", *lines]
        lines.append("  `musicfs problems` lists them; with --dismiss, this no longer mentions them.")
    notes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in counts:
        if each["note"]:
            notes.setdefault((each["origin"], each["reason"]), []).append(each)
    return lines + [_note(group) for group in notes.values()]


def _note(counts: list[dict[str, Any]]) -> str:
    """Returns one line about files that no one misses, with what most of them are."""
    from musicfs.problems import Reason

    most = sorted((each for each in counts if each["subject"]), key=lambda each: -int(each["number"]))[:_SUBJECTS]
    which = ", ".join(f"{each['subject']} {each['number']:,}" for each in most)
    total = Reason(counts[0]["reason"]).says(sum(each["number"] for each in counts))
    return f"{counts[0]['origin']}: {total}{f' ({which})' if which else ''}."


def _headline(view: dict[str, Any]) -> Word:
    if not view["mounted"]:
        return Word("Unmounted, but the process of the mount still runs: files of it are open.", "bold yellow")
    origins = [o for o in view["origins"] if o["enabled"]]
    away = [o for o in origins if o["health"] == "unhealthy"]
    if away and len(away) == len(origins):
        plays = "but only what is cached can be played" if _any_cached(view) else "but can't be played"
        return Word(f"No origin answers: your music is listed, {plays} until one is back.", "bold red")
    if away:
        return Word(f"{len(away)} of {counted(len(origins), 'origin')} is away." if len(away) == 1 else
                    f"{len(away)} of {counted(len(origins), 'origin')} are away.", "bold yellow")  # fmt: skip
    if (
        view["cache_problem"]
        or any(not each["note"] for each in view["problems"])
        or any(
            o["health"] == "degraded"
            or o["scan"]["state"] == "failed"
            or o["removals_held"]
            or o["files_left_out"]
            or o["same_place_as"]
            or _is_slow(o)
            for o in origins
        )
    ):
        plays = "Your music plays, but" if view["files"] else "No music is shown, and"
        return Word(f"{plays} something deserves a look.", "bold yellow")
    if first := [o["id"] for o in origins if _is_first_scan(o)]:
        return Word(
            f"Your music appears while {' and '.join(first)} {_are(len(first))} scanned for the first time.", "cyan"
        )
    if any(o["health"] == "unknown" for o in origins):
        return Word("Mounted; some origins have not answered yet.", "bold yellow")
    if not view["files"]:
        return Word("No music is shown: there is none where MusicFS looks for it.", "bold yellow")
    return Word("Your music is fine.", "bold green")


def _any_cached(view: dict[str, Any]) -> bool:
    return view["unreached"] is not None and view["unreached"]["cached"] > 0


def _unreached(view: dict[str, Any]) -> str:
    """Says how much can't be played while origins are away."""
    if view["unreached"] is None:
        return "MusicFS is counting the files that can't be played; ask again in a moment."
    cached = view["unreached"]["cached"]
    lost = view["unreached"]["files"] - cached
    parts = []
    if lost:
        parts.append(f"{counted(lost, 'file')} can't be played now: not cached whole, and at no origin that answers.")
    if cached:
        parts.append(f"{counted(cached, 'file')} can be played from the cache alone.")
    return " ".join(parts)


def _next_step(view: dict[str, Any]) -> str:
    """Says what to do first when something is wrong; the details of each origin follow below."""
    if not view["mounted"]:
        return f"close the files, or `musicfs shutdown {shlex.quote(view['mount_point'])}` ends it at once."
    origins = [o for o in view["origins"] if o["enabled"]]
    away = [o for o in origins if o["health"] == "unhealthy"]
    if away:
        names = " and ".join(o["id"] for o in away) if len(away) < 3 else f"the {len(away)} origins that are away"
        return f"bring back {names}; MusicFS notices within seconds, or at once with `musicfs origin check`."
    for origin in origins:
        if origin["removals_held"]:
            id = origin["id"]
            return f"if you removed the files that are gone from {id}: `musicfs origin accept-removals {id}`."
        if origin["scan"]["state"] == "failed":
            return f"fix what made the scan of {origin['id']} fail, then `musicfs scan`."
    if any(not each["note"] for each in view["problems"]):
        return "`musicfs problems` lists what is left out, and why."
    if view["cache_problem"]:
        return f"see to the disk of {view['cache_dir']}; MusicFS tries it again within minutes."
    if not view["files"] and origins and not any(_is_first_scan(o) for o in origins):
        return f"see whether {origins[0]['location']} is where your music is; `musicfs origin add` adds another place."
    return ""


def _scan_word(origin: dict[str, Any]) -> Word:
    scan = origin["scan"]
    if not origin["enabled"]:
        return Word("-", "dim")
    if scan["state"] == "scanning":
        return Word(f"scanning: {scan['listed']:,} listed, {scan['read']:,} read", "cyan")
    if scan["state"] == "failed":
        return Word("failed", "red")
    if origin["scanned_at"] is None:
        return Word("never", "dim")
    return Word(f"{duration_text(time.time() - origin['scanned_at'])} ago")


def advice(origin: dict[str, Any]) -> list[str]:
    """Returns what is wrong with an origin, and what to do about it."""
    id = origin["id"]
    lines = []
    if origin["enabled"] and origin["reason"]:
        checks = f" ({counted(origin['consecutive_failures'], 'failure')} in a row)" * (origin["health"] == "unhealthy")
        lines += ["", f"{id} ({origin['location']}) is {origin['health']}: {origin['reason']}{checks}."]
    if origin["health"] == "unhealthy":
        lines.append(f"  {_what_still_plays(origin)}")
        lines.append(f"  Bring it back; MusicFS notices within seconds, or at once with `musicfs origin check {id}`.")
    elif origin["scan"]["error"]:
        lines += ["", f"The last scan of {id} failed and removed nothing: {origin['scan']['error']}."]
        lines.append("  `musicfs scan` tries again.")
    elif _is_slow(origin):
        scan = origin["scan"]
        counts = f"{scan['listed']:,} files listed, {scan['read']:,} read"
        lines += ["", f"The scan of {id} has been running for {duration_text(scan['running_secs'])}: {counts}."]
        lines.append(
            "  Changes there show when it ends. A very large or slow origin takes that long; the log says more."
        )
    if held := origin["removals_held"]:
        lines += [
            "",
            f"{counted(held, 'file')} {_are(held)} gone from {id} but kept in the tree, because that is many at once.",
        ]
        lines.append(f"  If you removed them: `musicfs origin accept-removals {id}`.")
    if origin["health"] == "healthy" and origin["scanned_at"] and not origin["files"] and not origin["scan"]["error"]:
        lines += ["", f"{id} holds no music that MusicFS shows: see whether {origin['location']} is the right place."]
    if other := origin["same_place_as"]:
        lines += ["", f"{id} is wholly or partly the same place as {other}: what lies at both has one copy, not two."]
        lines.append(f"  `musicfs origin remove {id}` removes it from the configuration.")
    return lines + left_out(origin)


def _is_first_scan(origin: dict[str, Any]) -> bool:
    return origin["scan"]["state"] == "scanning" and origin["scanned_at"] is None


def _is_slow(origin: dict[str, Any]) -> bool:
    """Whether a scan, and not the first one, takes unusually long."""
    return origin["scanned_at"] is not None and origin["scan"]["running_secs"] > _SLOW_SCAN_SECS


def left_out(origin: dict[str, Any]) -> list[str]:
    """Returns what the setting `links` hides of an origin, and what to do about it."""
    links = origin["links_left_out"]
    if not links:
        return []
    which = "that lead out of its folder" if origin["links"] == "inside" else "in its folder"
    went = origin["files_left_out"]
    lines = [
        "",
        f"{counted(links, 'symbolic link')} of {origin['id']} {which} {_are(links)} not followed,"
        f' because its setting is links = "{origin["links"]}".',
    ]
    if went:
        lines.append(f"  {counted(went, 'file')} that used to be shown {_are(went)} hidden by that.")
    lines.append('  To show what they lead to, to all who see the mount, set links = "all" for this origin.')
    return lines


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _what_still_plays(origin: dict[str, Any]) -> str:
    elsewhere, files = origin["also_elsewhere"], origin["files"]
    if not files:
        return "MusicFS knows no music of it yet."
    if elsewhere is None:
        return "Its music stays listed."
    if elsewhere == files:
        return f"Its music stays listed, and all of its {counted(files, 'file')} can be read elsewhere."
    return f"Its music stays listed; {elsewhere:,} of its {counted(files, 'file')} can be read elsewhere."
