"""Tags that an earlier version's parser read are read again in the background, some files after each scan."""

from __future__ import annotations

import logging
from collections.abc import Callable

from musicfs.catalog.rows import ScannedFile
from musicfs.catalog.writer import Catalog
from musicfs.errors import MusicFSError
from musicfs.library.analyser import Analyser
from musicfs.library.scan_reads import ScanReads
from musicfs.library.tree import TreeBuilder
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import OriginId, Stat
from musicfs.origin import Origin
from musicfs.tags.tags import Role

log = logging.getLogger(__name__)

_PER_SCAN = 250
"""A poll once a minute gets through 100,000 files in seven hours, and other work hardly notices."""


class Reparsing:
    """Reads files again whose content has tags of an earlier parser.

    Args:
        catalog: Where the tags are.
        builder: Brings the tree in line with them.
        analyser: Reads and parses.
        announce: Receives the tree's changes after each commit.
    """

    def __init__(
        self, catalog: Catalog, builder: TreeBuilder, analyser: Analyser, announce: Callable[[TreeChanges], None]
    ) -> None:
        self._catalog = catalog
        self._builder = builder
        self._analyser = analyser
        self._announce = announce
        self._last: dict[OriginId, int] = {}

    def is_done(self, origin: OriginId) -> bool:
        """Whether the last `run` had a turn of the last of the origin's files."""
        return not self._last.get(origin, 0)

    async def run(self, origin: Origin, limit: int = _PER_SCAN) -> int:
        """Reads up to `limit` files of the origin. Those that can't be read now have another turn after all others.

        Returns:
            How many were read.
        """
        stale = self._catalog.stale_contents(origin.id, limit, after=self._last.get(origin.id, 0))
        self._last[origin.id] = stale[-1].content if len(stale) == limit else 0
        found: list[ScannedFile] = []

        def take(stat: Stat, scanned: ScannedFile | None) -> None:
            if scanned is not None:
                found.append(scanned)

        try:
            files = [(each.stat, Role.AUDIO.value) for each in stale]
            await self._analyser.analyse_all(ScanReads(origin), files, take)
        except MusicFSError as failure:
            log.debug("origin %s: files are not read again: %s", origin.id, failure)
        if found:
            with self._catalog.transaction():
                changes = self._builder.update(*self._catalog.store(origin.id, found))
            self._announce(changes)
        return len(found)
