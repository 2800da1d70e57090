"""In how many places the music lives, which copies differ, and what the loss of a place would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from types import MappingProxyType

from musicfs.catalog.database import connect
from musicfs.catalog.paths import find_path
from musicfs.catalog.queries import shown_at
from musicfs.federation.quarantine import SetAside
from musicfs.model import encode_path

_MAX_ALBUMS = 200
_NONE: Mapping[str, str] = MappingProxyType({})
_CACHE_MB = 8

# A track is all variants of one name in one folder. Copies that are set aside are read by no one.
_TRACKS = """
CREATE TEMP TABLE tracks AS
    SELECT n.parent AS album, max(i.size) AS size, count(DISTINCT coalesce(s.first, o.id)) AS places,
        min(coalesce(s.first, o.id)) AS origin
    FROM names n JOIN inodes i ON i.ino = n.ino JOIN replicas r ON r.content = i.content AND r.role = 'audio'
    LEFT JOIN here o ON o.num = r.origin AND r.id NOT IN (SELECT replica FROM aside)
    LEFT JOIN same s ON s.id = o.id
    WHERE n.view = 1 GROUP BY n.parent, n.name
"""
# Not sum(), which fails where a few absurd sizes are too much for 64 bits.
_PLACES = "SELECT places, count(*), CAST(total(size) AS INTEGER) FROM tracks GROUP BY places ORDER BY places"
_ALBUMS = """
SELECT album, count(*), sum(alone), CAST(total(size * alone) AS INTEGER),
    group_concat(DISTINCT iif(alone, origin, NULL))
FROM (SELECT album, size, origin, places = 1 AND (:origin IS NULL OR origin = :origin) AS alone FROM tracks)
GROUP BY album HAVING sum(alone) > 0 ORDER BY album LIMIT :most
"""
_IF_LOST = """
WITH alone AS (
    SELECT origin, album, count(*) AS tracks, CAST(total(size) AS INTEGER) AS bytes
    FROM tracks WHERE places = 1 GROUP BY origin, album
), whole AS (SELECT album, count(*) AS tracks FROM tracks GROUP BY album)
SELECT o.id, coalesce(sum(a.tracks), 0), CAST(total(a.bytes) AS INTEGER), count(a.album), count(w.album)
FROM configured o LEFT JOIN alone a ON a.origin = o.id
LEFT JOIN whole w ON w.album = a.album AND w.tracks = a.tracks
GROUP BY o.num ORDER BY o.priority, o.num
"""


@dataclass(frozen=True, slots=True)
class ReplicaCounts:
    """How many tracks live in so many places; in 0 places if all their copies are out of use."""

    places: int
    tracks: int
    bytes: int


@dataclass(frozen=True, slots=True)
class AlbumAtRisk:
    """A folder of the tree with tracks that live in one place only.

    in_one: how many of its tracks do; bytes: their size; origins: where they live.
    """

    path: str
    tracks: int
    in_one: int
    bytes: int
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loss:
    """What lives at this origin alone. albums: those with such a track; whole_albums: those with no other track."""

    origin: str
    tracks: int
    bytes: int
    albums: int
    whole_albums: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A copy that is set aside. path: at its origin; file: its path in the tree; None: it has none. against: the origin
    that it disagrees with, if the votes do not decide which is right."""

    origin: str
    path: str
    file: str | None
    block: int
    against: str | None


@dataclass(frozen=True, slots=True)
class Redundancy:
    """What `count` finds.

    albums_in_one: how many albums have a track that lives in one place only. albums: the first of them. Both are of one
    origin if the caller names one; the rest is of all. same_places: origins that are one place with another and count
    as that one. differing_copies: how many copies are set aside. differing: the first of them.
    """

    places: tuple[ReplicaCounts, ...]
    albums_in_one: int
    albums: tuple[AlbumAtRisk, ...]
    if_lost: tuple[Loss, ...]
    same_places: Mapping[str, str]
    differing_copies: int
    differing: tuple[Difference, ...]


def count(
    catalog: Path,
    aside: Sequence[SetAside] = (),
    *,
    same: Mapping[str, str] = _NONE,
    origin: str | None = None,
    most: int = _MAX_ALBUMS,
) -> Redundancy:
    """Counts the places of each track. Reads the whole catalogue: a second for 100,000 tracks. Blocks.

    Args:
        catalog: The catalogue's file.
        aside: The copies that are set aside. They count for no place.
        same: Origins that are one place with another: their ids, and the id of the other.
        origin: List only albums that live at this origin alone; None: those of all origins.
        most: How many albums and copies are listed at most.
    """
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        differing = _set_aside(db, aside)
        db.execute("CREATE TEMP TABLE same (id TEXT PRIMARY KEY, first TEXT NOT NULL)")
        db.executemany("INSERT INTO same VALUES (?, ?)", same.items())
        origin = same.get(origin, origin) if origin is not None else None
        db.execute("CREATE TEMP TABLE here AS SELECT num, id FROM configured")
        db.execute(_TRACKS)
        places = db.execute(_PLACES).fetchall()
        (number,) = db.execute(
            "SELECT count(DISTINCT album) FROM tracks WHERE places = 1 AND (:origin IS NULL OR origin = :origin)",
            {"origin": origin},
        ).fetchone()
        rows = db.execute(_ALBUMS, {"origin": origin, "most": most})
        albums = [
            AlbumAtRisk(find_path(db, ino), tracks, alone, size, tuple(sorted(ids.split(","))))
            for ino, tracks, alone, size, ids in rows
        ]
        losses = [Loss(*row) for row in db.execute(_IF_LOST)]
    albums.sort(key=lambda album: album.path)
    return Redundancy(
        tuple(ReplicaCounts(*row) for row in places),
        number,
        tuple(albums),
        tuple(losses),
        same,
        len(differing),
        tuple(differing[:most]),
    )


def _set_aside(db: Connection, aside: Sequence[SetAside]) -> list[Difference]:
    """Fills the table of replicas that are set aside; leaves out versions that have gone since."""
    db.execute("CREATE TEMP TABLE aside (replica INTEGER PRIMARY KEY)")
    found = []
    for each in aside:
        its = each.replica
        row = db.execute(
            "SELECT r.id, r.content FROM replicas r JOIN configured o ON o.num = r.origin"
            " WHERE o.id = ? AND r.path = ? AND r.size = ? AND r.mtime_ns = ? AND r.etag IS ?",
            (its.origin, encode_path(its.path), its.size, its.mtime_ns, its.etag),
        ).fetchone()
        if row is not None:
            db.execute("INSERT OR IGNORE INTO aside VALUES (?)", row[:1])
            found.append(Difference(its.origin, its.path, shown_at(db, row[1]), each.block, each.against))
    return sorted(found, key=lambda each: (each.origin, each.path))
