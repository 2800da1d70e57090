"""One SSH connection that carries SFTP: its requests, its open files, and its health."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from musicfs.model import Replica, encode_path
from musicfs.origins.bounds import MAX_FOLDER_SECS, MAX_LISTING, MAX_NAMES
from musicfs.origins.sftp.packets import MAX_READ, bound, gather
from musicfs.problems import Reason
from musicfs.system.tasks import Tasks

if TYPE_CHECKING:
    from asyncssh import SFTPAttrs, SFTPClient, SFTPClientFile, SFTPName, SSHClientConnection

log = logging.getLogger(__name__)

T = TypeVar("T")
_Key = tuple[str, int, int]

_OPEN_FILES = 64  # of one connection; OpenSSH allows about a thousand
_DEFAULT_READ = 32 << 10  # bytes that every server must be able to send, for servers that do not announce a limit
_DOUBT_SECS = 0.5
_ENDING_SECS = 1.0
_PEEKED = 100  # names to read until one counts: a folder begins with two for itself and the one above
_MAX_PATH = 4096
_TURNS = 3  # times its patience that a listing may bring nothing while other answers arrive
_LONG_NAME = re.compile(rb"[-dl][-r][-w][-xsS][-r][-w][-xsS][-r][-w][-xtT]")


class Child(NamedTuple):
    """One entry of a folder: the needed part of a server's answer, in a tenth of the memory.

    type: one of asyncssh's FILEXFER_TYPE_*. size, mtime, mtime_ns: as in SFTPAttrs.
    """

    name: bytes
    type: int
    size: int | None
    mtime: int | None
    mtime_ns: int | None


class RemoteFile:
    """An open handle. It is closed when it has no users and the session no longer keeps it."""

    __slots__ = ("dropped", "opening", "users")

    def __init__(self, opening: asyncio.Task[SFTPClientFile]) -> None:
        self.opening = opening
        self.users = 0
        self.dropped = False


class Names(NamedTuple):
    """What a folder holds. cut: why the listing ends early, and what the server said then; None if it is whole."""

    children: list[Child]
    cut: tuple[Reason, str] | None = None


class _Asked:
    """A listing under way.

    most: names after which it ends. began, heard: when it began, and when it last brought something (on the loop's
    clock). wanted: False when its caller has gone.
    """

    __slots__ = ("began", "heard", "most", "wanted")

    def __init__(self, now: float, most: int | None = None) -> None:
        self.most = most
        self.began = self.heard = now
        self.wanted = True


class SftpSession:
    """A connection. Methods raise what asyncssh raises; `driver.py` translates it.

    patience: seconds of complete silence, with a request under way, after which the connection counts as dead.
    """

    def __init__(self, connection: SSHClientConnection, client: SFTPClient, patience: float) -> None:
        self.calls = 0  # under way
        self.patience = patience
        self._connection = connection
        self._client = client
        self._time = asyncio.get_running_loop().time
        self._answered = self._time()
        self._files: OrderedDict[_Key, RemoteFile] = OrderedDict()
        announced = client.limits.max_open_handles  # 0: the server does not say
        self._most_files = min(_OPEN_FILES, max(1, announced // 2)) if announced else _OPEN_FILES
        self._tasks = Tasks(
            log, quiet=(Exception,)
        )  # a caller that waits gets the failure; without one it does not matter
        self._probing: asyncio.Task[None] | None = None
        self._used = self._answered
        self._aborted = False
        bound(client)
        gather(client)

    @property
    def alive(self) -> bool:
        return not self._aborted and not self._connection.is_closed()

    @property
    def is_suspect(self) -> bool:
        """Whether a call got no answer, and nothing has come since which shows that the connection still works."""
        return self._probing is not None and self._time() >= self._answered + _DOUBT_SECS

    @property
    def host_key(self) -> bytes:
        """The server's public key, as "ssh-ed25519 AAAA..."; b"" if it has none."""
        key = self._connection.get_server_host_key()
        return b" ".join(key.export_public_key().split()[:2]) if key is not None else b""

    def abort(self) -> None:
        """Ends the connection at once; everything under way fails. Never blocks."""
        self._aborted = True  # the connection takes a while to close
        self._connection.abort()

    async def wait_ended(self) -> None:
        """Waits, after `abort`, until its socket and its tasks have gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_SECS):
                await self._connection.wait_closed()
                await self._tasks.wait()

    # Requests

    async def stat(self, path: bytes) -> SFTPAttrs:
        return self._heard(await self._client.stat(path))

    async def resolve(self, folder: bytes, link: bytes) -> bytes:
        """Returns the path, without links, that a link leads to. folder: the real path of the link's folder."""
        from asyncssh import SFTPError, SFTPPermissionDenied

        try:
            target = await self._client.readlink(link)
            # Not every server resolves the last link, so resolve its target.
            return await self.realpath(target if target.startswith(b"/") else folder + b"/" + target)
        except SFTPPermissionDenied:
            raise
        except SFTPError:  # some servers can't read links, or give nonsense, and resolve them all the same
            return await self.realpath(link)

    async def realpath(self, path: bytes) -> bytes:
        real = self._heard(await self._client.realpath(path))
        if len(real) > _MAX_PATH:
            raise ValueError(f"the server gave a path of {len(real)} bytes")
        return real

    async def names(self, folder: bytes) -> Names:
        """Returns what the folder holds, as far as the server lists it. Raises TimeoutError when it falls silent."""
        asked = _Asked(self._time())
        try:
            return await self._to_its_end(self._names(folder, asked), asked)
        finally:
            asked.wanted = False

    async def is_empty(self, folder: bytes) -> bool:
        """Whether the folder is empty, judged by the beginning of its listing. Raises as `names` does, and what the
        server says if it can't be listed."""
        asked = _Asked(self._time(), most=1)
        try:
            names = await self._to_its_end(self._names(folder, asked), asked)
        finally:
            asked.wanted = False
        if names.cut is not None:
            raise ValueError(f"no folder lists names as {folder[-200:]!r} does")
        return not names.children

    async def _names(self, folder: bytes, asked: _Asked) -> Names:
        from asyncssh import SFTPError

        found: list[Child] = []
        listed = size = 0
        try:
            async with aclosing(cast("AsyncGenerator[SFTPName, None]", self._client.scandir(folder))) as names:
                async for each in names:
                    asked.heard = self._time()
                    self._heard(each)
                    listed += 1
                    child = _child(each)
                    if child.name not in (b".", b".."):
                        found.append(child)
                        size += len(child.name)
                    if len(found) == asked.most or not asked.wanted:
                        break
                    if listed > (_PEEKED if asked.most else MAX_NAMES) or size > MAX_LISTING:
                        return Names(found, (Reason.BIG_FOLDER, f"it has more than {len(found)} names"))
                    if not asked.most and asked.heard > asked.began + MAX_FOLDER_SECS:
                        return Names(found, (Reason.SLOW_FOLDER, f"it takes longer than {MAX_FOLDER_SECS:g} s"))
        except SFTPError as error:
            if not found or not self.alive:
                raise
            return Names(found, (Reason.BROKEN_FOLDER, error.reason))
        return Names(found)

    @asynccontextmanager
    async def file(self, path: bytes, replica: Replica) -> AsyncIterator[RemoteFile]:
        """Opens the file once for all callers that read this version of it."""
        key = replica.path, replica.mtime_ns, replica.size
        file = self._files.get(key)
        if file is None:
            file = self._files[key] = RemoteFile(self._spawn(self._open(path)))
        self._files.move_to_end(key)
        file.users += 1
        self._used = self._time()
        self._keep(self._most_files)
        try:
            # A waiting caller may be cancelled. The answer must still arrive, or the server would keep the handle.
            await asyncio.shield(file.opening)
            yield file
        except Exception:
            if self._files.get(key) is file:
                del self._files[key]
            file.dropped = True
            raise
        finally:
            file.users -= 1
            self._close_unused(file)

    async def read_ranges(self, file: RemoteFile, ranges: Sequence[tuple[int, int]]) -> tuple[list[bytes], SFTPAttrs]:
        """Returns the bytes of each (offset, size), fewer only at the end of the file, and the file's attributes from
        after the reads. Requests all of it at once."""
        limit = min(max(self._client.limits.max_read_len, _DEFAULT_READ), MAX_READ)
        pieces = [
            (at, min(limit, offset + size - at))
            for offset, size in ranges
            for at in range(offset, offset + size, limit)
        ]
        # Servers answer in order, so attributes that are requested last are no older than the bytes.
        asked = [self._piece(file, at, length) for at, length in pieces]
        *parts, about = await all_of([*asked, self._attributes(file)])
        short = [n for n, (at, length) in enumerate(pieces) if len(parts[n]) < min(length, (about.size or 0) - at)]
        for n in short:  # the server sends less at a time than it announces
            parts[n] = await self._exactly(file, parts[n], *pieces[n])
        if short:
            about = await self._attributes(file)
        left = iter(parts)
        return [_joined([next(left) for _ in range(offset, offset + size, limit)]) for offset, size in ranges], about

    async def _piece(self, file: RemoteFile, offset: int, size: int) -> bytes:
        data = self._heard(cast(bytes, await file.opening.result().read(size, offset)))
        if len(data) > size:
            raise ValueError(f"the server gave {len(data)} bytes where {size} were asked for")
        return data

    async def _attributes(self, file: RemoteFile) -> SFTPAttrs:
        return self._heard(await file.opening.result().stat())

    async def _exactly(self, file: RemoteFile, data: bytes, offset: int, size: int) -> bytes:
        more = data
        while more and len(data) < size:
            more = await self._piece(file, offset + len(data), size - len(data))
            data += more
        return data

    # Whether it still answers

    @asynccontextmanager
    async def call(self) -> AsyncIterator[None]:
        """Surrounds the requests of one call: if it is cancelled or times out in silence, the connection is suspect."""
        self.calls += 1
        began = self._time()
        try:
            yield
        except (asyncio.CancelledError, TimeoutError):
            self._suspect(began)
            raise
        finally:
            self.calls -= 1

    def _heard(self, answer: T) -> T:
        self._answered = self._time()
        return answer

    def _suspect(self, began: float) -> None:
        if self._time() - max(began, self._answered) >= self.patience:
            self.abort()
        elif self.alive and self._probing is None:
            self._probing = self._spawn(self._probe())

    async def _probe(self) -> None:
        """Sends a trivial request; without an answer the connection is dead."""
        try:
            async with asyncio.timeout(self.patience):
                await self.realpath(b".")
        except Exception:
            self.abort()
        finally:
            self._probing = None

    # Files and tasks

    def rest(self, since: float) -> None:
        """Closes its files unless it was used after `since` (on the loop's clock)."""
        if self._used <= since:
            self._keep(0)

    async def make_room(self) -> None:
        """Closes the files that no call uses, and keeps fewer open from now on: the server has no handles left."""
        resting = [(key, file) for key, file in self._files.items() if not file.users]
        if resting:
            self._most_files = max(1, len(self._files) // 2)
        for key, file in resting:
            del self._files[key]
            file.dropped = True
        await asyncio.gather(*(self._close(file) for _, file in resting))

    def _keep(self, most: int) -> None:
        while len(self._files) > most:
            _, file = self._files.popitem(last=False)
            file.dropped = True
            self._close_unused(file)

    async def _open(self, path: bytes) -> SFTPClientFile:
        return self._heard(await self._client.open(path, "rb", block_size=0))

    def _close_unused(self, file: RemoteFile) -> None:
        if file.dropped and not file.users and self.alive:
            self._spawn(self._close(file))

    async def _close(self, file: RemoteFile) -> None:
        with suppress(Exception):  # the server forgets it with the connection, if not now
            await (await file.opening).close()

    async def _to_its_end(self, work: Coroutine[Any, Any, T], asked: _Asked) -> T:
        """Runs a listing, which must not stop half way, or it leaves something behind at the server: no cancellation
        ends it."""
        task = self._spawn(work)
        while not task.done():
            now = self._time()
            # Beside it, a busy connection may bring the answers to others for a while, but not all the time.
            silent = max(asked.began, self._answered) + self.patience - now
            left = min(silent, asked.heard + _TURNS * self.patience - now)
            if now > asked.began + MAX_FOLDER_SECS + self.patience:
                self.abort()  # it brings something all the time, and no names
                raise TimeoutError
            if left <= 0:
                raise TimeoutError
            await asyncio.wait([task], timeout=left)
        return task.result()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._tasks.spawn(work, "a request")


async def all_of(requests: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Returns the answers. When several fail, raises the failure of the last, which causes the others."""
    answers = await asyncio.gather(*requests, return_exceptions=True)
    for answer in reversed(answers):
        if isinstance(answer, BaseException):
            raise answer
    return answers


def _joined(parts: Sequence[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _child(each: SFTPName) -> Child:
    from asyncssh import FILEXFER_TYPE_UNKNOWN

    about = each.attrs
    type = about.type if about.type != FILEXFER_TYPE_UNKNOWN else _type_in(_bytes(each.longname))
    return Child(_bytes(each.filename), type, about.size, about.mtime, about.mtime_ns)


def _type_in(line: bytes) -> int:
    """Returns the type that a line like those of `ls -l` begins with: some servers send modes without it."""
    from asyncssh import (
        FILEXFER_TYPE_DIRECTORY,
        FILEXFER_TYPE_REGULAR,
        FILEXFER_TYPE_SYMLINK,
        FILEXFER_TYPE_UNKNOWN,
    )

    types = {b"d": FILEXFER_TYPE_DIRECTORY, b"-": FILEXFER_TYPE_REGULAR, b"l": FILEXFER_TYPE_SYMLINK}
    return types.get(line[:1], FILEXFER_TYPE_UNKNOWN) if _LONG_NAME.match(line) else FILEXFER_TYPE_UNKNOWN


def _bytes(text: bytes | str | None) -> bytes:
    return text if isinstance(text, bytes) else encode_path(text or "")
