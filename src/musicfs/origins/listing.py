"""Lists folders of a mounted filesystem, one at a time. All of it blocks: for worker threads."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from pathlib import Path

from musicfs.errors import OriginFault
from musicfs.model import Stat
from musicfs.origins.bounds import MAX_NAMES
from musicfs.origins.fileowners import Gates, Ownership
from musicfs.origins.ignored import is_skipped
from musicfs.origins.links import Below, LinkRefused, Links
from musicfs.problems import Problem, Reason

Identity = tuple[int, int]
"""(st_dev, st_ino) of a folder."""

DENIED = (errno.EACCES, errno.EPERM)
BROKEN = (errno.EIO, errno.ENODATA, errno.EUCLEAN)
_AT_ONCE = 1000  # entries between two signs of life
_name_of = attrgetter("name")


@dataclass(slots=True)
class FolderListing:
    """What one folder holds: its files, and the folders to list next (paths relative to the root).

    linked: folders that are symbolic links. problems: what is left out, or the folder itself. vanished: the folder was
    gone when it was opened. times: of the folders, in nanoseconds, where the listing has them. elsewhere: st_dev of
    those folders that are not on the root's filesystem.
    """

    files: list[Stat] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    vanished: bool = False
    times: dict[str, int] = field(default_factory=dict)
    elsewhere: dict[str, int] = field(default_factory=dict)


class Lister:
    """One walk over a root: lists each folder once, however many links lead to it, and nothing of this mount itself.

    A link to something that the walk finds under its own name is left out, so that the result does not depend
    on which comes first, nor on where the walk begins.

    Attributes:
        folder, entry: What is listed now, so that another thread sees where a call hangs; `entry` is empty while the
            folder itself is read.
        steps: Grows with each entry.
    """

    def __init__(self, root: str, links: Links = "all", marker: str = "") -> None:
        self._root = root
        self._marker = marker
        self._own: dict[int, bool] = {}
        """By st_dev: whether it is this mount itself."""
        self._real_root = os.path.realpath(root)
        self.below = Below(root, links)
        self.root_identity = identity_of(Path(root).stat())
        self.folder = self.entry = ""
        self.steps = 0
        self._seen = {_key(self.root_identity)}
        self._found: set[int] = set()
        """What the present listing adds to `_seen`."""
        self._left: frozenset[str] = frozenset()
        self._ownership = Ownership()
        self._gates: dict[str, Gates] = {}  # of the folders that were found and not yet listed

    def without(self, left: frozenset[str]) -> Lister:
        """Returns a lister that knows what this one knew before its present listing, and leaves out these entries.

        A thread that hangs in this lister may go on in it without harm to the other.
        """
        other = copy(self)
        other._seen, other._found, other._gates = set(self._seen), set(), dict(self._gates)
        other._ownership, other._left = Ownership(), left
        return other

    def list(self, under: str, files: bool = True) -> FolderListing:
        """Returns what `under` holds, sorted by name; without `files`, only folders and links that are left out.

        Raises OSError when it can't list the folder. An entry that can't be looked at is among the problems.
        """
        found = FolderListing()
        self.folder, self.entry, self._found = under, "", set()
        prefix = f"{under}/" if under else ""
        gates = self._gates_of(under) if files else None
        shown = not (under and any(map(is_skipped, under.split("/"))))
        try:
            with self._entries(under) as entries:
                for entry in _sorted(entries, under, found, self):
                    self.steps += 1
                    self.entry = path = prefix + entry.name
                    if path not in self._left:
                        self._try_place(entry, path, found, gates, shown)
        except LinkRefused:
            found.vanished = True  # a link has taken its place since the folder above was listed
            found.problems.append(Problem(under, Reason.LINK_OUTSIDE))
        except (FileNotFoundError, NotADirectoryError):
            found.vanished = True
        self._seen |= self._found
        self._gates.pop(under, None)
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
        gates = self._gates.get(folder)
        return self._ownership.on_the_way(os.path.realpath(f"{self._root}/{folder}")) if gates is None else gates

    def _try_place(
        self, entry: os.DirEntry[str], path: str, found: FolderListing, gates: Gates | None, shown: bool
    ) -> None:
        try:
            self._place(entry, path, found, gates, shown)
        except LinkRefused:
            found.problems.append(Problem(path, Reason.LINK_OUTSIDE))
        except OSError as error:
            if (reason := _reason_of(entry, error)) is not None:
                found.problems.append(Problem(path, reason, error.strerror or ""))

    def _place(
        self, entry: os.DirEntry[str], path: str, found: FolderListing, gates: Gates | None, shown: bool
    ) -> None:
        """gates: of the entry's folder; None: the caller wants no files and owners. shown: the folder is not hidden."""
        linked = entry.is_symlink()
        if gates is None and not linked and not entry.is_dir():
            return
        if linked and self._met_otherwise(path):
            os.stat(f"{self._root}/{path}")  # noqa: PTH116  # whether it leads anywhere
            return
        about = self.below.stat(path) if linked else entry.stat(follow_symlinks=False)
        if self.is_own(path, about):
            found.problems.append(Problem(path, Reason.OWN_MOUNT))
        elif stat.S_ISREG(about.st_mode):
            if gates is not None:
                found.files.append(self._stat(path, about, None if linked else gates))
        elif stat.S_ISDIR(about.st_mode):
            self._place_folder(path, about, found, gates, linked=linked, shown=shown and not is_skipped(entry.name))

    def is_own(self, path: str, about: os.stat_result) -> bool:
        """Whether a path leads to this mount itself. about: what the system says about what is there."""
        if about.st_dev == self.root_identity[0] or not self._marker:
            return False
        own = self._own.get(about.st_dev)
        if own is None:
            full = os.path.realpath(f"{self._root}/{path}")
            folder = full if stat.S_ISDIR(about.st_mode) else full.rpartition("/")[0]
            own = self._own[about.st_dev] = os.path.lexists(f"{folder}/{self._marker}")
        return own

    def _place_folder(
        self, path: str, about: os.stat_result, found: FolderListing, gates: Gates | None, *, linked: bool, shown: bool
    ) -> None:
        key = _key(identity_of(about))
        if key in self._seen or key in self._found:
            return
        if shown:  # what is hidden may still be found under another name
            self._found.add(key)
        (found.linked if linked else found.folders).append(path)
        if about.st_dev != self.root_identity[0]:
            found.elsewhere[path] = about.st_dev
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


def _sorted(
    entries: Iterator[os.DirEntry[str]], folder: str, found: FolderListing, walk: Lister
) -> list[os.DirEntry[str]]:
    """Reads a folder's entries, and keeps those that were read when the rest can't be."""
    some: list[os.DirEntry[str]] = []
    try:
        while more := list(islice(entries, _AT_ONCE)):
            some += more
            walk.steps += 1
            if len(some) > MAX_NAMES:
                found.problems.append(Problem(folder, Reason.BIG_FOLDER, f"it has more than {MAX_NAMES} entries"))
                break
    except OSError as error:
        if not some:
            raise
        found.problems.append(folder_problem(folder, error))
    some.sort(key=_name_of)
    return some


def folder_problem(folder: str, error: OSError) -> Problem:
    """Returns why a folder can't be listed."""
    reason = Reason.BROKEN_FOLDER
    if error.errno in DENIED:
        reason = Reason.CLOSED_FOLDER
    elif error.errno == errno.ENAMETOOLONG:
        reason = Reason.DEEP_FOLDER
    return Problem(folder, reason, error.strerror or "")


def fault_of(error: OSError) -> OriginFault:
    """Returns what the error means if it is the whole origin's."""
    if error.errno in DENIED:
        return OriginFault.DENIED
    if error.errno == errno.ETIMEDOUT:
        return OriginFault.TIMEOUT
    return OriginFault.IO if error.errno in BROKEN else OriginFault.UNREACHABLE


def _reason_of(entry: os.DirEntry[str], error: OSError) -> Reason | None:
    """Returns why an entry can't be looked at; None: it is gone meanwhile."""
    if error.errno in DENIED:
        return Reason.DENIED
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return Reason.LINK_BROKEN if entry.is_symlink() else None
    return Reason.DEEP_FOLDER if error.errno == errno.ENAMETOOLONG else Reason.READ_ERROR
