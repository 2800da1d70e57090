"""The process behind a mount: its event loop, its signals, and how it goes to the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from musicfs import logs
from musicfs.app.app import open_driver, running
from musicfs.app.components import DRAIN_SECS, Components
from musicfs.app.live_config import ConfigSource, LiveConfig
from musicfs.app.membership import OpenOrigin
from musicfs.config.models import Config
from musicfs.control.unix_socket import ControlSocket
from musicfs.daemon.services import Services
from musicfs.daemon.systemd import Notifier, SystemdService
from musicfs.errors import ConfigError, MusicFSError, UserError
from musicfs.mount import mount_points
from musicfs.mount.fuse import FuseMount
from musicfs.mount.session.event_loop import FuseEventLoop
from musicfs.system import hardening
from musicfs.system.descriptors import raise_limit
from musicfs.system.log_file import LogFile
from musicfs.system.runtime import claim_cache, control_socket, open_in_cache
from musicfs.system.tasks import Tasks

log = logging.getLogger(__name__)

LOG_FILE = "musicfs.log"

_MOUNTED = "mounted: "


class _Ending:
    """Ends the mount: no file can be opened, the reads under way may finish, then it is unmounted.

    A second request ends it at once.
    """

    def __init__(self, parts: Components, fuse: FuseMount, service: SystemdService) -> None:
        self._filesystem = parts.filesystem
        self._reader = parts.reader
        self._fuse = fuse
        self._service = service
        self._ending: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None

    def ask(self, drain_secs: float = DRAIN_SECS) -> None:
        if self._ending is None:
            self._service.stopping()
            self._draining = asyncio.create_task(self._filesystem.drain())
            self._ending = asyncio.create_task(self._end(self._draining, drain_secs))
        elif self._draining is not None:
            self._draining.cancel()

    async def _end(self, draining: asyncio.Task[None], drain_secs: float) -> None:
        await asyncio.wait({draining}, timeout=drain_secs)
        draining.cancel()
        self._fuse.stop()
        # A reader that still waits for bytes gets an error now, not at its deadline.
        await self._reader.aclose()


async def _serve(
    config: Config,
    on_mounted: Callable[[Components], None],
    open_origin: OpenOrigin,
    source: ConfigSource | None,
    notifier: Notifier,
) -> None:
    assert config.mount_point is not None
    async with running(config, open_origin, source) as parts:
        fuse = _fuse_mount(config, config.mount_point, parts)
        service = SystemdService(notifier, parts.bus, parts.registry, parts.tree, config.mount_point)
        parts.tree_updates.listen(fuse.forget)
        fuse.mount()
        try:
            await _serve_mounted(parts, config.mount_point, fuse, service, on_mounted)
        finally:
            fuse.unmount()


def _fuse_mount(config: Config, mount_point: Path, parts: Components) -> FuseMount:
    settings = config.mount
    return FuseMount(
        parts.filesystem,
        mount_point,
        allow_other=settings.allow_other,
        file_mode=settings.file_mode,
        passthrough=any(origin.settings.get("passthrough") for origin in config.origins),
    )


async def _serve_mounted(
    parts: Components,
    mount_point: Path,
    fuse: FuseMount,
    service: SystemdService,
    on_mounted: Callable[[Components], None],
) -> None:
    """Serves until the mount ends; the kernel has it already."""
    loop, started = asyncio.get_running_loop(), asyncio.Event()
    ending, reloads = _Ending(parts, fuse, service), Tasks(log)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.ask)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: reloads.spawn(_reload(parts.live_config, service, started), "the reload")
    )
    endpoint = ControlSocket(control_socket(mount_point))
    listening = endpoint.open()
    on_mounted(parts)
    service.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(reloads.aclose)
        services = Services(parts, endpoint.path, ending.ask)
        starting = loop.create_task(services.run(listening, stack, started))
        await fuse.serve()
        service.stopping()
        endpoint.remove()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def _reload(live_config: LiveConfig, service: SystemdService, started: asyncio.Event) -> None:
    """Reads the configuration again, as `musicfs reload` does; logs the result."""
    await started.wait()
    try:
        with service.reloading():
            for sentence in await live_config.reload():
                log.warning("%s", sentence)
    except MusicFSError as error:
        for problem in error.problems if isinstance(error, ConfigError) else (error,):
            log.error("%s", problem)  # noqa: TRY400 (a sentence, not a traceback)
    except Exception:
        log.exception("the configuration could not be reloaded")


def serve(
    config: Config,
    on_mounted: Callable[[Components], None] = lambda parts: None,
    open_origin: OpenOrigin = open_driver,
    source: ConfigSource | None = None,
) -> None:
    """Mounts and serves until it is unmounted or gets SIGTERM or SIGINT.

    It reports to systemd when that has started this process.

    Args:
        config: The configuration, with a mount point.
        on_mounted: Is called when the mount point shows the tree.
        open_origin: Makes the drivers.
        source: What SIGHUP reads again; None: nothing.

    Raises:
        UserError: The mount can't be made.
    """
    assert config.mount_point is not None
    raise_limit()
    mount_points.prepare(config.mount_point)
    hardening.hide_memory()
    with asyncio.Runner(loop_factory=FuseEventLoop) as runner:
        runner.run(_serve(config, on_mounted, open_origin, source, Notifier.from_environ()))


def log_to_stderr(config: Config) -> None:
    logs.begin(logs.settings_of(config.log, logs.place_of_stderr()))


def _log_to_file(config: Config, path: Path) -> None:
    logs.begin(logs.settings_of(config.log, "file"), LogFile(path))


def serve_in_background(config: Config, source: ConfigSource | None = None) -> int:
    """Serves in a child process; returns how many files the tree has, when the mount point shows it.

    Raises:
        UserError: The child can't mount; the message is the child's.
    """
    assert config.mount_point is not None
    mount_points.prepare(config.mount_point)
    claim_cache(config.cache_dir)
    errors = open_in_cache(config.cache_dir / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_background(config, writing, errors, source))
    os.close(writing)
    os.close(errors)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    if not answer.startswith(_MOUNTED):
        os.waitpid(child, 0)
        raise UserError(answer or f"The mount process ended; {config.cache_dir / LOG_FILE} may say why.")
    return int(answer.removeprefix(_MOUNTED))


def _background(config: Config, pipe: int, errors: int, source: ConfigSource | None) -> int:
    """Runs the child; returns its exit code.

    Args:
        config: The configuration.
        pipe: A descriptor; what is written to it goes to the parent.
        errors: A descriptor of the log file.
        source: What SIGHUP reads again.
    """

    def report(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(pipe, text.encode())
            os.close(pipe)

    try:
        os.setsid()
        os.chdir("/")
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard, ours in ((0, nothing), (1, nothing), (2, errors)):
            os.dup2(ours, standard)
        _log_to_file(config, config.cache_dir / LOG_FILE)
        serve(config, lambda parts: report(f"{_MOUNTED}{parts.tree.totals().files}"), source=source)
    except MusicFSError as error:
        log.error("%s", error)  # noqa: TRY400 (a sentence, not a traceback)
        report(str(error))
        return 1
    except BaseException as error:
        log.exception("the mount process failed")
        report(f"The mount failed unexpectedly ({error}); {config.cache_dir / LOG_FILE} has the details.")
        return 1
    return 0
