"""A catalogue in a folder, scanned in this process, and the tree it shows as plain paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

from musicfs.catalog.database import ROOT_INO, prepare_catalog
from musicfs.catalog.view import TreeView
from musicfs.catalog.writer import Catalog
from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig, TreeConfig
from musicfs.events import Event, ScanFinished
from musicfs.library.parse_pool import Analyser, Parsers
from musicfs.library.scanner import Scanner
from musicfs.library.tree import TreeBuilder, TreeChanges
from musicfs.model import OriginId, OriginType, Replica, Stat
from musicfs.origin import Origin
from musicfs.tags.templates import Template


class ScannedLibrary:
    """One catalogue over local folders: `scan` them and look at `paths`.

    Threads stand in for the worker processes: the work is the same and the tests are quicker.
    """

    def __init__(self, folder: Path, pool: Executor, template: str = TreeConfig().template) -> None:
        self._path = folder / "catalog.sqlite"
        prepare_catalog(self._path)
        self.catalog = Catalog.open(self._path)
        self.view = TreeView.open(self._path)
        self.builder = TreeBuilder(self.catalog, Template.parse(template))
        self.events: list[Event] = []
        self.changes: list[TreeChanges] = []
        self.scanner = Scanner(
            self.catalog,
            self.builder,
            Analyser(Parsers(lambda size: pool)),
            self.events.append,
            self.changes.append,
            lambda: asyncio.sleep(0),
        )
        self.origins: dict[str, Origin] = {}

    def configure(
        self, roots: dict[str, Path], priorities: dict[str, int] | None = None, links: str | None = None
    ) -> None:
        """Makes these the configured origins, in the order given."""
        ranks = priorities or {id: number for number, id in enumerate(roots)}
        with self.catalog.transaction():
            touched = self.catalog.configure_origins(ranks)
            self.builder.update(self.catalog.folders_of(touched))
        populated = self.view_now().populated()
        self.origins = {
            id: open_origin(
                OriginConfig(id=OriginId(id), origin_type=OriginType.LOCAL, settings={"path": root, "links": links}),
                populated=id in populated,
            )
            for id, root in roots.items()
        }

    def adopt(self, origin: Origin | None) -> None:
        """Makes this the one origin, in whatever way it was opened; None: leaves the one before."""
        if origin is not None:
            with self.catalog.transaction():
                self.catalog.configure_origins({origin.id: 1})
            self.origins = {origin.id: origin}

    def view_now(self) -> TreeView:
        """The reader's side, with all that was committed."""
        self.view.refresh()
        return self.view

    async def scan(self, *ids: str, under: Sequence[str] = ("",)) -> list[ScanFinished]:
        return [await self.scanner.scan(self.origins[id], under) for id in ids or self.origins]

    def paths(self) -> list[str]:
        """Every file of the tree, sorted."""
        return sorted(self.nodes())

    def nodes(self) -> dict[str, int]:
        """Path -> inode number of every file of the tree."""
        self.view.refresh()
        return dict(self._walk(ROOT_INO, ""))

    def _walk(self, ino: int, path: str) -> Iterator[tuple[str, int]]:
        for child, name, content, _, _ in self.view.children(ino, 0, 1_000_000):
            if content is None:
                yield from self._walk(child, f"{path}{name}/")
            else:
                yield path + name, child

    def replicas(self, path: str) -> list[tuple[OriginId, str]]:
        """(origin, real path) of what the file at `path` in the tree shows."""
        opened = self.view.open_file(self.nodes()[path])
        assert opened is not None
        return [(replica.origin, replica.path) for replica in opened[1]]

    def close(self) -> None:
        self.view.close()
        self.catalog.close()


@contextmanager
def scanned_library(folder: Path, **options: str) -> Iterator[ScannedLibrary]:
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        library = ScannedLibrary(folder, pool, **options)
        try:
            yield library
        finally:
            library.close()


def take_ownership_out(db: Connection) -> None:
    """Makes the catalogue one of a version that knew of no owners and of no links that are left out."""
    db.execute("DROP TABLE left_out")
    columns = {"origins": ("left_out", "hidden"), "replicas": ("uid", "gid", "mode"), "nodes": ("uid", "gid", "mode")}
    for table, names in columns.items():
        for name in names:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {name}")


class CountingOrigin:
    """Counts what is read of the origin behind it, which nothing reads past it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self.bytes_read = 0
        self.files: set[str] = set()

    def __getattr__(self, name: str) -> object:
        if name in ("folder_on_disk", "read_ranges", "scan_telling"):
            raise AttributeError(name)
        return getattr(self._origin, name)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        data = await self._origin.read(replica, offset, size)
        self.bytes_read += len(data)
        self.files.add(replica.path)
        return data


class BreakingOrigin:
    """Breaks off its listing after some files with `error`."""

    def __init__(self, origin: Origin, after: int, error: Exception) -> None:
        self._origin = origin
        self._after = after
        self._error = error

    def __getattr__(self, name: str) -> object:
        if name == "scan_telling":
            raise AttributeError(name)
        return getattr(self._origin, name)

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        count = 0
        async for stat in self._origin.scan(under):
            if count == self._after:
                raise self._error
            count += 1
            yield stat
