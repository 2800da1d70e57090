"""The parts of a mount with their control API, without a mount."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicfs.app.app import begin, running
from musicfs.app.components import Components
from musicfs.app.live_config import ConfigSource
from musicfs.config.models import Config, OriginConfig
from musicfs.control.client import Answer, ControlClient
from musicfs.control.observations import Observations
from musicfs.control.server import ControlServer
from musicfs.control.unix_socket import ControlSocket
from musicfs.model import OriginType


@dataclass
class Running:
    parts: Components
    client: ControlClient
    folder: Path
    server: ControlServer
    stopped: list[float] = field(default_factory=list)

    async def get(self, target: str, /, **query: str) -> Answer:
        return await asyncio.to_thread(lambda: self.client.get(target, query))

    async def post(self, path: str, body: Answer | None = None) -> Answer:
        return await asyncio.to_thread(self.client.post, path, body)

    async def delete(self, path: str) -> Answer:
        return await asyncio.to_thread(self.client.delete, path)

    async def scanned(self, origin: str | None = None) -> None:
        """Scans everything, or one origin, through the API, and waits for the end."""
        started = await self.post("/scan", {} if origin is None else {"origin": origin})
        await self.completed({scan["origin"]: scan["completed"] for scan in started["scans"]})

    async def unreached(self) -> Answer:
        """What the status says is at no origin that answers, once that is counted."""
        while (found := (await self.get("/status"))["unreached"]) is None:
            pass  # each look waits a moment
        answer: Answer = found
        return answer

    async def completed(self, wanted: dict[str, int]) -> None:
        while any(scan["completed"] < wanted.get(scan["origin"], 0) for scan in (await self.get("/scan"))["scans"]):
            pass  # each look is a request, and lets the scans go on


def local_origin(id: str, path: Path, priority: int, enabled: bool = True) -> OriginConfig:
    return OriginConfig.model_validate({
        "id": id, "origin_type": OriginType.LOCAL, "priority": priority, "enabled": enabled, "path": path,
    })  # fmt: skip


def opened(endpoint: ControlSocket) -> socket.socket:
    listening = endpoint.open()
    assert listening is not None
    return listening


@asynccontextmanager
async def running_app(
    folder: Path, *origins: OriginConfig, source: ConfigSource | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """settings: sections of the configuration. source: where it may be read again."""
    config = Config(mount_point=folder / "m", cache_dir=folder / "cache", origins=origins, **settings)
    stopped: list[float] = []
    path = folder / "run" / "x.sock"
    async with running(config, source=source) as parts:
        observations = Observations(parts.bus, parts.registry)
        observations.start()
        server = ControlServer(parts, path, lambda secs: stopped.append(secs), observations)
        endpoint = ControlSocket(path)
        await server.start(opened(endpoint))
        begin(parts)
        try:
            yield Running(parts, ControlClient(path, folder / "m"), folder, server, stopped)
        finally:
            endpoint.remove()
            await server.aclose()
            observations.stop()
