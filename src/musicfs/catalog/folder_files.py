"""Files of the tree as they are opened: a program that opens one mostly opens its neighbours next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from sqlite3 import Connection
from typing import NamedTuple

from musicfs.model import Content, Fingerprint, OriginId, Replica, decode_path
from musicfs.system.lru import Lru

_KEPT = 2048
"""Files: some two megabytes."""
_ALONE_MOST = 4
"""After so many folders of which one file was wanted, a program is taken for one that wants one of each."""
_FIRST, _MOST = 32, 128
"""Names that a query reads: of a folder at first, and as a program goes on through a large one."""

_PLACE = "SELECT parent, position FROM names WHERE ino = ? LIMIT 1"
_FILES = """
WITH some AS (
    SELECT ino, max(position) AS position FROM (
        SELECT :ino AS ino, :position AS position
        UNION ALL
        SELECT * FROM (
            SELECT ino, position FROM names INDEXED BY names_by_position
            WHERE parent = :parent AND position >= :position ORDER BY position LIMIT :count
        )
    ) GROUP BY ino
)
SELECT some.ino, some.position, i.mtime_ns, c.id, c.fingerprint, i.size, o.id, r.path, r.size, r.mtime_ns, r.etag
FROM some CROSS JOIN inodes i ON i.ino = some.ino CROSS JOIN contents c ON c.id = i.content
CROSS JOIN replicas r ON r.content = c.id JOIN configured o ON o.num = r.origin
ORDER BY some.ino, o.priority, o.num, r.path
"""

_ALONE = """
SELECT c.id, c.fingerprint, i.size, i.mtime_ns FROM inodes i JOIN contents c ON c.id = i.content WHERE i.ino = ?
"""

_Row = tuple[int, int, int, int, bytes, int, str, bytes, int, int, str | None]


class TreeFile(NamedTuple):
    """A file of the tree: its content, the replicas of that, and its time of change in nanoseconds since the epoch."""

    content: Content
    replicas: Sequence[Replica]
    mtime_ns: int


class FolderFiles:
    """Reads files together with those that follow in their folder, and keeps them until `forget`.

    Attributes:
        on_read: Takes the contents of the files that were read from the catalogue together.

    Args:
        db: The catalogue.
    """

    def __init__(self, db: Connection) -> None:
        self._execute = db.execute
        self._files: Lru[int, TreeFile] = Lru(_KEPT)
        self._last = 0, 0
        """The folder that was read last, and the position of the last file that was read of it."""
        self._count = _FIRST
        self._used = 0
        """Files that were here since the last query."""
        self._alone = 0
        """Folders one after the other of which one file was wanted."""
        self.on_read: Callable[[Sequence[Content]], None] = lambda contents: None

    def find(self, ino: int) -> TreeFile | None:
        """Returns the file `ino`; None: no name leads to it, or it is a folder or a text that is rendered.

        A file has no replicas while none of its origins is configured.
        """
        file = self._files.use(ino)
        if file is None:
            return self._read(ino)
        self._used += 1
        return file

    def forget(self) -> None:
        """Keeps nothing, after the catalogue has changed."""
        self._files.clear()

    def _read(self, ino: int) -> TreeFile | None:
        place = self._execute(_PLACE, (ino,)).fetchone()
        if place is None:
            return None
        parent, position = place
        self._count = self._how_many(parent, position)
        values = {"ino": ino, "parent": parent, "position": position, "count": self._count}
        rows: list[_Row] = self._execute(_FILES, values).fetchall()
        read = {number: _file(list(several)) for number, several in groupby(rows, itemgetter(0))}
        for number, file in read.items():
            self._files.put(number, file)
        if ino not in read:
            return self._without_replicas(ino)
        self._last = parent, max(map(itemgetter(1), rows))
        self.on_read([file.content for file in read.values()])
        return read[ino]

    def _without_replicas(self, ino: int) -> TreeFile | None:
        row = self._execute(_ALONE, (ino,)).fetchone()
        return TreeFile(Content(row[0], Fingerprint(row[1]), row[2]), (), row[3]) if row else None

    def _how_many(self, parent: int, position: int) -> int:
        """Returns how many names to read from a position on: more for one who goes on, one for one who jumps about."""
        before, last = self._last
        used, self._used = self._used, 0
        if parent != before:
            self._alone = 0 if used else self._alone + 1
            return 1 if self._alone > _ALONE_MOST else _FIRST
        self._alone = 0
        return min(2 * max(self._count, _FIRST), _MOST) if last < position <= last + 2 * self._count else 1


def _file(rows: Sequence[_Row]) -> TreeFile:
    """Makes a file of its rows: one for each replica."""
    _, _, mtime_ns, content, fingerprint, size, *_ = rows[0]
    replicas = [Replica(OriginId(row[6]), decode_path(row[7]), *row[8:]) for row in rows]
    return TreeFile(Content(content, Fingerprint(fingerprint), size), replicas, mtime_ns)
