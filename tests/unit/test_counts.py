"""What the catalogue keeps count of, against counting it, and catalogues that were made before it did."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from musicfs.catalog.database import STEPS, prepare_catalog
from musicfs.catalog.view import TreeView
from tests.support.commands import make_album
from tests.support.earlier_catalogue import script_of, turn_back
from tests.support.library import scanned_library

_KEPT = "SELECT files, directories, bytes FROM totals"
_COUNTED = (
    "SELECT count(content), count(*) - count(content), coalesce(sum(size), 0) FROM names n JOIN inodes i"
    " ON i.ino = n.ino WHERE hidden = 0 AND view = 1"
)
_KEPT_OF_ORIGINS = "SELECT num, files, bytes FROM origins ORDER BY num"
_COUNTED_OF_ORIGINS = (
    "SELECT num, count(r.id), coalesce(sum(r.size), 0) FROM origins LEFT JOIN replicas r ON origin = num GROUP BY num"
)


def _in_order(db: sqlite3.Connection) -> bool:
    pairs = (_KEPT, _COUNTED), (_KEPT_OF_ORIGINS, _COUNTED_OF_ORIGINS)
    return all(db.execute(kept).fetchall() == db.execute(counted).fetchall() for kept, counted in pairs)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "show", "resize", "rmdir"]), st.integers(0, 30), st.integers(0, 9999)),
    max_size=40,
)


@settings(max_examples=30)
@given(_STEPS)
def test_the_counts_are_those_of_counting_whatever_is_written(steps: list[tuple[str, int, int]]) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(script_of(len(STEPS)))
        db.execute("INSERT INTO origins (num, id) VALUES (1, 'a'), (2, 'b')")
        for step, n, size in steps:
            number, origin, content = n + 2, n % 2 + 1, n or None
            match step:
                case "add":
                    db.execute(
                        "INSERT OR IGNORE INTO inodes (ino, content, size, mtime_ns) VALUES (?, ?, ?, 0)",
                        (number, content, size),
                    )
                    for view in (1, 1, 2):
                        db.execute("INSERT OR IGNORE INTO names VALUES (?, ?, 0, ?, 0, ?)", (size % 3, n, number, view))
                    db.execute(
                        "INSERT OR IGNORE INTO replicas (id, origin, path, folder, role, size, mtime_ns, content)"
                        " VALUES (?, ?, ?, x'', 'audio', ?, 0, 1)",
                        (n, origin, str(n).encode(), size),
                    )
                case "remove" | "rmdir":
                    db.execute("DELETE FROM names WHERE ino = ?", (number,))
                    db.execute("DELETE FROM inodes WHERE ino = ?", (number,))
                    db.execute("DELETE FROM replicas WHERE id = ?", (n,))
                case "show":
                    if content is not None:
                        db.execute("UPDATE names SET hidden = iif(hidden, 0, ino) WHERE ino = ?", (number,))
                case "resize":
                    db.execute("UPDATE inodes SET size = ? WHERE ino = ?", (size, number))
                    db.execute("UPDATE replicas SET size = ? WHERE id = ?", (size, n))
            assert _in_order(db)


async def test_a_catalogue_of_the_first_version_is_kept_with_its_inode_numbers(tmp_path: Path) -> None:
    make_album(tmp_path / "a" / "Album")
    with scanned_library(tmp_path / "cache") as library:
        library.configure({"a": tmp_path / "a"})
        await library.scan()
        nodes = library.nodes()
    path = tmp_path / "cache" / "catalog.sqlite"
    with closing(sqlite3.connect(path)) as db:
        assert _in_order(db)
    turn_back(path, 1)
    assert prepare_catalog(path) is None
    with closing(TreeView.open(path)) as view:
        assert view.totals().files == view.origins()[0].files == len(nodes) == 3
    with closing(sqlite3.connect(path)) as db:
        assert _in_order(db)
        assert {row[0] for row in db.execute("SELECT ino FROM inodes WHERE content IS NOT NULL")} == set(nodes.values())
