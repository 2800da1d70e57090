"""`musicfs scan --explain`: what a scan makes of one file, and why."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from musicfs.cli.options import real
from musicfs.cli.output import Word, counted, say, say_json, size_text, table
from musicfs.errors import UserError
from musicfs.system import processes

_SECS = 60.0
_MAX_VALUES = 3


def explain(path: Path, bundle: Path | None, *, as_json: bool) -> None:
    """Explains a file of this machine, of a mount, or behind a bundle; writes a bundle of it.

    Raises:
        UserError: It can't be read, or the bundle can't be written.
    """
    try:
        with path.open("rb") as file:
            said = _parsed(file.fileno(), path.name, bundle)
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}.") from error
    said["place"] = _place(path)
    if as_json:
        say_json(said)
    else:
        _print(path, said)
    if bundle is not None and not as_json:
        say(f"Wrote {bundle}: what was used of the file, without its audio and pictures.")


def _parsed(fd: int, name: str, bundle: Path | None) -> dict[str, Any]:
    """Parses the file in a confined process."""
    out = -1
    if bundle is not None:
        out = os.open(bundle, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    passed = [each for each in (fd, out) if each >= 0]
    try:
        done = subprocess.run(
            processes.python_command("musicfs.tags.explain", str(fd), name, str(out)), pass_fds=passed,
            capture_output=True, check=False, timeout=_SECS, cwd=processes.WORKING_FOLDER, env=processes.environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError("The file takes longer than a minute to parse; a scan lists it without tags.") from None
    finally:
        if out >= 0:
            os.close(out)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise UserError("The file ends its parser; a scan lists it without tags.") from None
    return {"reads": [], "blocks": [], "fields": [], "size": 0} | found


def _place(path: Path) -> dict[str, Any] | None:
    """Where the file is in the tree of a running mount, and why; None: no mount knows it."""
    from musicfs.control.client import running_mounts
    from musicfs.library.place_reasons import explain_place

    full = real(path)
    for client in running_mounts():
        status = client.get("/status")
        for origin, below in _replicas(client, status, full):
            found = explain_place(Path(status["cache_dir"]) / "catalog.sqlite", origin, below)
            if found is not None:
                album = found.album
                return {
                    "mount_point": status["mount_point"], "origin": origin, "path": below, "tree": found.tree,
                    "album": album and {"title": album.title, "artist": album.artist, "year": album.year},
                    "tracks": found.tracks, "reasons": found.reasons,
                }  # fmt: skip
    return None


def _replicas(client: Any, status: dict[str, Any], full: Path) -> list[tuple[str, str]]:
    """The origins that may have the file, and its paths there."""
    if full.is_relative_to(status["mount_point"]):
        inside = str(full.relative_to(status["mount_point"]))
        try:
            variants = client.get("/why", {"path": inside})["variants"]
        except UserError:
            return []
        shown = [replica for variant in variants if variant["shown"] for replica in variant["replicas"]]
        return [(replica["origin"], replica["path"]) for replica in shown]
    return [
        (origin["id"], str(full.relative_to(origin["location"])))
        for origin in status["origins"]
        if origin["kind"] == "local" and full.is_relative_to(origin["location"])
    ]


def _print(path: Path, said: dict[str, Any]) -> None:
    used = sum(each["size"] for each in said["reads"])
    say(Word(str(path), "bold"))
    pieces = counted(len(said["reads"]), "piece")
    say(f"{size_text(said['size'])}; the parser used {size_text(used)} of it, in {pieces}.")
    for block in said["blocks"]:
        say(f"{block['name']}: {counted(len(block['values']), 'field')}")
    if said["problem"]:
        say(Word(f"Its tags can't be read: {said['problem']}.", "yellow"))
    if said["fields"]:
        say("")
        rows = [(each["field"], _shown(each["value"]), each["from"]) for each in said["fields"]]
        table(("FIELD", "VALUE", "FROM"), rows)
    say("")
    _print_place(said["place"])


def _shown(value: object) -> str:
    return ", ".join(map(str, value[:_MAX_VALUES])) if isinstance(value, list) else str(value)


def _print_place(place: dict[str, Any] | None) -> None:
    if place is None:
        say("No running mount knows this file; mount its folder to see its album and its path.")
        return
    if place["album"] is not None:
        album = place["album"]
        year = f" ({album['year']})" if album["year"] else ""
        artist = album["artist"] or "each track's artist"
        say(f"Album: {album['title'] or 'none'}{year} by {artist}, {counted(place['tracks'], 'track')}")
    for reason in place["reasons"]:
        say(f"  {reason}")
    for shown in place["tree"]:
        say(f"Shown as: {shown}")
