"""What leaves for an SFTP server: requests of one turn together, and none after the end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from musicfs.origins.sftp.packets import gather


class Channel:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closing = False
        self.channel = self

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.sent.append(data)


def gathering(channel: Channel) -> Channel:
    """What a client writes to, whose requests are gathered."""
    handler = SimpleNamespace(_writer=channel)
    gather(cast(Any, SimpleNamespace(_handler=handler)))
    return cast(Channel, handler._writer)


async def test_requests_of_one_turn_leave_as_one_packet_and_in_order() -> None:
    channel = Channel()
    writer = gathering(channel)
    for request in (b"one", b"two", b"three"):
        writer.write(request)
    assert channel.sent == []
    await asyncio.sleep(0)
    writer.write(b"four")
    await asyncio.sleep(0)
    assert channel.sent == [b"onetwothree", b"four"]


async def test_nothing_is_written_to_a_channel_that_closes_meanwhile() -> None:
    channel = Channel()
    writer = gathering(channel)
    writer.write(b"one")
    channel.closing = True
    await asyncio.sleep(0)
    assert channel.sent == []
    assert writer.is_closing()  # all else is the writer's own
