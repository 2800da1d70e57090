"""Makes the kernel forget what it has cached, from a thread that answers no requests: the kernel may wait for answers.

Forgetting a name waits for the lock of its folder, which a listing of the folder or a lookup in it holds until it is
answered and the kernel has taken over what the answer says. So no answer from before the change is taken over after it.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Collection, Iterable
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVarTuple

from musicfs.mount.session.channel import Channel

log = logging.getLogger(__name__)

_ENDING_SECS = 0.05
_NO_NAME = b"."
"""No entry has it. To forget it is only to wait for the folder's lock."""

_Which = TypeVarTuple("_Which")


class Stale(NamedTuple):
    """What changed, by inode number.

    Attributes:
        folders: Their listings and their attributes. Each with the folder that it is in.
        attributes: Files with other attributes. Each with every folder that it is in.
        names: Folders, and the names in them that came, went or lead to another inode.
    """

    folders: Collection[tuple[int, int]]
    attributes: Collection[tuple[int, int]]
    names: Collection[tuple[int, bytes]]


class Forgetter:
    """Passes on what the kernel must forget.

    Args:
        channel: The connection. It must not be closed before `end` has returned True.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._queue: queue.SimpleQueue[Stale | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="forgetter", daemon=True)
        self._ending = False

    def forget(self, stale: Stale) -> None:
        """Returns at once."""
        self._queue.put(stale)
        if not self._thread.is_alive() and not self._ending:
            self._thread.start()

    def _run(self) -> None:
        channel = self._channel
        while (stale := self._queue.get()) is not None:
            # The listings first: that is where a change is looked for.
            unknown = [pair for pair in stale.folders if not self._pass_on(channel.invalidate_data, pair[1])]
            unknown += [pair for pair in stale.attributes if not self._pass_on(channel.invalidate_attributes, pair[1])]
            for parent, name in stale.names:
                self._pass_on(channel.invalidate_entry, parent, name)
            self._forget_late(unknown)

    def _forget_late(self, unknown: Iterable[tuple[int, int]]) -> None:
        """Forgets inodes that the kernel did not know: answers on their way may have made them known meanwhile."""
        for parent, inodes in groupby(sorted(unknown), itemgetter(0)):
            self._pass_on(self._channel.invalidate_entry, parent, _NO_NAME)
            for _, ino in inodes:
                self._pass_on(self._channel.invalidate_data, ino)

    def _pass_on(self, invalidate: Callable[[*_Which], None], *which: *_Which) -> bool:
        """Whether the kernel knew it."""
        if self._ending:
            return True
        try:
            invalidate(*which)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            if not self._ending:  # once the connection has ended, the kernel hears of nothing
                log.debug("can't make the kernel forget %r: %s", which, error)
        return True

    def end(self) -> bool:
        """Ends the thread; whether it has ended. It may wait for the kernel, which waits for an answer of ours."""
        self._ending = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(_ENDING_SECS)
        return not self._thread.is_alive()
