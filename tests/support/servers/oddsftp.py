"""An SFTP server in this process, over a folder of this machine, that is odd in the ways that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from tests.support.servers.process import HOST


@dataclass
class Oddities:
    """readlink, types, long_names, stat_types: False for a server without them: it reads no links, its listings have
    neither types nor lines like those of `ls`, and no attributes have types.

    hangs: names of folders that are never listed, and of files and links that are never described. breaks: names of
    folders whose listing fails in the middle, and of files that can't be read. handles: files
    and folders that it opens at a time. files: those that are open.
    """

    readlink: bool = True
    types: bool = True
    long_names: bool = True
    stat_types: bool = True
    hangs: Collection[bytes] = ()
    breaks: Collection[bytes] = ()
    handles: int = 10_000
    files: set[Any] = field(default_factory=set)
    released: asyncio.Event = field(default_factory=asyncio.Event)


def _factory(root: Path, odd: Oddities) -> type[asyncssh.SFTPServer]:
    class Files(asyncssh.SFTPServer):
        def __init__(self, chan: Any) -> None:
            super().__init__(chan, chroot=str(root).encode())

        def readlink(self, path: bytes) -> bytes:
            if not odd.readlink:
                raise asyncssh.SFTPOpUnsupported("readlink")
            return super().readlink(path)  # type: ignore[return-value]

        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            name = path.rpartition(b"/")[2]
            self._check_handles()
            await self._hang(name)
            count = 0
            async for each in super().scandir(path):
                if not odd.types:
                    each.longname = b"%crwxr-xr-x 1 me me" % b"?-dl"[each.attrs.type]
                    each.attrs.permissions, each.attrs.type = None, asyncssh.FILEXFER_TYPE_UNKNOWN
                if not odd.long_names:
                    each.longname = b"?"
                yield each
                count += each.filename not in (b".", b"..")
                if name in odd.breaks and count == 2:
                    raise asyncssh.SFTPFailure("Input/output error")

        async def stat(self, path: bytes) -> Any:
            await self._hang(path.rpartition(b"/")[2])
            about = super().stat(path)
            if not odd.stat_types:
                about = asyncssh.SFTPAttrs.from_local(about)  # type: ignore[arg-type]
                about.permissions, about.type = None, asyncssh.FILEXFER_TYPE_UNKNOWN
            return about

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            self._check_handles()
            opened = super().open(path, pflags, attrs)
            odd.files.add(opened)
            return opened

        def close(self, file_obj: Any) -> Any:
            odd.files.discard(file_obj)
            return super().close(file_obj)

        def read(self, file_obj: Any, offset: int, size: int) -> Any:
            if Path(file_obj.name.decode()).name.encode() in odd.breaks:
                raise asyncssh.SFTPFailure("Failure")
            return super().read(file_obj, offset, size)

        def _check_handles(self) -> None:
            if len(odd.files) >= odd.handles:
                raise asyncssh.SFTPFailure("Failure")

        async def _hang(self, name: bytes) -> None:
            if name in odd.hangs:
                await odd.released.wait()

    return Files


class _Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


@asynccontextmanager
async def odd_sftp(root: Path, home: Path, odd: Oddities) -> AsyncIterator[dict[str, object]]:
    """Serves `root` without a login. Yields the settings of an origin. home: for the file of its host key."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(_Door, HOST, 0, server_host_keys=[key], sftp_factory=_factory(root, odd))
    known = home / "known_hosts_of_odd"
    known.write_text(f"[{HOST}]:{server.get_port()} {key.export_public_key().decode()}")
    try:
        yield {
            "id": "nas", "origin_type": "sftp", "host": HOST, "port": server.get_port(), "path": "/", "user": "me",
            "known_hosts": str(known),
        }  # fmt: skip
    finally:
        odd.released.set()
        server.close()
        await server.wait_closed()
        for file in odd.files:
            file.close()
