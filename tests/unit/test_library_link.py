"""Messages between two processes over a socket pair: neither side waits for the other."""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from musicfs.library.link import Link

LARGE = 8 << 20

PEER = """
    import asyncio, hashlib, sys
    from socket import socket
    from musicfs.library.link import Link

    async def main():
        ended = asyncio.Event()
        link = Link(socket(fileno=int(sys.argv[1])), lambda message: None, ended.set)
        received = []
        def receive(message):
            link.send((len(received), hashlib.sha256(message).digest()))
            received.append(message)
        link._receive = receive
        link.start()
        for number in range(4):
            link.send(bytes([number]) * int(sys.argv[2]))
        await ended.wait()

    asyncio.run(main())
"""


class End:
    """Our end of a pair, and what came. The other end is `theirs`."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.came: list[Any] = []
        self.ended = asyncio.Event()
        self.news = asyncio.Event()
        self.link = Link(ours, self.take, self.ended.set)
        self.link.start()

    def take(self, message: object) -> None:
        self.came.append(message)
        self.news.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not true():
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def end() -> AsyncIterator[End]:
    end = End()
    yield end
    end.link.close()
    end.theirs.close()


def peer(end: End, program: str, *words: object) -> subprocess.Popen[bytes]:
    """A process that has the other end, alone."""
    fd = end.theirs.fileno()
    command = [sys.executable, "-c", textwrap.dedent(program), str(fd), *map(str, words)]
    process = subprocess.Popen(command, pass_fds=[fd])
    end.theirs.close()
    return process


async def test_both_sides_send_more_than_the_socket_takes_at_once_and_all_of_it_arrives_in_order(end: End) -> None:
    process = peer(end, PEER, LARGE)
    try:
        for number in range(4):
            end.link.send(bytes([10 + number]) * LARGE)
        await end.until(lambda: len(end.came) == 8)
        assert [message for message in end.came if isinstance(message, bytes)] == [
            bytes([number]) * LARGE for number in range(4)
        ]
        assert [message[0] for message in end.came if isinstance(message, tuple)] == [0, 1, 2, 3]
        end.link.close()
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_process_that_is_killed_in_the_middle_of_a_message_has_ended(end: End) -> None:
    program = """
        import os, signal, struct, sys
        os.write(int(sys.argv[1]), struct.pack("!Q", 1000) + bytes(500))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = peer(end, program)
    async with asyncio.timeout(60):
        await end.ended.wait()
    assert end.came == []
    process.wait()


async def test_what_was_sent_before_the_end_still_comes(end: End) -> None:
    other = Link(end.theirs, lambda message: None, lambda: None)
    other.start()
    other.send("last words")
    other.close()
    async with asyncio.timeout(60):
        await end.ended.wait()
    assert end.came == ["last words"]


async def test_who_sends_much_may_wait_until_it_is_taken_or_the_other_end_is_gone(end: End) -> None:
    end.link.send(bytes(LARGE))
    waiting = asyncio.create_task(end.link.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    assert end.link.unsent > LARGE // 2
    other = Link(end.theirs, lambda message: None, lambda: None)
    other.start()
    async with asyncio.timeout(60):
        await waiting
    other.close()
    end.link.send(bytes(LARGE))
    async with asyncio.timeout(60):
        await end.link.drained()
        await end.ended.wait()


async def test_a_message_that_its_taker_fails_on_does_not_hold_up_the_next(
    end: End, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[object] = []

    def take(message: int) -> None:
        taken.append(1 // message)
        end.ended.set()

    end.link._receive = take
    end.theirs.send(b"".join(struct.pack("!Q", 5) + b"\x80\x04K" + bytes([n]) + b"." for n in (0, 1)))
    async with asyncio.timeout(60):
        await end.ended.wait()
    assert taken == [1]
    assert "could not be processed" in caplog.text
