"""Places that hold music and can be made to fail: a folder, and real servers each behind a bad network.

A site's faults begin and end by name, so that a schedule of them can be written down and replayed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from musicfs.testing.fault_proxy import FaultProxy
from tests.support.mounting import Place
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST, Server
from tests.support.servers.samba import PASSWORD, SHARE, Samba
from tests.support.servers.sshd import sshd
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift

Fault = tuple[Callable[[], None], Callable[[], None]]
"""What begins it, and what ends it."""

_PATIENT: Mapping[str, Any] = {"timeout_ms": 1500, "poll_interval_secs": 5}

LOCAL_KINDS = ("local",)
REMOTE_KINDS = ("sftp", "smb", "nfs", "s3")


class Site:
    """One origin. `ill` is whether a fault that outlasts its step is upon it.

    root: the folder that has its files, where it is one.
    """

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
    def rots(self) -> bool:
        """Whether its files can be made to change as on a failing disk."""
        return True

    def put(self, path: str, data: bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def files(self) -> dict[str, object]:
        """Every file, and what would differ if it were another; nothing while that can't be looked at."""
        return {
            str(path.relative_to(self.root)): ((about := path.stat()).st_size, about.st_mtime_ns)
            for path in self.root.rglob("*")
            if path.is_file()
        }

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


class _Folder(Site):
    def files(self) -> dict[str, object]:
        return {} if self.ill else super().files()


class _Bucket(Site):
    """Its server is asked past the bad network."""

    def __init__(
        self, id: str, here: Place, settings: Mapping[str, Any], faults: Mapping[str, Fault], swift: Swift, bucket: str
    ) -> None:
        super().__init__(id, here.origins / id, settings, faults)
        self._swift = swift
        self._bucket = bucket

    @property
    def rots(self) -> bool:
        return False

    def put(self, path: str, data: bytes) -> None:
        self._swift.put(self._bucket, path, data)

    def files(self) -> dict[str, object]:
        return {} if self.ill else dict(self._swift.versions(self._bucket))


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
    return _Folder(id, root, {"origin_type": "local", "path": str(root)}, faults)


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
def _bucket(id: str, here: Place, swift: Swift | None) -> Iterator[Site]:
    with ExitStack() as stack:
        if swift is None:
            home = stack.enter_context(tempfile.TemporaryDirectory(prefix="musicfs-swift-"))
            swift = stack.enter_context(Swift(Path(home)))
        bucket = swift.make_bucket()
        proxy = stack.enter_context(FaultProxy(swift.port))
        key, secret = here.user / f"{id}-key", here.user / f"{id}-secret"
        here.call(_key, key, ACCESS_KEY_ID.encode())
        here.call(_key, secret, SECRET_ACCESS_KEY.encode())
        own = {
            "origin_type": "s3", "bucket": bucket, "endpoint": f"http://{HOST}:{proxy.port}",
            "access_key_id_file": str(key), "secret_access_key_file": str(secret),
        }  # fmt: skip
        made = _Bucket(id, here, {**_PATIENT, **own}, _network_faults(swift.front, proxy), swift, bucket)
        try:
            yield made
        finally:
            made.heal()


@contextmanager
def site(kind: str, id: str, here: Place, swift: Swift | None = None) -> Iterator[Site]:
    """A site of the kind, with its server up. swift: the server of S3, if one is up already."""
    common = {"origin_type": kind, "host": HOST, "path": None, **_PATIENT}
    with ExitStack() as stack:
        if kind == "local":
            yield _folder(id, here)
            return
        if kind == "s3":
            yield stack.enter_context(_bucket(id, here, swift))
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
