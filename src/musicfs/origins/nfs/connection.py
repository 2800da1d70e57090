"""Connections to one export over NFS version 3, made by libnfs.

Only the library's asynchronous calls are used, each driven to its end by `Connection._perform`. Its synchronous ones
wait without limit for a connection, keep pointers to stack frames that have gone, and know timeouts only per packet.
"""

from __future__ import annotations

import ctypes as c
import errno
import os
import re
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import quote

from musicfs.model import decode_path, encode_path, stored_ns
from musicfs.origins.bounds import MAX_FOLDER_SECS, MAX_NAMES
from musicfs.origins.nfs import rpc
from musicfs.origins.nfs.guard import Guard
from musicfs.origins.nfs.libnfs import Answered, NfsStat64, load
from musicfs.origins.nfs.rpc import Found, NfsCall, Piece, unix_credentials
from musicfs.origins.nfs.xdr import NfsAttributes

T = TypeVar("T")

_MAX_GROUPS = 16  # RFC 5531
_NEIGHBOURS = 16 << 10  # bytes of an answer with a part of a folder: about 80 names
_MIN_READ, _MAX_READ = 4 << 10, 1 << 20  # bytes of one call, whatever size the server announces
_NAMED = {"BADHANDLE": errno.ESTALE, "JUKEBOX": errno.EAGAIN, "BAD_COOKIE": errno.EAGAIN}
"""Errors that only NFS has. The last is of a folder that changed between two parts of its listing."""
_LOOK_SECS = 0.1  # how often a waiting call checks whether its caller still waits
_TURNS = 4
"""In which libnfs sends what it has: more would mean that the way to the server is full."""


class NfsEntry(NamedTuple):
    """One entry of a folder. mode: 0 when the server sent no attributes."""

    name: str
    mode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Export:
    """Where an exported folder is. Ports that are None come from the server's rpcbind."""

    host: str
    path: str
    port: int | None = None
    mount_port: int | None = None


class Patience:
    """How long one call may take: until `secs` from now, or from the last answer's arrival if `renewed`, but never
    longer than the listing of a folder may.

    The caller sets `ended` when it no longer waits; the call then ends soon.
    """

    def __init__(self, secs: float, renewed: bool = False) -> None:
        self.ended = False
        self._secs = secs
        self._renewed = renewed
        self._until = time.monotonic() + secs
        self._end = time.monotonic() + max(secs, MAX_FOLDER_SECS)

    def left(self) -> float:
        """Returns the seconds that are left; 0 when the caller no longer waits."""
        return 0.0 if self.ended else max(0.0, min(self._until, self._end) - time.monotonic())

    def of_login(self) -> Patience:
        """Returns that of a login: each answer renews it, and it goes on when the caller no longer waits."""
        return Patience(self._secs, renewed=True)

    def heard(self) -> None:
        if self._renewed:
            self._until = time.monotonic() + self._secs


class Connection:
    """One connection to an export; `mount` makes it. For one thread at a time.

    Paths are absolute, from the export's root. Every method blocks for at most `patience`, and raises OSError:
    ConnectionError when the connection failed (errno says how), TimeoutError when there was no answer; after both,
    only `close` may follow. All others are the server's own answers.
    """

    def __init__(self, export: Export, patience: Patience) -> None:
        self.patience = patience
        self._export = export
        self._lib = load()
        self._nfs: int | None = None
        self._mounted = False
        self._complaint = ""
        self._answered = Answered(self._take_answer)
        self._credentials = b""
        self._read_size = _MIN_READ
        self._turn = 0
        self._done = True
        self._status = 0
        self._answer: object = None
        self._convert: Callable[[int, int | None], object] = _nothing
        self._guard: Guard | None = None

    def mount(self) -> None:
        self._nfs = self._lib.nfs_init_context()
        if not self._nfs:
            raise MemoryError("libnfs has no memory for a connection")
        url = self._lib.nfs_parse_url_dir(self._nfs, self._options().encode())
        self._lib.nfs_destroy_url(url)
        groups = os.getgroups()[:_MAX_GROUPS]
        array = (c.c_uint32 * len(groups))(*groups)
        who = self._lib.libnfs_authunix_create(b"musicfs", os.geteuid(), os.getegid(), len(groups), array)
        self._lib.nfs_set_auth(self._nfs, who)  # the library's own choice has no groups
        host, path = self._export.host.encode(), encode_path(self._export.path)
        self._perform(_nothing, self._lib.nfs_mount_async, host, path)
        self._mounted = True
        self._credentials = unix_credentials(b"musicfs", os.geteuid(), os.getegid(), groups)
        self._read_size = min(max(_MIN_READ, self._lib.nfs_get_readmax(self._nfs)), _MAX_READ)

    def _options(self) -> str:
        """Returns a URL, because release 4 accepts the ports in no other way."""
        options = {"version": 3, "autoreconnect": 0, "dircache": 0, "auto-traverse-mounts": 0}
        options |= {} if self._export.port is None else {"nfsport": self._export.port}
        options |= {} if self._export.mount_port is None else {"mountport": self._export.mount_port}
        return "nfs://host/?" + "&".join(f"{name}={quote(str(value))}" for name, value in options.items())

    def root(self) -> bytes:
        """Returns the handle of the export's root. Another folder at the same path has another handle, even if it has
        the inode number of the old one."""
        handle = self._lib.nfs_get_rootfh(self._nfs).contents
        return c.string_at(handle.data, handle.length)

    def alive(self) -> bool:
        """Whether the server still keeps the connection, as far as is known without waiting. No call may be under
        way."""
        return self._guard is not None and self._lib.nfs_get_fd(self._nfs) >= 0 and self._guard.idle()

    def close(self) -> None:
        """Ends what is under way. Never blocks."""
        nfs, self._nfs = self._nfs, None
        if nfs is not None:
            self._turn += 1  # libnfs calls back for everything under way; no caller waits for that
            self._lib.nfs_destroy_context(nfs)
        if self._guard is not None:
            self._guard.close()

    def stat(self, path: str) -> NfsStat64:
        """Returns the attributes of what `path` leads to. Links are followed within the export."""
        return self._perform(_attributes, self._lib.nfs_stat64_async, encode_path(path))

    def look_up(self, folder: bytes, name: str) -> Found:
        """Returns what a folder has under the name. Links are not followed.

        A handle is an address; the server keeps no state for it."""
        return self._granted([rpc.look_up(folder, name)])[0]

    def look_up_among(self, folder: bytes, name: str) -> tuple[Found, dict[str, Found]]:
        """Does the same, and returns what else is in the folder, as far as one answer contains it, in the same round
        trip."""
        found, others = self._ask([rpc.look_up(folder, name), rpc.list_some(folder, _NEIGHBOURS)])
        if isinstance(found, OSError):
            raise found
        return found, {} if isinstance(others, OSError) else others

    def walk(self, path: str) -> bytes:
        """Returns the handle of a file. Links are followed, as in `stat`."""
        file = self._perform(_pointer, self._lib.nfs_open_async, encode_path(path), os.O_RDONLY)
        handle = self._lib.nfs_get_fh(file).contents
        found = c.string_at(handle.data, handle.length)
        self._lib.nfs_close(self._nfs, file)
        return found

    def get_attributes(self, file: bytes) -> NfsAttributes:
        return self._granted([rpc.get_attributes(file)])[0]

    def read_ranges(self, file: bytes, ranges: Sequence[tuple[int, int]]) -> list[Sequence[Piece]]:
        """Returns, for each (offset, size), pieces without a gap from its offset on; the server may send fewer bytes
        than the call asks for.

        The call asks for all of them at once, each piece as large as the server allows."""
        most = self._read_size
        wanted = [
            (number, at, min(most, offset + size - at))
            for number, (offset, size) in enumerate(ranges)
            for at in range(offset, offset + size, most)
        ]
        found: list[list[Piece]] = [[] for _ in ranges]
        is_short = [False] * len(ranges)
        pieces = self._granted([rpc.read(file, at, size) for _, at, size in wanted])
        for piece, (number, _, size) in zip(pieces, wanted, strict=True):
            if len(piece.data) > size:
                raise ConnectionError(errno.EBADMSG, "the server gave more than it was asked for")
            if not is_short[number]:
                found[number].append(piece)
                is_short[number] = len(piece.data) < size
        return list(found)

    def list(self, path: str) -> list[NfsEntry]:
        """Returns everything in a folder, in no order."""
        folder = self._perform(_pointer, self._lib.nfs_opendir_async, encode_path(path))
        found = []
        while entry := self._lib.nfs_readdir(self._nfs, folder):
            about = entry.contents
            if about.name is None:
                continue
            mtime_ns = stored_ns(about.mtime.sec * 10**9 + about.mtime_nsec)
            found.append(NfsEntry(decode_path(about.name), about.mode if about.type else 0, about.size, mtime_ns))
        self._lib.nfs_closedir(self._nfs, folder)
        return [entry for entry in found if entry.name not in (".", "..")]

    def _perform(self, convert: Callable[[int, int | None], T], start: Callable[..., int], *args: object) -> T:
        """Starts a call and serves the connection until its answer is here. Returns what `convert` makes of the
        answer."""
        self._turn += 1
        self._done, self._answer, self._convert = False, None, convert
        self._lib.nfs_set_error(self._nfs, b"")  # else an old one might be taken for this call's
        if self._guard is not None:
            self._guard.replies.names = 0
        if start(self._nfs, *args, self._answered, self._turn) < 0 and not self._done:
            raise ConnectionError(errno.ECONNABORTED, self._error_text())
        while not self._done:
            self._serve()
        if self._status < 0:
            raise self._failure(-self._status)
        return cast(T, self._answer)

    def _take_answer(self, status: int, _nfs: object, data: int | None, turn: int) -> None:
        """libnfs calls this, also late, for calls that no caller waits for. `data` is the library's memory."""
        if turn == self._turn and not self._done:
            self._answer, status = self._converted(status, data) if status >= 0 else (None, status)
            if status < 0 and data and not self._mounted:  # after the mount it may point to anything
                self._complaint = c.string_at(data).decode(errors="replace")
            self._status = status
            self._done = True

    def _converted(self, status: int, data: int | None) -> tuple[object, int]:
        """Converts an answer. An exception inside a callback of libnfs would be lost, and the call would wait
        forever."""
        try:
            return self._convert(status, data), status
        except Exception:
            return None, -errno.EIO

    def _granted(self, calls: Sequence[NfsCall[T]]) -> Sequence[T]:
        """Returns the answers to all calls. Raises the first refusal."""
        replies = self._ask(calls)
        for reply in replies:
            if isinstance(reply, OSError):
                raise reply
        return replies

    def _ask(self, calls: Sequence[NfsCall[Any]]) -> Sequence[Any]:
        """Sends all calls at once and waits for their answers. Refusals are OSErrors among them."""
        guard = self._guarded()
        replies = guard.replies
        numbers = [replies.expect(call) for call in calls]
        guard.send(b"".join(map(rpc.encode, numbers, repeat(self._credentials), calls)))
        while replies.awaited():
            self._exchange(guard)
            if replies.awaited():
                self._check_patience()
        answers = [replies.answers.pop(number) for number in numbers]
        for answer in answers:
            if isinstance(answer, ConnectionError):
                raise answer
        return answers

    def _serve(self) -> None:
        """Sends and receives what is possible at once, or waits a moment for that."""
        guard = self._guarded()
        # Once for its connection, which counts as made from the start, and once for the call that waits for that: to
        # wait for the server before there is a call would take the whole moment, twice for each mount.
        for _ in range(_TURNS):
            if self._done or not self._lib.nfs_which_events(self._nfs) & select.POLLOUT:
                break
            self._let(select.POLLOUT)
            guard = self._guarded() if not self._done else guard
        guard.forward()
        self._exchange(guard)
        if guard.replies.names > MAX_NAMES:
            raise ConnectionError(errno.E2BIG, "the server lists more names in one folder than any has")
        if not self._done:
            self._check_patience()

    def _exchange(self, guard: Guard) -> None:
        """Waits a moment for the server, and receives what it has sent."""
        if guard.wait(min(_LOOK_SECS, self.patience.left())):
            before = guard.replies.records
            replies = guard.take()
            if guard.replies.records > before:
                self.patience.heard()
            for reply in replies:
                guard.hand_over(reply, lambda: self._let(select.POLLIN))

    def _check_patience(self) -> None:
        if not self.patience.left():
            raise TimeoutError(errno.ETIMEDOUT, "no answer")

    def _let(self, events: int) -> None:
        """Lets libnfs send or receive."""
        if self._lib.nfs_service(self._nfs, events) < 0 and not self._done:
            raise ConnectionError(errno.ECONNRESET, self._error_text())

    def _guarded(self) -> Guard:
        """Returns the guard of libnfs's present connection: libnfs makes one to mount, and another for everything
        else."""
        fd = self._lib.nfs_get_fd(self._nfs)
        if fd < 0:
            raise ConnectionError(errno.ECONNRESET, self._error_text())
        if self._guard is None or not self._guard.guards(fd):
            if self._guard is not None:
                self._guard.close()
            self._guard = Guard(fd)
        return self._guard

    def _error_text(self) -> str:
        text: bytes = self._lib.nfs_get_error(self._nfs) or b""
        return text.decode(errors="replace") or self._complaint or "the connection was lost"

    def _failure(self, number: int) -> OSError:
        """Returns the server's answer as an error. libnfs reports EFAULT for a failed read as for a lost connection,
        and EINTR when it gave up itself; its text says more."""
        text = self._error_text()
        if named := re.search(r"NFS3ERR_([A-Z_]+)", text):
            number = _NAMED[named[1]] if named[1] in _NAMED else getattr(errno, f"E{named[1]}", errno.EIO)
        if "not accepted by the server" in text:  # for example when it serves only privileged ports
            number = errno.EACCES
        if number in (errno.EFAULT, errno.EINTR):
            return ConnectionError(errno.ECONNRESET, text)
        return OSError(number, os.strerror(number))


def _nothing(_status: int, _data: int | None) -> None:
    return None


def _pointer(_status: int, data: int | None) -> int:
    assert data is not None
    return data


def _attributes(_status: int, data: int | None) -> NfsStat64:
    assert data is not None
    return NfsStat64.from_buffer_copy(c.string_at(data, c.sizeof(NfsStat64)))
