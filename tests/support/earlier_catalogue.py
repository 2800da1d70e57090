"""A catalogue as an earlier version of the program would have left it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib import resources
from pathlib import Path

from musicfs.catalog.database import STEPS

_NODES = (
    "SELECT n.ino, n.parent, n.name, n.hidden = 0 AS shown, i.content, i.size, i.mtime_ns, i.uid, i.gid, i.mode"
    " FROM now.names n JOIN now.inodes i ON i.ino = n.ino"
)
_ORIGINS = "SELECT * FROM now.origins JOIN now.origins_here ON origin = num"


def script_of(version: int) -> str:
    """The SQL that makes an empty catalogue of the version."""
    return "\n".join(resources.files("musicfs.catalog").joinpath(name).read_text() for name in STEPS[:version])


def turn_back(path: Path, version: int) -> None:
    """Rewrites the catalogue as one of an earlier version: without what that did not know.

    A content with several names gets a number for each, as it had then.
    """
    earlier = path.with_name("earlier.sqlite")
    with closing(sqlite3.connect(earlier, isolation_level=None)) as db:
        db.executescript(script_of(version))
        db.execute("ATTACH ? AS now", (str(path),))
        db.execute("DELETE FROM nodes")
        numbers = db.execute("SELECT max(ino) FROM now.inodes").fetchone()[0]
        for table in _tables(db, "main"):
            source = {"nodes": _NODES, "origins": _ORIGINS}.get(table, f"SELECT * FROM now.{table}")
            cursor = db.execute(source)
            columns = [column[0] for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            taken = set[int]()
            for row in rows:
                if table == "nodes":
                    numbers += row["ino"] in taken
                    row["ino"] = numbers if row["ino"] in taken else row["ino"]
                    taken.add(row["ino"])
                known = {key: row[key] for key in _columns(db, table) if key in row}
                marks = ", ".join("?" * len(known))
                db.execute(
                    f"INSERT OR REPLACE INTO {table} ({', '.join(known)}) VALUES ({marks})", tuple(known.values())
                )
        if version > 1:  # the triggers have counted what was inserted, beside the numbers that were copied
            db.execute("UPDATE origins SET files = (SELECT count(*) FROM replicas WHERE origin = num)")
            db.execute("UPDATE origins SET bytes = (SELECT total(size) FROM replicas WHERE origin = num)")
            db.execute(
                "UPDATE totals SET files = (SELECT count(content) FROM nodes WHERE shown), directories = "
                " (SELECT count(*) - count(content) FROM nodes WHERE shown),"
                " bytes = (SELECT total(size) FROM nodes WHERE shown)"
            )
        db.execute(f"PRAGMA user_version = {version}")
    for beside in path.parent.glob(f"{path.name}*"):
        beside.unlink()
    earlier.rename(path)


def _tables(db: sqlite3.Connection, schema: str) -> list[str]:
    sql = f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    return [name for (name,) in db.execute(sql)]


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
