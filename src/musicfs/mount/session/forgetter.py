"""Makes the kernel forget what it has cached, from a thread that answers no requests: the kernel may wait for answers.

Forgetting a name waits for the lock of its folder, which a listing of the folder or a lookup in it holds until it is
answered and its answer is cached. So nothing that was answered before the change stays cached after it.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVarTuple

from musicfs.mount.session.channel import Channel

log = logging.getLogger(__name__)

_ENDING_SECS = 0.05
_Which = TypeVarTuple("_Which")


class Stale(NamedTuple):
    """What changed, by inode number.

    Attributes:
        folders: Their listings and their attributes.
        attributes: Files with other attributes.
        names: Parents, and the names in them that came, went or lead to another inode.
    """

    folders: Collection[int]
    attributes: Collection[int]
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
        while (stale := self._queue.get()) is not None:
            # The listings first: that is where a change is looked for.
            for folder in stale.folders:
                self._pass_on(self._channel.invalidate_data, folder)
            for ino in stale.attributes:
                self._pass_on(self._channel.invalidate_attributes, ino)
            for parent, name in stale.names:
                self._pass_on(self._channel.invalidate_entry, parent, name)

    def _pass_on(self, invalidate: Callable[[*_Which], None], *which: *_Which) -> None:
        if self._ending:
            return
        try:
            invalidate(*which)
        except OSError as error:
            # Most things the kernel has never heard of; and once the connection has ended it hears of none.
            if error.errno != errno.ENOENT and not self._ending:
                log.debug("can't make the kernel forget %r: %s", which, error)

    def end(self) -> bool:
        """Ends the thread; whether it has ended. It may wait for the kernel, which waits for an answer of ours."""
        self._ending = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(_ENDING_SECS)
        return not self._thread.is_alive()
