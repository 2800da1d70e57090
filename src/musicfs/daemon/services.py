"""What the tree can be read without: the control API, webhooks, and the work that they report."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path

from musicfs.app.app import begin
from musicfs.app.components import Components
from musicfs.control.observations import Observations
from musicfs.mount import mount_points

log = logging.getLogger(__name__)

_ALLOCATIONS = 700
_ALLOCATIONS_LOADING = 100_000
_LOADING_SWITCH_SECS = 0.0002


class Services:
    """Starts the services of one mount. Belongs to the event loop's thread.

    The control server takes 17 MB and a quarter of a second to load. So it is loaded when a client connects; until then
    nothing but its socket is there, and what it reports of that time is observed.

    Args:
        parts: The mount.
        path: The path of the control socket.
        stop: Ends the mount, after the reads under way or the given seconds.
    """

    def __init__(self, parts: Components, path: Path, stop: Callable[[float], None]) -> None:
        self._parts = parts
        self._path = path
        self._stop = stop
        self._observations = Observations(parts.bus, parts.registry)

    async def run(self, listening: socket.socket | None, stack: AsyncExitStack, started: asyncio.Event) -> None:
        """Starts everything; returns when the control API is served, which may take until the mount ends.

        Args:
            listening: The control socket; None when it could not be made.
            stack: Ends what starts here.
            started: Is set when the work of the mount runs.
        """
        try:
            await self._start_work(stack)
            started.set()
        except Exception:
            log.exception("the mount could not start its services, so it ends")
            self._stop(0)
            return
        if listening is not None:
            await self._serve_control(listening, stack)

    async def _start_work(self, stack: AsyncExitStack) -> None:
        config = self._parts.config.value
        self._observations.start()
        stack.callback(self._observations.stop)
        if config.webhooks:
            await _load("musicfs.control.webhooks")
            from musicfs.control.webhooks import Webhooks

            assert config.mount_point is not None
            webhooks = Webhooks(config.webhooks, self._parts.bus, config.mount_point)
            stack.push_async_callback(webhooks.aclose)
            webhooks.start()
        begin(self._parts)
        _freeze_memory()

    async def _serve_control(self, listening: socket.socket, stack: AsyncExitStack) -> None:
        """Serves the control API, from the first connection on; at once if other machines' clients may connect."""
        stack.callback(listening.close)
        config = self._parts.config.value
        mount_point = config.mount_point
        assert mount_point is not None
        if config.control.listen is None:
            await _readable(listening)
        try:
            await _load("musicfs.control.server")
            from musicfs.control.server import ControlServer

            server = ControlServer(
                self._parts,
                self._path,
                self._stop,
                self._observations,
                lambda: mount_points.mounted(mount_point) is not None,
            )
            stack.push_async_callback(server.aclose)
            await server.start(listening)
        except Exception:
            log.exception("the control API can't be served; the mount goes on without it")
            listening.close()
        _freeze_memory()


async def _readable(listening: socket.socket) -> None:
    """Waits until a client connects."""
    loop = asyncio.get_running_loop()
    connected = asyncio.Event()
    loop.add_reader(listening.fileno(), connected.set)
    try:
        await connected.wait()
    finally:
        loop.remove_reader(listening.fileno())


async def _load(module: str) -> None:
    """Loads a large module in a thread. The loop serves the kernel meanwhile, and gets its turn at once, not after the
    interpreter's 5 ms. No module is searched for garbage."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_LOADING_SWITCH_SECS)
    gc.set_threshold(_ALLOCATIONS_LOADING)
    try:
        await asyncio.get_running_loop().run_in_executor(None, import_module, module)
    finally:
        sys.setswitchinterval(usual)


def _freeze_memory() -> None:
    """Exempts what is loaded by now from later garbage collections, which are frequent again from here on: the command
    `musicfs` makes them rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, 10, 10)
