"""The directories of the tree: each has the name that most of the music in and below it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from musicfs.catalog.database import ROOT_INO
from musicfs.catalog.entry_table import EntryTable
from musicfs.catalog.name_table import NameTable
from musicfs.catalog.spellings import Spelling


def leading_name(spellings: Iterable[Spelling]) -> str | None:
    """The name of a directory, as most tracks spell it, else as most entries do, else the first by code points.

    None: no entry asks for it.
    """
    counts: dict[str, tuple[int, int]] = {}
    for spelling in spellings:
        if spelling.entries:
            name = _last(spelling.dir)
            tracks, entries = counts.get(name, (0, 0))
            counts[name] = tracks + spelling.tracks, entries + spelling.entries
    return min(counts, key=lambda name: (-counts[name][0], -counts[name][1], name), default=None)


class Directories:
    """Finds, makes, renames and removes directories, for one update of the tree. Entries must not change meanwhile.

    A directory keeps its inode number when most tracks come to spell it in another way. Paths here are folded: they
    name a directory whatever its spelling.

    Args:
        names: The tree.
        entries: What asks to be in it.
        now_ns: The time of change of new directories, since the epoch.
        changed: Is called with the parent's number and each name that comes or goes.
    """

    def __init__(self, names: NameTable, entries: EntryTable, now_ns: int, changed: Callable[[int, str], None]) -> None:
        self._names = names
        self._entries = entries
        self._now_ns = now_ns
        self._changed = changed
        self._known: dict[str, int] = {}
        self._with_files: dict[str, bool] = {}
        self.renamed = False
        """Whether a directory has another name now."""
        self.again: set[str] = set()
        """Directories whose files must be named again, because the names of their directories are others now."""

    def find(self, path: str, *, create: bool) -> int | None:
        """The inode number of the directory; None: there is none. create: make it, and those above it, if missing."""
        ino, above = ROOT_INO, ""
        for place in _from_the_top(path):
            child = self._known.get(place)
            if child is None:
                child = self._settle(ino, above, place, create=create)
                if child is None:
                    return None
                self._known[place] = child
            ino, above = child, place
        return ino

    def prune(self, path: str) -> None:
        """Removes the directory, which `find` found, if it has become empty, and then those above it."""
        while path and self._names.is_empty(self._known[path]):
            self._changed(*self._names.remove_directory(self._known.pop(path)))
            path = path.rpartition("/")[0]
            self._name_files_again(path)

    def _settle(self, parent: int, above: str, path: str, *, create: bool) -> int | None:
        """Gives the directory its leading name. Returns its inode number."""
        spellings = self._entries.spellings.of(path)
        leader = leading_name(spellings)
        names = sorted({_last(spelling.dir) for spelling in spellings})
        found = {name: ino for name in names if (ino := self._names.directory(parent, name)) is not None}
        if not found:
            return self._make(parent, above, leader) if create and leader is not None else None
        shown = leader if leader in found else min(found)
        for name in found.keys() - {shown}:  # as in a catalogue of an earlier version
            self._remove_all_below(found[name])
            self._changed(*self._names.remove_directory(found[name]))
        if leader is not None and shown != leader:
            self._give_way(parent, above, leader)
            self.renamed = True
            self._names.rename_directory(parent, shown, leader)
            self._changed(parent, shown)
            self._changed(parent, leader)
        return found[shown]

    def _make(self, parent: int, above: str, name: str) -> int:
        self._give_way(parent, above, name)
        child = self._names.add_directory(parent, name, self._now_ns)
        self._changed(parent, name)
        return child

    def _give_way(self, parent: int, above: str, name: str) -> None:
        """Makes a file of this name, or of one that differs in letters' case, get another one."""
        if self._names.has_file(parent, name):
            self._names.remove_rendering(parent, name)
            for row in self._names.files(parent):
                if row.name == name:
                    self._names.remove(parent, name, row.ino)
        self._name_files_again(above)

    def _name_files_again(self, path: str) -> None:
        if path not in self._with_files:
            self._with_files[path] = self._entries.any_in(path)
        if self._with_files[path]:
            self.again.add(path)

    def _remove_all_below(self, ino: int) -> None:
        for row in self._names.files(ino):
            self._names.remove_rendering(ino, row.name)
            self._names.remove(ino, row.name, row.ino)
            if row.shown:
                self._changed(ino, row.name)
        for name in self._names.directories(ino):
            child = self._names.directory(ino, name)
            if child is not None:
                self._remove_all_below(child)
                self._changed(*self._names.remove_directory(child))


def _from_the_top(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
    if path:
        yield path


def _last(path: str) -> str:
    return path.rpartition("/")[2]
