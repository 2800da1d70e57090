"""What a kernel asks of a mounted album, with what it was answered: recorded, and played again without that kernel.

`python -m tests.support.fuse_recording FILE` records the running kernel; it needs root or fusermount3.
"""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from musicfs.mount.operations import Operations
from musicfs.mount.session import mounting
from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.channel import Channel, Payload
from musicfs.mount.session.session import FuseSession
from tests.support.fuse_kernel import ServedAlbum, served_album


class Exchange(NamedTuple):
    """A request, and the errno and the size of its answer in bytes; -1 of both: there was none."""

    request: bytes
    errno: int
    size: int


class RecordingChannel(Channel):
    """Keeps what passes it. The kernel's requests come one after the other here."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.exchanges: list[Exchange] = []

    def receive(self) -> bytes | None:
        request = super().receive()
        if request is not None:
            self.exchanges.append(Exchange(request, -1, -1))
        return request

    def reply(self, unique: int, payload: Payload) -> bool:
        self._answered(unique, 0, len(payload))
        return super().reply(unique, payload)

    def refuse(self, unique: int, number: int) -> bool:
        self._answered(unique, number, 0)
        return super().refuse(unique, number)

    def _answered(self, unique: int, number: int, size: int) -> None:
        for at, each in enumerate(self.exchanges):
            if fuse.IN_HEADER.unpack_from(each.request)[2] == unique:
                self.exchanges[at] = Exchange(each.request, number, size)


def use(mount: Path) -> None:
    """What programs do with a mount: run in a process of its own, for its requests wait for this one."""
    (folder,) = (mount / "Artist").iterdir()
    subprocess.run(["ls", "-lR", mount], check=True, stdout=subprocess.DEVNULL)
    for path in sorted(folder.iterdir()):
        path.read_bytes()
        os.getxattr(path, "user.musicfs.content")
        os.listxattr(path)
    os.statvfs(mount)
    assert not (folder / "nothing").exists()
    assert subprocess.run(["touch", folder / "new"], check=False, stderr=subprocess.DEVNULL).returncode != 0


def record() -> list[Exchange]:
    """Returns what the running kernel asks for when an album is used."""
    with tempfile.TemporaryDirectory() as base, served_album(Path(base)) as album:
        mount = Path(base) / "mount"
        mount.mkdir()
        session = FuseSession(
            mounting.mount(mount, "recorded", allow_other=False), Operations(album.filesystem).by_opcode()
        )
        session.channel = channel = RecordingChannel(session.channel.fd)
        session.negotiate()
        user = threading.Thread(target=subprocess.run, args=([sys.executable, "-m", __spec__.name, "--use", mount],))

        async def serve() -> None:
            user.start()
            serving = asyncio.create_task(session.serve())
            await asyncio.to_thread(user.join)
            session.stop()
            await serving

        try:
            album.runner.run(serve())
        finally:
            mounting.unmount(mount, lazy=True)
            session.close()
        return channel.exchanges


def written(exchanges: list[Exchange]) -> str:
    """The recording as a file has it: a line for each exchange."""
    return "".join(f"{each.errno} {each.size} {each.request.hex()}\n" for each in exchanges)


def read(file: Path) -> Iterator[Exchange]:
    """The exchanges of a recording."""
    for line in file.read_text().splitlines():
        number, size, request = line.split()
        yield Exchange(bytes.fromhex(request), int(number), int(size))


def played(album: ServedAlbum, exchange: Exchange) -> Exchange:
    """Asks a session the same again; returns what came of it."""
    answers = album.ask(exchange.request)
    assert len(answers) <= 1
    found = (answers[0].errno, len(answers[0].payload)) if answers else (-1, -1)
    return Exchange(exchange.request, *found)


if __name__ == "__main__":
    if sys.argv[1] == "--use":
        use(Path(sys.argv[2]))
    else:
        print(f"recording Linux {platform.release()}")
        Path(sys.argv[1]).write_text(written(record()))
