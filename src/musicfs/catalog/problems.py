"""The problems of origins' files as the catalogue's one writer sees them; problem_list.py has the reader's side.

A scan adds the problems that it meets, and at its end they replace those that the catalogue had of the scanned paths. A
table holds them, not memory: a hostile listing may have millions.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from musicfs.catalog.database import storable
from musicfs.model import decode_path, encode_path
from musicfs.problems import MAX_DETAIL, Problem, Reason

MAX_PROBLEMS = 100_000
"""Of one origin. More of them are only counted."""
_BATCH = 500
_INSERT = "INSERT OR IGNORE INTO problems (origin, path, reason, detail, since) "
_SHOWN = ", ".join(f"'{reason.value}'" for reason in Reason if reason.is_shown)
_AT_OR_BELOW = "(path = :path OR (path > :first AND path < :last))"


def _places(path: str) -> dict[str, bytes]:
    this = encode_path(path)
    return {"path": this, "first": this + b"/", "last": this + b"0"}


class ScanProblems:
    """The problems of one scan of one origin.

    While the scan runs, it calls `add`, and `spare` for each folder that it skips. At its end it calls `keep` inside a
    transaction, unless its listing broke off. Reasons with `is_shown` are about what is in a file: they are not met
    again while nothing reads the file, so they stay until `Catalog.store` replaces them or the file goes.

    Args:
        db: Of the catalogue's writer. Scans of one origin follow each other.
        origin: Its number.
        clock: Seconds since the epoch.
    """

    def __init__(self, db: sqlite3.Connection, origin: int, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._origin = origin
        self._clock = clock
        self._waiting: list[Problem] = []
        self.counts: Counter[Reason] = Counter()
        """How many were met of each reason."""
        self.examples: dict[Reason, Problem] = {}
        """The first of each reason."""
        self.unknown_folders: set[str] = set()
        """Folders below which nothing is known: the scan must remove nothing there."""
        # Other origins are scanned meanwhile.
        self._met, self._spared = f"met_problems_{origin:d}", f"spared_problems_{origin:d}"
        db.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {self._met} (path BLOB, reason TEXT, detail TEXT,"
            " PRIMARY KEY (path, reason)) WITHOUT ROWID"
        )
        db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {self._spared} (id INTEGER PRIMARY KEY)")
        db.execute(f"DELETE FROM {self._met}")
        db.execute(f"DELETE FROM {self._spared}")
        known = db.execute("SELECT EXISTS (SELECT 1 FROM problems WHERE origin = ?)", (origin,)).fetchone()
        self._has_earlier = bool(known[0])

    def add(self, problem: Problem) -> None:
        """Records a problem. `problem.detail` may be of any length."""
        self.counts[problem.reason] += 1
        self.examples.setdefault(problem.reason, problem)
        if problem.reason.hides_below:
            self.unknown_folders.add(problem.path)
            self.spare(problem.path)
        self._waiting.append(problem)
        if len(self._waiting) >= _BATCH:
            self._write()

    def spare(self, folder: str) -> None:
        """Keeps the earlier problems below a folder that the scan does not list; "" is the whole origin."""
        if self._has_earlier:
            places = _places(folder) if folder else {}
            where = " AND path > :first AND path < :last" if folder else ""
            self._db.execute(
                f"INSERT OR IGNORE INTO {self._spared} SELECT id FROM problems WHERE origin = :origin{where}",
                {"origin": self._origin, **places},
            )

    def keep(self, under: Sequence[str]) -> None:
        """Replaces the recorded problems at and below the scanned paths by those that were met.

        Those that are the same keep since when they are known, and whether the user has dismissed them.

        Args:
            under: The scanned paths; "" is the whole origin.
        """
        self._write()
        for path in under:
            where = f" AND {_AT_OR_BELOW}" if path else ""
            self._db.execute(
                f"DELETE FROM problems AS p WHERE origin = :origin{where}"
                f" AND (reason NOT IN ({_SHOWN}) OR NOT EXISTS (SELECT 1 FROM replicas r"
                " WHERE r.origin = :origin AND r.path = p.path))"
                f" AND id NOT IN (SELECT id FROM {self._spared})"
                f" AND NOT EXISTS (SELECT 1 FROM {self._met} m WHERE m.path = p.path AND m.reason = p.reason)",
                {"origin": self._origin, **(_places(path) if path else {})},
            )
        room = max(0, MAX_PROBLEMS - self._count())
        self._db.execute(
            f"UPDATE problems SET detail = m.detail FROM {self._met} m WHERE origin = ? AND m.path = problems.path"
            " AND m.reason = problems.reason AND m.detail <> problems.detail",
            (self._origin,),
        )
        fresh = (
            f"FROM {self._met} m WHERE NOT EXISTS (SELECT 1 FROM problems p WHERE p.origin = ?1 AND p.path = m.path"
            " AND p.reason = m.reason)"
        )
        self._db.execute(
            f"{_INSERT} SELECT ?1, path, reason, detail, ?2 {fresh} ORDER BY path LIMIT ?3",
            (self._origin, self._clock(), room),
        )
        if "" in under:
            self._db.execute("DELETE FROM left_out_counts WHERE origin = ? AND subject = ''", (self._origin,))
        self._db.execute(
            f"INSERT INTO left_out_counts SELECT ?1, reason, '', count(*) {fresh} GROUP BY reason"
            " ON CONFLICT (origin, reason, subject) DO UPDATE SET files = max(files, excluded.files)",
            (self._origin,),
        )

    def _count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM problems WHERE origin = ?", (self._origin,)).fetchone()[0])

    def _write(self) -> None:
        rows = ((encode_path(each.path), each.reason.value, cut(each.detail)) for each in self._waiting)
        self._db.executemany(f"INSERT OR IGNORE INTO {self._met} VALUES (?, ?, ?)", rows)
        self._waiting.clear()


class ProblemTable:
    """Writes single problems, outside scans' ends. The caller calls every method inside a transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def replace_in_files(self, origin: int, found: Mapping[str, Iterable[Problem]], now: float) -> None:
        """Replaces the problems with what is in files that have just been read. Only reasons with `is_shown` count.

        Args:
            origin: Its number.
            found: The files that were read, by path, and their problems.
            now: Seconds since the epoch.
        """
        if self._db.execute("SELECT 1 FROM problems WHERE origin = ? LIMIT 1", (origin,)).fetchone():
            self._db.executemany(
                f"DELETE FROM problems WHERE origin = ? AND path = ? AND reason IN ({_SHOWN})",
                ((origin, encode_path(path)) for path in found),
            )
        self.add(origin, (each for each in chain.from_iterable(found.values()) if each.reason.is_shown), now)

    def add(self, origin: int, problems: Iterable[Problem], now: float) -> None:
        """Adds problems beside those that are known, up to `MAX_PROBLEMS`. now: seconds since the epoch."""
        rows = [(origin, encode_path(each.path), each.reason.value, cut(each.detail), now) for each in problems]
        if rows:
            have = self._db.execute("SELECT count(*) FROM problems WHERE origin = ?", (origin,)).fetchone()[0]
            self._db.executemany(f"{_INSERT} VALUES (?, ?, ?, ?, ?)", rows[: max(0, MAX_PROBLEMS - have)])

    def set_unresolved(self, origin: int, path: str, number: int, now: float) -> None:
        """Records how many names in a playlist or cue sheet stand for no file; 0: all do. now: as in `add`."""
        reason = Reason.UNRESOLVED_ENTRIES
        if number:
            detail = f"{number} of its names"
            self.add(origin, [Problem(path, reason, detail)], now)
            sql = "UPDATE problems SET detail = ? WHERE origin = ? AND path = ? AND reason = ?"
            self._db.execute(sql, (detail, origin, encode_path(path), reason.value))
        else:
            sql = "DELETE FROM problems WHERE origin = ? AND path = ? AND reason = ?"
            self._db.execute(sql, (origin, encode_path(path), reason.value))

    def replace_counts(self, origin: int, counts: Mapping[tuple[Reason, str], int]) -> None:
        """Replaces what a scan counted and did not name.

        Args:
            origin: Its number.
            counts: How many files were left out, by reason and subject, such as (Reason.UNKNOWN_KIND, ".dff"). No
                subject is empty: that stands for problems beyond the most that are named.
        """
        self._db.execute(
            "DELETE FROM left_out_counts WHERE origin = ? AND subject <> '' AND reason <> ?",
            (origin, Reason.UNPLACED.value),
        )
        self._insert_counts((origin, reason, subject, files) for (reason, subject), files in counts.items())

    def count_unplaced(self) -> None:
        """Counts the files beside music that have no place in the tree, by extension, for all configured origins."""
        counts: Counter[tuple[int, str]] = Counter()
        rows = self._db.execute(
            "SELECT r.origin, r.path FROM replicas r"
            " JOIN configured o ON o.num = r.origin"
            " WHERE r.role <> 'audio' AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.replica = r.id)"
        )
        for origin, path in rows:
            counts[origin, f".{decode_path(path).rpartition('.')[2].lower()}"] += 1
        self._db.execute("DELETE FROM left_out_counts WHERE reason = ?", (Reason.UNPLACED.value,))
        self._insert_counts((origin, Reason.UNPLACED, kind, files) for (origin, kind), files in counts.items())

    def _insert_counts(self, counts: Iterable[tuple[int, Reason, str, int]]) -> None:
        self._db.executemany(
            "INSERT INTO left_out_counts VALUES (?, ?, ?, ?)",
            ((origin, reason.value, storable(subject), files) for origin, reason, subject, files in counts),
        )

    def dismiss(
        self, origin: int, *, path: str | None = None, reason: Reason | None = None, dismissed: bool = True
    ) -> int:
        """Dismisses problems, or with `dismissed` False takes that back. Returns how many changed.

        Args:
            origin: Its number.
            path: Only those at and below this path; None or "" is the whole origin.
            reason: Only those of this reason; None: all.
            dismissed: Whether the user wants to hear no more of them.
        """
        where = f" AND {_AT_OR_BELOW}" if path else ""
        where += " AND reason = :reason" if reason else ""
        values = {"origin": origin, "to": dismissed, "reason": reason and reason.value, **_places(path or "")}
        sql = f"UPDATE problems SET dismissed = :to WHERE origin = :origin AND dismissed <> :to{where}"
        return self._db.execute(sql, values).rowcount


def cut(detail: str) -> str:
    """As much of a detail as is kept, in a form that SQLite can hold."""
    return storable(detail[:MAX_DETAIL])
