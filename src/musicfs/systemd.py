"""What a service tells systemd, by the protocol of sd_notify(3): lines in a datagram."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

log = logging.getLogger(__name__)


class Notifier:
    """Tells the service manager that has started this process, if one has.

    address: of its socket; "@" at the start stands for one without a file. watchdog_secs: how long it waits for
    "WATCHDOG=1" before it kills this process; None: for ever.
    """

    def __init__(self, address: str = "", watchdog_secs: float | None = None) -> None:
        self._address = address
        self.watchdog_secs = watchdog_secs if address else None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] = os.environ) -> Notifier:
        """Takes the variables out of it, so that no process that we start believes to be the service."""
        address = environ.pop("NOTIFY_SOCKET", "")
        usecs, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        meant = usecs.isdecimal() and int(usecs) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(usecs) / 1e6 if meant else None)

    def __bool__(self) -> bool:
        return bool(self._address)

    def tell(self, *lines: str) -> bool:
        """Sends lines such as "READY=1"; whether they were taken. Never waits: the event loop calls it, too."""
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as to:
                to.sendto("\n".join(lines).encode("utf-8", "replace"), address)
        except OSError as error:
            log.debug("systemd could not be told %s: %s", lines[0], error)
            return False
        return True

    def tell_reloading(self) -> bool:
        """To be followed by READY=1. The time lets systemd tell this reload from an earlier one."""
        return self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
