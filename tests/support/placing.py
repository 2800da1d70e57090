"""Where the tree shows the tracks of one folder, by their tags and paths alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from musicfs.catalog.rows import Copy, FolderFile
from musicfs.config.models import TreeConfig
from musicfs.library.naming import resolve_names
from musicfs.library.placement import FolderPlacer
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Template


def track(artist: str, title: str = "T", number: int | None = 1, album: str = "Album", **more: object) -> Tags:
    return replace(Tags("flac", "flac", title, artist, album=album, track=number), **more)  # type: ignore[arg-type]


def shown(tracks: Sequence[tuple[str, Tags]], template: str = TreeConfig().template) -> dict[str, str]:
    """The path in the tree of each file, for (path at the origin, tags) of each."""
    files = [
        FolderFile(number, "a", path, "audio", number, json.dumps(tags.to_json()))
        for number, (path, tags) in enumerate(tracks)
    ]
    entries = FolderPlacer(Template.parse(template), files).entries({}, {})
    paths: dict[str, str] = {}
    for dir in {entry.dir for entry in entries}:
        inside = [entry for entry in entries if entry.dir == dir]
        copies = {e.content: [Copy(e.content, "a", files[e.content].path, e.content, True, 0)] for e in inside}
        for file in resolve_names(inside, copies, ()):
            paths.update((files[content].path, f"{dir}/{file.name}") for content in file.contents)
    return paths


def names(tracks: Sequence[tuple[str, Tags]]) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in shown(tracks).values())
