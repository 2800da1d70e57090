"""Ports on loopback for the servers of tests."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

HOST = "127.0.0.1"
_given: set[int] = set()
"""Ports that a caller has, though perhaps no server listens there at the moment."""


def free_port() -> int:
    """A port at which nothing listens, and which no other caller in this process gets.

    It lies below the ports that the kernel gives to clients: while its server is down, a client could otherwise get
    that very port, and connect to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            if port not in _given:
                _given.add(port)
                return port
