"""The tree's upkeep: from replicas that came, went or changed to the names that the mount shows.

It has two steps. Each depends only on what the catalogue holds, so that neither the order of scans nor a restart
changes a name. First, folders are placed (placement.py says where each file belongs). Then the directories that this
touches are resolved: colliding names get tags, variants are ranked, names are written.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain

from musicfs.catalog.rows import ALSO_WITHOUT_OWNER, Attributes, Copies, Copy, PlacedTrack, Touched, TreeEntry
from musicfs.catalog.writer import Catalog
from musicfs.library.directories import Directories
from musicfs.library.loose_folders import LooseFolders
from musicfs.library.naming import Shown, resolve_names
from musicfs.library.placement import FolderPlacer
from musicfs.library.renderings import TextRenderer
from musicfs.library.tree_changes import TreeChanges
from musicfs.model import Owner, decode_path, encode_path
from musicfs.tags.templates import Template


def _attributes(copies: Sequence[Copies]) -> Attributes:
    """The inode of a content whose copies these are, by owner."""
    owners = [some.owner for some in copies if some.owner is not None]
    attributes = Attributes(copies[0].size, min(some.mtime_ns for some in copies))
    if not owners:
        return attributes
    uid, gid, mode = min(owners, key=lambda owner: (*(not may for may in _width(owner)), owner.uid, owner.gid))
    without = ALSO_WITHOUT_OWNER if len(owners) < len(copies) else 0
    return attributes._replace(uid=uid, gid=gid, mode=mode | without)


def _width(owner: Owner) -> tuple[int, int, int]:
    """A value that is greater the more users may read the file."""
    return owner.mode & 0o004, owner.mode & 0o040, owner.mode & 0o400


class TreeBuilder:
    """Brings the names and inodes in line with the replicas. The caller calls every method inside a transaction."""

    def __init__(self, catalog: Catalog, template: Template, beat: Callable[[], None] = lambda: None) -> None:
        self._catalog = catalog
        self._names = catalog.names
        self._beat = beat
        self._template = template
        self._copies = catalog.copies()
        self._loose = LooseFolders(catalog.folders_without_music)
        self._moved = False  # whether a directory has another name
        self._renamed: set[int] = set()  # contents whose names or copies came, went or are shown in another way

    def update(self, folders: Iterable[bytes], dirs: Iterable[str] = (), contents: Collection[int] = ()) -> TreeChanges:
        """Places album folders, and resolves every directory of the tree that this touches.

        Args:
            folders: What is placed.
            dirs: Directories that are resolved in any case, in any spelling.
            contents: What has other copies, or copies with other owners, than before.
        """
        self._copies = self._catalog.copies()
        spelled = set(dirs)
        queue = set(folders)
        placed: set[str] = set()
        changes = TreeChanges()
        while queue:  # it ends: where a folder's tracks belong does not depend on other folders' entries
            self._beat()
            folder = queue.pop()
            placed.add(decode_path(folder))
            touched = self._place(folder, changes)
            spelled |= touched.dirs
            queue |= touched.folders
        for loose in sorted(self._loose.around(placed)):  # once the music that they belong to is placed
            self._beat()
            spelled |= self._place(encode_path(loose), changes, self._catalog.tracks_below).dirs
        self._refresh(contents, changes)
        self._renamed.update(contents)  # a text may name the new copy, and not the one that was there
        self._resolve_all(set(map(self._template.folded, spelled)), changes)
        return changes

    def _resolve_all(self, dirty: set[str], changes: TreeChanges) -> None:
        """dirty: folded paths in the tree."""
        changed = functools.partial(self._changed, changes)
        directories = Directories(self._names, self._catalog.entries, time.time_ns(), changed)
        while dirty:
            directories.again.clear()
            for dir in sorted(dirty):
                self._beat()
                self._resolve(dir, directories, changes)
            dirty = set(directories.again)
        self._moved = self._moved or directories.renamed
        self._catalog.entries.spellings.remove_unused()

    def count_spellings(self) -> None:
        """Counts how entries spell directories, where another template or version made the entries."""
        self._catalog.entries.spellings.count_again(self._template.folded)

    def render(self, texts: TextRenderer, *, everything: bool = False) -> TreeChanges:
        """Shows texts with the present names of the files in them. everything: all texts, whatever has changed."""
        changes = TreeChanges()
        renamed, self._renamed = self._renamed, set()
        everything, self._moved = everything or self._moved, False
        texts.refresh(
            renamed, functools.partial(self._changed, changes), everything=everything
        )  # fmt: skip
        return changes

    def _place(
        self, folder: bytes, changes: TreeChanges, below: Callable[[str], Iterable[PlacedTrack]] | None = None
    ) -> Touched:
        """Renews the folder's entries. Returns other folders to place, and the directories to resolve.

        A folder without music is placed with `below`, once the other folders are.
        """
        files = self._catalog.folder_files(folder)
        changes.placed += len(files)
        placer = FolderPlacer(self._template, files)
        self._loose.note(decode_path(folder), is_loose=placer.is_loose)
        if placer.is_loose and below is None:
            return Touched(set(), set(), set())
        homes = {content: found[0].replica for content, found in self._copies.first(placer.placed_once).items()}
        own = {f.replica for f in files}
        foreign = self._catalog.entries.of_contents(c for c, replica in homes.items() if replica not in own)
        elsewhere = {c: [e for e in found if e.replica not in own] for c, found in foreign.items()}
        new = placer.entries(homes, elsewhere, below)
        old = self._catalog.entries.of_folder(folder)
        self._catalog.entries.replace(old - new, new - old, self._template.folded)
        # A track that moves leaves the place that its other copies gave it, and takes the files beside them along.
        moved = {e.content for e in old ^ new if e.is_by_tags}
        # A place that another copy asks for must be resolved too: the variants' ranks may have changed.
        dirs = {e.dir for e in (*old, *new, *chain.from_iterable(elsewhere.values()))}
        return Touched(self._catalog.folders_of_contents(moved) - {folder}, dirs, set())

    def _refresh(self, contents: Collection[int], changes: TreeChanges) -> None:
        """Gives the inodes of these contents the time and the owner of their copies."""
        self._copies.load_owners(contents)
        for content in contents:
            if copies := self._copies.by_owner(content):
                for ino in self._names.refresh(content, _attributes(copies)):
                    changes.attributes |= self._names.places(ino)

    def _resolve(self, dir: str, directories: Directories, changes: TreeChanges) -> None:
        entries = self._catalog.entries.of_dir(dir)
        copies = self._copies_of(entries)
        entries = [e for e in entries if e.content in copies]
        ino = directories.find(dir, create=bool(entries))
        if ino is None:
            return
        names = resolve_names(entries, copies, self._names.directories(ino))
        self._copies.load_owners(copies)
        self._write(ino, names, changes)
        directories.prune(dir)

    def _copies_of(self, entries: Sequence[TreeEntry]) -> dict[int, list[Copy]]:
        """The copies that the entries stand for, by content: all copies of a track, else the replica that asks."""
        copies = self._copies.at(e.replica for e in entries if not e.is_by_tags)
        return copies | self._copies.first({e.content for e in entries if e.is_by_tags})

    def _write(self, parent: int, names: Sequence[Shown], changes: TreeChanges) -> None:
        rows = {(row.name, row.content): row for row in self._names.files(parent)}
        wanted = {(item.name, content): rank == 0 for item in names for rank, content in enumerate(item.contents)}
        for name, text in self._catalog.texts.rendered_in(parent).items():
            if wanted.get((name, text)):
                wanted[name, text] = False  # its rendering is shown
            else:
                self._names.remove_rendering(parent, name)
                self._changed(changes, parent, name)
        # Rows go and hide before others come and show: a name is shown once at any time.
        for (name, content), row in rows.items():
            if (name, content) not in wanted:
                self._names.remove(parent, name, row.ino)
                self._renamed.add(content)
                if row.shown:
                    self._changed(changes, parent, name)
        for (name, content), shown in sorted(wanted.items(), key=lambda item: item[1]):
            before = rows.get((name, content))
            attributes = _attributes(self._copies.by_owner(content))
            if before is None or before.shown != shown:
                self._renamed.add(content)
            if before is None:
                self._names.add_file(parent, name, content, attributes, shown=shown)
            elif before.attributes != attributes:
                self._names.set_attributes(before.ino, attributes)
                changes.attributes |= self._names.places(before.ino)
            if before is not None and before.shown != shown:
                self._names.show(parent, name, before.ino, shown)
            if shown != (before is not None and before.shown):
                self._changed(changes, parent, name)

    def _changed(self, changes: TreeChanges, parent: int, name: str) -> None:
        changes.entries.add((parent, name))
        if parent not in changes.directories:
            changes.directories[parent] = self._names.parent(parent)
            self._names.touch_directory(parent, time.time_ns())
