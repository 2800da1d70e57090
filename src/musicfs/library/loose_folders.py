"""Folders that hold no music of their own: where their pictures belong depends on the music around them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from musicfs.library.sidecars import anchors


class LooseFolders:
    """Knows which album folders hold sidecars and no music.

    load: reads them from the catalogue, once they are needed.
    """

    def __init__(self, load: Callable[[], Iterable[str]]) -> None:
        self._load = load
        self._by_anchor: dict[str, set[str]] | None = None

    def note(self, folder: str, *, is_loose: bool) -> None:
        """Records what a folder is now."""
        known = self._loaded()
        for anchor in anchors(folder):
            if is_loose:
                known[anchor].add(folder)
            elif anchor in known:
                known[anchor].discard(folder)

    def around(self, folders: Iterable[str]) -> set[str]:
        """The folders without music whose files may belong to the music of `folders`."""
        known = self._loaded()
        above = set()
        for folder in folders:
            while folder not in above:
                above.add(folder)
                folder = folder.rpartition("/")[0]
        return {found for path in above for found in known.get(path, ())}

    def _loaded(self) -> dict[str, set[str]]:
        if self._by_anchor is None:
            self._by_anchor = defaultdict(set)
            for folder in self._load():
                for anchor in anchors(folder):
                    self._by_anchor[anchor].add(folder)
        return self._by_anchor
