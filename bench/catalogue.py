"""Libraries of any size in little time: folders of links to a few files, and the catalogue that a scan would have made
if each of them had its own tags. The library's own code writes it, so that it is what a scan's would be."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from bench.library import Track, make_library
from musicfs.catalog.database import ROOT_INO, connect, prepare_catalog
from musicfs.catalog.rows import BY_TAGS, ScannedFile, make_key
from musicfs.catalog.spellings import SpellingTable
from musicfs.catalog.writer import Catalog
from musicfs.config.models import TreeConfig
from musicfs.library.placement import folder_of, naming_of
from musicfs.library.tree import TreeBuilder
from musicfs.model import Fingerprint, Stat
from musicfs.tags.parser import dump_tags
from musicfs.tags.tags import Role
from musicfs.tags.templates import Template
from musicfs.texts import fold

BIG_ALBUM = 500
"""So many tracks of every library are one folder: what a listing costs is compared there."""
_LINKS = 10_000  # of one file: ext4 allows 65,000
_BATCH = 5_000
_FIRST_FILE = 10_000_000  # above the inode numbers of all folders
_STATEMENTS = (
    "INSERT INTO contents (id, fingerprint, size, tags) VALUES (?, ?, ?, ?)",
    "INSERT INTO replicas (id, origin, path, folder, role, size, mtime_ns, content)"
    " VALUES (?, 1, ?, ?, 'audio', ?, ?, ?)",
    "INSERT INTO entries (replica, dir, name, disc_name, discs, key, content) VALUES (?, ?, ?, ?, 0, ?, ?)",
    "INSERT INTO inodes (ino, content, size, mtime_ns) VALUES (?, ?, ?, ?)",
    "INSERT INTO names (parent, name, hidden, ino, position) VALUES (?, ?, 0, ?, ?)",
)
_WHAT_COUNTS = (
    "SELECT r.path, r.folder, r.role, r.size, r.mtime_ns, r.etag, c.fingerprint, c.size, c.tags, c.problem"
    " FROM replicas r JOIN contents c ON c.id = r.content",
    "SELECT r.path, e.dir, e.name, e.disc_name, e.discs, e.key FROM entries e JOIN replicas r ON r.id = e.replica",
    "SELECT p.name, n.name, n.hidden = 0, r.path, i.size FROM names n JOIN inodes i ON i.ino = n.ino"
    " JOIN names p ON p.ino = n.parent LEFT JOIN replicas r ON r.content = i.content",
    "SELECT p.name, i.mtime_ns FROM names n JOIN inodes i ON i.ino = n.ino JOIN names p ON p.ino = n.parent"
    " WHERE i.content IS NOT NULL",
    "SELECT dir, folded, entries, tracks FROM spellings",
    "SELECT files, directories, bytes FROM totals",
    "SELECT id, priority, enabled, reachable, held, removed, accept, files, bytes FROM origins"
    " JOIN origins_here ON origin = num",
    "SELECT key, value FROM meta",
)


@dataclass(frozen=True)
class LinkedTrack(Track):
    """The first tracks belong to the big album; the others are as they are in the made libraries."""

    @property
    def source(self) -> str:
        if self.number < BIG_ALBUM:
            return f"Artist 0000/Big Album/{self.number + 1:03} Title {self.number + 1}.flac"
        return super().source

    @property
    def shown(self) -> str:
        if self.number < BIG_ALBUM:
            return f"Artist 0000/Big Album (1970) [FLAC]/{self.number + 1:03} - Title {self.number + 1}.flac"
        return super().shown

    def tags(self) -> dict[str, Any]:
        """As the catalogue has them."""
        big = self.number < BIG_ALBUM
        year = 1970 if big else 1970 + self.album
        return {
            "format": "flac", "codec": "flac", "title": f"Title {self.number + 1 if big else self.track}",
            "artist": "Artist 0000" if big else f"Artist {self.artist:04}",
            "album": "Big Album" if big else f"Album {self.album}", "year": year, "date": str(year),
            "track": self.number + 1 if big else self.track, "duration_s": 240.0, "bitrate": 900_000,
            "sample_rate": 44100, "bit_depth": 16, "channels": 2,
        }  # fmt: skip


def make_links(root: Path, count: int) -> None:
    """So many files below `root`, all of them links to a few. Safe to repeat."""
    done = root.with_suffix(".complete")
    if done.exists():
        return
    make_library(root.with_suffix(".linked"), range(count // _LINKS + 1))
    shutil.rmtree(root, ignore_errors=True)
    made = ""
    for track in map(LinkedTrack, range(count)):
        path = f"{root}/{track.source}"
        folder = path.rpartition("/")[0]
        if folder != made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 — of a million paths, objects would be half of the time
            made = folder
        os.link(_linked(root, track.number // _LINKS), path)
    done.touch()


@functools.cache
def _linked(root: Path, index: int) -> str:
    """The file that so many tracks are links to."""
    return str(root.with_suffix(".linked") / Track(index).source)


@functools.cache
def _state(root: Path, index: int) -> os.stat_result:
    return Path(_linked(root, index)).stat()


def make_catalogue(catalogue: Path, origin: str, root: Path, count: int) -> None:
    """What a scan of `make_links` would find if the files had the tags of their tracks. Safe to repeat.

    The rows are written as they are, since the library would take minutes for a million; a thousand of them are
    compared with what the library makes.
    """
    done = catalogue.with_suffix(".complete")
    if done.exists():
        return
    _compare(root, min(count, 2 * BIG_ALBUM))
    for suffix in ("", "-wal", "-shm"):
        catalogue.with_name(catalogue.name + suffix).unlink(missing_ok=True)
    _write(catalogue, origin, root, count)
    done.touch()


def _compare(root: Path, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "theirs", Path(folder) / "ours"
        _make(theirs, root, count)
        _write(ours, "music", root, count)
        for query in _WHAT_COUNTS:
            found = []
            for path in (theirs, ours):
                with closing(sqlite3.connect(path)) as db:
                    found.append(set(db.execute(query)))
            if found[0] != found[1]:
                surplus = [min(one - other, default=None) for one, other in (found, found[::-1])]
                raise AssertionError(f"a scan would give {surplus[0]}, and not {surplus[1]}: bench/catalogue.py is old")


def _make(catalogue: Path, root: Path, count: int) -> None:
    """By the library."""
    prepare_catalog(catalogue)
    template = TreeConfig().template
    with closing(Catalog.open(catalogue)) as catalog, catalog.transaction():
        catalog.configure_origins({"music": 1})
        catalog.set_meta("template", naming_of(template))
        found = [_found(root, LinkedTrack(number)) for number in range(count)]
        TreeBuilder(catalog, Template.parse(template)).update(*catalog.store("music", found))
        catalog.scan_completed("music")


def _found(root: Path, track: LinkedTrack) -> ScannedFile:
    file = _state(root, track.number // _LINKS)
    stat, tags = Stat(track.source, file.st_size, file.st_mtime_ns), dump_tags(track.tags())
    folder = folder_of(track.source, Role.AUDIO.value)
    return ScannedFile(stat, folder, Role.AUDIO.value, _fingerprint(track), tags, None)


def _fingerprint(track: Track) -> Fingerprint:
    return Fingerprint(blake3(track.source.encode()).digest())


def _write(catalogue: Path, origin: str, root: Path, count: int) -> None:
    """By hand."""
    prepare_catalog(catalogue)
    with closing(connect(catalogue, cache_mb=256)) as db:
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):  # an unfinished catalogue is made again
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        db.execute("INSERT INTO origins (num, id, scanned_at) VALUES (1, ?, ?)", (origin, time.time()))
        db.execute("INSERT INTO origins_here (origin, priority) VALUES (1, 1)")
        db.execute("INSERT INTO meta VALUES ('template', ?)", (naming_of(TreeConfig().template),))
        folders = _Folders(db)
        for start in range(0, count, _BATCH):
            tracks = [LinkedTrack(number) for number in range(start, min(count, start + _BATCH))]
            rows = [_rows(root, track, folders) for track in tracks]
            for statement, values in zip(_STATEMENTS, zip(*rows, strict=True), strict=True):
                db.executemany(statement, values)
        SpellingTable(db).count_again(Template.parse(TreeConfig().template).folded)
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = WAL")


class _Folders:
    """The tree's folders, made when first asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._last: tuple[str, int] = ("", ROOT_INO)
        self._artists: dict[str, int] = {}
        self._numbers = itertools.count(ROOT_INO + 1)

    def ino(self, folder: str) -> int:
        """Tracks come album by album: only artists need remembering."""
        if self._last[0] != folder:
            artist, _, album = folder.partition("/")
            if artist not in self._artists:
                self._artists[artist] = self._make(ROOT_INO, artist)
            row = self._db.execute(
                "SELECT ino FROM names WHERE parent = ? AND name = ? AND hidden = 0", (self._artists[artist], album)
            ).fetchone()
            self._last = (folder, row[0] if row else self._make(self._artists[artist], album))
        return self._last[1]

    def _make(self, parent: int, name: str) -> int:
        number = next(self._numbers)
        self._db.execute("INSERT INTO inodes (ino, size, mtime_ns) VALUES (?, 0, ?)", (number, time.time_ns()))
        self._db.execute(
            "INSERT INTO names (parent, name, hidden, ino, position) VALUES (?, ?, 0, ?, ?)",
            (parent, name, number, number),
        )
        return number


def _rows(root: Path, track: LinkedTrack, folders: _Folders) -> tuple[tuple[object, ...], ...]:
    """One row for each of `_STATEMENTS`."""
    file, number, tags = _state(root, track.number // _LINKS), track.number + 1, track.tags()
    size, mtime = file.st_size, file.st_mtime_ns
    dir, _, name = track.shown.rpartition("/")
    identity = (tags["artist"], tags["album"], None, tags["track"], tags["title"], tags["artist"], tags["format"])
    key = make_key(BY_TAGS, (fold(str(value or "")) for value in identity), ("", "", "", str(tags["duration_s"])))
    folder = track.source.rpartition("/")[0].encode()
    return (
        (number, _fingerprint(track), size, dump_tags(tags)),
        (number, track.source.encode(), folder, size, mtime, number),
        (number, dir, name, name, key, number),
        (_FIRST_FILE + number, number, size, mtime),
        (folders.ino(dir), name, _FIRST_FILE + number, number),
    )
