"""Databases are this user's alone, and stay when they are locked or their disk is full."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from musicfs.cache.disk import BlockDisk
from musicfs.catalog.database import prepare_catalog
from musicfs.content.checkstore import CheckStore
from musicfs.errors import UserError
from musicfs.maintenance.pin_store import PinStore
from musicfs.maintenance.scrub_store import ScrubRun, ScrubStore
from musicfs.model import Content, Fingerprint
from musicfs.system.sqlite import Database, UnknownVersion, is_damage, transaction
from tests.support.federation import federation
from tests.unit.test_comparing import comparing

RUN = ScrubRun(1, "Album", 5, False, "stopped", b"", 9, 9, 4, 4, 1.0, None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """As a backup program may hold it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a lock that this test itself holds."""
    whole = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **options: whole(*args, **options | {"timeout": 0}))


def use_catalog(folder: Path) -> None:
    assert prepare_catalog(folder / "db.sqlite") is None


def use_blocks(folder: Path) -> None:
    disk = BlockDisk(folder, 10**6)
    disk.open()
    disk.close()


def use_checksums(folder: Path) -> None:
    store = CheckStore(folder / "db.sqlite")
    assert store.open() is None
    store.close()


def use_pins(folder: Path) -> None:
    PinStore(folder / "db.sqlite").load()


STORES = {"db.sqlite": (use_catalog, use_checksums, use_pins), "blocks.sqlite": (use_blocks,)}
CASES = [pytest.param(name, use, id=use.__name__) for name, uses in STORES.items() for use in uses]


@pytest.mark.parametrize(("name", "use"), CASES)
@pytest.mark.usefixtures("impatient")
def test_a_lock_is_no_damage(name: str, use: Callable[[Path], None], tmp_path: Path) -> None:
    use(tmp_path)
    with locked(tmp_path / name):
        before = (tmp_path / name).read_bytes()
        files = set(tmp_path.iterdir())
        with pytest.raises((sqlite3.OperationalError, UserError), match="database is locked"):
            use(tmp_path)
        assert (tmp_path / name).read_bytes() == before
        assert {each for each in tmp_path.iterdir() if "unusable" in each.name} == set()
        assert files <= set(tmp_path.iterdir())
    use(tmp_path)


@pytest.mark.usefixtures("impatient")
async def test_a_lock_costs_no_progress_of_a_comparison(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "v"
    ScrubStore(file).save(RUN, [], [], restarted=True)
    async with federation() as made:
        with locked(file):
            async with comparing(made, file) as comparison:
                assert comparison.run is None
        assert "database is locked" in caplog.text
        async with comparing(made, file) as comparison:
            assert comparison.run == RUN
    caplog.clear()


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "db.sqlite", wal=False).connect()) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(sqlite3.Error, match="full") as caught:
            db.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert not is_damage(caught.value)


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_what_is_no_database_or_a_broken_one_is_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "db.sqlite").write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError) as caught, closing(Database(tmp_path / "db.sqlite").connect()):
        pass
    assert is_damage(caught.value)


def test_a_database_and_what_lies_beside_it_is_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    path.touch()
    path.chmod(0o644)
    for file in (path, tmp_path / "new.sqlite"):
        with closing(Database(file).connect()) as db:
            db.execute("CREATE TABLE t (x)")
            beside = list(tmp_path.glob(f"{file.name}*"))
            assert len(beside) == 3
            assert {stat.S_IMODE(each.stat().st_mode) for each in beside} == {0o600}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_place_of_a_database_is_not_followed(
    tmp_path: Path, suffix: str, link: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"")
    link(tmp_path / f"db.sqlite{suffix}", precious)
    with pytest.raises(sqlite3.OperationalError, match=r"symbolic link|another name"):
        Database(tmp_path / "db.sqlite").connect()
    assert precious.read_bytes() == b""


def test_to_check_a_database_that_is_open_ends_none_of_its_locks(tmp_path: Path) -> None:
    """To close any descriptor of a file ends all locks that the process has on it."""
    path = tmp_path / "db.sqlite"
    reading = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM t')"
    with closing(Database(path, wal=False).connect()) as db:
        db.execute("CREATE TABLE t (x)")
        db.execute("BEGIN EXCLUSIVE")
        with closing(Database(path, wal=False).connect()):
            pass
        done = subprocess.run([sys.executable, "-c", reading, str(path)], capture_output=True, text=True, check=False)
    assert "database is locked" in done.stderr


def test_pins_of_a_database_that_is_in_order_stay(tmp_path: Path) -> None:
    pins = PinStore(tmp_path / "db.sqlite")
    content = Content(0, Fingerprint(b"f" * 16), 3)
    pins.save("Album", [content])
    assert pins.load() == {"Album": {content.fingerprint: content}}


STEPS = ("CREATE TABLE t (x); INSERT INTO t VALUES (1);", "ALTER TABLE t ADD COLUMN y DEFAULT 2;")


@pytest.mark.parametrize("done", [0, 1, 2])
def test_each_version_is_brought_to_the_present_one_and_keeps_its_rows(tmp_path: Path, done: int) -> None:
    Database(tmp_path / "db", STEPS[:done]).open().close()
    with closing(Database(tmp_path / "db", STEPS).open()) as db:
        assert db.execute("SELECT x, y FROM t").fetchall() == [(1, 2)]
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    Database(tmp_path / "db", STEPS[:1]).open().close()
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        Database(tmp_path / "db", (*STEPS, "SELECT * FROM nowhere;")).open()
    with closing(Database(tmp_path / "db", STEPS).open()) as db:
        assert db.execute("SELECT x, y FROM t").fetchall() == [(1, 2)]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("wal", [True, False])
def test_a_database_of_a_later_version_makes_way_and_is_kept_where_that_is_asked_for(
    tmp_path: Path, keep: bool, wal: bool
) -> None:
    path = tmp_path / "db"
    Database(path, (*STEPS, ""), wal).open().close()
    damage = Database(path, STEPS[:1], wal).prepare(keep=keep)
    assert damage is not None
    assert isinstance(damage.error, UnknownVersion)
    assert Database(path, STEPS[:1], wal).prepare(keep=keep) is None
    if keep:
        assert damage.kept is not None
        assert damage.kept.name.startswith("db.unusable-")
        with closing(Database(damage.kept, (*STEPS, ""), wal).open()) as db:
            assert db.execute("SELECT x, y FROM t").fetchall() == [(1, 2)]
    else:
        assert damage.kept is None
        assert {each.name.split("-")[0] for each in tmp_path.iterdir()} == {"db"}


def test_a_damaged_database_that_cannot_be_renamed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(old: Path, new: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "db").write_bytes(b"no database" * 1000)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(sqlite3.OperationalError, match="can't be renamed: Permission denied") as caught:
        Database(tmp_path / "db", STEPS).prepare(keep=True)
    assert not is_damage(caught.value)
    assert (tmp_path / "db").read_bytes() == b"no database" * 1000


def delete_and_fail(db: sqlite3.Connection) -> None:
    with transaction(db):
        db.execute("DELETE FROM t")
        db.execute("SELECT * FROM nowhere")


def test_a_transaction_that_fails_changes_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "db", STEPS).open()) as db:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            delete_and_fail(db)
        with transaction(db):
            db.execute("INSERT INTO t VALUES (3, 4)")
        assert db.execute("SELECT x, y FROM t").fetchall() == [(1, 2), (3, 4)]


def test_pins_of_the_first_version_which_had_no_number_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    content = Content(0, Fingerprint(b"f" * 16), 3)
    PinStore(path).save("Album", [content])
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")
    assert PinStore(path).load() == {"Album": {content.fingerprint: content}}
