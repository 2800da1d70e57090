"""Connects by SSH: finds keys and known hosts, pools connections, and says what to do when connecting fails."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicfs.config.models import OriginConfig
from musicfs.config.secret_variables import variable_of
from musicfs.config.secrets import find_secret
from musicfs.errors import OriginFailed, OriginFault, UserError
from musicfs.origins.sftp.session import SftpSession
from musicfs.origins.sftp.settings import SftpSettings
from musicfs.texts import said

if TYPE_CHECKING:
    from asyncssh import SSHClient, SSHClientConnection

KEEPALIVE_SECS = 5
KEEPALIVE_LOSSES = 2  # in a row, until an idle connection counts as lost
BUSY_CALLS = 4  # on one connection, above which another one is worth its cost
_WINDOW = 8 << 20
"""Bytes that a server may send before it hears that more are welcome: as many as one reader has ahead. asyncssh's own
limit of 2 MiB lets no more than 100 MB/s through a link of 20 ms."""
LOGIN_SECS = 30.0
"""So long may a login take at a server that has greeted."""
_PAUSES = (0.2, 0.5, 1.0)
"""Seconds between the attempts at a server that turns new connections away (MaxStartups)."""
_ROUND_TRIPS = 12
"""That a call may take."""
_MAX_LONGER = 3
"""Times `timeout_ms`."""
_TO_START = 3
"""Round trips that it takes to start SFTP: the channel, the subsystem, the version."""
_SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


class SshAttempt:
    """An attempt to connect: how far it has come."""

    def __init__(self) -> None:
        self._connection: SSHClientConnection | None = None

    @property
    def greeted(self) -> bool:
        """Whether the server has sent its first line."""
        return self._connection is not None and bool(self._connection.get_extra_info("server_version"))

    def client(self) -> SSHClient:
        from asyncssh import SSHClient

        attempt = self

        class Client(SSHClient):
            def connection_made(self, conn: SSHClientConnection) -> None:
                attempt._connection = conn

        return Client()


def _is_turned_away(error: Exception) -> bool:
    """Whether the server ended the connection before it said anything."""
    from asyncssh import ConnectionLost

    return isinstance(error, ConnectionLost | ConnectionResetError)


def _abort(connecting: asyncio.Task[SftpSession]) -> None:
    """Ends a connection that was made for a caller that has gone."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().abort()


class SftpConnector:
    """Makes connections to one origin's server.

    A server must show within the origin's `timeout_ms` that it is there. The login may take longer: it takes ten round
    trips, and some servers look names up, or ask others about the user.
    """

    def __init__(self, config: OriginConfig, settings: SftpSettings) -> None:
        self._config = config
        self._settings = settings
        self._timeout = config.timeout_ms / 1000
        self._proxy: object = None
        self._jumps = False

    async def __call__(self) -> SftpSession:
        """Returns a new connection. Raises OriginFailed, with what to do about it."""
        for pause in (*_PAUSES, None):
            attempt = SshAttempt()
            try:
                return await self._within_limits(attempt)
            except OriginFailed:
                raise
            except Exception as error:
                if attempt.greeted or not _is_turned_away(error):
                    raise self._failure(error) from error
                if pause is None:
                    raise OriginFailed(self._config.id, OriginFault.UNREACHABLE, self._turned_away()) from error
            await asyncio.sleep(pause)
        raise AssertionError

    async def _within_limits(self, attempt: SshAttempt) -> SftpSession:
        connecting = asyncio.create_task(self._connect(attempt), name=f"login of {self._config.id}")
        try:
            await asyncio.wait({connecting}, timeout=self._timeout)
            if not connecting.done() and (attempt.greeted or self._jumps):
                await asyncio.wait({connecting}, timeout=LOGIN_SECS)
            if connecting.done():
                return connecting.result()
        except asyncio.CancelledError:
            connecting.add_done_callback(_abort)
            raise
        finally:
            connecting.cancel()
        host, secs = self._settings.host, self._timeout
        detail = f"no SSH connection to {host} within {secs:g} s"
        if attempt.greeted:
            detail = f"the login at {host} took longer than {LOGIN_SECS:g} s"
        raise OriginFailed(self._config.id, OriginFault.TIMEOUT, detail)

    async def _connect(self, attempt: SshAttempt) -> SftpSession:
        # In a thread: loading the library, parsing files and asking a keyring take time.
        options = await asyncio.to_thread(self._options)
        from asyncssh import connect

        connection = await connect(**options, client_factory=attempt.client)
        try:
            time = asyncio.get_running_loop().time
            began = time()
            client = await connection.start_sftp_client(path_encoding=None)
            return SftpSession(connection, client, self._patience((time() - began) / _TO_START))
        except BaseException:
            connection.abort()
            raise

    def _patience(self, round_trip: float) -> float:
        """Returns how long a call may take, in seconds: on a slow link longer than `timeout_ms`."""
        return min(max(self._timeout, _ROUND_TRIPS * round_trip), _MAX_LONGER * self._timeout)

    def _options(self) -> dict[str, Any]:
        import asyncssh
        from asyncssh.encryption import get_default_encryption_algs

        from musicfs.origins.sftp import ssh_config

        ssh_config.use()
        logging.getLogger("asyncssh").setLevel(logging.WARNING)  # it announces every connection
        settings = self._settings
        options: dict[str, Any] = {"host": settings.host}
        if settings.port is not None:
            options["port"] = settings.port
        if settings.user is not None:
            options["username"] = settings.user
        said = asyncssh.SSHClientConnectionOptions(**options, config=(), client_keys=None)
        options["known_hosts"] = self._known_hosts(said.known_hosts)
        self._proxy = said.config.get("ProxyCommand")
        self._jumps = self._proxy is not None or said.config.get("ProxyJump") is not None
        if said.encryption_algs == get_default_encryption_algs():
            # ChaCha20 comes first, and costs an interpreter half as much again as AES, which is one call of OpenSSL.
            names = [name.decode() for name in said.encryption_algs]
            options["encryption_algs"] = sorted(names, key=lambda name: "-gcm@" not in name)
        if settings.key_file is not None:
            options["client_keys"] = [str(settings.key_file)]
        for key in ("password", "passphrase"):
            if (secret := find_secret(self._config, key)) is not None:
                options[key] = secret.get_secret_value()
        if settings.key_file is not None and "passphrase" not in options:
            options["ignore_encrypted"] = True  # the agent may have the key
        return options | {
            "keepalive_interval": KEEPALIVE_SECS,
            "keepalive_count_max": KEEPALIVE_LOSSES,
            "login_timeout": LOGIN_SECS,
            "compression_algs": ["none"],  # music does not get smaller
            "window": _WINDOW,
        }

    def _known_hosts(self, said: Any) -> list[str]:
        """Returns the configured file, and those that ssh reads. said: what ~/.ssh/config says; MusicFS ignores a
        setting there that trusts every host."""
        usual = said or [str(Path("~/.ssh/known_hosts").expanduser()), str(_SYSTEM_KNOWN_HOSTS)]
        own = self._settings.known_hosts
        if own is not None and not own.is_file():
            raise UserError(f"there is no file {own}; correct known_hosts, or create the file")
        files = [*([str(own)] if own else []), *usual]
        return [file for file in files if Path(file).is_file()]

    def _turned_away(self) -> str:
        advice = "it may have too many of them (MaxStartups in its sshd_config), or block this machine's address"
        return f"{self._settings.host} ends new connections at once: {advice}"

    def _failure(self, error: Exception) -> OriginFailed:
        return OriginFailed(self._config.id, *self._described(error))

    def _described(self, error: Exception) -> tuple[OriginFault, str]:
        import asyncssh

        settings = self._settings
        if isinstance(error, asyncssh.HostKeyNotVerifiable):
            return OriginFault.DENIED, self._advice_on_host_key()
        if isinstance(error, asyncssh.PermissionDenied):
            password, passphrase = (variable_of(self._config.id, key) for key in ("password", "passphrase"))
            advice = (
                f"check whether `{self._command('ssh')}` works, and set user, key_file or {password}; a key with a"
                f" passphrase needs `ssh-add`, or {passphrase}"
            )
            return OriginFault.DENIED, f"{settings.host} did not let {settings.user or 'you'} log in; {advice}"
        if isinstance(error, (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)):
            advice = f"{variable_of(self._config.id, 'passphrase')} is for its passphrase"
            what = f"the key {settings.key_file or 'of ssh'} can't be used ({said(error)}); {advice}"
            return OriginFault.DENIED, what
        if isinstance(error, asyncssh.KeyExchangeFailed):
            advice = "name one that both know in KexAlgorithms, Ciphers, MACs or HostKeyAlgorithms of ~/.ssh/config"
            return OriginFault.UNREACHABLE, f"{settings.host}: no common algorithm; {advice} ({said(error)})"
        if isinstance(error, asyncssh.SFTPBadMessage):
            advice = "the account's shell prints text before SFTP starts, or the account has no shell"
            return OriginFault.UNREACHABLE, f"{settings.host} answers no SFTP: {advice} ({said(error)})"
        if isinstance(error, asyncssh.ChannelOpenError):
            return (
                OriginFault.UNREACHABLE,
                f"{settings.host} offers no SFTP; enable `Subsystem sftp` in its sshd_config",
            )
        if isinstance(error, OSError):
            return self._system_failure(error)
        return OriginFault.UNREACHABLE, f"{settings.host}: {said(error) or type(error).__name__}"

    def _system_failure(self, error: OSError) -> tuple[OriginFault, str]:
        host = self._settings.host
        reason = os.strerror(error.errno) if error.errno else said(error)  # asyncio's own text has the whole call
        if isinstance(error, ConnectionRefusedError):
            return OriginFault.REFUSED, f"{host}: {reason}"
        if isinstance(error, socket.gaierror):
            return OriginFault.UNREACHABLE, f"the address of {host} can't be found ({error.strerror})"
        if error.filename and isinstance(self._proxy, str) and self._proxy.split()[:1] == [str(error.filename)]:
            detail = (
                f"the ProxyCommand of ~/.ssh/config for {host} runs {error.filename}, which is not there; install it"
            )
            return OriginFault.UNREACHABLE, detail
        if error.filename:
            return OriginFault.DENIED, f"{error.filename} can't be read: {error.strerror}"
        return OriginFault.UNREACHABLE, f"{host}: {reason}"

    def _advice_on_host_key(self) -> str:
        file = self._settings.known_hosts or "~/.ssh/known_hosts"
        return (
            f"the host key of {self._settings.host} is unknown, or does not match {file}: run"
            f" `{self._command('ssh')}` once and compare its fingerprint, or, if you trust the network,"
            f" `{self._command('ssh-keyscan')} >> {file}`; a host key mismatch without a known reason is a possible"
            " man-in-the-middle"
        )

    def _command(self, program: str) -> str:
        settings = self._settings
        user = f"{settings.user}@" if settings.user and program == "ssh" else ""
        return program + (f" -p {settings.port}" if settings.port else "") + f" {user}{settings.host}"


class SftpPool:
    """A few connections to one server, made when they are needed and again when they have died."""

    def __init__(
        self, connect: Callable[[], Awaitable[SftpSession]], most: int, closed: Callable[[], OriginFailed]
    ) -> None:
        self._connect_new = connect
        self._most = most
        self.closed = False
        self._failure_of_closed = closed
        self._sessions: list[SftpSession] = []
        self._connecting: asyncio.Task[SftpSession] | None = None

    async def take(self) -> SftpSession:
        """Returns the least busy connection, rather one that is not suspected of being dead.

        Raises what connecting raises, to all callers that wait for the attempt.
        """
        if self.closed:
            raise self._failure_of_closed()
        self._sessions = [session for session in self._sessions if session.alive]
        best = min(self._sessions, key=lambda session: (session.is_suspect, session.calls), default=None)
        if best is None or (best.is_suspect and len(self._sessions) < self._most):
            connecting = self._another()
            await asyncio.wait([connecting])  # others may wait for the attempt too, so it does not end with this caller
            if connecting.cancelled():
                raise self._failure_of_closed()
            return connecting.result()
        if best.calls >= BUSY_CALLS and len(self._sessions) < self._most:
            self._another()
        return best

    async def ready(self) -> float:
        """Returns how long a call may take, in seconds, once there is a connection: waits for the first. Raises what
        connecting raises."""
        living = self.living
        session = living[0] if living else await self.take()
        return session.patience

    @property
    def living(self) -> list[SftpSession]:
        return [session for session in self._sessions if session.alive]

    async def make_room(self) -> None:
        """Closes files that no call uses, of all connections: a server's limit may be one for all of them."""
        await asyncio.gather(*(session.make_room() for session in self.living))

    def _another(self) -> asyncio.Task[SftpSession]:
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._has_connected)
        return self._connecting

    async def _connect(self) -> SftpSession:
        session = await self._connect_new()
        if self.closed:
            session.abort()
            raise self._failure_of_closed()
        self._sessions.append(session)
        return session

    def _has_connected(self, task: asyncio.Task[SftpSession]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # callers that wait get it; there may be none

    def drop(self) -> None:
        """Ends all connections, and the attempt to make one, which fail what waits for them."""
        for session in self._sessions:
            session.abort()
        if self._connecting is not None:
            self._connecting.cancel()

    async def aclose(self) -> None:
        self.closed = True
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.abort()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting], timeout=1)
        await asyncio.gather(*(session.wait_ended() for session in sessions))
