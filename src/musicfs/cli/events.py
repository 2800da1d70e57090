"""`musicfs events`: what happens in a mount, in sentences or as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from musicfs.cli.options import PATH
from musicfs.cli.output import Word, counted, ms_text, say, warn

_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


@click.command(short_help="Show recent failovers and changes of health, or follow everything.")
@click.argument("mount_point", type=PATH, required=False)
@click.option("-f", "--follow", is_flag=True, help="Show everything that happens from now on, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; docs/EVENTS.md has the fields.")
def events(mount_point: Path | None, follow: bool, as_json: bool) -> None:
    """Show the last failovers, changes of health and the like; with --follow, everything that happens from now on.

    \b
    Examples:
      musicfs events
      musicfs events --follow
      musicfs events --follow --json | jq 'select(.event == "FailedOver")'
    """
    from musicfs.control.client import find_mount

    client = find_mount(mount_point)
    if not follow:
        for event in reversed(client.get("/events/recent")["events"]):
            _print(event, as_json)
        return
    try:
        for event in client.follow("/events"):
            _print(event, as_json)
    except KeyboardInterrupt:
        return
    warn("the mount has ended.")


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
        return
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
    say(Word(at, "dim"), "  ", Word(sentence(event), _STYLES.get(str(event.get("after")), "")))


def sentence(event: Mapping[str, Any]) -> str:
    """Returns an event as a sentence; an event that this version does not know, as its name and fields."""
    match event:
        case {"event": "HealthChanged", "origin": origin, "after": after, "reason": reason}:
            return f"{origin} is {after}" + (f": {reason}" if reason else "")
        case {"event": "AllOriginsUnhealthy"}:
            return "no origin answers"
        case {"event": "FailedOver", "path": path, "source": source, "target": target, "reason": why, "gap_ms": gap}:
            return f"{target} took over from {source} ({why}) after {ms_text(gap)}: {path}"
        case {"event": "HedgeWon", "path": path, "late": late, "winner": winner}:
            return f"{winner} was quicker than {late}: {path}"
        case {"event": "ReplicaSuspect", "origin": origin, "path": path, "reason": reason}:
            return f"{origin}: {path} is {reason}; it is scanned again"
        case {"event": "ReplicaQuarantined", "origin": origin, "path": path}:
            return f"{origin}: the bytes of {path} are not what they were; this copy serves no more"
        case {"event": "ReplicasDisagree", "origin": origin, "path": path, "other": other}:
            return f"{path}: the copies at {origin} and {other} differ; the one at {origin} keeps serving"
        case {"event": "CopiesDiffer", "origin": origin, "path": path, "other": other, "other_path": its}:
            return f"{other}: {its} only looks like {path} at {origin}; it does not serve"
        case {"event": "CacheStopped", "reason": reason}:
            return f"caching on disk has stopped ({reason}); music plays on uncached"
        case {"event": "CacheResumed"}:
            return "caching on disk has resumed"
        case {"event": "OriginRegistered", "origin": origin, "priority": priority}:
            return f"{origin} takes part, with priority {priority}"
        case {"event": "OriginUnregistered", "origin": origin}:
            return f"{origin} no longer takes part"
        case {"event": "ScanProgress", "origin": origin, "listed": listed, "read": read}:
            return f"scanning {origin}: {counted(listed, 'file')} listed, {read:,} read"
        case {"event": "ScanFinished", "origin": origin, "error": str(error)}:
            return f"the scan of {origin} failed: {error}"
        case {"event": "ScanFinished" | "FilesChanged", "origin": origin, "added": a, "changed": c, "removed": r}:
            what = f"{origin} has been scanned" if event["event"] == "ScanFinished" else origin
            return f"{what}: {a:,} added, {c:,} changed, {r:,} removed"
        case {"event": "PinProgress", "path": path, "complete": complete, "tracks": tracks}:
            return f"{complete:,} of {counted(tracks, 'track')} of {path or 'the mount'} are pinned on this disk"
        case {"event": "PinCompleted", "path": path}:
            return f"all of {path or 'the mount'} is pinned on this disk"
        case {"event": "ScrubProgress", "done_files": done, "files": files, "found": found}:
            return f"{done:,} of {counted(files, 'copy', 'copies')} verified; {found:,} differ"
        case {"event": "ScrubMismatch", "origin": origin, "path": path, "block": -1, "against": against}:
            return f"{origin}: {path} only looks like the copy at {against}"
        case {"event": "ScrubMismatch", "origin": origin, "path": path, "block": block, "against": None}:
            return f"{origin}: {path} is damaged in block {block}"
        case {"event": "ScrubMismatch", "origin": origin, "path": path, "block": block, "against": against}:
            return f"{origin}: {path} differs from the copy at {against} in block {block}"
        case {"event": "ScrubFinished", "files": files, "found": found, "unchecked": unchecked}:
            return f"{counted(files, 'copy', 'copies')} verified: {found:,} differ, {unchecked:,} could not be read"
        case {"event": "EventsDropped", "count": count}:
            return f"{counted(count, 'event')} lost: this command reads too slowly"
    fields = ", ".join(f"{key} {value}" for key, value in event.items() if key not in ("event", "at"))
    return f"{event['event']}: {fields}"
