"""The catalogue as its one writer, the library worker, sees it: origins, replicas and contents.

Where these ask to appear in the tree is in entry_table.py, the tree's names are in name_table.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from musicfs.catalog.content_table import ContentTable
from musicfs.catalog.copies import CopyReader, execute_in_chunks
from musicfs.catalog.database import connect
from musicfs.catalog.entry_table import EntryTable
from musicfs.catalog.folder_times import FolderTimes
from musicfs.catalog.left_out import LeftOutLinks
from musicfs.catalog.name_table import NameTable
from musicfs.catalog.placed_tracks import folders_without_music, tracks_below
from musicfs.catalog.predecessors import record_predecessor
from musicfs.catalog.problems import ProblemTable, ScanProblems
from musicfs.catalog.rows import (
    NO_OWNER,
    Compared,
    FolderFile,
    FreshFile,
    OwnerChange,
    PlacedTrack,
    ScannedFile,
    StaleFile,
    Touched,
)
from musicfs.catalog.search_pending import SearchPending
from musicfs.catalog.text_table import TextTable
from musicfs.model import OriginId, Replica, Stat, decode_path, encode_path
from musicfs.problems import Problem, Reason
from musicfs.system.sqlite import transaction
from musicfs.tags.parser import reason_of

_BEAT_OPERATIONS = 1_000_000
"""Of SQLite's machine: some ten milliseconds."""
_HERE = "origin = (SELECT num FROM origins WHERE id = ?)"


def _problems_in(item: ScannedFile) -> list[Problem]:
    return [Problem(item.stat.path, reason_of(item.problem), item.problem)] if item.problem else []


class Catalog:
    """Writes the catalogue. All calls within one `transaction()` are committed together or not at all."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """db: of a catalogue; this closes it."""
        self._db = db
        self.names = NameTable(db)
        self.entries = EntryTable(db)
        self.texts = TextTable(db)
        self.search = SearchPending(db)
        self._contents = ContentTable(db)
        self._problems = ProblemTable(db)

    @classmethod
    def open(cls, path: Path, cache_mb: int = 32) -> Catalog:
        """Opens the catalogue at `path`. Blocks. cache_mb: the memory for its pages, in MiB."""
        return cls(connect(path, cache_mb=cache_mb))

    def close(self) -> None:
        self._db.close()

    def on_progress(self, beat: Callable[[], None]) -> None:
        """Calls `beat` now and then while a statement takes long."""
        self._db.set_progress_handler(beat, _BEAT_OPERATIONS)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with transaction(self._db):
            yield

    def _many(self, sql: str, values: Iterable[object]) -> Iterator[tuple]:  # type: ignore[type-arg]
        return execute_in_chunks(self._db, sql, values)

    # meta

    def get_meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # origins

    def configure_origins(self, priorities: Mapping[str, int]) -> set[str]:
        """Makes `priorities` (by id) the configured origins. Returns the ids whose part in the tree changes."""
        rows = self._db.execute(
            "SELECT o.id, h.priority, h.enabled FROM origins o JOIN origins_here h ON h.origin = o.num"
        )
        known = {id: (priority, bool(enabled)) for id, priority, enabled in rows}
        changed: set[str] = set()
        for origin, priority in priorities.items():
            if origin not in known:
                self._db.execute("INSERT OR IGNORE INTO origins (id) VALUES (?)", (origin,))
                self._db.execute(
                    "INSERT INTO origins_here (origin, priority) SELECT num, ? FROM origins WHERE id = ?",
                    (priority, origin),
                )
            elif known[origin] != (priority, True):
                self._db.execute(
                    f"UPDATE origins_here SET priority = ?, enabled = 1, reachable = 1 WHERE {_HERE}",
                    (priority, origin),
                )
                changed.add(origin)
        for origin in known.keys() - priorities.keys():
            if known[origin][1]:
                self._db.execute(f"UPDATE origins_here SET enabled = 0 WHERE {_HERE}", (origin,))
                changed.add(origin)
        return changed

    def set_reachable(self, origin: str, reachable: bool) -> bool:
        """Records whether an origin can be reached. Returns whether that is new."""
        cursor = self._db.execute(
            f"UPDATE origins_here SET reachable = ? WHERE {_HERE} AND reachable <> ?", (reachable, origin, reachable)
        )
        return cursor.rowcount > 0

    def removed_lately(self, origin: str, window_secs: float) -> int:
        """How many files were removed from the origin within the present window of `window_secs` seconds."""
        row = self._db.execute("SELECT removed, removed_since FROM origins WHERE id = ?", (origin,)).fetchone()
        # A clock that was set back must not start a new window.
        return row[0] if time.time() - row[1] < window_secs else 0

    def count_removed(self, origin: str, removed: int, window_secs: float) -> None:
        """Adds removed files to the present window, or starts a new window of `window_secs` seconds."""
        before = self.removed_lately(origin, window_secs)
        since = f"min(removed_since, {time.time()})" if before else str(time.time())
        self._db.execute(
            f"UPDATE origins SET removed = ?, removed_since = {since} WHERE id = ?", (before + removed, origin)
        )

    def set_accept_removals(self, origin: str, accept: bool) -> None:
        self._db.execute("UPDATE origins SET accept = ? WHERE id = ?", (accept, origin))

    def accepts_removals(self, origin: str) -> bool:
        row = self._db.execute("SELECT accept FROM origins WHERE id = ?", (origin,)).fetchone()
        return bool(row and row[0])

    def set_held(self, origin: str, held: int) -> bool:
        """Records how many files are gone at the origin but stay in the tree; 0 also uses up the user's confirmation.

        Returns:
            Whether the number is another than before.
        """
        row = self._db.execute("SELECT held FROM origins WHERE id = ?", (origin,)).fetchone()
        self._db.execute("UPDATE origins SET held = ?, accept = accept AND ? > 0 WHERE id = ?", (held, held, origin))
        return row is not None and row[0] != held

    def scan_completed(self, origin: str) -> None:
        self._db.execute("UPDATE origins SET scanned_at = ? WHERE id = ?", (time.time(), origin))
        self._contents.remove_unused()

    # replicas

    def newest_replica(self) -> int:
        """The highest number of a replica; 0 if there is none."""
        return self._db.execute("SELECT max(id) FROM replicas").fetchone()[0] or 0

    def compare(self, origin: str, listed: Sequence[Stat]) -> Compared:
        """How the files that an origin lists differ from its replicas in the catalogue."""
        stats = {encode_path(stat.path): stat for stat in listed}
        rows = self._many(
            "SELECT r.path, r.id, r.size, r.mtime_ns, r.etag, r.uid, r.gid, r.mode FROM replicas r"
            f" WHERE r.origin = {self._origin(origin)} AND r.path IN (%s)",
            stats,
        )
        known: list[int] = []
        changed: set[bytes] = set()
        owners: list[OwnerChange] = []
        for row in rows:
            path, number, version = row[0], row[1], row[2:5]
            known.append(number)
            stat = stats[path]
            same = version == (stat.size, stat.mtime_ns, stat.etag)  # as it mostly is
            if row[5] is not None and stat.owner is not None and row[5] != stat.owner.uid:
                # It may be another file that was made to look the same, so that its mode counts for the bytes.
                changed.add(path)
            elif same or Replica(OriginId(origin), stat.path, *version).is_version(stat):
                del stats[path]
                if row[5:] != (stat.owner or NO_OWNER):
                    owners.append(OwnerChange(number, stat.owner))
            else:
                changed.add(path)
        return Compared([FreshFile(stat, path in changed) for path, stat in stats.items()], known, owners)

    def set_owners(self, owners: Sequence[OwnerChange]) -> Touched:
        """Records the owners of replicas."""
        self._db.executemany(
            "UPDATE replicas SET uid = ?, gid = ?, mode = ? WHERE id = ?",
            ((*(owner or NO_OWNER), number) for number, owner in owners),
        )
        rows = self._many("SELECT content FROM replicas WHERE id IN (%s)", [number for number, _ in owners])
        return Touched(set(), set(), {content for (content,) in rows})

    def _origin(self, origin: str) -> int:
        return int(self._db.execute("SELECT num FROM origins WHERE id = ?", (origin,)).fetchone()[0])

    def number_of(self, origin: str) -> int:
        """The number of an origin, by which tables name it."""
        return self._origin(origin)

    def count_replicas(self, origin: str) -> int:
        return int(
            self._db.execute("SELECT count(*) FROM replicas WHERE origin = ?", (self._origin(origin),)).fetchone()[0]
        )

    def store(self, origin: str, found: Sequence[ScannedFile]) -> Touched:
        """Adds or replaces what a scan found."""
        number = self._origin(origin)
        paths = [encode_path(item.stat.path) for item in found]
        sql = f"SELECT path, content FROM replicas WHERE origin = {number} AND path IN (%s)"
        replaced: dict[bytes, int] = dict(self._many(sql, paths))
        folders: set[bytes] = set()
        contents = set(replaced.values())
        for item in found:
            path, folder = encode_path(item.stat.path), encode_path(item.folder)
            content, has_other_tags = self._contents.store(item, replaced.get(path))
            if has_other_tags:
                folders |= self.folders_of_contents({content})
            before = replaced.get(path, content)
            if before != content and item.role == "audio":
                record_predecessor(self._db, content, before)
            self._db.execute(
                "INSERT INTO replicas (origin, path, folder, role, size, mtime_ns, etag, content, uid, gid, mode)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (origin, path) DO UPDATE"
                " SET folder = excluded.folder, role = excluded.role, size = excluded.size,"
                " mtime_ns = excluded.mtime_ns, etag = excluded.etag, content = excluded.content,"
                " uid = excluded.uid, gid = excluded.gid, mode = excluded.mode",
                (
                    number, path, folder, item.role, item.stat.size, item.stat.mtime_ns, item.stat.etag, content,
                    *(item.stat.owner or NO_OWNER),
                ),
            )  # fmt: skip
            folders.add(folder)
            contents.add(content)
        self._problems.replace_in_files(number, {item.stat.path: _problems_in(item) for item in found}, time.time())
        return Touched(folders, self.entries.dirs_by_tags(set(replaced.values())), contents)

    def stale_contents(self, origin: str, limit: int, after: int = 0) -> list[StaleFile]:
        """Files of the origin whose content has tags of an earlier `PARSER_VERSION`, one for each content.

        Args:
            origin: Whose files.
            limit: How many at most.
            after: Only contents with a higher number.

        Returns:
            The files, by the number of their content. `store` takes what is read of them, and the version with it.
        """
        return self._contents.stale(self._origin(origin), limit, after)

    def replicas_below(self, origin: str, folder: str) -> Iterator[int]:
        """The numbers of the origin's replicas in `folder` and its folders; of all of them if it is ""."""
        where = "origin = :origin" + (" AND path > :first AND path < :last" if folder else "")
        return self._numbers(where, origin, folder)

    def replicas_under(self, origin: str, path: str) -> Iterator[int]:
        """As `replicas_below`, with the replica at `path` itself, if that is a file."""
        where = "origin = :origin" + (" AND (path = :path OR (path > :first AND path < :last))" if path else "")
        return self._numbers(where, origin, path)

    def paths_of(self, numbers: Iterable[int]) -> dict[int, str]:
        """The paths of these replicas, by number."""
        rows = self._many("SELECT id, path FROM replicas WHERE id IN (%s)", list(numbers))
        return {number: decode_path(path) for number, path in rows}

    def _numbers(self, where: str, origin: str, path: str) -> Iterator[int]:
        this = encode_path(path)
        values = {"origin": self._origin(origin), "path": this, "first": this + b"/", "last": this + b"0"}
        return (number for (number,) in self._db.execute(f"SELECT id FROM replicas WHERE {where}", values))

    def folder_times(self, origin: str) -> FolderTimes:
        return FolderTimes(self._db, self._origin(origin))

    def scan_problems(self, origin: str) -> ScanProblems:
        """Collects the problems of a scan that begins."""
        return ScanProblems(self._db, self._origin(origin))

    def set_unresolved(self, origin: int, path: str, number: int) -> None:
        """See `ProblemTable.set_unresolved`. origin: its number."""
        self._problems.set_unresolved(origin, path, number, time.time())

    def replace_counts(self, origin: str, counts: Mapping[tuple[Reason, str], int]) -> None:
        """See `ProblemTable.replace_counts`."""
        self._problems.replace_counts(self._origin(origin), counts)

    def count_unplaced(self) -> None:
        """See `ProblemTable.count_unplaced`."""
        self._problems.count_unplaced()

    def dismiss(self, origin: str, path: str | None, reason: Reason | None, *, dismissed: bool) -> int:
        """See `ProblemTable.dismiss`."""
        return self._problems.dismiss(self._origin(origin), path=path, reason=reason, dismissed=dismissed)

    def left_out_links(self, origin: str) -> LeftOutLinks:
        return LeftOutLinks(self._db, self._origin(origin))

    def lost(self, origin: str, numbers: Sequence[int]) -> int:
        """How many of these replicas hold a content that the origin has nowhere else."""
        going = set(numbers)
        contents = dict(self._many("SELECT id, content FROM replicas WHERE id IN (%s)", numbers))
        staying = {
            content
            for number, content in self._many(
                f"SELECT id, content FROM replicas WHERE origin = {self._origin(origin)} AND content IN (%s)",
                set(contents.values()),
            )
            if number not in going
        }
        return sum(content not in staying for content in contents.values())

    def remove_replicas(self, numbers: Sequence[int]) -> Touched:
        """Removes replicas and their entries."""
        rows = list(self._many("SELECT content, folder FROM replicas WHERE id IN (%s)", numbers))
        contents = {row[0] for row in rows}
        entries = self.entries.of_replicas(numbers)
        placed = {entry.content for entry in entries if entry.is_by_tags}
        folders = {row[1] for row in rows} | self.folders_of_contents(placed)
        dirs = {entry.dir for entry in entries} | self.entries.dirs_by_tags(contents)
        self.entries.remove(entries)
        list(self._many("DELETE FROM replicas WHERE id IN (%s)", numbers))
        return Touched(folders, dirs, contents)

    # folders

    def folders_of_contents(self, contents: Iterable[int]) -> set[bytes]:
        """Every album folder with a copy of one of the contents."""
        return {row[0] for row in self._many("SELECT DISTINCT folder FROM replicas WHERE content IN (%s)", contents)}

    def folders_of(self, origins: Iterable[str]) -> set[bytes]:
        """Every album folder with a copy of something that one of the origins holds."""
        # Each content once: thousands of copies of one content at both sides of a join would meet each other.
        sql = (
            "SELECT DISTINCT folder FROM replicas WHERE content IN (SELECT DISTINCT r.content FROM origins o"
            " JOIN replicas r ON r.origin = o.num WHERE o.id IN (%s))"
        )
        return {row[0] for row in self._many(sql, origins)}

    def all_folders(self) -> set[bytes]:
        return {row[0] for row in self._db.execute("SELECT DISTINCT folder FROM replicas")}

    def folder_files(self, folder: bytes) -> list[FolderFile]:
        """The replicas of one album folder, at the origins that are configured now."""
        rows = self._db.execute(
            "SELECT r.id, o.id, r.path, r.role, r.content, c.tags FROM replicas r"
            " JOIN configured o ON o.num = r.origin JOIN contents c ON c.id = r.content"
            " WHERE r.folder = ? ORDER BY r.path, o.id",
            (folder,),
        )
        return [FolderFile(r[0], r[1], decode_path(r[2]), r[3], r[4], r[5]) for r in rows]

    def copies(self) -> CopyReader:
        return CopyReader(self._db)

    def tracks_below(self, folder: str) -> Iterator[PlacedTrack]:
        return tracks_below(self._db, folder)

    def folders_without_music(self) -> Iterator[str]:
        return folders_without_music(self._db)
