"""The session: negotiates with the kernel, takes its requests one by one, and answers every one of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import struct
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from musicfs.mount.session import callers
from musicfs.mount.session.channel import Channel, ConnectionEnded, Payload
from musicfs.mount.session.event_loop import FuseEventLoop
from musicfs.mount.session.protocol import (
    BODY,
    FUSE_BATCH_FORGET,
    FUSE_DESTROY,
    FUSE_FORGET,
    FUSE_INIT,
    FUSE_INTERRUPT,
    FUSE_KERNEL_MINOR_VERSION,
    FUSE_KERNEL_VERSION,
    FUSE_OPENDIR,
    IN_HEADER,
    IN_HEADER_START,
    INIT_IN,
    INIT_IN_FLAGS2,
    INIT_OUT,
    INTERRUPT_IN,
    OLDEST_MINOR_VERSION,
    InitFlags,
)

log = logging.getLogger(__name__)

Answer = Payload | Coroutine[Any, Any, Payload]
"""What follows the header of the answer, or a coroutine that returns it after a wait."""

_WANTED = (
    InitFlags.FUSE_ASYNC_READ
    | InitFlags.FUSE_ATOMIC_O_TRUNC
    | InitFlags.FUSE_EXPORT_SUPPORT
    | InitFlags.FUSE_AUTO_INVAL_DATA
    | InitFlags.FUSE_DO_READDIRPLUS
    | InitFlags.FUSE_ASYNC_DIO
    | InitFlags.FUSE_PARALLEL_DIROPS
    | InitFlags.FUSE_ABORT_ERROR
    | InitFlags.FUSE_MAX_PAGES
    | InitFlags.FUSE_NO_OPENDIR_SUPPORT
)
_MAX_WRITE = 4096  # the least that the kernel knows; nothing is written here
_MAX_PAGES = 256
MAX_ANSWER = _MAX_PAGES * os.sysconf("SC_PAGE_SIZE")
"""Bytes that a request may ask for."""
MAX_OFFSET = 2**63 - 1
_NANOSECOND = 1
_MAX_STACK_DEPTH = 1
"""The files that the kernel reads itself lie on filesystems that are stacked on no other."""
_NO_REPLY = frozenset((FUSE_FORGET, FUSE_BATCH_FORGET))
_NEGOTIATING_SECS = 10.0
_ENDING_SECS = 10.0
_MAX_INO = 2**63 - 1
_AGAIN_SECS = 0.25
"""How long until the kernel is to say again that a caller wants to end its wait: it says so only for the first signal,
which may be one that does not end the caller."""


class FuseError(Exception):
    """An answer that says no, as the filesystem is made; no failure.

    Attributes:
        errno: What the caller of the system call gets.
    """

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.errno = number


@dataclass(frozen=True, slots=True)
class Operation:
    """How requests of one opcode are answered.

    Attributes:
        answer: Takes the inode number and the whole request, whose structure begins at `BODY`.
        failed: Takes what `answer` raised, unless it was a `FuseError`; returns the errno.
        took: Takes how long an answer took, in seconds.
        least: The size of the structure that follows the header, in bytes; a shorter request gets EINVAL.
        undelivered: Takes an answer that did not arrive, and frees what it stands for.
    """

    answer: Callable[[int, bytes], Answer]
    failed: Callable[[BaseException], int]
    took: Callable[[float], None]
    least: int = 0
    undelivered: Callable[[Payload], None] | None = None


class FuseSession:
    """Answers the requests of one connection until it is unmounted, or `stop` is called.

    Args:
        fd: The open /dev/fuse, which `close` closes.
        operations: By opcode; requests of every other opcode get ENOSYS.
        passthrough: Whether files may be opened that the kernel reads itself.

    Attributes:
        passes_through: Whether the kernel has agreed to that.
    """

    def __init__(self, fd: int, operations: Mapping[int, Operation], *, passthrough: bool = False) -> None:
        self.channel = Channel(fd)
        self._passthrough = passthrough
        self.passes_through = False
        self._operations = dict(operations)
        self._waiting: dict[int, tuple[asyncio.Task[Payload], int]] = {}
        self._ended: asyncio.Future[None] | None = None
        self._ending = False

    def negotiate(self) -> None:
        """Answers FUSE_INIT, which the kernel sends first, and before it answers who asked for the mount.

        Raises:
            OSError: The connection ended, or the kernel speaks another protocol.
        """
        try:
            while (request := self.channel.receive()) is None:
                if not self.channel.is_ready(_NEGOTIATING_SECS):
                    raise OSError(errno.ETIMEDOUT, "the kernel sends no request")
            _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
            if opcode != FUSE_INIT:
                raise OSError(errno.EPROTO, f"the kernel begins with request {opcode}")
            answer = init_out(request, passthrough=self._passthrough)
            self.channel.reply(unique, answer)
        except (ConnectionEnded, struct.error) as error:
            raise OSError(errno.EPROTO, "the kernel ended the connection") from error
        flags = agreed(answer)
        self.passes_through = InitFlags.FUSE_PASSTHROUGH in flags
        if InitFlags.FUSE_NO_OPENDIR_SUPPORT in flags:
            # It gets ENOSYS, and the kernel asks for no folder to be opened again. It caches all listings from then on.
            self._operations.pop(FUSE_OPENDIR, None)

    async def serve(self) -> None:
        """Answers requests. Returns once the requests under way are answered, if they are within ten seconds."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, FuseEventLoop)
        self._ended = loop.create_future()
        if not self._ending:
            loop.requests.add(self)
            try:
                await self._ended
            finally:
                loop.requests.remove(self)
        await self._finish()

    async def _finish(self) -> None:
        tasks = {task for task, _ in self._waiting.values()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_ENDING_SECS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @property
    def waits(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._waiting)

    def stop(self) -> None:
        """Makes `serve` return."""
        self._ending = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def refuse_pending(self) -> None:
        """Answers the requests that are there by ESHUTDOWN, after `serve` has returned."""
        with contextlib.suppress(ConnectionEnded):
            while self.channel.is_ready():
                request = self.channel.receive()
                if request is not None:
                    _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
                    if opcode not in _NO_REPLY and opcode != FUSE_INTERRUPT:
                        self._say_no(unique, errno.ESHUTDOWN)

    def close(self) -> None:
        """Ends the connection."""
        self.channel.close()

    # requests

    def take(self, request: bytes) -> None:
        """Answers a request, or begins to.

        Raises:
            ConnectionEnded: No one waits for answers any more.
        """
        started = time.perf_counter()
        if len(request) < BODY:
            log.warning("the kernel sent %d bytes, which are no request", len(request))
            return
        size, opcode, unique, nodeid, pid = IN_HEADER_START.unpack_from(request)
        operation = self._operations.get(opcode)
        if operation is None:
            self._take_other(opcode, unique, request)
            return
        if size != len(request) or size < BODY + operation.least or nodeid > _MAX_INO:
            self._say_no(unique, errno.EINVAL)
            return
        try:
            answer = operation.answer(nodeid, request)
        except BaseException as error:
            self._refuse(unique, operation, error)
        else:
            if not isinstance(answer, (bytes, memoryview)):
                task = asyncio.create_task(answer)
                self._waiting[unique] = task, pid
                # Whatever ends the task, even before it begins: this is called.
                task.add_done_callback(partial(self._answer_later, operation, unique, started))
                return
            self._reply(unique, operation, answer)
        operation.took(time.perf_counter() - started)

    def _answer_later(self, operation: Operation, unique: int, started: float, task: asyncio.Task[Payload]) -> None:
        del self._waiting[unique]
        # Its caller is the event loop, which can do nothing about the end of the connection; `receive` says it again.
        with contextlib.suppress(ConnectionEnded):
            try:
                payload = task.result()
            except BaseException as error:
                self._refuse(unique, operation, error)
            else:
                self._reply(unique, operation, payload)
        operation.took(time.perf_counter() - started)

    def _take_other(self, opcode: int, unique: int, request: bytes) -> None:
        if opcode in _NO_REPLY:
            return
        if opcode == FUSE_INTERRUPT:
            self._interrupt(unique, request)
        else:
            self._say_no(unique, 0 if opcode == FUSE_DESTROY else errno.ENOSYS)

    def _interrupt(self, unique: int, request: bytes) -> None:
        """Ends a wait whose caller is about to end; it gets no answer to any other signal before its answer.

        Programs do not expect EINTR from a regular file, and some send themselves signals all the time.
        """
        try:
            (interrupted,) = INTERRUPT_IN.unpack_from(request, BODY)
        except struct.error:
            return
        waiting = self._waiting.get(interrupted)
        if waiting is None:
            return
        if callers.is_ending(waiting[1]):
            waiting[0].cancel()
        else:
            asyncio.get_running_loop().call_later(_AGAIN_SECS, self._ask_again, unique, interrupted)

    def _ask_again(self, unique: int, interrupted: int) -> None:
        """Makes the kernel send an interrupt again."""
        if interrupted in self._waiting:
            with contextlib.suppress(ConnectionEnded):
                self._say_no(unique, errno.EAGAIN)

    def _reply(self, unique: int, operation: Operation, payload: Payload) -> None:
        try:
            delivered = self.channel.reply(unique, payload)
        except OSError as error:
            log.warning("the kernel does not take an answer of %d bytes: %s", len(payload), error)
            delivered = False
            self._say_no(unique, errno.EIO)
        if not delivered and operation.undelivered is not None:
            try:
                operation.undelivered(payload)
            except Exception:
                log.exception("what an answer that did not arrive stands for can't be freed")

    def _refuse(self, unique: int, operation: Operation, error: BaseException) -> None:
        if isinstance(error, FuseError):
            number = error.errno
        else:
            try:
                number = operation.failed(error)
            except Exception:
                log.exception("a failure can't be told")
                number = errno.EIO
        self._say_no(unique, number)

    def _say_no(self, unique: int, number: int) -> None:
        """Answers with an error, or with none if it is 0.

        Raises:
            ConnectionEnded: No one waits for answers any more.
        """
        try:
            self.channel.refuse(unique, number)
        except OSError as error:
            log.warning("the kernel does not take the error %d: %s", number, error)
            if number != errno.EIO:  # or it is a number that is none
                self._say_no(unique, errno.EIO)


def init_out(request: bytes, *, passthrough: bool = False) -> bytes:
    """Returns the answer to FUSE_INIT. passthrough: whether to agree to FUSE_PASSTHROUGH, if the kernel offers it.

    Raises:
        OSError: EPROTO: The kernel speaks another protocol, or too old a one.
        struct.error: The request is too short.
    """
    major, minor, max_readahead, low = INIT_IN.unpack_from(request, BODY)
    if major != FUSE_KERNEL_VERSION or minor < OLDEST_MINOR_VERSION:
        raise OSError(errno.EPROTO, f"the kernel speaks FUSE {major}.{minor}, which MusicFS doesn't")
    flags, depth = low & _WANTED, 0
    if passthrough and low & InitFlags.FUSE_INIT_EXT:
        (high,) = INIT_IN_FLAGS2.unpack_from(request, BODY + INIT_IN.size)
        if high << 32 & InitFlags.FUSE_PASSTHROUGH:
            flags |= InitFlags.FUSE_INIT_EXT | InitFlags.FUSE_PASSTHROUGH
            depth = _MAX_STACK_DEPTH
    return INIT_OUT.pack(
        FUSE_KERNEL_VERSION, min(minor, FUSE_KERNEL_MINOR_VERSION), max_readahead, flags & 0xFFFFFFFF,
        0, 0, _MAX_WRITE, _NANOSECOND, _MAX_PAGES, 0, flags >> 32, depth,
    )  # fmt: skip


def agreed(answer: bytes) -> InitFlags:
    """The flags in an answer to FUSE_INIT."""
    fields = INIT_OUT.unpack(answer)
    return InitFlags(fields[3] | fields[10] << 32)
