"""Reads ahead for readers of remote files, so that after the beginning of a file no reader waits for a network.

A reader that has read some bytes in sequence gets as many bytes ahead, up to 8 MiB; or twice as many, up to 24 MiB,
where few long requests carry them. So a reader that stops early has caused little traffic in vain, and after a seek
reading ahead starts again. How many requests are under way follows from how fast they return: on a slow link, many
requests at once only delay each other. The next requests start once half of what may be ahead is missing, so requests
grow with what was read. Near the end of a track the next track starts.

A reader that jumps about in a file, as a listener who searches for a passage does, soon gets the whole file into the
cache on disk: after eight jumps to blocks that are not here, the rest is fetched, starting at the last jump. A program
that reads tags jumps less often. Where reads cost money, the rest is fetched piece by piece, within a multiple of what
the reader asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from musicfs.content.open_content import OpenContent

IN_ALL = 24 << 20
"""Bytes ahead of all readers together, at most."""
NEXT_WITHIN = 1 << 20
"""With fewer bytes left than this, the next track starts."""
MAX_GATHERED = 128 << 20
"""Bytes of the largest file that is fetched whole for a reader that jumps about in it."""
JUMPS = 8
"""Jumps to blocks that are not here, after which the whole file is fetched."""
_GATHERING_LANES = 16
"""Of a file that is fetched whole, at first."""
_NEXT_BLOCKS = 2
_AT_A_TIME = 2
"""Requests start when a half of what may be ahead, or under way, can be asked for at once."""
_QUICK_SECS = 0.5
_SLOW_SECS = 1.0
_MAX_RUNS = 1024
_OUT_OF_ORDER = 2 << 20
"""Bytes within which reads may be out of order: the kernel's own read-ahead has several requests under way, in any
order, of 256 KiB each, or more where the user has raised that."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one reader is read ahead of.

    ahead: bytes, at most. growth: bytes ahead for each byte that was read in sequence. lanes: blocks under way,
    at most; half of them for a file that is fetched whole. first_lanes: the same, at first.
    """

    ahead: int
    growth: int
    lanes: int
    first_lanes: int


BY_BLOCK = Reach(8 << 20, 1, 32, 2)
"""For origins whose requests are short."""
STREAMED = Reach(24 << 20, 2, 96, 4)
"""For origins that hand out the blocks of a long request as they arrive: three of them are under way at a time."""


class Blocks(Protocol):
    """Fetches blocks: the reader."""

    def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes] | None:
        """Starts the fetch of a block that no reader waits for; returns None when the block is here or under way."""
        ...

    def drop(self, opened: OpenContent, index: int) -> None:
        """Cancels the fetch unless a reader waits for it by now."""
        ...


class _SequentialRead:
    """One open file, read in sequence from `start` to `at` (bytes), after `jumps` to blocks that were not here.

    Blocks below `target` are wanted, and those below `asked` were asked for; those in `flying` are under way, at most
    `lanes` of them. missing: of a file that is fetched whole, a byte for each block, 1 if it must still be asked for.
    read: the blocks that were read. gathered: how many blocks were asked for before a reader needed them; at most
    `more` for each that was read.
    """

    __slots__ = (
        "asked", "at", "flying", "gathered", "jumps", "lanes", "missing", "more", "next_started", "opened", "reach",
        "read", "start", "target",
    )  # fmt: skip

    def __init__(self, opened: OpenContent, start: int, reach: Reach) -> None:
        self.opened = opened
        self.reach = reach
        self.lanes = reach.first_lanes
        self.flying: set[int] = set()
        self.next_started = False
        self.jumps = 0
        self.missing: bytearray | None = None
        self.read: set[int] = set()
        self.gathered = 0
        self.more = 0.0
        self.restart_at(start)

    def restart_at(self, start: int) -> None:
        self.start = self.at = start
        self.asked = self.target = 0

    @property
    def max_lanes(self) -> int:
        return self.reach.lanes if self.missing is None else self.reach.lanes // 2

    def gather(self, blocks: int, more: float) -> None:
        self.missing = bytearray(b"\1") * blocks
        self.more = more
        self.lanes = _GATHERING_LANES

    def wanted(self) -> float:
        """Returns how many blocks may be asked for, apart from the limit of those under way."""
        if self.missing is None:
            return self.target - self.asked
        return min(self.missing.count(1), self.more * len(self.read) - self.gathered)

    def give_up_the_rest(self) -> None:
        """Treats the file as read in sequence again, until the reader has jumped as often as before."""
        self.missing = None
        self.jumps = 0

    def take_next(self, block_size: int) -> int | None:
        """Returns the block to ask for next; None: there is none for now."""
        if self.missing is not None:
            if self.gathered >= self.more * len(self.read):
                return None
            index = self.missing.find(1, self.at // block_size)
            index = index if index >= 0 else self.missing.find(1)
            if index >= 0:
                self.missing[index] = 0
                self.gathered += 1
                return index
            if self.flying:  # they stay wanted, wherever the reader jumps to
                return None
            self.give_up_the_rest()
        if self.asked >= self.target:
            return None
        self.asked += 1
        self.gathered += 1
        return self.asked - 1


class ReadAhead:
    """Follows the reads of remote files. All methods belong to the event loop's thread.

    gathering: returns how many blocks of a file may be fetched for each block that is read, once the reader jumps about
    in it; 0: none. reach: returns how far a reader of a file is read ahead of.
    """

    def __init__(
        self,
        blocks: Blocks,
        block_size: int,
        gathering: Callable[[OpenContent], float] = lambda opened: 0,
        reach: Callable[[OpenContent], Reach] = lambda opened: BY_BLOCK,
    ) -> None:
        self._blocks = blocks
        self._size = block_size
        self._gathering = gathering
        self._reach = reach
        self._runs: dict[int, _SequentialRead] = {}

    @property
    def room(self) -> int:
        """Bytes of memory that blocks ahead of all readers may take now."""
        return min(IN_ALL, sum(run.reach.ahead for run in self._runs.values() if run.asked))

    def _room_for(self, run: _SequentialRead) -> int:
        """Returns the share of one reader in bytes, as far as the others have left it."""
        others = [each for each in self._runs.values() if each.asked and each is not run]
        taken = sum(max(0, each.asked * self._size - each.at) for each in others)
        return min(IN_ALL // (len(others) + 1), max(0, IN_ALL - taken))

    def record_read(self, opened: OpenContent, offset: int, end: int, *, here: bool) -> None:
        """Records a read, and starts what should be ahead of it.

        Args:
            opened: what is read; `opened.routed` is up to date.
            offset: the first byte.
            end: one past the last byte.
            here: the bytes need no fetch.
        """
        run = self._runs.get(id(opened))
        if run is None:
            run = self._follow(opened, offset)
            if run is None:
                return
        first, last = offset // self._size, (end - 1) // self._size
        is_new = last not in run.read or first not in run.read
        if is_new:
            run.read.update(range(first, last + 1))
        if not run.at - _OUT_OF_ORDER <= offset <= run.at + _OUT_OF_ORDER:
            run.jumps += not here
            self._jump(run, offset)
        elif is_new and run.missing is not None:
            self._pump(run)
        if end > run.at and run.missing is None:
            before, run.at = run.at, end
            if last > (before - 1) // self._size or end >= opened.content.size:
                self._advance(run)

    def close(self, opened: OpenContent) -> None:
        """Forgets a content that is closed, and drops what was read ahead for it."""
        run = self._runs.pop(id(opened), None)
        if run is not None:
            self._drop(run)

    def _follow(self, opened: OpenContent, start: int) -> _SequentialRead | None:
        if opened.routed is not None:  # a healthy disk of this machine, for which the kernel reads ahead
            return None
        if len(self._runs) >= _MAX_RUNS:
            self.close(next(iter(self._runs.values())).opened)
        run = self._runs[id(opened)] = _SequentialRead(opened, start, self._reach(opened))
        return run

    def _jump(self, run: _SequentialRead, offset: int) -> None:
        if run.missing is None:
            self._drop(run)
            size = run.opened.content.size
            if run.jumps >= JUMPS and size <= MAX_GATHERED and (more := self._gathering(run.opened)):
                run.gather(-(-size // self._size), more)
        run.restart_at(offset)
        if run.missing is not None:
            run.missing[offset // self._size] = 0  # the read that jumped there fetches it
            self._pump(run)

    def _advance(self, run: _SequentialRead) -> None:
        size, block = run.opened.content.size, (run.at - 1) // self._size
        # The kernel reads past what the reader wants, so a read of the second block need not mean that more follow.
        if block >= run.start // self._size + 2:
            window = min(run.reach.growth * (run.at - run.start), run.reach.ahead, self._room_for(run))
            run.target = min(block + 1 + window // self._size, -(-size // self._size))
            if run.target > block + 1:
                run.asked = max(run.asked, block + 1)
                self._pump(run)
        if size - run.at < NEXT_WITHIN and run.at - run.start >= size // 2 and not run.next_started:
            run.next_started = True
            self._start_next(run)

    def _pump(self, run: _SequentialRead) -> None:
        if not self._is_worth_asking(run):
            return
        while len(run.flying) < run.lanes and (index := run.take_next(self._size)) is not None:
            task = self._blocks.begin(run.opened, index)
            if task is not None:
                run.flying.add(index)
                task.add_done_callback(partial(self._came, run, index, task.get_loop().time()))

    def _is_worth_asking(self, run: _SequentialRead) -> bool:
        """Returns whether enough is wanted, and may be under way, for a request of the size that is due by now."""
        wanted = run.wanted()
        if run.missing is not None or run.target * self._size >= run.opened.content.size:
            worth = min(run.lanes // _AT_A_TIME, wanted)
        else:
            ahead = run.target - (run.at - 1) // self._size
            worth = min(run.lanes // _AT_A_TIME, ahead // _AT_A_TIME)
        return min(wanted, run.lanes - len(run.flying)) >= worth

    def _came(self, run: _SequentialRead, index: int, started: float, task: asyncio.Task[bytes]) -> None:
        run.flying.discard(index)
        if task.cancelled() or self._runs.get(id(run.opened)) is not run:
            return
        took = task.get_loop().time() - started
        if task.exception() is not None or took > _SLOW_SECS:
            run.lanes = max(1, run.lanes // 2)
        elif took < _QUICK_SECS:
            run.lanes = min(run.lanes + run.reach.growth, run.max_lanes)
        if task.exception() is not None:
            run.target = run.asked  # nothing before the reader has read further
            run.give_up_the_rest()
        self._pump(run)

    def _drop(self, run: _SequentialRead) -> None:
        for index in run.flying:
            self._blocks.drop(run.opened, index)
        run.flying.clear()
        run.asked = run.target = 0

    def _start_next(self, run: _SequentialRead) -> None:
        following = run.opened.following()
        if following is not None:
            for index in range(min(_NEXT_BLOCKS, -(-following.content.size // self._size))):
                self._blocks.begin(following, index)
