"""The FUSE session, with a socket in the place of /dev/fuse: each message is a request or an answer."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.channel import Payload
from musicfs.mount.session.event_loop import FuseEventLoop
from musicfs.mount.session.session import Answer, FuseError, FuseSession, Operation, init_out

UNIQUE = 7


def framed(opcode: int, body: bytes = b"", unique: int = UNIQUE) -> bytes:
    return fuse.IN_HEADER.pack(fuse.BODY + len(body), opcode, unique, 1, 0, 0, os.getpid(), 0, 0) + body


class Kernel:
    """The other end of a session whose one operation, LOOKUP, answers what `answer` returns or raises."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket = ours
        self.socket.settimeout(10)
        self.answer: Answer | BaseException = b""
        lookup = Operation(self._lookup, lambda error: errno.EIO, lambda secs: None, least=8)
        self.session = FuseSession(its.detach(), {fuse.FUSE_LOOKUP: lookup})

    def _lookup(self, _: int, __: bytes) -> Answer:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def answered(self) -> tuple[int, int, bytes]:
        """The error, the number of the request and the payload."""
        data = self.socket.recv(1 << 20)
        size, error, unique = fuse.OUT_HEADER.unpack_from(data)
        assert size == len(data)
        return -error, unique, data[fuse.OUT_HEADER.size :]

    def take(self, request: bytes) -> tuple[int, int, bytes]:
        self.session.take(request)
        return self.answered()

    def close(self) -> None:
        self.session.close()
        self.socket.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()


def test_the_structures_are_as_large_as_in_the_kernel() -> None:
    sizes = {
        fuse.IN_HEADER: 40, fuse.OUT_HEADER: 16, fuse.INIT_OUT: 64, fuse.ENTRY_OUT: 128, fuse.ATTR_OUT: 104,
        fuse.DIRENT: 24, fuse.DIRENTPLUS: 152, fuse.OPEN_OUT: 16, fuse.STATFS_OUT: 80, fuse.GETXATTR_OUT: 8,
        fuse.NOTIFY_INVAL_INODE_OUT: 24, fuse.NOTIFY_INVAL_ENTRY_OUT: 16,
    }  # fmt: skip
    assert {struct.format: struct.size for struct in sizes} == {struct.format: size for struct, size in sizes.items()}


@pytest.mark.parametrize("minor", [31, 36, 39, 45])
def test_no_kernel_gets_a_flag_that_it_did_not_offer(minor: int) -> None:
    offered = fuse.InitFlags.FUSE_ASYNC_READ | fuse.InitFlags.FUSE_MAX_PAGES | fuse.InitFlags.FUSE_INIT_EXT
    answer = fuse.INIT_OUT.unpack(init_out(framed(fuse.FUSE_INIT, fuse.INIT_IN.pack(7, minor, 1 << 17, offered))))
    assert answer[:4] == (7, min(minor, 38), 1 << 17, offered & ~fuse.InitFlags.FUSE_INIT_EXT)


@pytest.mark.parametrize(("major", "minor"), [(6, 40), (7, 22), (8, 0)])
def test_a_kernel_of_another_protocol_is_refused(kernel: Kernel, major: int, minor: int) -> None:
    kernel.socket.send(framed(fuse.FUSE_INIT, fuse.INIT_IN.pack(major, minor, 0, 0)))
    with pytest.raises(OSError, match=f"FUSE {major}.{minor}"):
        kernel.session.negotiate()


def test_an_unknown_request_has_no_answer_but_that(kernel: Kernel) -> None:
    for opcode in (0, 37, 63, 64, 4096, 2**32 - 1):
        assert kernel.take(framed(opcode)) == (errno.ENOSYS, UNIQUE, b"")


def test_a_request_that_is_too_short_is_invalid(kernel: Kernel) -> None:
    assert kernel.take(framed(fuse.FUSE_LOOKUP, b"1234567")) == (errno.EINVAL, UNIQUE, b"")


@pytest.mark.parametrize(
    ("failure", "number"),
    [
        (FuseError(errno.EROFS), errno.EROFS),
        (KeyError(), errno.EIO),
        (SystemExit(), errno.EIO),
        (struct.error("the answer does not fit its structure"), errno.EIO),
    ],
)
def test_a_request_whose_handler_raises_is_answered(kernel: Kernel, failure: BaseException, number: int) -> None:
    kernel.answer = failure
    assert kernel.take(framed(fuse.FUSE_LOOKUP, bytes(8))) == (number, UNIQUE, b"")


async def failing() -> Payload:
    await asyncio.sleep(0)
    raise ValueError


async def waiting() -> Payload:
    await asyncio.sleep(60)
    return b""


async def fine() -> Payload:
    await asyncio.sleep(0)
    return b"fine"


def in_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=FuseEventLoop) as runner:
        runner.run(coroutine)


def test_a_request_that_waits_is_answered_whatever_comes_of_it(kernel: Kernel) -> None:
    async def run() -> None:
        for unique, answer in enumerate((fine(), failing()), 1):
            kernel.answer = answer
            kernel.session.take(framed(fuse.FUSE_LOOKUP, bytes(8), unique))
        kernel.session.stop()
        await kernel.session.serve()

    in_loop(run())
    assert sorted([kernel.answered(), kernel.answered()]) == [(0, 1, b"fine"), (errno.EIO, 2, b"")]


@pytest.mark.parametrize("pid", [None, 2**22 + 5])
def test_an_interrupt_ends_the_wait_of_a_caller_that_is_gone(kernel: Kernel, pid: int | None) -> None:
    """pid: none: the caller lives, and waits on."""

    async def run() -> None:
        kernel.answer = waiting()
        request = framed(fuse.FUSE_LOOKUP, bytes(8))
        if pid is not None:
            request = request[:32] + pid.to_bytes(4, "little") + request[36:]
        kernel.session.take(request)
        kernel.session.take(framed(fuse.FUSE_INTERRUPT, fuse.INTERRUPT_IN.pack(UNIQUE), UNIQUE + 1))
        await asyncio.sleep(0.05)

    kernel.socket.settimeout(0.0)
    if pid is None:

        async def unanswered() -> None:
            await run()
            with pytest.raises(BlockingIOError):
                kernel.answered()

        in_loop(unanswered())
    else:
        in_loop(run())
        assert kernel.answered() == (errno.EIO, UNIQUE, b"")


@given(st.integers(0, 70), st.binary(max_size=200))
def test_every_request_has_one_answer_at_most(opcode: int, body: bytes) -> None:
    kernel = Kernel()
    try:
        kernel.socket.settimeout(0.0)
        kernel.session.take(framed(opcode, body))
        if opcode in (fuse.FUSE_FORGET, fuse.FUSE_BATCH_FORGET, fuse.FUSE_INTERRUPT):
            with pytest.raises(BlockingIOError):
                kernel.answered()
        else:
            error, unique, _ = kernel.answered()
            assert unique == UNIQUE
            assert error in (0, errno.EINVAL, errno.ENOSYS)
        with pytest.raises(BlockingIOError):
            kernel.answered()
    finally:
        kernel.close()
