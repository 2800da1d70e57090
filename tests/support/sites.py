"""Places that hold music and can be made to fail: a folder, and real servers each behind a bad network.

A site's faults begin and end by name, so that a schedule of them can be written down and replayed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.mounting import Place
from tests.support.servers.faultproxy import FaultProxy
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST, Server
from tests.support.servers.samba import PASSWORD, SHARE, Samba
from tests.support.servers.sshd import sshd

Fault = tuple[Callable[[], None], Callable[[], None]]
"""What begins it, and what ends it."""

LOCAL_KINDS = ("local",)
REMOTE_KINDS = ("sftp", "smb", "nfs")


class Site:
    """One origin. `ill` is whether a fault that outlasts its step is upon it."""

    def __init__(self, id: str, root: Path, settings: Mapping[str, Any], faults: Mapping[str, Fault]) -> None:
        self.id = id
        self.root = root
        self.settings = settings
        self.fault = ""
        self._faults = faults

    @property
    def ill(self) -> bool:
        return bool(self.fault)

    @property
    def faults(self) -> list[str]:
        """The names of what can befall it."""
        return list(self._faults)

    def begin(self, fault: str) -> None:
        self._faults[fault][0]()
        self.fault = fault

    def heal(self) -> None:
        if self.fault:
            self._faults[self.fault][1]()
            self.fault = ""


def _folder(id: str, here: Place) -> Site:
    root = here.origins / id
    root.mkdir()
    away = here.base / f"{id}-away"

    def vanish() -> None:
        root.rename(away)

    def turn_empty() -> None:
        vanish()
        root.mkdir()

    def come_back() -> None:
        if root.exists():
            root.rmdir()
        away.rename(root)

    # By the modes of files only one who is not the superuser is kept out.
    faults: dict[str, Fault] = {"vanished": (vanish, come_back), "empty": (turn_empty, come_back)}
    if here.who.name != "root":
        faults["closed"] = (lambda: root.chmod(0), lambda: root.chmod(0o755))
    return Site(id, root, {"origin_type": "local", "path": str(root)}, faults)


def _network_faults(server: Server, proxy: FaultProxy) -> dict[str, Fault]:
    def slow() -> None:
        proxy.rate = 10_000

    return {
        "killed": (server.kill, server.start),
        "stopped": (server.stop, server.cont),
        "unplugged": (proxy.stall, proxy.heal),
        "refusing": (proxy.refuse, proxy.heal),
        "slow": (slow, proxy.heal),
        "breaking off": (lambda: proxy.cut_after(40_000), proxy.heal),
    }


def _key(path: Path, data: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(data)


@contextmanager
def site(kind: str, id: str, here: Place) -> Iterator[Site]:
    """A site of the kind, with its server up. Its `root` is where its files are to be put."""
    common = {"origin_type": kind, "host": HOST, "timeout_ms": 1500, "poll_interval_secs": 5, "path": None}
    with ExitStack() as stack:
        if kind == "local":
            yield _folder(id, here)
            return
        root = here.origins / id
        server: Server
        own: dict[str, Any]
        if kind == "sftp":
            root.mkdir()
            server = ssh = stack.enter_context(sshd())
            proxy = stack.enter_context(FaultProxy(server.port))
            key, known = here.user / f"{id}-key", here.base / f"{id}-known"
            here.call(_key, key, ssh.key.read_bytes())
            shutil.copy(ssh.known_as(proxy.port), known)
            known.chmod(0o644)
            own = {"path": str(root), "user": ssh.user, "key_file": str(key), "known_hosts": str(known)}
        elif kind == "smb":
            server = samba = stack.enter_context(Samba())
            root = samba.root
            proxy = stack.enter_context(FaultProxy(server.port))
            password = here.user / f"{id}-password"
            here.call(_key, password, PASSWORD.encode())
            own = {"share": SHARE, "user": samba.user, "password_file": str(password)}
        else:
            assert kind == "nfs", kind
            root.mkdir()
            folder = here.base / f"{id}-ganesha"
            folder.mkdir()
            nfs = Ganesha(root, folder)
            server = stack.enter_context(nfs)
            proxy = stack.enter_context(FaultProxy(server.port))
            own = {"export": str(root), "mount_port": nfs.mount_port}
        root.chmod(0o755)
        made = Site(id, root, common | {"port": proxy.port} | own, _network_faults(server, proxy))
        try:
            yield made
        finally:
            made.heal()  # a stopped server could not be ended in order


def rot(path: Path, at: int) -> None:
    """Flips a bit and leaves size and time as they were, as a failing disk does."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
