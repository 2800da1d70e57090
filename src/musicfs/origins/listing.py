"""Lists folders of a mounted filesystem, one at a time. All of it blocks: for worker threads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from musicfs.model import Stat
from musicfs.origins.fileowners import Gates, Ownership
from musicfs.origins.ignored import is_skipped
from musicfs.origins.links import Below, LinkRefused, Links

Identity = tuple[int, int]
"""(st_dev, st_ino) of a folder."""


@dataclass(slots=True)
class FolderListing:
    """What one folder holds: its files, and the folders to list next (paths relative to the root).

    linked: folders that are symbolic links. left_out: links that must not be followed. vanished: the folder was gone
    when it was opened. times: of the folders, in nanoseconds, where the listing has them.
    """

    files: list[Stat] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    vanished: bool = False
    times: dict[str, int] = field(default_factory=dict)


class Lister:
    """One walk over a root: lists each folder once, however many links lead to it.

    A link to something that the walk finds under its own name is left out, so that the result does not depend
    on which comes first, nor on where the walk begins.
    """

    def __init__(self, root: str, links: Links = "all") -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self.below = Below(root, links)
        self.root_identity = identity_of(Path(root).stat())
        self._seen = {_key(self.root_identity)}
        self._ownership = Ownership()
        self._gates: dict[str, Gates] = {}  # of the folders that were found and not yet listed

    def list(self, under: str, files: bool = True) -> FolderListing:
        """Returns what `under` holds, sorted by name; without `files`, only folders and links that are left out.

        Raises OSError when it can't list everything.
        """
        found = FolderListing()
        prefix = f"{under}/" if under else ""
        gates = self._gates_of(under) if files else None
        try:
            with self._entries(under) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if files or entry.is_symlink() or entry.is_dir():
                        self._place(entry, prefix + entry.name, found, gates)
        except LinkRefused:
            found.vanished = True  # a link has taken its place since the folder above was listed
            found.left_out.append(under)
        except (FileNotFoundError, NotADirectoryError):
            found.vanished = True
        return found

    @contextmanager
    def _entries(self, under: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        if self.below.links == "all":
            with os.scandir(f"{self._root}/{under}") as entries:
                yield entries
        else:
            with self.below.folder(under) as fd, os.scandir(fd) as entries:
                yield entries

    def file(self, path: str, about: os.stat_result) -> Stat:
        """Returns the file that `path` leads to. about: what the system says about it."""
        return self._stat(path, about, None)

    def _stat(self, path: str, about: os.stat_result, gates: Gates | None) -> Stat:
        """gates: of the file's folder; None: the file is behind a link, or its folder was not listed."""
        full = f"{self._root}/{path}"
        if gates is None:
            full = os.path.realpath(full)
            gates = self._ownership.on_the_way(full.rpartition("/")[0] or "/")
        return Stat(path, about.st_size, about.st_mtime_ns, owner=self._ownership.owner(gates, full, about))

    def _gates_of(self, folder: str) -> Gates:
        gates = self._gates.pop(folder, None)
        return self._ownership.on_the_way(os.path.realpath(f"{self._root}/{folder}")) if gates is None else gates

    def _place(self, entry: os.DirEntry[str], path: str, found: FolderListing, gates: Gates | None) -> None:
        """gates: of the entry's folder; None: the caller wants no files and owners."""
        linked = entry.is_symlink()
        if linked:
            if self._met_otherwise(path):
                return
        elif entry.is_dir() and is_skipped(entry.name):
            return
        try:
            about = self.below.stat(path) if linked else entry.stat(follow_symlinks=False)
        except LinkRefused:
            found.left_out.append(path)
            return
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return  # gone meanwhile, or a link to nowhere
            raise
        if stat.S_ISREG(about.st_mode):
            if gates is not None:
                found.files.append(self._stat(path, about, None if linked else gates))
        elif (
            stat.S_ISDIR(about.st_mode)
            and not is_skipped(entry.name)
            and (key := _key(identity_of(about))) not in self._seen
        ):
            self._seen.add(key)
            (found.linked if linked else found.folders).append(path)
            if gates is not None and not linked:
                self._gates[path] = gates | {self._ownership.gate(f"{self._root}/{path}", about)}

    def _met_otherwise(self, link: str) -> bool:
        """Whether a link leads to the root or to what is listed below it."""
        target = os.path.realpath(f"{self._root}/{link}")
        if target == self._real_root:
            return True
        if not target.startswith(self._real_root + "/"):
            return False
        return not any(map(is_skipped, target[len(self._real_root) + 1 :].split("/")[:-1]))


def _key(identity: Identity) -> int:
    """Takes a third of a tuple's memory: a walk may find a hundred thousand folders."""
    return identity[0] << 64 | identity[1]


def identity_of(about: os.stat_result) -> Identity:
    return about.st_dev, about.st_ino
