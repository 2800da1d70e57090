"""Playlists, cue sheets and lists of checksums, shown with the names that the tree gives the files.

Their bytes are read once, at the end of a scan. From then on they are rendered whenever what they name gets another
name. A text whose names are right, or mean no file, is shown as it is.
"""

from __future__ import annotations

import asyncio
import logging
import posixpath
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from musicfs.catalog.text_table import ShownText, TextSource, TextTable
from musicfs.catalog.writer import Catalog
from musicfs.errors import MusicFSError
from musicfs.library.references import PARSERS, PLAYLISTS, ResolvedText, folded, resolve, stem
from musicfs.model import Replica
from musicfs.origin import Origin
from musicfs.tags.text_files import MAX_TEXT, Reference, rendered

log = logging.getLogger(__name__)

_AT_ONCE = 4
_BATCH = 50
_SAID = PLAYLISTS | {"cue"}
"""Kinds whose names that stand for no file are a problem for the user; lists of checksums are often of other times."""

Changed = Callable[[int, str], None]
"""Takes the parent and the name of what is shown in another way now."""


class TextRenderer:
    """Keeps the renderings of texts in line with the tree. The caller calls `refresh` inside a transaction.

    Args:
        catalog: Where the texts and the tree are.
        is_on: Whether texts are rendered; a tree of the origins' own paths shows them byte for byte.
    """

    def __init__(self, catalog: Catalog, *, is_on: bool) -> None:
        self._catalog = catalog
        self._table = catalog.texts
        self._is_on = is_on

    async def fetch(self, origin: Origin) -> None:
        """Reads the texts of an origin that the catalogue does not have. What can't be read now is left for later."""
        if not self._is_on:
            return
        missing = list(self._table.missing(self._catalog.number_of(origin.id), PARSERS.keys(), MAX_TEXT))
        slots = asyncio.Semaphore(_AT_ONCE)

        async def read(source: TextSource) -> tuple[int, bytes | None]:
            async with slots:
                try:
                    return source.content, await origin.read(Replica.of(origin.id, source.stat), 0, source.stat.size)
                except MusicFSError as failure:
                    log.debug("%s at %s can't be read: %s", source.stat.path, origin.id, failure)
                    return source.content, None

        for start in range(0, len(missing), _BATCH):
            found = await asyncio.gather(*(read(source) for source in missing[start : start + _BATCH]))
            with self._catalog.transaction():
                for content, data in found:
                    if data is not None:
                        self._table.add(content, data)

    def refresh(self, renamed: Collection[int], changed: Changed, *, everything: bool = False) -> None:
        """Renders what is new, or names a file that has another name now.

        Args:
            renamed: Contents that came, went, or have other names.
            changed: Is called for each name that shows something else now.
            everything: Render all texts again.
        """
        if not self._is_on:
            for parent, name, content in self._table.all_rendered():
                self._catalog.names.remove_rendering(parent, name)
                self._table.show_source(parent, name, content)
                changed(parent, name)
            return
        wanted = self._table.new()
        if everything:
            wanted = self._table.all()
        elif renamed:
            wanted |= self._table.naming(renamed) | self._table.missing_any(stem, renamed)
        files: dict[int, _Files] = {}
        for content in sorted(wanted):
            targets: set[int] = set()
            missing: set[str] = set()
            for place in self._table.places(content):
                its = files.setdefault(place.origin, _Files(self._table, place.origin))
                named, missed = self._render(place, its, changed)
                targets |= named
                missing |= missed
            self._table.set_targets(content, targets)
            self._table.set_missing(content, missing)
            self._table.set_rendered(content)

    def _render(self, place: ShownText, files: _Files, changed: Changed) -> tuple[set[int], frozenset[str]]:
        """Renders a text at one place. Returns the contents that it names, and the stems of what it misses."""
        shown = self._table.rendering(place.parent, place.name)
        if place.is_hidden and (shown is None or shown.content != place.content):
            return set(), frozenset()  # another variant is shown
        extension = place.path.rpartition(".")[2].lower()
        source = self._table.data(place.content)
        text = resolve(source, extension, posixpath.dirname(place.path), files)
        contents = self._table.contents_at(place.origin, set(text.paths.values()))
        data = self._rendered(text, place, contents)
        if extension in _SAID:
            self._catalog.set_unresolved(place.origin, place.path, text.unresolved)
        wanted = data if data is not None and data != source else None
        if wanted != (shown.data if shown else None):
            if shown is not None:
                self._catalog.names.remove_rendering(place.parent, place.name)
                self._table.show_source(place.parent, place.name, place.content)
            if wanted is not None:
                first = self._table.attributes(place.ino).mtime_ns
                self._table.show_rendering(place, wanted, first if shown is None else time.time_ns())
            changed(place.parent, place.name)
        return set(contents.values()), text.missing

    def _rendered(self, text: ResolvedText, place: ShownText, contents: Mapping[str, int]) -> bytes | None:
        """The text with the tree's names in it; None: it names no file of the tree."""
        names = self._table.shown_names(set(contents.values()))
        here = self._table.path(place.parent)
        paths = {
            target: self._relative(names[contents[path]], place.parent, here)
            for target, path in text.paths.items()
            if path in contents and contents[path] in names
        }
        if not paths:
            return None

        def path_of(reference: Reference) -> str | None:
            return paths.get(reference.target)

        return rendered(text.pieces, path_of)

    def _relative(self, names: Sequence[tuple[int, str]], parent: int, here: str) -> str:
        """The path of a file from a folder: of several names, one in the same folder, else the first path."""
        beside = sorted(name for folder, name in names if folder == parent)
        if beside:
            return beside[0]
        path = min(posixpath.join(self._table.path(folder), name) for folder, name in names)
        return posixpath.relpath(path, here or ".")


class _Files:
    """The files of one origin, for as long as texts are rendered; see references.OriginFiles."""

    def __init__(self, table: TextTable, origin: int) -> None:
        self._table = table
        self._origin = origin
        self._by_name: dict[str, list[str]] | None = None

    def existing(self, paths: Collection[str]) -> set[str]:
        return set(self._table.contents_at(self._origin, paths))

    def in_folder(self, folder: str) -> Iterable[str]:
        return self._table.names_in_folder(self._origin, folder)

    def named(self, names: Collection[str]) -> Mapping[str, Collection[str]]:
        if self._by_name is None:
            self._by_name = {}
            for path in self._table.paths_of(self._origin):
                self._by_name.setdefault(folded(posixpath.basename(path)), []).append(path)
        return {name: self._by_name[name] for name in names if name in self._by_name}
