"""In how many places the music lives."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from musicfs.library.database import ROOT_INO, connect

_MOST_ALBUMS = 200
_CACHE_MB = 8

# A track is what has one name in one folder, in whatever variants.
_TRACKS = """
CREATE TEMP TABLE tracks AS
    SELECT n.parent AS album, max(n.size) AS size, count(DISTINCT o.num) AS places, min(o.id) AS origin
    FROM nodes n JOIN replicas r ON r.content = n.content AND r.role = 'audio'
    LEFT JOIN origins o ON o.num = r.origin AND o.enabled = 1
    GROUP BY n.parent, n.name
"""


@dataclass(frozen=True, slots=True)
class Places:
    """Tracks that live in so many places; 0 when all of theirs are out of use."""

    places: int
    tracks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Album:
    """A folder of the tree, of whose tracks some live in one place only: how many, and at which origins."""

    path: str
    tracks: int
    in_one: int
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redundancy:
    """albums: at most 200 of those with a track that lives in one place only; albums_in_one: how many there are."""

    places: tuple[Places, ...]
    albums_in_one: int
    albums: tuple[Album, ...]


def count(catalog: Path) -> Redundancy:
    """Reads all that is known of the library: a second for 100,000 tracks. Blocks."""
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        db.execute(_TRACKS)
        places = db.execute("SELECT places, count(*), sum(size) FROM tracks GROUP BY places ORDER BY places").fetchall()
        (number,) = db.execute("SELECT count(DISTINCT album) FROM tracks WHERE places = 1").fetchone()
        rows = db.execute(
            "SELECT album, count(*), sum(places = 1), group_concat(DISTINCT iif(places = 1, origin, NULL)) FROM tracks"
            " GROUP BY album HAVING sum(places = 1) > 0 ORDER BY album LIMIT ?",
            (_MOST_ALBUMS,),
        )
        albums = [Album(_path(db, ino), all, one, tuple(sorted(ids.split(",")))) for ino, all, one, ids in rows]
    albums.sort(key=lambda album: album.path)
    return Redundancy(tuple(Places(*row) for row in places), number, tuple(albums))


def _path(db: Connection, ino: int) -> str:
    names: list[str] = []
    while ino != ROOT_INO:
        ino, name = db.execute("SELECT parent, name FROM nodes WHERE ino = ?", (ino,)).fetchone()
        names.insert(0, name)
    return "/".join(names)
