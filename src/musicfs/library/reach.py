"""How many files of the tree no origin has that answers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from musicfs.library.database import connect
from musicfs.model import Fingerprint, OriginId

_CACHE_MB = 2
_UNREACHED = """
SELECT count(*), count(w.fingerprint) FROM nodes n JOIN contents c ON c.id = n.content
LEFT JOIN whole w ON w.fingerprint = c.fingerprint
WHERE n.shown = 1 AND n.size > 0 AND NOT EXISTS (
    SELECT 1 FROM replicas r WHERE r.content = n.content
    AND r.origin IN (SELECT num FROM origins WHERE enabled = 1 AND id IN ({marks}))
)
"""


@dataclass(frozen=True, slots=True)
class Unreached:
    """Files of the tree that no origin has that answers; of these, cached are on this disk as a whole."""

    files: int
    cached: int


def count(catalog: Path, answering: Sequence[OriginId], whole: Collection[Fingerprint]) -> Unreached:
    """whole: the contents that are cached whole. Reads all that is known of the library. Blocks."""
    rows: Iterable[tuple[bytes]] = ((fingerprint,) for fingerprint in whole)
    with closing(connect(catalog, cache_mb=_CACHE_MB)) as db:
        db.execute("CREATE TEMP TABLE whole (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID")
        db.execute("BEGIN")
        db.executemany("INSERT INTO whole VALUES (?)", rows)
        found = db.execute(_UNREACHED.format(marks=",".join("?" * len(answering))), answering).fetchone()
        return Unreached(*found)
