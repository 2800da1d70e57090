"""Where the music in and below a folder of an origin is in the tree, and which folders hold none."""

from __future__ import annotations

from collections.abc import Iterator
from sqlite3 import Connection

from musicfs.catalog.rows import BY_TAGS, PlacedTrack, TreeEntry
from musicfs.model import decode_path, encode_path

_ENTRY = ", ".join(f"e.{field}" for field in TreeEntry._fields)
# A track is in the tree through its own entry, or through that of a copy, which tags alone give it.
_TRACKS = f"""
SELECT r.path, {_ENTRY} FROM replicas r JOIN configured o ON o.num = r.origin JOIN entries e
ON e.replica = r.id OR (
    e.content = r.content AND e.key GLOB '{BY_TAGS}*' AND NOT EXISTS (SELECT 1 FROM entries x WHERE x.replica = r.id)
)
WHERE r.role = 'audio' AND {{where}} ORDER BY r.folder
"""
_LOOSE = "SELECT folder FROM replicas GROUP BY folder HAVING max(role = 'audio') = 0"


def tracks_below(db: Connection, folder: str) -> Iterator[PlacedTrack]:
    """The tracks in and below a folder, at all origins that are configured now, as they are read."""
    this = encode_path(folder)
    where = "(r.folder = :this OR (r.folder > :first AND r.folder < :last))" if folder else "1"
    sql = _TRACKS.format(where=where)
    for path, *entry in db.execute(sql, {"this": this, "first": this + b"/", "last": this + b"0"}):
        placed = TreeEntry(*entry)
        yield PlacedTrack(decode_path(path).rpartition("/")[0], placed.dir, placed.album)


def folders_without_music(db: Connection) -> Iterator[str]:
    """The album folders that hold only sidecars."""
    return (decode_path(folder) for (folder,) in db.execute(_LOOSE))
