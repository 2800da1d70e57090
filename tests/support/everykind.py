"""One file at all five kinds of origin, before real servers, each of which can be made to fail; and who listens to it.

with EveryKind(folder) as kinds:
    await kinds.open()
    listener = Listener(kinds["sftp"], kinds["local"])
    await listener.play(0, HALF)
    kinds["sftp"].begin("killed")
    await listener.play(HALF, BLOCKS)
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from random import Random

from musicfs.config.kinds import open_origin
from musicfs.config.models import HealthConfig, OriginConfig, RetryConfig
from musicfs.errors import MusicFSError
from musicfs.events import Event, EventBus
from musicfs.federation import FailoverExecutor, HealthMonitor, OriginRegistry, Router
from musicfs.model import OriginId, Replica
from musicfs.origin import Origin
from musicfs.testing.fault_proxy import FaultProxy
from tests.support.faulty import FaultyOrigin
from tests.support.servers.ganesha import Ganesha
from tests.support.servers.process import HOST, Server
from tests.support.servers.samba import PASSWORD, SHARE, Samba
from tests.support.servers.sshd import Sshd, open_folder
from tests.support.servers.swift import ACCESS_KEY_ID, SECRET_ACCESS_KEY, Swift

KINDS = ("local", "nfs", "smb", "sftp", "s3")
REMOTE = KINDS[1:]
FAULTS = ("killed", "stopped", "cut", "torn", "slow", "wrong", "short")
"""The server dies; hangs; can't be reached; its connection ends in mid-answer; it gives 10 kB/s, wrong bytes, a
shortened file."""
ALL = [(kind, fault) for kind in KINDS for fault in FAULTS if kind in REMOTE or fault not in ("cut", "torn")]
"""What can befall whom."""
NAME = "album/song.flac"
BLOCK = 128 << 10
BLOCKS = 12
DATA = random.Random(8).randbytes(BLOCK * BLOCKS - 1000)
HALF = BLOCKS // 3
SLOW_RATE = 10_000
_DIGESTS = [sha256(DATA[n * BLOCK : (n + 1) * BLOCK]).digest() for n in range(BLOCKS)]
_MTIME_NS = 1_500_000_000_000_000_000
_SPOILT = bytes(byte ^ (n % BLOCK == 5) for n, byte in enumerate(DATA))
_PATIENCE = 40.0


class _Counted(FaultyOrigin):
    """reads: how many have been asked for."""

    reads = 0

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        self.reads += 1
        return await super().read(replica, offset, size)


class Place:
    """One kind of origin that has the file. `begin` and `end` block; those of servers take some milliseconds."""

    def __init__(
        self, kind: str, config: Mapping[str, object], switch: Path,
        write: Callable[[bytes], None], server: Server | None = None, proxy: FaultProxy | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.server = server
        self.proxy = proxy
        self.origin: _Counted
        self.replica: Replica
        self._config = config
        self._switch = switch
        self._write = write

    async def open(self) -> None:
        inner: Origin = open_origin(OriginConfig.model_validate(self._config), populated=False)
        self.origin = _Counted(inner, self._switch)
        self.replica = Replica.of(self.origin.id, await self.origin.stat(NAME))
        await self.works()

    async def works(self) -> None:
        """Waits until it does: a call or two may still meet what is left of a failure."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    data = await self.origin.read(self.replica, 0, len(DATA))
                    await self.origin.health()
                except MusicFSError:
                    await asyncio.sleep(0.01)
                    continue
                assert data == DATA
                return

    def begin(self, fault: str) -> None:
        match fault:
            case "wrong" if self.kind == "s3":
                assert self.proxy is not None
                self.proxy.flip_in_body()  # a stored object that changes has another ETag
            case "wrong":
                self._write(_SPOILT)
            case "short":
                self._write(DATA[: BLOCK * HALF + 100])
            case _ if self.server is None or self.proxy is None:
                self._switch.write_text({"killed": "error", "stopped": "hang", "slow": "slow"}[fault])
            case "killed":
                self.server.kill()
            case "stopped":
                self.server.stop()
            case "cut":
                self.proxy.refuse()
            case "torn":
                self.proxy.cut_after(BLOCK // 2)
            case "slow":
                self.proxy.rate = SLOW_RATE

    def end(self, fault: str) -> None:
        match fault:
            case "wrong" | "short":
                self._write(DATA)
            case "killed" if self.server is not None:
                self.server.start()
            case "stopped" if self.server is not None:
                self.server.cont()
        self._switch.write_text("")
        if self.proxy is not None:
            self.proxy.heal()

    @contextmanager
    def failing(self, fault: str) -> Iterator[None]:
        self.begin(fault)
        try:
            yield
        finally:
            self.end(fault)


class EveryKind:
    """All five, started together. As a context manager it is gone at the end; `open` and `aclose` go in between."""

    def __init__(self, folder: Path, swift: Swift) -> None:
        self._folder = folder
        self._swift = swift
        self._places: dict[str, Place] = {}
        self._stack = ExitStack()

    def __enter__(self) -> EveryKind:
        with ExitStack() as stack:
            for kind in KINDS:
                self._places[kind] = getattr(self, f"_{kind}")(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, kind: str) -> Place:
        return self._places[kind]

    @property
    def all(self) -> list[Place]:
        return list(self._places.values())

    def others(self, kind: str) -> list[Place]:
        return [place for place in self.all if place.kind != kind]

    async def open(self) -> None:
        for place in self.all:
            await place.open()

    async def aclose(self) -> None:
        for place in self.all:
            await place.origin.aclose()

    def _place(
        self, kind: str, settings: Mapping[str, object], write: Callable[[bytes], None],
        server: Server | None = None, proxy: FaultProxy | None = None,
    ) -> Place:  # fmt: skip
        switch = self._folder / f"{kind}.switch"
        switch.write_text("")
        write(DATA)
        return Place(kind, {"id": kind, "origin_type": kind} | dict(settings), switch, write, server, proxy)

    def _local(self, _: ExitStack) -> Place:
        root = self._folder / "local"
        return self._place("local", {"path": root}, _writer(root))

    def _nfs(self, stack: ExitStack) -> Place:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="musicfs-export-")))
        home = self._folder / "ganesha"
        home.mkdir()
        server = Ganesha(root, home, squash="No_Root_Squash")
        stack.enter_context(server)
        proxy = stack.enter_context(FaultProxy(server.port))
        settings = {"host": HOST, "export": str(root), "port": proxy.port, "mount_port": server.mount_port}
        return self._place("nfs", settings, _writer(root), server, proxy)

    def _smb(self, stack: ExitStack) -> Place:
        server = stack.enter_context(Samba())
        proxy = stack.enter_context(FaultProxy(server.port))
        settings = {"host": HOST, "port": proxy.port, "share": SHARE, "user": server.user, "password": PASSWORD}
        return self._place("smb", settings, _writer(server.root), server, proxy)

    def _sftp(self, stack: ExitStack) -> Place:
        root, home = stack.enter_context(open_folder()), stack.enter_context(open_folder())
        server = stack.enter_context(Sshd(home))
        proxy = stack.enter_context(FaultProxy(server.port))
        settings = {
            "host": HOST, "port": proxy.port, "user": server.user, "path": str(root), "key_file": server.key,
            "known_hosts": server.known_as(proxy.port),
        }  # fmt: skip
        return self._place("sftp", settings, _writer(root), server, proxy)

    def _s3(self, stack: ExitStack) -> Place:
        bucket = self._swift.make_bucket()
        proxy = stack.enter_context(FaultProxy(self._swift.port))
        settings = {
            "bucket": bucket, "endpoint": f"http://{HOST}:{proxy.port}", "access_key_id": ACCESS_KEY_ID,
            "secret_access_key": SECRET_ACCESS_KEY,
        }  # fmt: skip

        def write(data: bytes) -> None:
            self._swift.put(bucket, NAME, data)

        return self._place("s3", settings, write, self._swift.front, proxy)


def _writer(root: Path) -> Callable[[bytes], None]:
    """Writes the file in place, always with the same time of change."""
    file = root / NAME

    def write(data: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("r+b" if file.exists() else "wb") as opened:
            opened.write(data)
            opened.truncate()
        os.utime(file, ns=(_MTIME_NS, _MTIME_NS))

    return write


class Listener:
    """Reads the file block by block, from `source` as long as it can, else from `target`; as a federation of their
    own that knows the blocks' checksums."""

    def __init__(self, source: Place, *others: Place, retry: RetryConfig | None = None) -> None:
        self.places = (source, *others)
        self.events: list[Event] = []
        self.bus = EventBus()
        self.bus.listen(self.events.append)
        self.router = Router()
        self.monitor = HealthMonitor(HealthConfig(), self.bus, Random(1), self.router.record_latency)
        self.registry = OriginRegistry(self.router, self.monitor, self.bus)
        self.executor = FailoverExecutor(self.registry, retry or RetryConfig(), self.bus)
        for priority, place in enumerate(self.places, 1):
            self.registry.register(place.origin, priority)
        self.gaps: list[float] = []
        """Seconds that each block took."""
        self.served: list[OriginId] = []
        """Who gave it."""

    async def play(self, first: int, last: int) -> bytes:
        """The bytes of these blocks, `last` not among them."""
        return b"".join([await self.block(index) for index in range(first, last)])

    async def block(self, index: int) -> bytes:
        replicas = [place.replica for place in self.places]
        time = asyncio.get_running_loop().time
        started = time()
        fetched = await self.executor.fetch(
            replicas, index * BLOCK, BLOCK, block=index,
            check=lambda _, data: sha256(data).digest() == _DIGESTS[index],
        )  # fmt: skip
        self.gaps.append(time() - started)
        self.served.append(fetched.replica.origin)
        return fetched.data

    async def aclose(self) -> None:
        """Leaves the origins as they are: they are other listeners' too."""
        await self.monitor.aclose()
        await self.executor.aclose()
