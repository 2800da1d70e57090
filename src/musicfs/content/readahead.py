"""Reads ahead of whoever reads a remote file in sequence, so that after its beginning nobody waits for a network.

How far ahead follows from how far somebody has read: as much again, up to 8 MiB. So whoever stops early has not made
much traffic in vain, and whoever seeks begins anew. How much of that is under way at a time follows from how quickly it
comes: on a slow link many requests at once would only make each other late. Half of what is to be ahead is asked for at
once, so that requests grow with what was read. Near the end of a track the next one is begun.

Who jumps about in a file, as a listener does in search of a passage, is soon helped by having all of it in the cache on
disk: after eight jumps to what is not there the rest is fetched, from where they are. Who reads tags jumps less often.
Where reads cost money, it is fetched piece by piece, as far as it stays within a multiple of what was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from musicfs.content.open_content import OpenContent

MAX = 8 << 20
"""Bytes ahead of one reader."""
IN_ALL = 32 << 20
"""Bytes ahead of all readers together."""
NEXT_WITHIN = 1 << 20
"""With fewer bytes left than this, the next track is begun."""
MAX_GATHERED = 128 << 20
"""Bytes of a file that is fetched whole for whoever jumps about in it."""
JUMPS = 8
_GATHERING_LANES = 16
_NEXT_BLOCKS = 2
_AT_A_TIME = 2
"""A half of what is to be ahead, or of what may be under way, is asked for at once: a request's cost is paid once."""
_FIRST_LANES = 2
_MAX_LANES = 32
_QUICK_SECS = 0.5
_SLOW_SECS = 1.0
_MAX_RUNS = 1024
# The kernel's own read-ahead asks for 256 KiB at once, or more where somebody has raised it, in any order, and several
# requests of it may be under way.
_OUT_OF_ORDER = 2 << 20


class Blocks(Protocol):
    """Where blocks come from: the reader."""

    def begin(self, opened: OpenContent, index: int) -> asyncio.Task[bytes] | None:
        """Fetches the block for nobody yet; None when it is here or under way."""
        ...

    def drop(self, opened: OpenContent, index: int) -> None:
        """Ends the fetch if still nobody waits for it."""
        ...


class _SequentialRead:
    """One open file, read in sequence from `start` to `at` (bytes), after `jumps` to what was not here.

    Blocks below `target` are wanted, those below `asked` have been; `flying` are under way, at most `lanes` of them.
    missing: of a file that is fetched whole, a byte for each block, 1 if it is still to be asked for. read: the blocks
    that somebody has read; `gathered`: how many were asked for before anybody needed them. Missing ones are as long as
    there are fewer than `more` for each of those.
    """

    __slots__ = (
        "asked", "at", "flying", "gathered", "jumps", "lanes", "missing", "more", "next_begun", "opened", "read",
        "start", "target",
    )  # fmt: skip

    def __init__(self, opened: OpenContent, start: int) -> None:
        self.opened = opened
        self.lanes = _FIRST_LANES
        self.flying: set[int] = set()
        self.next_begun = False
        self.jumps = 0
        self.missing: bytearray | None = None
        self.read: set[int] = set()
        self.gathered = 0
        self.more = 0.0
        self.begin_at(start)

    def begin_at(self, start: int) -> None:
        self.start = self.at = start
        self.asked = self.target = 0

    def gather(self, blocks: int, more: float) -> None:
        self.missing = bytearray(b"\1") * blocks
        self.more = more
        self.lanes = _GATHERING_LANES

    def wanted(self) -> float:
        """How many blocks may be asked for now, were it not for those under way."""
        if self.missing is None:
            return self.target - self.asked
        return min(self.missing.count(1), self.more * len(self.read) - self.gathered)

    def give_up_the_rest(self) -> None:
        """From now on it is read in sequence again, until it was jumped about in as much as before."""
        self.missing = None
        self.jumps = 0

    def take_next(self, block_size: int) -> int | None:
        """The block to ask for next."""
        if self.missing is not None:
            if self.gathered >= self.more * len(self.read):
                return None
            index = self.missing.find(1, self.at // block_size)
            index = index if index >= 0 else self.missing.find(1)
            if index >= 0:
                self.missing[index] = 0
                self.gathered += 1
                return index
            if self.flying:  # which are wanted, wherever somebody jumps to
                return None
            self.give_up_the_rest()
        if self.asked >= self.target:
            return None
        self.asked += 1
        self.gathered += 1
        return self.asked - 1


class ReadAhead:
    """Follows the reads of remote files. All methods belong to the event loop's thread.

    gathering: how many blocks of a file that is jumped about in may be fetched for each that is read; 0: no more.
    """

    def __init__(
        self,
        blocks: Blocks,
        block_size: int,
        gathering: Callable[[OpenContent], float] = lambda opened: 0,
    ) -> None:
        self._blocks = blocks
        self._size = block_size
        self._gathering = gathering
        self._runs: dict[int, _SequentialRead] = {}

    @property
    def room(self) -> int:
        """Bytes of memory that what is ahead of all readers may take now."""
        return min(IN_ALL, MAX * sum(run.asked > 0 for run in self._runs.values()))

    def _room_for(self, run: _SequentialRead) -> int:
        """Bytes: its share, as far as the others have left it."""
        others = [each for each in self._runs.values() if each.asked and each is not run]
        taken = sum(max(0, each.asked * self._size - each.at) for each in others)
        return min(IN_ALL // (len(others) + 1), max(0, IN_ALL - taken))

    def note(self, opened: OpenContent, offset: int, end: int, *, here: bool) -> None:
        """Somebody reads these bytes. here: they don't have to be fetched."""
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
        """Nobody reads it any more."""
        run = self._runs.pop(id(opened), None)
        if run is not None:
            self._drop(run)

    def _follow(self, opened: OpenContent, start: int) -> _SequentialRead | None:
        if opened.routed is not None:  # a healthy disk of this machine, for which the kernel reads ahead
            return None
        if len(self._runs) >= _MAX_RUNS:
            self.close(next(iter(self._runs.values())).opened)
        run = self._runs[id(opened)] = _SequentialRead(opened, start)
        return run

    def _jump(self, run: _SequentialRead, offset: int) -> None:
        if run.missing is None:
            self._drop(run)
            size = run.opened.content.size
            if run.jumps >= JUMPS and size <= MAX_GATHERED and (more := self._gathering(run.opened)):
                run.gather(-(-size // self._size), more)
        run.begin_at(offset)
        if run.missing is not None:
            run.missing[offset // self._size] = 0  # who jumped there has it fetched
            self._pump(run)

    def _advance(self, run: _SequentialRead) -> None:
        size, block = run.opened.content.size, (run.at - 1) // self._size
        # The kernel reads past what somebody wants, so that a second block need not mean that there is more to come.
        if block >= run.start // self._size + 2:
            window = min(run.at - run.start, MAX, self._room_for(run))
            run.target = min(block + 1 + window // self._size, -(-size // self._size))
            if run.target > block + 1:
                run.asked = max(run.asked, block + 1)
                self._pump(run)
        if size - run.at < NEXT_WITHIN and run.at - run.start >= size // 2 and not run.next_begun:
            run.next_begun = True
            self._begin_next(run)

    def _pump(self, run: _SequentialRead) -> None:
        if not self._is_worth_asking(run):
            return
        while len(run.flying) < run.lanes and (index := run.take_next(self._size)) is not None:
            task = self._blocks.begin(run.opened, index)
            if task is not None:
                run.flying.add(index)
                task.add_done_callback(partial(self._came, run, index, task.get_loop().time()))

    def _is_worth_asking(self, run: _SequentialRead) -> bool:
        """Whether enough is wanted, and may be under way, for a request of the size that it ought to have by now."""
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
            run.lanes = min(run.lanes + 1, _MAX_LANES if run.missing is None else _GATHERING_LANES)
        if task.exception() is not None:
            run.target = run.asked  # no more before somebody has read further
            run.give_up_the_rest()
        self._pump(run)

    def _drop(self, run: _SequentialRead) -> None:
        for index in run.flying:
            self._blocks.drop(run.opened, index)
        run.flying.clear()
        run.asked = run.target = 0

    def _begin_next(self, run: _SequentialRead) -> None:
        following = run.opened.following()
        if following is not None:
            for index in range(min(_NEXT_BLOCKS, -(-following.content.size // self._size))):
                self._blocks.begin(following, index)
