"""What the catalogue keeps count of, against counting it, and catalogues that were made before it did."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from musicfs.catalog.database import prepare_catalog
from musicfs.catalog.view import TreeView
from tests.support.commands import make_album
from tests.support.library import scanned_library, take_ownership_out

_KEPT = "SELECT files, directories, bytes FROM totals"
_COUNTED = "SELECT count(content), count(*) - count(content), coalesce(sum(size), 0) FROM nodes WHERE shown = 1"
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
        for name in ("schema.sql", "counts.sql"):
            db.executescript(resources.files("musicfs.catalog").joinpath(name).read_text())
        db.execute("INSERT INTO origins (num, id, priority) VALUES (1, 'a', 0), (2, 'b', 0)")
        for step, n, size in steps:
            number, origin, content = n + 2, n % 2 + 1, n or None
            match step:
                case "add":
                    db.execute("INSERT OR IGNORE INTO nodes VALUES (?, 1, ?, 1, ?, ?, 0)", (number, n, content, size))
                    db.execute(
                        "INSERT OR IGNORE INTO replicas VALUES (?, ?, ?, x'', 'audio', ?, 0, NULL, 1)",
                        (n, origin, str(n).encode(), size),
                    )
                case "remove" | "rmdir":
                    db.execute("DELETE FROM nodes WHERE ino = ?", (number,))
                    db.execute("DELETE FROM replicas WHERE id = ?", (n,))
                case "show":
                    db.execute("UPDATE nodes SET shown = 1 - shown WHERE ino = ?", (number,))
                case "resize":
                    db.execute("UPDATE nodes SET shown = ?, size = ? WHERE ino = ?", (size % 2, size, number))
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
        for (trigger,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        take_ownership_out(db)
        db.executescript(
            "DROP TABLE predecessors; DROP TABLE folder_times; DROP TABLE totals;"
            " ALTER TABLE origins DROP COLUMN files; ALTER TABLE origins DROP COLUMN bytes;"
            " PRAGMA user_version = 1;"
        )
    assert prepare_catalog(path) is None
    with closing(TreeView.open(path)) as view:
        assert view.totals().files == view.origins()[0].files == len(nodes) == 3
    with closing(sqlite3.connect(path)) as db:
        assert _in_order(db)
        assert {row[0] for row in db.execute("SELECT ino FROM nodes WHERE content IS NOT NULL")} == set(nodes.values())
