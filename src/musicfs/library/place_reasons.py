"""Explains where a file is in the tree: the album that it was put into, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from musicfs.catalog.database import connect
from musicfs.catalog.paths import find_path
from musicfs.catalog.rows import FolderFile
from musicfs.catalog.writer import Catalog
from musicfs.library.albums import VARIOUS_ARTISTS, find_albums
from musicfs.library.placement import folder_of
from musicfs.library.track_numbers import AlbumTrack, number_tracks
from musicfs.model import encode_path
from musicfs.tags.tags import Tags
from musicfs.tags.templates import Album
from musicfs.texts import fold

_CACHE_MB = 2


class PlaceReason(NamedTuple):
    """Where a file is in the tree.

    tree: its paths, relative to the mount point. album: what its tracks say together. tracks: how many they are.
    reasons: sentences.
    """

    tree: list[str]
    album: Album | None
    tracks: int
    reasons: list[str]


def explain_place(catalog: Path, origin: str, path: str) -> PlaceReason | None:
    """Explains the place of the file at a path of an origin; None: no scan has found it. Blocks."""
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        db.execute("PRAGMA query_only = 1")
        row = db.execute(
            "SELECT r.content, r.role FROM replicas r JOIN origins o ON o.num = r.origin WHERE o.id = ? AND r.path = ?",
            (origin, encode_path(path)),
        ).fetchone()
        if row is None:
            return None
        content, role = row
        inodes = db.execute("SELECT ino FROM inodes WHERE content = ? ORDER BY ino", (content,)).fetchall()
        tree = [shown for (ino,) in inodes if (shown := find_path(db, ino))]
        files = Catalog(db).folder_files(encode_path(folder_of(path, role)))
    if role != "audio":
        return PlaceReason(tree, None, 0, ["it is no music, and goes where the music beside it goes"])
    return _reason(content, files, tree)


def _reason(content: int, files: Sequence[FolderFile], tree: list[str]) -> PlaceReason:
    read = {
        file.content: AlbumTrack(file.path, Tags.from_json(json.loads(file.tags)))
        for file in reversed(files)
        if file.role == "audio" and file.tags is not None
    }
    tracks = {number: track.tags for number, track in number_tracks(read).items()}
    if content not in tracks:
        return PlaceReason(tree, None, 0, ["its tags can't be read, so it is under its own name"])
    albums = find_albums(tracks)
    album = albums[content]
    group = [tracks[number] for number, its in albums.items() if its is album]
    return PlaceReason(tree, album, len(group), [_grouping(tracks[content], len(group)), _artist(album, group)])


def _grouping(tags: Tags, tracks: int) -> str:
    if not tags.album:
        return "it has no album tag"
    files = f"{tracks} files of its folder have" if tracks != 1 else "it alone has"
    if tags.musicbrainz_albumid:
        return f"{files} this album title and this MusicBrainz album id"
    if tags.albumartist:
        return f"{files} this album title and this album artist"
    return f"{files} this album title, and no album artist that says otherwise"


def _artist(album: Album, group: Sequence[Tags]) -> str:
    if album.artist is None:
        return "each track goes to its own artist"
    named = [tags for tags in group if tags.albumartist]
    if named:
        return f"the album artist is tagged in {len(named)} of {len(group)}"
    if any(tags.compilation for tags in group):
        return "a track is tagged as part of a compilation"
    if album.artist == VARIOUS_ARTISTS:
        return "no artist has more than half of the tracks"
    same = sum(fold(tags.artist or "") == fold(album.artist) for tags in group)
    return f"{same} of {len(group)} tracks name this artist, the others with guests or another artist"
