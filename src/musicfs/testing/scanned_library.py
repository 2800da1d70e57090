"""A catalogue in a folder, scanned in this process, and the tree it shows as plain paths."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from musicfs.catalog.database import ROOT_INO, prepare_catalog
from musicfs.catalog.view import TreeView
from musicfs.catalog.writer import Catalog
from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig, TreeConfig
from musicfs.events import Event, ScanFinished
from musicfs.library.analyser import Analyser
from musicfs.library.disk_files import open_files
from musicfs.library.parse_process import Fault
from musicfs.library.renderings import TextRenderer
from musicfs.library.scanner import Scanner
from musicfs.library.tree import TreeBuilder
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import DiskFolder, OriginId, OriginType
from musicfs.origin import Origin
from musicfs.tags.parse_messages import FileToParse
from musicfs.tags.parser import Examined, FileOnDisk, MissingBytes, examine, examine_open
from musicfs.tags.templates import Template


class ParsingThreads:
    """Stands in for the parser processes: the work is the same, and tests are quicker."""

    async def examine_files(
        self,
        folder: DiskFolder,
        files: Sequence[FileOnDisk],
        take: Callable[[FileOnDisk, Examined | Fault | None], None],
    ) -> None:
        for file, found in zip(files, await asyncio.to_thread(examine_on_disk, folder, files), strict=True):
            take(file, found)

    async def examine(self, file: FileToParse) -> Examined | MissingBytes:
        return await asyncio.to_thread(examine, file.name, file.role, file.size, file.ranges)


def examine_on_disk(folder: DiskFolder, files: Sequence[FileOnDisk]) -> list[Examined | None]:
    """Opens and examines files as the worker and its parsers do, in this process."""
    found: list[Examined | None] = []
    for file, fd in zip(files, open_files(folder, files), strict=True):
        if fd is None:
            found.append(None)
            continue
        try:
            found.append(examine_open(fd, file))
        finally:
            os.close(fd)
    return found


class ScannedLibrary:
    """One catalogue over local folders: `scan` them and look at `paths`."""

    def __init__(self, catalog: Catalog, view: TreeView, template: str = TreeConfig().template) -> None:
        self.catalog = catalog
        self.view = view
        parsed = Template.parse(template)
        self.builder = TreeBuilder(self.catalog, parsed)
        self.texts = TextRenderer(self.catalog, is_on=not parsed.uses("path"))
        self.events: list[Event] = []
        self.changes: list[TreeChanges] = []
        self.scanner = Scanner(
            self.catalog,
            self.builder,
            Analyser(ParsingThreads()),
            self.events.append,
            self.changes.append,
            lambda: asyncio.sleep(0),
            texts=self.texts,
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
            self.builder.render(self.texts)
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
        for child, name, content, *_ in self.view.children(ino, 0, 1_000_000):
            if content is None:
                yield from self._walk(child, f"{path}{name}/")
            else:
                yield path + name, child

    def replicas(self, path: str) -> list[tuple[OriginId, str]]:
        """(origin, real path) of what the file at `path` in the tree shows."""
        opened = self.view.open_file(self.nodes()[path])
        assert opened is not None
        return [(replica.origin, replica.path) for replica in opened[1]]

    def text(self, path: str) -> str | None:
        """What the tree shows at the path, if MusicFS makes it; None: the origin's own bytes."""
        found = self.view.generated(self.nodes()[path])
        return found.data.decode() if found is not None else None

    def close(self) -> None:
        self.view.close()
        self.catalog.close()


@contextmanager
def scanned_library(folder: Path, **options: str) -> Iterator[ScannedLibrary]:
    """A library whose catalogue is in the folder, which is made if need be. options: `template`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "catalog.sqlite"
    prepare_catalog(path)
    library = ScannedLibrary(Catalog.open(path), TreeView.open(path), **options)
    try:
        yield library
    finally:
        library.close()
