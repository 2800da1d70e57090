"""Music in an NFS export: mounted by the system, or reached from user space, without root, by libnfs."""

from __future__ import annotations

import asyncio
import errno
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar, TypeVarTuple
from urllib.parse import SplitResult, parse_qsl, unquote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from musicfs.config import OriginConfig
from musicfs.config_sources import Wanted
from musicfs.errors import MusicFSError, OriginFailed, OriginFault, ReplicaFailed, ReplicaFault, UserError
from musicfs.model import HealthStatus, OriginId, OriginType, Replica, Stat
from musicfs.origins.base import Origin, OriginKind, WatchCallback, WatchHandle
from musicfs.origins.libnfs import Attributes, Export, Patience, load
from musicfs.origins.listing import Folder, Identity, is_skipped
from musicfs.origins.local import LocalOrigin
from musicfs.origins.nfsexport import ExportRefused, Session, Sessions
from musicfs.origins.openfiles import key_of
from musicfs.origins.threads import WorkersClosed, WorkerThreads

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)
_PORT = Annotated[int | None, Field(ge=1, le=65535), Wanted("a port, a whole number from 1 to 65535")]


class NfsSettings(BaseModel):
    """Either `path`, where the system has mounted the export, or `host` and `export`. Ports that are not given are
    asked of the server's rpcbind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Annotated[Path | None, Wanted("the folder at which the export is mounted")] = None
    host: Annotated[str | None, Field(min_length=1), Wanted("the server's name or address")] = None
    export: Annotated[str | None, Field(pattern="^/"), Wanted("the exported folder, from /")] = None
    port: _PORT = None
    mount_port: _PORT = None
    version: Annotated[Literal[3], Wanted("3; what offers only version 4, mount, and give its path")] = 3

    @model_validator(mode="after")
    def _one_way(self) -> NfsSettings:
        remote = [name for name in ("host", "export", "port", "mount_port") if getattr(self, name) is not None]
        if self.path is not None and remote:
            raise ValueError(f"path is of a mounted folder and {remote[0]} of one that is not: give one of them")
        if self.path is None and not (self.host and self.export):
            raise ValueError("give host and export, or the path where it is mounted")
        return self


def open_nfs(config: OriginConfig, *, populated: bool) -> Origin:
    """See base.OpenOrigin. Raises UserError when libnfs is wanted and not installed."""
    settings = NfsSettings.model_validate(dict(config.settings))
    if settings.path is not None:
        return LocalOrigin(config.model_copy(update={"settings": {"path": settings.path}}), populated=populated)
    try:
        load()
    except OSError:
        raise UserError(
            f"Origin {config.id!r} needs libnfs: install it with `apt install libnfs13` (libnfs14 on newer systems), "
            f"or mount {settings.host}:{settings.export} and give its path."
        ) from None
    return NfsOrigin(config, settings, populated=populated)


def from_url(url: SplitResult) -> dict[str, object]:
    """nfs://host[:port]/export[?mount_port=N]. The whole path is the export, as with mount(8): servers let folders
    below an exported one be mounted too."""
    if url.username is not None or url.password is not None:
        raise ValueError("NFS knows no users or passwords: leave out what is before the @.")
    if url.fragment:
        raise ValueError("write a # in the path as %23.")
    export = unquote(url.path, errors="surrogateescape").rstrip("/")
    if not url.hostname or not export:
        raise ValueError("write it as nfs://HOST/EXPORT.")
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    if unknown := sorted(options.keys() - {"mount_port", "version"}):
        raise ValueError(f"{unknown[0]!r} is not known here: use mount_port.")
    settings: dict[str, object] = {"host": url.hostname, "export": export}
    if url.port is not None:
        settings["port"] = url.port
    return settings | {name: int(value) if value.isdecimal() else value for name, value in options.items()}


class NfsOrigin:
    """See base.Origin for the contract. Blocking calls run in threads of this origin's own, on a connection each."""

    def __init__(self, config: OriginConfig, settings: NfsSettings, *, populated: bool = False) -> None:
        self.id: OriginId = config.id
        self.kind: OriginType = config.origin_type
        self._timeout = config.timeout_ms / 1000
        self._populated = populated
        self._filled: tuple[int, int, int] | None = None
        self._export = Export(settings.host or "", settings.export or "", settings.port, settings.mount_port)
        self._threads = WorkerThreads(f"origin-{config.id}", config.pool_size)
        self._sessions = Sessions(self._export)

    async def read(self, replica: Replica, offset: int, size: int) -> bytes:
        return await self._run(replica.path, self._read, replica, offset, size)

    async def stat(self, path: str) -> Stat:
        return await self._run(path, self._stat, path)

    async def scan(self, under: str = "") -> AsyncIterator[Stat]:
        root, file = await self._run(under, self._begin, under, listing=True)
        if file is not None:
            yield file
            return
        waiting = [under]
        while waiting:
            found = await self._run("", self._list, root, waiting.pop(), listing=True)
            for each in found.files:
                yield each
            waiting += reversed(found.folders)
        await self._run("", self._check_same, root)

    async def health(self) -> HealthStatus:
        await self._run("", self._check_root)
        return HealthStatus.HEALTHY

    async def watch(self, path: str, callback: WatchCallback) -> WatchHandle | None:
        """None: version 3 of NFS tells nobody of changes."""
        return None

    async def aclose(self) -> None:
        self._threads.close()
        self._sessions.close()

    async def _run(self, path: str, call: Callable[[Session, *Ts], T], *args: *Ts, listing: bool = False) -> T:
        """Runs a blocking call in a thread, its failures translated. listing: it may take as long as answers come."""
        if not _is_inside(path):
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "the path leads out of the origin's folder")
        patience = Patience(self._timeout, renewed=listing)
        try:
            async with asyncio.timeout(None if listing else self._timeout):
                return await self._threads.run(self._translated, patience, path, call, args)
        except TimeoutError:
            raise OriginFailed(self.id, OriginFault.TIMEOUT, self._no_answer()) from None
        except WorkersClosed:
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, "it has been closed") from None
        finally:
            patience.ended = True

    # What follows runs in worker threads.

    def _translated(self, patience: Patience, path: str, call: Callable[[Session, *Ts], T], args: tuple[*Ts]) -> T:
        patience.heard()
        try:
            try:
                return self._attempt(patience, path, call, args)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
            # The server forgot a handle, perhaps not the file: from the export's path on, everything anew.
            self._sessions.forget()
            return self._attempt(patience, path, call, args)
        except OSError as error:
            raise self._failure(error) from error

    def _attempt(self, patience: Patience, path: str, call: Callable[[Session, *Ts], T], args: tuple[*Ts]) -> T:
        with self._sessions.one(patience) as session:
            try:
                return call(session, *args)
            except OSError as error:
                if error.errno not in _GONE + _DENIED:
                    raise
                self._check_root(session)  # only while it is there, that the file is not means something
                fault = ReplicaFault.MISSING if error.errno in _GONE else ReplicaFault.DENIED
                raise ReplicaFailed(self.id, path, fault, error.strerror or "") from error

    def _failure(self, error: OSError) -> MusicFSError:
        export = self._export
        place = f"{export.host}:{export.path}"
        if isinstance(error, TimeoutError):
            return OriginFailed(self.id, OriginFault.TIMEOUT, self._no_answer())
        if isinstance(error, ExportRefused):  # servers say one and the same to strangers and of what is not there
            detail = f"the server refuses to export {place} to this machine ({error.strerror}); see that it exists and "
            detail += "that its export allows this machine and, with the option 'insecure', ports above 1023"
            return OriginFailed(self.id, OriginFault.UNREACHABLE, detail)
        if error.errno == errno.ECONNREFUSED and None in (export.port, export.mount_port):
            detail = f"{export.host}: connection refused; if it has no rpcbind, give port and mount_port"
            return OriginFailed(self.id, OriginFault.REFUSED, detail)
        return OriginFailed(self.id, _fault(error), f"{place}: {error.strerror}")

    def _no_answer(self) -> str:
        return f"{self._export.host} did not answer within {self._timeout:g} s"

    def _check_root(self, session: Session) -> Identity:
        """Which folder the root is. Raises OriginFailed when it was emptied since it was seen with files, and OSError
        with ESTALE when it is gone."""
        about = session.connection.stat("/")
        if about.nlink == 0 and session.used:
            raise OSError(errno.ESTALE, "the folder was removed")
        seen = about.dev, about.ino, about.mtime_ns
        if seen == self._filled:
            return about.dev, about.ino
        try:
            empty = not session.connection.list("/")
        except PermissionError:
            raise OriginFailed(self.id, OriginFault.DENIED, f"{self._export.path} can't be listed") from None
        if not empty:
            self._populated, self._filled = True, seen
        elif self._populated:
            detail = f"{self._export.host}:{self._export.path} is empty; is its disk mounted there?"
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, detail)
        return about.dev, about.ino

    def _check_same(self, session: Session, root: Identity) -> None:
        if self._check_root(session) != root:
            raise OriginFailed(self.id, OriginFault.UNREACHABLE, "the folder was replaced while it was listed")

    def _read(self, session: Session, replica: Replica, offset: int, size: int) -> bytes:
        key, connection = key_of(replica), session.connection
        handle = session.handle(key)
        try:
            try:
                data = _read_exactly(session, handle, offset, min(size, max(0, replica.size - offset)))
            except (ConnectionError, TimeoutError):
                raise
            except OSError:
                self._check_version(replica, connection.fstat(handle))  # what was replaced, perhaps by a folder
                raise
            self._check_version(replica, connection.fstat(handle))  # after reading: what was read is of that version
            return data
        except (OSError, ReplicaFailed):
            session.drop(key)
            raise

    def _check_version(self, replica: Replica, about: Attributes) -> None:
        if stat.S_ISDIR(about.mode):
            raise ReplicaFailed(self.id, replica.path, ReplicaFault.MISSING, "it is a folder now")
        if not stat.S_ISREG(about.mode) or (about.size, about.mtime_ns) != (replica.size, replica.mtime_ns):
            raise ReplicaFailed(self.id, replica.path, ReplicaFault.CHANGED)

    def _stat(self, session: Session, path: str) -> Stat:
        about = session.connection.stat(f"/{path}")
        if not stat.S_ISREG(about.mode):
            self._check_root(session)
            raise ReplicaFailed(self.id, path, ReplicaFault.MISSING, "it is not a file")
        return Stat(path, about.size, about.mtime_ns)

    def _begin(self, session: Session, under: str) -> tuple[Identity, Stat | None]:
        """The root, and the file that is at `under` if it is no folder."""
        root = self._check_root(session)
        about = session.connection.stat(f"/{under}")
        return root, Stat(under, about.size, about.mtime_ns) if stat.S_ISREG(about.mode) else None

    def _list(self, session: Session, root: Identity, folder: str) -> Folder:
        """What `folder` holds. Links are left out: what they lead to inside the export is met under its own name."""
        found = Folder()
        try:
            entries = sorted(session.connection.list(f"/{folder}"))
        except OSError as error:
            if error.errno in _GONE:  # one folder, or all of them?
                self._check_same(session, root)
                return found
            if error.errno in _DENIED:
                detail = f"the folder {folder or self._export.path!r} can't be listed: {error.strerror}"
                raise OriginFailed(self.id, OriginFault.DENIED, detail) from error
            raise
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            known = entry if entry.mode else self._look(session, path)
            if known is None:
                continue
            if stat.S_ISREG(known.mode):
                found.files.append(Stat(path, known.size, known.mtime_ns))
            elif stat.S_ISDIR(known.mode) and not is_skipped(entry.name):
                found.folders.append(path)
        return found

    def _look(self, session: Session, path: str) -> Attributes | None:
        """What the listing did not tell; None: it has gone meanwhile."""
        try:
            return session.connection.stat(f"/{path}")
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


def _read_exactly(session: Session, handle: int, offset: int, size: int) -> bytes:
    parts, done = [], 0
    while done < size and (data := session.connection.pread(handle, offset + done, size - done)):
        parts.append(data)
        done += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _fault(error: OSError) -> OriginFault:
    if error.errno == errno.ECONNREFUSED:
        return OriginFault.REFUSED
    unreachable = isinstance(error, ConnectionError) or error.errno == errno.ESTALE
    return OriginFault.UNREACHABLE if unreachable else OriginFault.IO


KIND = OriginKind(OriginType.NFS, NfsSettings, open_nfs, remote=True, schemes=("nfs",), from_url=from_url)
