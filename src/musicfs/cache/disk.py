"""The cache on disk: one sparse file for each content, with its blocks at their places, and an index of them.

All methods block. Read-only methods may be called from any thread; the others from one thread only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from musicfs.cache.block_checksums import BLOCK_SIZE, matches, piece_checksums
from musicfs.cache.index import BlockIndex, BlockIndexView, Indexed, IndexTotals, index_database, last_block, on_disk
from musicfs.model import Content, Fingerprint
from musicfs.system.linux import punch_hole
from musicfs.system.ownership import make_private, open_private
from musicfs.system.sqlite import SqliteError, is_damage

log = logging.getLogger(__name__)

FOLDER = "blocks"
INDEX = "blocks.sqlite"
_PAGE = 256


class BlockFile:
    """A descriptor that stays open while any thread holds this object: one may read while others let go."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True)
class LoadedIndex:
    """What the index has of a content. blocks: (number, piece checksums). file: None if there is none."""

    file: BlockFile | None = None
    blocks: Sequence[tuple[int, bytes]] = ()


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A block to store: the bytes of the block `number` of the content."""

    content: Content
    number: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """What a call changed.

    stored: (content, number, piece checksums). files: of the contents that these belong to. removed: (content, number).
    ended: contents whose file is gone.
    """

    stored: list[tuple[Fingerprint, int, bytes]] = field(default_factory=list)
    files: dict[Fingerprint, BlockFile] = field(default_factory=dict)
    removed: list[tuple[Fingerprint, int]] = field(default_factory=list)
    ended: set[Fingerprint] = field(default_factory=set)


class BlockDisk:
    """The cache's files and its index.

    Methods that write raise OSError or `SqliteError` when the disk fails or is full; then they have changed nothing but
    what they removed to make room.

    folder: of the cache. limit: the most bytes that blocks may take on disk.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._base = folder
        self._folder = folder / FOLDER
        self._index: BlockIndex | None = None
        self._view: BlockIndexView | None = None
        self._in_order = False
        self._damaged = False

    def open(self) -> None:
        """Opens the cache, unless it is open. Where the index is damaged, the cache starts again, empty."""
        if self._index is not None:
            return
        try:
            self._open()
        except SqliteError as error:
            if not is_damage(error):
                raise
            log.warning("The cache's index can't be used (%s): the cache starts again, empty.", error)
            discard(self._base)
            self._open()

    def _open(self) -> None:
        make_private(self._folder)
        self._index = BlockIndex.open(self._base / INDEX)
        self._in_order = self._index.clean
        self._view = BlockIndexView.open(self._base / INDEX)

    def close(self) -> None:
        """Closes the cache, in order if all is in order."""
        view, self._view = self._view, None
        index, self._index = self._index, None
        if view is not None:
            view.close()
        if index is not None:
            index.leave(clean=self._in_order)

    def write(self, blocks: Iterable[NewBlock]) -> Changes:
        """Stores the blocks that there is room for, and evicts what was used longest ago."""
        new, changes = {(block.content.fingerprint, block.number): block for block in blocks}, Changes()
        with self._writing() as index:
            wanted = [block for key, block in new.items() if not index.has(*key)]
            self._make_room(index, sum(_size(block) for block in wanted), changes)
            self._store(index, self._fitting(index, wanted), changes)
        return changes

    def drop(self, fingerprint: Fingerprint, numbers: Iterable[int]) -> Changes:
        """Removes blocks that turned out to be wrong; those that are not there count as nothing."""
        changes = Changes()
        with self._writing() as index:
            content = index.find(fingerprint)
            if content is not None:
                self._remove(index, [(content, sorted(set(index.numbers(content.id)) & set(numbers)))], changes)
        return changes

    def clear(self, *, pinned: bool) -> Changes:
        """Removes all blocks; pinned: those of pinned contents too, which stay pinned."""
        changes, last = Changes(), 0
        with self._writing() as index:
            while page := index.after(last, _PAGE):
                last = page[-1].id
                going = [content for content in page if pinned or not content.pinned]
                self._remove(index, [(content, index.numbers(content.id)) for content in going], changes)
        return changes

    def touch(self, used: Mapping[Fingerprint, float]) -> None:
        """Records when contents were used last, in seconds since the epoch."""
        with self._writing() as index, index.transaction():
            index.touch(used)

    def pin(self, content: Content, *, pinned: bool) -> None:
        """Keeps the content's blocks from eviction, or no longer."""
        with self._writing() as index, index.transaction():
            if pinned:
                index.pin(content.fingerprint, content.size, time.time())
            else:
                index.unpin(content.fingerprint)

    def free_excess(self) -> Changes:
        """Frees what a killed process left in the files without an entry in the index, and what exceeds the limit."""
        changes = Changes()
        with self._writing() as index:
            self._make_room(index, 0, changes)
        return changes

    # From any thread:

    def load(self, fingerprint: Fingerprint) -> LoadedIndex:
        """Returns what the cache has of a content. Raises OSError or `SqliteError` when the disk fails."""
        content = self.find(fingerprint)
        if content is None or self._view is None:
            return LoadedIndex()
        blocks = self._view.blocks(content.id)
        try:
            file = BlockFile(open_private(self._path(fingerprint), os.O_RDONLY)) if blocks else None
        except FileNotFoundError:
            file = None
        return LoadedIndex(file, blocks)

    def damaged(self, fingerprint: Fingerprint, size: int) -> tuple[int, list[int]]:
        """Returns how many blocks of a content the cache has, and the numbers of those that are damaged."""
        loaded = self.load(fingerprint)
        bad = [number for number, sums in loaded.blocks if not _readable(loaded.file, size, number, sums)]
        return len(loaded.blocks), bad

    def after(self, content: int) -> list[Indexed]:
        """Returns some contents with an id above `content`, by id; none at the end."""
        return self._view.after(content, _PAGE) if self._view is not None else []

    def find(self, fingerprint: Fingerprint) -> Indexed | None:
        return self._view.find(fingerprint) if self._view is not None else None

    def missing(self, content: Content) -> list[int]:
        """Returns the numbers of the content's blocks that the cache does not have."""
        found = self.find(content.fingerprint)
        here = {number for number, _ in self._view.blocks(found.id)} if found is not None and self._view else set()
        return [number for number in range(-(-content.size // BLOCK_SIZE)) if number not in here]

    def counts(self, contents: Sequence[Content]) -> list[int]:
        """Returns how many blocks of each content the cache has."""
        found = (self.find(content.fingerprint) for content in contents)
        return [each.blocks if each is not None else 0 for each in found]

    def pinned(self) -> set[Fingerprint]:
        """Returns all contents that are pinned."""
        return self._view.pinned() if self._view is not None else set()

    def whole(self) -> set[Fingerprint]:
        """Returns all contents whose blocks are all in the cache."""
        return self._view.whole() if self._view is not None else set()

    def totals(self) -> IndexTotals:
        return self._view.totals() if self._view is not None else IndexTotals(0, 0, 0, 0, 0)

    # Internals:

    @contextmanager
    def _writing(self) -> Iterator[BlockIndex]:
        """Gives the index to write, after removing what a process that did not end in order left behind."""
        if self._damaged:
            self._start_again()
        self.open()
        index = self._index
        assert index is not None
        try:
            if not self._in_order:
                make_private(self._folder)
                self._sweep(index)
                self._in_order = True
            yield index
        except BaseException as error:
            self._in_order = False
            self._damaged = is_damage(error)
            raise

    def _start_again(self) -> None:
        with contextlib.suppress(SqliteError):
            self.close()
        discard(self._base)
        self._damaged = False

    def _path(self, fingerprint: Fingerprint) -> Path:
        return self._folder / fingerprint.hex()

    def _make_room(self, index: BlockIndex, wanted: int, changes: Changes) -> None:
        """Evicts for `wanted` bytes, as far as pins allow it, and for a hundredth of the limit, to evict less often."""
        excess = index.taken + wanted - self.limit
        if excess <= 0:
            return
        excess += self.limit // 100
        going: list[tuple[Indexed, list[int]]] = []
        with index.transaction():
            while excess > 0:
                # First and last blocks outlive those between, unless they would fill most of the cache.
                edges_first = index.edge > self.limit // 2
                found = index.oldest(edges=edges_first) or index.oldest(edges=not edges_first)
                if found is None:
                    break
                content, numbers = found
                taken = []
                while numbers and excess > 0:
                    taken.append(numbers.pop(0))
                    excess -= on_disk(content.size, taken[-1])
                going.append((content, taken))
                self._unlist(index, content, taken, changes)
        self._free(index, going, changes)

    def _remove(self, index: BlockIndex, going: Sequence[tuple[Indexed, list[int]]], changes: Changes) -> None:
        with index.transaction():
            for content, numbers in going:
                self._unlist(index, content, numbers, changes)
        self._free(index, going, changes)

    def _unlist(self, index: BlockIndex, content: Indexed, numbers: list[int], changes: Changes) -> None:
        changes.removed.extend((content.fingerprint, number) for number in numbers)
        if index.remove(content, numbers):
            changes.ended.add(content.fingerprint)

    def _free(self, index: BlockIndex, going: Iterable[tuple[Indexed, list[int]]], changes: Changes) -> None:
        """Frees the space of blocks that are no longer in the index."""
        for content, numbers in going:
            if content.fingerprint in changes.ended:
                self._path(content.fingerprint).unlink(missing_ok=True)
            elif numbers:
                self._punch(index, content, numbers, changes)

    def _punch(self, index: BlockIndex, content: Indexed, numbers: Iterable[int], changes: Changes) -> None:
        try:
            file = BlockFile(open_private(self._path(content.fingerprint), os.O_RDWR))
            for number in numbers:
                punch_hole(file.fd, number * BLOCK_SIZE, on_disk(content.size, number))
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            # Where files can have no holes, the whole file goes.
            self._remove(index, [(content, index.numbers(content.id))], changes)

    def _fitting(self, index: BlockIndex, blocks: Iterable[NewBlock]) -> list[NewBlock]:
        room, fitting = self.limit - index.taken, []
        for block in blocks:
            if _size(block) <= room:
                room -= _size(block)
                fitting.append(block)
        return fitting

    def _store(self, index: BlockIndex, fitting: Sequence[NewBlock], changes: Changes) -> None:
        for block in fitting:
            changes.files[block.content.fingerprint] = self._write(block)
        stored = [(block, piece_checksums(block.data)) for block in fitting]
        with index.transaction():
            for block, sums in stored:
                index.add(block.content.fingerprint, block.content.size, block.number, sums, time.time())
        changes.stored.extend((block.content.fingerprint, block.number, sums) for block, sums in stored)

    def _write(self, block: NewBlock) -> BlockFile:
        file = BlockFile(open_private(self._path(block.content.fingerprint), os.O_RDWR | os.O_CREAT))
        left, at = memoryview(block.data), block.number * BLOCK_SIZE
        while left:
            done = os.pwrite(file.fd, left, at)
            left, at = left[done:], at + done
        return file

    def _sweep(self, index: BlockIndex) -> None:
        """Removes what the index does not know, after a process that did not end in order."""
        for entry in os.scandir(self._folder):
            content = index.find(_fingerprint(entry.name))
            if content is None or not content.blocks:
                Path(entry.path).unlink()
            elif entry.stat(follow_symlinks=False).st_blocks * 512 != content.taken:
                known = set(index.numbers(content.id))
                numbers = (number for number in range(last_block(content.size) + 1) if number not in known)
                self._punch(index, content, numbers, Changes())


def _size(block: NewBlock) -> int:
    return on_disk(block.content.size, block.number)


def _fingerprint(name: str) -> Fingerprint:
    """Returns the fingerprint that a file's name stands for; that of no content for any other name."""
    try:
        return Fingerprint(bytes.fromhex(name))
    except ValueError:
        return Fingerprint(b"")


def read_block(file: BlockFile, size: int, number: int, sums: bytes) -> bytes | None:
    """Returns a block; None when it does not have the recorded checksums. Blocks; raises OSError.

    Args:
        file: of the content.
        size: of the content, in bytes.
        number: of the block.
        sums: its piece checksums.
    """
    start = number * BLOCK_SIZE
    data = os.pread(file.fd, min(BLOCK_SIZE, size - start), start)
    whole = len(data) == min(BLOCK_SIZE, size - start)
    return data if whole and matches(memoryview(data), sums, 0) else None


def _readable(file: BlockFile | None, size: int, number: int, sums: bytes) -> bool:
    try:
        return file is not None and read_block(file, size, number, sums) is not None
    except OSError:
        return False


def discard(folder: Path) -> None:
    """Removes the block cache, as far as that is possible."""
    index_database(folder / INDEX).remove()
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
