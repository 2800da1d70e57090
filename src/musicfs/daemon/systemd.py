"""The mount as a service of systemd: the protocol of sd_notify(3), readiness, status and watchdog."""

from __future__ import annotations

import asyncio
import errno
import faulthandler
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from musicfs.catalog.view import TreeView
from musicfs.events import Event, EventBus, FilesChanged, HealthChanged, Listening, OriginRegistered, OriginUnregistered
from musicfs.federation.registry import OriginRegistry
from musicfs.model import HealthStatus
from musicfs.mount import mount_points

log = logging.getLogger(__name__)


class Notifier:
    """Reports to the service manager that started this process, if there is one.

    Args:
        address: The address of its socket; a leading "@" stands for the abstract namespace. Empty: there is none.
        watchdog_secs: How long it waits for "WATCHDOG=1" before it kills this process; None: it does not.
    """

    def __init__(self, address: str = "", watchdog_secs: float | None = None) -> None:
        self._address = address
        self.watchdog_secs = watchdog_secs if address else None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Removes the variables from `environ`, so that no child process takes itself for the service."""
        address = environ.pop("NOTIFY_SOCKET", "")
        usecs, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        meant = usecs.isdecimal() and int(usecs) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(usecs) / 1e6 if meant else None)

    def __bool__(self) -> bool:
        return bool(self._address)

    def notify(self, *lines: str) -> bool:
        """Sends lines such as "READY=1"; returns whether they were sent. Never waits, so the event loop may call it."""
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as to:
                to.sendto("\n".join(lines).encode("utf-8", "replace"), address)
        except OSError as error:
            log.debug("systemd did not get %s: %s", lines[0], error)
            return False
        return True

    def notify_reloading(self) -> bool:
        """Says that a reload starts; READY=1 must follow. By the time systemd distinguishes this reload from others."""
        return self.notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


_STATUS_EVERY_SECS = 1.0
_UNTIL_READY_SECS = 0.5
_CHECKS_PER_WATCHDOG_PERIOD = 3
_OF_THE_STATUS = (HealthChanged, FilesChanged, OriginRegistered, OriginUnregistered)


def ask(mount_point: Path) -> None:
    """Makes two requests that the kernel can't answer by itself: the size of the filesystem, and the first name in it,
    which is a query of the catalogue. Returns when both are answered; waits as long as that takes. Raises OSError."""
    if mount_points.mounted(mount_point) is None:  # else the folder under the mount point answers
        raise OSError(errno.ENOTCONN, "nothing is mounted there")
    os.statvfs(mount_point)
    with os.scandir(mount_point) as names:
        next(names, None)


class Liveness(threading.Thread):
    """Makes requests to the mount from outside, as any program does, and calls `answered` after each answer.

    It is a thread because the event loop would wait for itself. When a request gets no answer, nothing is called, and
    systemd's watchdog acts.

    Args:
        mount_point: Where it asks.
        interval_secs: The time between two requests; None: it stops after the first answer.
        answered: Returns whether systemd got the report.
    """

    def __init__(self, mount_point: Path, interval_secs: float | None, answered: Callable[[], bool]) -> None:
        super().__init__(name="liveness", daemon=True)
        self._mount_point = mount_point
        self._interval_secs = interval_secs
        self._answered = answered
        self._stopped = threading.Event()
        self._failing = False

    def run(self) -> None:
        while not self._stopped.is_set():
            reported = self._check()
            if reported and self._interval_secs is None:
                return
            pause = self._interval_secs or _UNTIL_READY_SECS
            self._stopped.wait(pause if reported else min(pause, _UNTIL_READY_SECS))

    def _check(self) -> bool:
        asked = time.monotonic()
        try:
            ask(self._mount_point)
        except OSError as error:
            if not self._failing and not self._stopped.is_set():
                log.error("%s fails to answer: %s", self._mount_point, error)  # noqa: TRY400
            self._failing = True
            return False
        self._failing = False
        took = time.monotonic() - asked
        if self._interval_secs is not None and took > self._interval_secs:
            log.warning("%s took %.1f s to answer", self._mount_point, took)
        return not self._stopped.is_set() and self._answered()

    def stop(self) -> None:
        self._stopped.set()


class SystemdService:
    """Reports one mount to systemd. Belongs to the event loop's thread. Does nothing when systemd did not start us."""

    def __init__(
        self, notifier: Notifier, bus: EventBus, registry: OriginRegistry, tree: TreeView, mount_point: Path
    ) -> None:
        self._notifier = notifier
        self._bus = bus
        self._registry = registry
        self._tree = tree
        self._ready = self._stopping = False
        self._status = ""
        self._timer: asyncio.TimerHandle | None = None
        self._listening: Listening | None = None
        watchdog = notifier.watchdog_secs
        interval = None if watchdog is None else watchdog / _CHECKS_PER_WATCHDOG_PERIOD
        self._liveness = Liveness(mount_point, interval, self._answered)

    def start(self) -> None:
        """Starts the reports, after the kernel has the mount. READY=1 follows when the mount has answered."""
        if not self._notifier:
            return
        if self._notifier.watchdog_secs is not None:
            faulthandler.enable()  # systemd's watchdog sends SIGABRT: the journal then shows where the mount hung
        self._listening = self._bus.listen(self._notice)
        self._liveness.start()
        self._notify_status()

    def _answered(self) -> bool:
        """Reports an answer; runs in the thread of `Liveness`."""
        if not self._ready:
            self._ready = self._notifier.notify("READY=1", f"STATUS={self._status}")
        return self._ready and (self._notifier.watchdog_secs is None or self._notifier.notify("WATCHDOG=1"))

    @contextmanager
    def reloading(self) -> Iterator[None]:
        reported = self._ready and self._notifier.notify_reloading()
        try:
            yield
        finally:
            if reported:
                self._notifier.notify("READY=1")

    def stopping(self) -> None:
        """Stops the watchdog; from here on TimeoutStopSec counts."""
        if self._stopping:
            return
        self._stopping = True
        if self._listening is not None:
            self._listening.close()
        self._liveness.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._notifier.notify("STOPPING=1", "STATUS=Ending")

    def _notice(self, event: Event) -> None:
        if self._timer is None and not self._stopping and isinstance(event, _OF_THE_STATUS):
            self._timer = asyncio.get_running_loop().call_later(_STATUS_EVERY_SECS, self._notify_status)

    def _notify_status(self) -> None:
        self._timer = None
        status = status_line(self._registry, self._tree)
        if status != self._status:
            self._status = status
            self._notifier.notify(f"STATUS={status}")


def status_line(registry: OriginRegistry, tree: TreeView) -> str:
    """One line such as "1,234 files from 3 origins; away: nas"."""
    ids = [each.id for each in registry.list()]
    away = [id for id in ids if registry.monitor.state(id).status is HealthStatus.UNHEALTHY]
    line = f"{tree.totals().files:,} files from {len(ids)} {'origin' if len(ids) == 1 else 'origins'}"
    return line + (f"; away: {', '.join(away)}" if away else "")
