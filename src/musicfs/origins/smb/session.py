"""One connection to one SMB share, over smbprotocol. All of it blocks: for worker threads.

The library does framing, authentication, signing and encryption. This module adds that every call has a deadline, an
answer that no caller waits for leaves nothing behind, and requests wait for credits instead of failing.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from smbprotocol.connection import Connection, Request
from smbprotocol.exceptions import SMBException
from smbprotocol.header import NtStatus, Smb2Flags
from smbprotocol.session import Session
from smbprotocol.structure import Structure
from smbprotocol.tree import TreeConnect

from musicfs.errors import OriginFault
from musicfs.origins.smb import wire
from musicfs.origins.smb.errors import Login, ShareLost, StatusRefused, lost
from musicfs.origins.smb.transport import Transport

T = TypeVar("T")

_CHUNK = 1 << 20  # bytes of one read; larger ones gained nothing
_PAGE = 256 << 10  # bytes of a listing asked for at once
_PEEK = 8 << 10  # bytes of a listing; they hold more than the two entries that every folder has
_MAX_READS = 8  # in one compound
_BESIDE = 3  # credits that a read takes to open, to close, and to query the version
_LOOK_SECS = 0.25

Answer = tuple[int, bytes]
"""The status, and the rest of the server's answer."""


class _TransportConnection(Connection):
    """smbprotocol's connection over our transport: it accepts no other, and makes its own while it connects."""

    def __init__(self, ours: Transport, login: Login) -> None:
        self._ours = ours
        signed = login.user is not None  # a guest has no key to sign with
        super().__init__(uuid.uuid4(), login.host, login.port, signed)  # type: ignore[no-untyped-call]

    @property
    def transport(self) -> Transport:
        return self._ours

    @transport.setter
    def transport(self, its: object) -> None:
        pass


class Deadline:
    """How long a caller waits for a call. `cancelled`: set when the caller no longer waits."""

    def __init__(self, seconds: float) -> None:
        self.cancelled = False
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._until - time.monotonic())


class Share:
    """A connected share. Its methods may be called from any threads at once.

    Each raises ShareLost when its deadline has passed or the connection has ended, and StatusRefused when the server
    refuses.
    """

    def __init__(self, login: Login, timeout: float, requests: int) -> None:
        """requests: the most that will be under way at once."""
        self.login = login
        self.server_id = ""
        """The server's own id (MS-SMB2, ServerGuid); known once it is connected."""
        self._timeout = timeout
        self._requests = requests
        self._transport = Transport(login.host, login.port, timeout)
        self._connection: Any = _TransportConnection(self._transport, login)
        self._chunk = self._page = wire.CREDIT
        self._turn = threading.Condition()
        self._session_id = 0
        self._tree_id = 0
        self._signed = False
        self._ready = False

    @property
    def alive(self) -> bool:
        """Whether it has been connected, and still is."""
        return self._ready and self._transport.connected

    def close(self) -> None:
        """Ends the connection; calls under way fail. The server closes what was open. Never waits for the server."""
        self._transport.close()

    def connect(self) -> None:
        """Connects. Call it once, and first."""
        # What the library logs is either raised here as an error, or not for users.
        logging.getLogger("smbprotocol").setLevel(logging.CRITICAL)
        try:
            self._connect()
        except BaseException as error:
            self.close()
            if isinstance(error, Exception):
                raise self._lost(error) from error
            raise
        self._transport.deadline = None
        self._ready = True

    def _connect(self) -> None:
        login, connection, timeout = self.login, self._connection, math.ceil(self._timeout)
        connection.connect(timeout=timeout)
        guest = login.user is None
        password = "" if guest else login.password.get_secret_value() if login.password else None
        session = Session(connection, login.user or "guest", password, require_encryption=False)
        session.connect()
        session.password = None  # it would stay in memory as long as the connection
        tree = TreeConnect(session, rf"\\{login.host}\{login.share}")
        tree.connect(require_secure_negotiate=not guest)
        tree.is_dfs_share = False  # paths are relative to the share, also where it is the root of a DFS
        self.server_id = str(connection.server_guid)
        self._session_id, self._tree_id = int(session.session_id), int(tree.tree_connect_id or 0)
        self._signed = session.signing_required and not tree.encrypt_data
        self._transport.sealed = bool(session.encrypt_data or tree.encrypt_data)
        each = math.ceil(_CHUNK / wire.CREDIT) + _BESIDE
        connection.echo(self._session_id, timeout, credit_request=min(each * self._requests, 8000))
        if connection.supports_multi_credit:
            window = connection.sequence_window["high"] - connection.sequence_window["low"]
            # A server takes 64 KiB at least, whatever it says; a smaller one would make a block thousands of requests.
            read, page = (max(wire.CREDIT, most) for most in (connection.max_read_size, connection.max_transact_size))
            self._chunk = min(_CHUNK, read, wire.CREDIT * max(1, window - _BESIDE))
            self._page = min(_PAGE, self._chunk, page)

    # What a share can do

    def stat(self, name: str, deadline: Deadline, folder: bool | None = False) -> wire.SmbAttributes:
        """Returns the attributes of what is at `name` (below the share, with backslashes). folder: see
        wire.open_message."""
        return self._visit(wire.open_message(name, folder=folder, only_look=True), [], deadline)[0]

    def together(self, sizes: Sequence[int]) -> int:
        """Returns how many of the reads of these sizes one call of `read` does: at least the first, perhaps not all of
        it."""
        left = self._chunk // wire.CREDIT
        for number, size in enumerate(sizes[:_MAX_READS]):
            left -= max(1, -(-size // wire.CREDIT))
            if left < 0:
                return max(1, number)
        return min(len(sizes), _MAX_READS)

    def read(
        self, name: str, ranges: Sequence[tuple[int, int]], deadline: Deadline
    ) -> tuple[list[bytes], wire.Version, wire.Version]:
        """Returns at most `size` bytes of each (offset, size), and the file's version before and after the reads.

        Each call opens the file, in the same round trip: while it is open, Samba does not show that another program on
        the server writes to it, and Windows does not free its name when it is deleted.

        Args:
            name: Of the file, below the share, with backslashes.
            ranges: At most so many as `together` says.
            deadline: Of the caller.
        """
        wanted = [(offset, min(size, self._chunk)) for offset, size in ranges]
        questions = [wire.read_message(wire.RELATED, offset, size) for offset, size in wanted if size]
        questions.append(wire.version_message(wire.RELATED))
        about, answers = self._visit(wire.open_message(name, folder=False), questions, deadline)
        got = iter(answers)
        read = [self._bytes(next(got), size) if size else b"" for _, size in wanted]
        return read, about.version, self._understood(wire.version, _good(answers[-1]))

    def _bytes(self, answer: Answer, wanted: int) -> bytes:
        if answer[0] == NtStatus.STATUS_END_OF_FILE:
            return b""
        data = self._understood(wire.bytes_read, _good(answer))
        if len(data) > wanted:
            self.close()
            detail = f"{self.login.host} gave {len(data)} bytes where {wanted} were asked for"
            raise ShareLost(OriginFault.IO, detail)
        return data

    def peek(self, name: str, deadline: Deadline) -> tuple[wire.SmbAttributes, list[wire.SmbEntry]]:
        """Returns a folder and the beginning of its listing: more than its own two entries if there are more."""
        page = wire.list_message(wire.RELATED, _PEEK)
        about, answers = self._visit(wire.open_message(name, folder=True), [page], deadline)
        return about, self._entries(answers[0]) or []

    def list_folder(self, name: str, deadline: Deadline) -> tuple[wire.SmbAttributes, list[wire.SmbEntry]]:
        """Opens a folder and returns it with the first page of its listing. The caller closes it with `shut`."""
        messages = [wire.open_message(name, folder=True), wire.list_message(wire.RELATED, self._page)]
        opening, page = self._exchange(messages, deadline, related=True)
        about = self._understood(wire.opened, _good(opening))
        try:
            return about, self._entries(page) or []
        except StatusRefused:
            self.shut(about.handle, deadline)
            raise

    def list_on(self, handle: bytes, deadline: Deadline) -> list[wire.SmbEntry] | None:
        """Returns the next page of an open folder's listing; None after the last."""
        return self._entries(self._exchange([wire.list_message(handle, self._page)], deadline)[0])

    def shut(self, handle: bytes, deadline: Deadline) -> None:
        """Closes a handle. Ignores failures: the call that opened it has succeeded."""
        with suppress(StatusRefused, ShareLost):
            self._exchange([wire.close_message(handle)], deadline)

    # Requests and answers

    def _visit(
        self, opening: Structure, questions: list[Structure], deadline: Deadline
    ) -> tuple[wire.SmbAttributes, list[Answer]]:
        """Opens, queries and closes, in one round trip."""
        messages = [opening, *questions, wire.close_message(wire.RELATED)]
        opened, *answers, closed = self._exchange(messages, deadline, related=True)
        about = self._understood(wire.opened, _good(opened))
        if closed[0] != NtStatus.STATUS_SUCCESS:  # some servers stop answering after a request that failed
            self.shut(about.handle, deadline)
        return about, answers

    def _exchange(self, messages: list[Structure], deadline: Deadline, related: bool = False) -> list[Answer]:
        """Returns one answer to each message. related: all messages use what the first one opens."""
        requests: list[Request] = []
        try:
            sent = time.monotonic()
            requests = self._send(messages, deadline, related)
            return [self._receive(request, deadline, wire.leaves_open(messages)) for request in requests]
        except ShareLost:
            # Give up a server that has been silent since, and one that would open what no caller closes.
            if (self._transport.heard < sent and not deadline.cancelled) or wire.leaves_open(messages):
                self.close()
            for request in requests:
                self._abandon(request)
            raise
        except Exception as error:
            self.close()
            raise self._lost(error) from error
        finally:
            with self._turn:
                self._turn.notify_all()  # the answers brought credits

    def _send(self, messages: list[Structure], deadline: Deadline, related: bool) -> list[Request]:
        needed = sum(map(wire.credits_of, messages))
        window = self._connection.sequence_window
        with self._turn:
            while self.alive and window["high"] - window["low"] < needed:
                if not self._turn.wait(min(_LOOK_SECS, deadline.left)):
                    self._check_deadline(deadline)
            requests: list[Request] = self._connection.send_compound(messages, self._session_id, self._tree_id, related)
            return requests

    def _receive(self, request: Request, deadline: Deadline, needed: bool) -> Answer:
        """Waits for an answer. needed: also when the caller no longer waits."""
        while (answer := self._answer(request)) is None:
            if not request.response_event.wait(min(_LOOK_SECS, deadline.left)):
                self._check_deadline(deadline, needed)
            if not self.alive or (request.response_event.is_set() and request.response is None):
                self._connection.receive(request, timeout=1)  # raises what ended the connection
        self._forget(request)
        if self._signed and not answer["flags"].has_flag(Smb2Flags.SMB2_FLAGS_SIGNED):
            raise SMBException("the server did not sign its answer")  # the library accepts that
        return answer["status"].get_value(), answer["data"].get_value()

    def _answer(self, request: Request) -> Structure | None:
        """Returns the answer if it has arrived. A notice that it will take longer does not count."""
        with request.response_event_lock:
            answer: Structure | None = request.response
            if answer is not None and answer["status"].get_value() == NtStatus.STATUS_PENDING:
                request.response = answer = None
                request.response_event.clear()
            return answer

    def _abandon(self, request: Request) -> None:
        with request.response_event_lock:
            if request.response_event.is_set():
                self._forget(request)
            else:
                request.message["reserved"] = 1  # makes the library drop the answer when it comes

    def _forget(self, request: Request) -> None:
        self._connection.outstanding_requests.pop(request.message["message_id"].get_value(), None)

    def _check_deadline(self, deadline: Deadline, needed: bool = False) -> None:
        if not deadline.left or (deadline.cancelled and not needed):
            raise ShareLost(OriginFault.TIMEOUT, f"{self.login.host} did not answer in time")

    def _understood(self, parse: Callable[[bytes], T], answer: bytes) -> T:
        """Parses an answer. One that makes no sense ends the connection, and closes what is open there."""
        try:
            return parse(answer)
        except (ValueError, IndexError, struct.error) as error:
            self.close()
            detail = f"{self.login.host}: the server's answer makes no sense ({error})"
            raise ShareLost(OriginFault.IO, detail) from error

    def _entries(self, answer: Answer) -> list[wire.SmbEntry] | None:
        """Returns a page of a listing; None after the last one. A share's root may lack even the entries for itself."""
        if answer[0] in (NtStatus.STATUS_NO_MORE_FILES, NtStatus.STATUS_NO_SUCH_FILE):
            return None
        return self._understood(_all_listed, _good(answer))

    def _lost(self, error: Exception) -> ShareLost:
        until = self._transport.deadline
        if until is not None and time.monotonic() >= until:
            error = TimeoutError()
        return lost(self.login, error)


def _good(answer: Answer) -> bytes:
    status, data = answer
    if status != NtStatus.STATUS_SUCCESS:
        raise StatusRefused(status)
    return data


def _all_listed(data: bytes) -> list[wire.SmbEntry]:
    return list(wire.listed(data))
