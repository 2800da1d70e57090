"""An origin that fails on demand: the real driver behind a switch that another process can turn.

The switch is a file whose text names the fault; an empty or missing file means none. Real servers can't be made to
tell lies on demand, which is why this exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origin import DropsConnections, Origin, WatchCallback, WatchHandle

FAULTS = ("error", "hang", "slow", "short", "wrong", "vanish")
SLOW_SECS = 1.0


class FaultyOrigin:
    """Does what `origin` does, except for the fault that `switch` names at the moment. It has no `read_now`, so
    that every read comes by here."""

    def __init__(self, origin: Origin, switch: Path) -> None:
        self._origin = origin
        self._switch = switch

    @property
    def id(self) -> OriginId:
        return self._origin.id

    @property
    def kind(self) -> OriginType:
        return self._origin.kind

    def _fault(self) -> str:
        try:
            return self._switch.read_text().strip()
        except FileNotFoundError:
            return ""

    async def _misbehave(self, path: str) -> str:
        fault = self._fault()
        match fault:
            case "error":
                raise OriginFailed(self.id, OriginFault.IO, "injected")
            case "hang":
                await asyncio.Event().wait()
            case "block":
                self._block()
            case "slow":
                await asyncio.sleep(SLOW_SECS)
            case "vanish" if path:
                raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "injected")
        return fault

    def _block(self) -> None:
        """Holds the whole event loop up until a writer of the pipe beside the switch has come and gone."""
        with self._switch.with_suffix(".pipe").open("rb") as pipe:
            pipe.read()

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        fault = await self._misbehave(replica.path)
        data = await self._origin.read(replica, offset, size)
        if fault == "short":
            return data[: len(data) // 2]
        if fault == "wrong":
            return bytes(byte ^ 0xFF for byte in data[:16]) + data[16:]
        return data

    async def stat(self, path: str) -> Stat:
        await self._misbehave(path)
        return await self._origin.stat(path)

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        await self._misbehave("")
        async for stat in self._origin.scan(under):
            yield stat

    async def health(self) -> HealthStatus:
        await self._misbehave("")
        return await self._origin.health()

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        return await self._origin.watch(path, callback)

    def drop_connections(self) -> None:
        if isinstance(self._origin, DropsConnections):
            self._origin.drop_connections()

    async def aclose(self) -> None:
        await self._origin.aclose()
