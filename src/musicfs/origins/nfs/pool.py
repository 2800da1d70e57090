"""A pool of connections to one NFS export: made when needed, kept while they work."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from musicfs.errors import MusicFSError
from musicfs.origins.nfs.connection import Connection, Export, Patience


class ExportRefused(OSError):
    """The server did not let us mount the export."""


@dataclass(eq=False)
class NfsSession:
    """A connection. For one thread at a time.

    used: there were calls on it before, so what it knows about the root may be old.
    """

    connection: Connection
    used: bool = False


class NfsPool:
    """The sessions of one export. For any thread.

    connected: whether a connection was made, and none has failed since.
    """

    def __init__(self, export: Export) -> None:
        self.connected = False
        self._export = export
        self._idle: list[NfsSession] = []
        self._closed = False

    @contextmanager
    def one(self, patience: Patience) -> Iterator[NfsSession]:
        """Lends a session. What the calls raise decides whether the pool keeps it: not when the connection failed, nor
        when the server has forgotten its root."""
        session = self._take(patience)
        try:
            yield session
        except (OSError, MusicFSError) as error:
            lost = isinstance(error, ConnectionError | TimeoutError)
            if lost:
                self.forget()
            self._put(session, fit=not lost and not (isinstance(error, OSError) and error.errno == errno.ESTALE))
            raise
        except BaseException:
            session.connection.close()
            raise
        self._put(session)

    def forget(self) -> None:
        """Closes the connections that are not in use."""
        self.connected = False
        while self._idle:
            try:
                self._idle.pop().connection.close()
            except IndexError:  # another thread was faster
                return

    def connect(self, patience: Patience) -> None:
        """Makes sure that there is a connection. Raises as a call of `one` does."""
        self._put(self._take(patience))

    def close(self) -> None:
        """Closes the pool. Connections in use are closed when they are returned."""
        self._closed = True
        self.forget()

    def _take(self, patience: Patience) -> NfsSession:
        while self._idle:
            try:
                session = self._idle.pop()
            except IndexError:
                break
            if session.connection.alive():  # servers end connections that are idle for some minutes
                session.connection.patience = patience
                return session
            session.connection.close()
        return self._mount(patience)

    def _mount(self, patience: Patience) -> NfsSession:
        # It takes up to ten round trips: each has its own time, and the connection serves others if the caller goes.
        connection = Connection(self._export, patience.of_login())
        try:
            connection.mount()
        except (ConnectionError, TimeoutError):
            connection.close()
            raise
        except OSError as error:
            connection.close()
            raise ExportRefused(error.errno, error.strerror) from error
        self.connected = True
        connection.patience = patience
        session = NfsSession(connection)
        if not patience.left():
            self._put(session)
            raise TimeoutError(errno.ETIMEDOUT, "the caller no longer waits")
        return session

    def _put(self, session: NfsSession, fit: bool = True) -> None:
        if not fit:
            session.connection.close()
            return
        session.used = True
        self._idle.append(session)
        if self._closed:
            self.forget()
