"""The client of a running mount in another process: finds the mount and makes requests. Standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from musicfs.errors import UserError
from musicfs.mount import mount_points
from musicfs.system.mounts import Mounted
from musicfs.system.runtime import canonical, control_socket, control_sockets, runtime_dir

_TIMEOUT_SECS = 10.0
_LISTING_SECS = 2.0
_SILENT_SECS = 60.0  # a live stream sends a heartbeat every 15 s
_NOTHING: Mapping[str, str] = MappingProxyType({})

Answer = dict[str, Any]


class NotRunning(UserError):
    """Nothing answers at the socket: there is no mount, or its process has ended."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_secs: float) -> None:
        super().__init__("localhost", timeout=timeout_secs)
        self._path = path
        self._timeout_secs = timeout_secs

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_secs)
        self.sock.connect(os.fspath(self._path))


class ControlClient:
    """Makes requests to one running mount. Every call is one request over its own connection.

    Args:
        socket: The path of its control socket.
        mount_point: For messages; None when it is not known.
    """

    def __init__(self, socket: Path, mount_point: Path | None = None) -> None:
        self.socket = socket
        self.mount_point = mount_point

    def get(self, path: str, query: Mapping[str, str] = _NOTHING, *, timeout_secs: float = _TIMEOUT_SECS) -> Answer:
        """Returns the answer to a GET. Raises `UserError` with the server's message, or `NotRunning`."""
        values = "&".join(f"{name}={quote(os.fsencode(value), safe='')}" for name, value in query.items())
        return self._ask("GET", f"{path}?{values}" if values else path, None, timeout_secs)

    def post(self, path: str, body: Answer | None = None, *, timeout_secs: float = _TIMEOUT_SECS) -> Answer:
        """Returns the answer to a POST. Raises `UserError` with the server's message, or `NotRunning`."""
        return self._ask("POST", path, body, timeout_secs)

    def delete(self, path: str, *, timeout_secs: float = _TIMEOUT_SECS) -> Answer:
        """Returns the answer to a DELETE. Raises `UserError` with the server's message, or `NotRunning`."""
        return self._ask("DELETE", path, None, timeout_secs)

    def follow(self, path: str) -> Iterator[Answer]:
        """Yields the values of a stream of server-sent events until the mount ends.

        Raises `UserError` with the server's message, or `NotRunning`.
        """
        connection = _UnixConnection(self.socket, _TIMEOUT_SECS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            connection.sock.settimeout(_SILENT_SECS)
            if response.status >= 400:
                raise UserError(str(json.loads(response.read())["error"]))
            for line in response:
                if line.startswith(b"data: "):
                    yield dict(json.loads(line[len(b"data: ") :]))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(self._not_running()) from error
        except TimeoutError as error:
            raise UserError(
                f"The mount{self._on()} has stopped sending events; `musicfs status` shows whether it still runs."
            ) from error
        except (OSError, http.client.HTTPException):
            return  # it has ended
        finally:
            connection.close()

    def pid(self) -> int | None:
        """Returns the process that listens on the socket, even when it does not answer; None when there is none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_TIMEOUT_SECS)
            try:
                probe.connect(os.fspath(self.socket))
                credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            except OSError:
                return None
        pid: int = struct.unpack("3i", credentials)[0]
        return pid

    def _ask(self, method: str, target: str, body: Answer | None, timeout_secs: float) -> Answer:
        connection = _UnixConnection(self.socket, timeout_secs)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, target, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(self._not_running()) from error
        except TimeoutError as error:
            late = f"The mount{self._on()} did not answer within {timeout_secs:g} s"
            raise UserError(f"{late}; try again, or end it with `musicfs unmount --lazy`.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UserError(f"The mount{self._on()} ended during the request; try again.") from error
        finally:
            connection.close()
        if response.status >= 400:
            raise UserError(str(answer.get("error", f"The mount{self._on()} refused the request: {response.reason}.")))
        return dict(answer)

    def _on(self) -> str:
        return f" on {self.mount_point}" if self.mount_point else ""

    def _not_running(self) -> str:
        if self.mount_point is None:
            return "Nothing is mounted."
        here = mount_points.mounted(self.mount_point)
        return nothing_on(self.mount_point) if here is None else _unheard(here)


def _unheard(mount: Mounted) -> str:
    """Says why nothing listens at the control socket of something that is mounted, and what to do."""
    if (user := mount_points.user_of(mount)) is not None:
        return f"{mount.path} is mounted by the user {user}, and only that user can ask or control it."
    if mount_points.answers(mount.path):
        return (
            f"{mount.path} is mounted and works, but its control socket is not in {runtime_dir()}. If it has just"
            " started, try again; otherwise it was started with another XDG_RUNTIME_DIR: use that one here, too."
        )
    return (
        f"{mount.path} is mounted, but its process does not answer. If it has just started, try again; otherwise"
        f" `musicfs unmount {mount.path}` removes it."
    )


def nothing_on(mount_point: Path) -> str:
    return f"Nothing is mounted on {mount_point}; `musicfs mount {mount_point} --origin PATH` mounts your music there."


def find_mount(path: Path | None) -> ControlClient:
    """Finds the mount at `path`, or the one that contains it; None: the only one that runs.

    Makes no calls into mounted filesystems, because they may hang. Raises `UserError` when there is no such mount, or
    `path` is None and there are several.
    """
    if path is None:
        return _only_mount()
    mounts = mount_points.ours()
    real = canonical(path, mounts)
    for place in (real, *real.parents):
        if place in mounts or control_socket(place).exists():
            return ControlClient(control_socket(place), place)
    raise NotRunning(nothing_on(real))


def running_mounts() -> list[ControlClient]:
    """Returns every mount of this user that answers, by mount point, without crashed ones."""
    found: dict[Path, ControlClient] = {}
    for path in control_sockets():
        with contextlib.suppress(UserError):
            mount_point = Path(ControlClient(path).get("/status", timeout_secs=_LISTING_SECS)["mount_point"])
            found[mount_point] = ControlClient(path, mount_point)
    return [found[mount_point] for mount_point in sorted(found)]


def _only_mount() -> ControlClient:
    running = running_mounts()
    if len(running) == 1:
        return running[0]
    if running:
        names = ", ".join(str(client.mount_point) for client in running)
        raise UserError(f"There are several mounts ({names}): name one of them.")
    ours = sorted(path for path in mount_points.ours() if control_socket(path).exists())
    if ours:  # it crashed, or does not answer: the caller's request reports that
        return ControlClient(control_socket(ours[0]), ours[0])
    raise NotRunning("Nothing is mounted; `musicfs mount FOLDER --origin PATH` mounts your music.")
