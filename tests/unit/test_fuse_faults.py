"""What the kernel may answer to an answer, and whom an interrupt ends."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from musicfs.mount.session import callers
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.channel import Channel, Payload
from musicfs.mount.session.event_loop import FuseEventLoop
from musicfs.mount.session.session import FuseSession, Operation
from tests.support.fuse_kernel import SocketKernel, framed

UNIQUE = 2


async def _hung() -> Payload:
    await asyncio.sleep(60)
    return b""


class Opens:
    """The operation OPEN; counts what it opened and what was freed again."""

    def __init__(self) -> None:
        self.open = 0
        self.operation = Operation(
            self._answer, lambda error: errno.EIO, lambda secs: None, undelivered=self._undelivered
        )

    def _answer(self, _: int, __: bytes) -> Payload:
        self.open += 1
        return bytes(16)

    def _undelivered(self, _: Payload) -> None:
        self.open -= 1


@pytest.fixture
def opens() -> Opens:
    return Opens()


@pytest.fixture
def kernel(opens: Opens) -> Iterator[SocketKernel]:
    read = Operation(lambda _, __: _hung(), lambda error: errno.EIO, lambda secs: None)
    made = SocketKernel({fuse.FUSE_OPEN: opens.operation, fuse.FUSE_READ: read})
    yield made
    made.close()


def once(result: int | OSError, then: Callable[..., Any]) -> Callable[..., Any]:
    """A system call that returns or raises `result` the first time."""
    pending = [result]

    def call(*args: object) -> Any:
        if not pending:
            return then(*args)
        first = pending.pop()
        if isinstance(first, OSError):
            raise first
        return first

    return call


@pytest.mark.parametrize("first", [20, OSError(errno.ENOMEM, ""), OSError(errno.EINVAL, ""), OSError(errno.EAGAIN, "")])
def test_an_answer_that_the_kernel_did_not_take_is_an_error_and_freed(
    kernel: SocketKernel, opens: Opens, monkeypatch: pytest.MonkeyPatch, first: int | OSError
) -> None:
    """20: a short write."""
    monkeypatch.setattr(os, "writev", once(first, os.writev))
    kernel.session.take(framed(fuse.FUSE_OPEN))
    assert [(answer.errno, answer.unique) for answer in kernel.answers()] == [(errno.EIO, UNIQUE)]
    assert opens.open == 0
    kernel.session.take(framed(fuse.FUSE_OPEN))
    assert opens.open == 1


def test_an_answer_to_a_request_that_was_withdrawn_is_freed_in_silence(
    kernel: SocketKernel, opens: Opens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "writev", once(OSError(errno.ENOENT, ""), os.writev))
    kernel.session.take(framed(fuse.FUSE_OPEN))
    assert (kernel.answers(), opens.open, caplog.records) == ([], 0, [])


def test_an_error_that_can_not_be_told_ends_nothing(
    kernel: SocketKernel, opens: Opens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "writev", once(OSError(errno.ENOMEM, ""), os.writev))
    monkeypatch.setattr(os, "write", once(OSError(errno.ENOMEM, ""), os.write))
    kernel.session.take(framed(fuse.FUSE_OPEN))
    assert (kernel.answers(), opens.open) == ([], 0)
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    monkeypatch.setattr(os, "write", once(OSError(errno.EINVAL, ""), os.write))
    kernel.session.take(framed(99))
    assert [answer.errno for answer in kernel.answers()] == [errno.EIO]


def test_what_fails_while_a_failure_is_handled_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> NoReturn:
        raise ValueError

    operation = Operation(broken, broken, lambda secs: None, undelivered=broken)
    kernel = SocketKernel(
        {fuse.FUSE_OPEN: operation, fuse.FUSE_READ: Operation(lambda *_: b"", broken, lambda _: None, 0, broken)}
    )
    try:
        kernel.session.take(framed(fuse.FUSE_OPEN))
        assert [answer.errno for answer in kernel.answers()] == [errno.EIO]
        monkeypatch.setattr(os, "writev", once(OSError(errno.ENOENT, ""), os.writev))
        kernel.session.take(framed(fuse.FUSE_READ))
    finally:
        kernel.close()


def test_a_request_that_is_withdrawn_before_it_is_read_does_not_keep_the_session(kernel: SocketKernel) -> None:
    """poll(2) said that it is there; a read(2) that blocked would keep the whole daemon until the next request."""
    assert kernel.session.channel.receive() is None


def test_a_read_that_fails_is_tried_again(
    kernel: SocketKernel, opens: Opens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receive = once(OSError(errno.ENOMEM, "no memory"), kernel.session.channel.receive)
    monkeypatch.setattr(kernel.session.channel, "receive", receive)
    kernel.send(framed(fuse.FUSE_OPEN))

    async def serve() -> None:
        serving = asyncio.create_task(kernel.session.serve())
        async with asyncio.timeout(10):
            while not opens.open:
                await asyncio.sleep(0.01)
        kernel.session.stop()
        await serving

    with asyncio.Runner(loop_factory=FuseEventLoop) as runner:
        runner.run(serve())
    assert "no request can be read" in caplog.text


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ECONNABORTED])
def test_the_end_of_the_connection_ends_the_session(
    kernel: SocketKernel, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "read", once(OSError(number, ""), os.read))
    kernel.send(framed(fuse.FUSE_OPEN))
    with asyncio.Runner(loop_factory=FuseEventLoop) as runner:
        runner.run(asyncio.wait_for(kernel.session.serve(), 10))


def test_a_kernel_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musicfs.mount.session.session._NEGOTIATING_SECS", 0.01)
    reading, writing = os.pipe()
    session = FuseSession(reading, {})
    try:
        with pytest.raises(OSError, match="sends no request"):
            session.negotiate()
    finally:
        session.close()
        os.close(writing)


# Interrupts. The caller is a real process, stopped like one that waits in a system call: its signals stay pending.


@contextmanager
def stopped(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["env", "--default-signal", *command]) as process:
        try:
            if command[0] != "sh":  # which stops itself, once it is ready
                while Path(f"/proc/{process.pid}/comm").read_text().strip() != command[0]:
                    time.sleep(0.005)
                process.send_signal(signal.SIGSTOP)
            while _state(process.pid) != "T":
                time.sleep(0.005)
            yield process
        finally:
            process.kill()


@pytest.fixture
def caller() -> Iterator[subprocess.Popen[bytes]]:
    """SIGALRM and SIGHUP do not end it."""
    with stopped("sh", "-c", 'trap : ALRM; trap "" HUP; kill -STOP $$') as process:
        yield process


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGHUP, signal.SIGCHLD, signal.SIGWINCH, signal.SIGTSTP])
def test_a_signal_that_ends_no_program_ends_no_wait(caller: subprocess.Popen[bytes], number: int) -> None:
    caller.send_signal(number)
    assert not callers.is_ending(caller.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGKILL])
def test_a_signal_that_ends_the_program_ends_its_wait(number: int) -> None:
    with stopped("sleep", "60") as caller:
        assert not callers.is_ending(caller.pid)
        caller.send_signal(number)
        assert callers.is_ending(caller.pid)


def test_a_caller_that_is_gone_ends_and_one_that_can_not_be_seen_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    assert callers.is_ending(ended.pid)
    assert not callers.is_ending(0)  # of another PID namespace

    def hidden(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("pathlib.Path.read_text", hidden)
    assert not callers.is_ending(os.getpid())
    monkeypatch.setattr(os, "kill", once(PermissionError(), os.kill))
    assert not callers.is_ending(1)


def test_a_caller_that_was_only_interrupted_waits_on_and_its_end_is_noticed_later(
    kernel: SocketKernel, caller: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says once that a signal came, and again only if it is asked to: by EAGAIN to the interrupt."""
    monkeypatch.setattr("musicfs.mount.session.session._AGAIN_SECS", 0.01)
    interrupt = framed(fuse.FUSE_INTERRUPT, fuse.INTERRUPT_IN.pack(UNIQUE), unique=UNIQUE | 1)

    async def run() -> None:
        kernel.session.take(framed(fuse.FUSE_READ, pid=caller.pid))
        caller.send_signal(signal.SIGALRM)
        kernel.session.take(interrupt)
        assert (await kernel.next_answer())[:2] == (errno.EAGAIN, UNIQUE | 1)
        caller.kill()
        kernel.session.take(interrupt)
        assert (await kernel.next_answer())[:2] == (errno.EIO, UNIQUE)
        kernel.session.take(interrupt)
        await asyncio.sleep(0.05)
        assert kernel.answers() == []

    with asyncio.Runner(loop_factory=FuseEventLoop) as runner:
        runner.run(run())


def test_the_descriptor_of_a_channel_does_not_block() -> None:
    reading, writing = os.pipe()
    channel = Channel(reading)
    assert not os.get_blocking(reading)
    channel.close()
    os.close(writing)
