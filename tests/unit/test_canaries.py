"""What MusicFS relies on in other packages although they do not promise it.

A test that fails here says what has changed and which module of ours depends on it. The version bounds in
pyproject.toml keep users from the change until the module is adapted.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import stat
import sys
from collections.abc import Callable

import pytest

from musicfs.mount.session.event_loop import FuseEventLoop
from musicfs.origins.nfs import libnfs
from musicfs.origins.nfs.connection import Connection, Export, NfsEntry, Patience
from tests.support.servers.fakenfs import CONTENT, ROOT, TIME, FakeNfs
from tests.support.servers.process import HOST


def source(of: Callable[..., object] | type) -> str:
    """The source text, in double quotes."""
    return inspect.getsource(of).replace("'", '"')


def parameters(of: Callable[..., object]) -> list[str]:
    return list(inspect.signature(of).parameters)


# asyncio: musicfs/mount/session/event_loop.py


def test_the_event_loop_keeps_its_work_where_the_session_looks() -> None:
    loop = FuseEventLoop()
    try:
        assert loop.idle_fd() >= 0, "asyncio's loop has no _selector with a descriptor: adapt FuseEventLoop.idle_fd"
        assert loop.idle_ms() == -1, "asyncio's loop without work has _ready or _scheduled: adapt FuseEventLoop.idle_ms"
        timer = loop.call_later(60, print)
        assert 59_000 < loop.idle_ms() <= 60_000, "asyncio keeps no timers in _scheduled: adapt FuseEventLoop.idle_ms"
        timer.cancel()
        loop.call_soon(print)
        assert loop.idle_ms() == 0, "asyncio keeps no callbacks in _ready: adapt FuseEventLoop.idle_ms"
    finally:
        loop.close()
    assert issubclass(FuseEventLoop, asyncio.SelectorEventLoop)


# smbprotocol: musicfs/origins/smb/session.py and transport.py


def test_smbprotocol_keeps_what_our_sessions_use() -> None:
    import uuid

    from smbprotocol.connection import Connection as SmbConnection
    from smbprotocol.connection import Request

    connection = SmbConnection(uuid.uuid4(), "host", 445, True)
    assert {"low", "high"} <= connection.sequence_window.keys(), "smbprotocol counts its credits in another way"
    assert connection.outstanding_requests == {}, "smbprotocol keeps its requests elsewhere"
    assert parameters(SmbConnection.send_compound) == ["self", "messages", "sid", "tid", "related"]
    assert {"request", "timeout"} <= set(parameters(SmbConnection.receive))
    assert {"sid", "timeout", "credit_request"} <= set(parameters(SmbConnection.echo))
    request = Request({}, int, connection)
    for name in ("message", "response", "response_event", "response_event_lock"):
        assert hasattr(request, name), f"smbprotocol's Request has no {name}: adapt smb/session.py"


def test_smbprotocol_uses_a_transport_as_ours_is_made() -> None:
    from smbprotocol import connection
    from smbprotocol.transport import Tcp

    used = source(connection.Connection)
    for use in ("self.transport.connect()", "self.transport.send(", "self.transport.recv(", "self.transport.close()"):
        assert use in used, f"smbprotocol no longer calls {use}: adapt smb/transport.py"
    assert parameters(Tcp.recv) == ["self", "timeout"], "smbprotocol's transport changed: adapt smb/transport.py"
    assert parameters(Tcp.send) == ["self", "header"], "smbprotocol's transport changed: adapt smb/transport.py"


def test_smbprotocol_drops_the_answer_to_a_request_that_is_marked() -> None:
    from smbprotocol.connection import Connection as SmbConnection

    marked = 'request.message["reserved"].get_value() == 1'
    assert marked in source(SmbConnection), "smbprotocol no longer drops such answers: adapt Share._abandon"


# asyncssh: musicfs/origins/sftp/packets.py and connect.py


def test_asyncssh_reads_each_packet_as_its_length_and_then_the_rest() -> None:
    from asyncssh import SFTPClient
    from asyncssh.sftp import SFTPHandler

    assert "self._handler = handler" in source(SFTPClient.__init__), "SFTPClient has no _handler: adapt packets.bound"
    assert "self._reader" in source(SFTPHandler.__init__), "SFTPHandler has no _reader: adapt packets.bound"
    received = source(SFTPHandler.recv_packet)
    assert received.count("self._reader.readexactly(") == 2, "asyncssh reads packets otherwise: adapt packets.py"
    assert "readexactly(4)" in received, "asyncssh reads a packet's length otherwise: adapt packets.py"


def test_asyncssh_tells_its_ciphers() -> None:
    from asyncssh.encryption import get_default_encryption_algs

    names = [name.decode() for name in get_default_encryption_algs()]
    assert any("-gcm@" in name for name in names), "asyncssh names its AES ciphers otherwise: adapt connect.py"


# aiohttp: musicfs/control/connections.py


def test_aiohttp_lets_a_connection_be_a_request_handler_of_ours() -> None:
    from aiohttp import http_exceptions, web

    assert issubclass(http_exceptions.HttpProcessingError, Exception)
    for name in ("connection_made", "connection_lost", "data_received", "handle_error"):
        assert callable(getattr(web.RequestHandler, name, None)), f"aiohttp's RequestHandler has no {name}"
    assert parameters(web.RequestHandler.handle_error) == ["self", "request", "status", "exc", "message"]
    assert {"access_log", "logger", "lingering_time"} <= set(parameters(web.RequestHandler.__init__))
    assert isinstance(inspect.getattr_static(web.BaseRequest, "protocol"), property)


# botocore: musicfs/origins/s3


def test_botocore_has_the_parts_below_its_session() -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.credentials import CredentialResolver, RefreshableCredentials
    from botocore.session import Session

    resolver = Session().get_component("credential_provider")
    assert isinstance(resolver, CredentialResolver), "botocore finds credentials otherwise: adapt credentials.py"
    resolver.remove("iam-role")
    assert callable(RefreshableCredentials.refresh_needed)
    assert parameters(S3SigV4Auth.__init__)[:4] == ["self", "credentials", "service_name", "region_name"]


# mutagen: musicfs/tags


def test_mutagen_parses_streams_without_the_file_types_around_them() -> None:
    from mutagen.aac import AACInfo
    from mutagen.ac3 import AC3Info
    from mutagen.flac import StreamInfo
    from mutagen.monkeysaudio import MonkeysAudioInfo
    from mutagen.mp3 import MPEGInfo
    from mutagen.musepack import MusepackInfo
    from mutagen.optimfrog import OptimFROGInfo
    from mutagen.smf import SMFInfo
    from mutagen.tak import TAKInfo
    from mutagen.trueaudio import TrueAudioInfo

    lossless = StreamInfo, MonkeysAudioInfo, OptimFROGInfo, TAKInfo, TrueAudioInfo
    for parser in (AACInfo, AC3Info, MPEGInfo, MusepackInfo, SMFInfo, *lossless):
        wanted = [each for each in inspect.signature(parser).parameters.values() if each.default is each.empty]
        given = 2 if parser is TrueAudioInfo else 1  # with the offset
        assert len(wanted) == given, f"mutagen's {parser.__name__} takes other arguments: adapt the readers in tags/"


# tomlkit: musicfs/config/edit.py


def test_tomlkit_makes_documents_of_the_items_that_are_edited() -> None:
    import tomlkit
    from tomlkit.items import AoT, Comment, Whitespace

    document = tomlkit.parse('# why\n\n[[origins]]\nid = "nas"\n')
    assert isinstance(document["origins"], AoT)
    kinds = [type(item) for _, item in document.body]
    assert kinds[:2] == [Comment, Whitespace], "tomlkit keeps comments otherwise: adapt config/edit.py"


# libnfs: musicfs/origins/nfs/libnfs.py, connection.py


@pytest.fixture
def connection() -> Connection:
    try:
        libnfs.load()
    except OSError:
        pytest.skip("libnfs is not installed")
    return Connection(Export(HOST, "/music"), Patience(20))


def test_the_structures_of_libnfs_are_as_large_as_in_its_headers() -> None:
    """struct nfs_stat_64, struct nfsdirent and struct nfs_fh on 64-bit machines, of releases 4 and 5."""
    if sys.maxsize < 2**32:
        pytest.skip("the sizes are those of 64-bit machines")
    assert ctypes.sizeof(libnfs.NfsStat64) == 17 * 8
    assert ctypes.sizeof(libnfs.NfsDirent) == 160
    assert ctypes.sizeof(libnfs.NfsHandle) == 16


def test_libnfs_fills_its_structures_where_they_are_read(connection: Connection) -> None:
    """With a server whose every number is known: a field that has moved has another one."""
    with FakeNfs() as server:
        connection = Connection(Export(HOST, "/music", server.port, server.port), Patience(20))
        try:
            connection.mount()
            assert connection.root() == ROOT, "struct nfs_fh changed: adapt _Handle"
            about = connection.stat("/a.flac")
            moved = "struct nfs_stat_64 changed: adapt NfsStat64"
            assert (about.size, about.nlink, about.mtime, about.mtime_nsec) == (len(CONTENT), 1, TIME, 0), moved
            assert stat.S_ISREG(about.mode), moved
            listed = sorted(connection.list("/"))
        finally:
            connection.close()
    assert [(each.name, stat.S_IFMT(each.mode), each.mtime_ns) for each in listed] == [
        ("a.flac", stat.S_IFREG, TIME * 10**9), ("sub", stat.S_IFDIR, TIME * 10**9),
    ], "struct nfsdirent changed: adapt _NfsDirent"  # fmt: skip
    assert isinstance(listed[0], NfsEntry)
    assert listed[0].size == len(CONTENT)
