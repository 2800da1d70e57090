"""SMB answers that no honest server gives: each is refused, or costs the one name that it is about."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from smbprotocol.header import NtStatus

from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import OriginId
from musicfs.origins.smb import wire
from musicfs.origins.smb.errors import Login, ShareLost, StatusRefused
from musicfs.origins.smb.files import SmbFiles
from musicfs.origins.smb.session import Deadline, Share
from musicfs.origins.smb.transport import Transport
from musicfs.problems import Reason

ENTRY = struct.Struct("<II8x8xQ8xQ8xIII4x8x")
HEADER = 64


def entry(name: str, step: int = 0, length: int | None = None, attributes: int = 0x20, tag: int = 0) -> bytes:
    data = name.encode("utf-16-le", "surrogatepass")
    written = 133_000_000_000_000_000
    return ENTRY.pack(step, 0, written, 5, attributes, len(data) if length is None else length, tag) + data


def page(*entries: bytes, start: int = HEADER + 8, length: int | None = None) -> bytes:
    """An answer to QUERY_DIRECTORY, without its header."""
    data = b"".join(entries)
    return struct.pack("<HHI", 9, start, len(data) if length is None else length) + data


def chained(*names: str) -> bytes:
    """Entries that each lead to the next one."""
    made = []
    for number, name in enumerate(names):
        data = entry(name)
        data += bytes(-len(data) % 8)
        last = number == len(names) - 1
        made.append(struct.pack("<I", 0 if last else len(data)) + data[4:])
    return page(*made)


def names_of(data: bytes) -> list[str]:
    return [found.name for found in wire.listed(data) if found.left_out is None]


def test_an_honest_page_is_understood() -> None:
    assert names_of(chained(".", "..", "a.flac", "b")) == [".", "..", "a.flac", "b"]


@pytest.mark.parametrize("name", ["a/b", "a\\b", "\0", "a\0b", "", "c:d", "\ud800", "x\udfff"])
def test_a_name_that_no_file_can_have_costs_itself_alone(name: str) -> None:
    assert names_of(chained("a.flac", name, "b.flac")) == ["a.flac", "b.flac"]


@pytest.mark.parametrize("name", ["a/b", "c:d", "\ud800"])
def test_a_name_that_no_file_can_have_says_so(name: str) -> None:
    (found,) = wire.listed(chained(name))
    assert found.left_out is not None
    assert found.left_out[0] is Reason.BAD_NAME


@pytest.mark.parametrize(
    ("name", "attributes", "tag", "reason"),
    [
        ("a.flac", 0x20, 0, None),
        ("link.flac", 0x420, 0xA000000C, Reason.LINK_OUTSIDE),
        ("junction", 0x410, 0xA0000003, Reason.LINK_OUTSIDE),
        ("wsl", 0x420, 0xA000001D, Reason.LINK_OUTSIDE),
        ("elsewhere", 0x410, 0x8000000A, Reason.LINK_OUTSIDE),
        ("stored once.flac", 0x620, 0x80000013, None),  # with deduplication, which clients do not see
        ("cold.flac", 0x1020, 0, Reason.ARCHIVED),
        ("cloud.flac", 0x400420, 0x9000001A, Reason.ARCHIVED),
        ("cloud", 0x400410, 0x9000001A, None),
        ("0K81LF~0", 0x20, 0, Reason.BAD_NAME),
        ("0K81LF~0", 0x10, 0, None),
        ("0BQTDG~B.MP3", 0x20, 0, None),
    ],
)
def test_what_a_client_can_not_read_is_left_out_with_a_reason(
    name: str, attributes: int, tag: int, reason: Reason | None
) -> None:
    (found,) = wire.listed(page(entry(name, attributes=attributes, tag=tag)))
    assert (found.left_out and found.left_out[0]) is reason


@pytest.mark.parametrize(
    "data",
    [
        page(entry("a.flac", step=1) + bytes(200)),
        page(entry("a.flac", step=8) + bytes(200)),
        page(entry("a.flac", step=80) + bytes(200)),
        page(entry("a.flac", step=2**32 - 1)),
        page(entry("a.flac", step=4000)),
        page(entry("a.flac", length=2**32 - 1)),
        page(entry("a.flac", length=14)),
        page(entry("a.flac"), start=0),
        page(entry("a.flac"), start=2**16 - 1),
        page(entry("a.flac"), length=2**32 - 1),
        page(entry("a.flac"), length=10),
        page(b""),
        b"",
    ],
)
def test_a_page_whose_lengths_lie_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error, IndexError)):
        names_of(data)


@pytest.mark.parametrize(("start", "length"), [(0, 5), (63, 5), (80, 6), (255, 1), (80, 2**32 - 1)])
def test_bytes_outside_of_the_answer_are_not_taken(start: int, length: int) -> None:
    answer = struct.pack("<HBxI8x", 17, start, length) + b"12345"
    with pytest.raises(ValueError, match="leads out of itself"):
        wire.bytes_read(answer)
    assert wire.bytes_read(struct.pack("<HBxI8x", 17, 80, 5) + b"12345") == b"12345"


PARSERS = (wire.opened, wire.bytes_read, wire.version, names_of)


@given(st.sampled_from(PARSERS), st.binary(max_size=300))
def test_any_bytes_are_understood_or_refused(parse: Callable[[bytes], object], data: bytes) -> None:
    with suppress(ValueError, struct.error, IndexError):
        parse(data)


@given(st.integers(0, 400), st.integers(0, 2**32 - 1))
def test_an_honest_page_with_one_wrong_word_is_understood_or_refused(at: int, word: int) -> None:
    data = bytearray(chained("a.flac", "folder", "b.flac", "c" * 40))
    data[at : at + 4] = struct.pack("<I", word)
    with suppress(ValueError, struct.error, IndexError):
        assert len(names_of(bytes(data))) <= 4


@pytest.mark.parametrize("times", [0, 2**63 - 1, 2**64 - 1])
def test_times_and_sizes_of_any_value_are_numbers(times: int) -> None:
    data = struct.pack("<4x4x8x8xQQ8xQI4x16sII", times, times, 2**64 - 1, 0x10, b"h" * 16, 0, 0)
    about = wire.opened(data)
    assert about.is_folder
    assert about.identity is None


# The connection


@contextmanager
def sending(*pieces: bytes, holds: bool = True) -> Iterator[Transport]:
    """A transport whose server sends these. holds: it sends nothing more, and keeps the connection open."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                for piece in pieces:
                    connection.sendall(piece)
                if holds:
                    done.wait(30)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    transport = Transport("127.0.0.1", listener.getsockname()[1], 5)
    transport.connect()
    try:
        yield transport
    finally:
        done.set()
        transport.close()
        listener.close()
        thread.join(5)


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def header(command: int = 8, following: int = 0) -> bytes:
    return b"\xfeSMB" + struct.pack("<HHIHHIIQ", 64, 0, 0, command, 1, 1, following, 3).ljust(60, b"\0")


@pytest.mark.parametrize("size", [(2 << 20) + 1, 16 << 20, 2**32 - 1])
def test_a_packet_that_is_larger_than_any_answer_is_not_waited_for(size: int) -> None:
    with sending(size.to_bytes(4, "big")) as transport, pytest.raises(ConnectionError, match="was announced"):
        transport.recv(5)


def test_a_packet_that_is_never_complete_ends_with_the_deadline() -> None:
    with sending((1 << 20).to_bytes(4, "big") + b"x" * 100) as transport:
        transport.deadline = time.monotonic() + 0.2
        assert transport.recv(5) == b""
        assert not transport.connected


def test_an_answer_that_is_not_encrypted_is_refused_where_all_are() -> None:
    sealed, plain = b"\xfdSMB" + bytes(100), header() + b"12345"
    with sending(framed(plain), framed(sealed), framed(plain)) as transport:
        assert transport.recv(5) == plain
        transport.sealed = True
        assert transport.recv(5) == sealed
        with pytest.raises(ConnectionError, match="did not encrypt"):
            transport.recv(5)


@pytest.mark.parametrize("packet", [header(following=1), header(following=63), header(following=64) * 20])
def test_parts_of_a_packet_that_overlap_or_are_too_many_are_refused(packet: bytes) -> None:
    with sending(framed(packet)) as transport, pytest.raises(ConnectionError, match="overlap"):
        transport.recv(5)


# What is made of them


OPENED = struct.pack("<4x4x8x8xQQ8xQI4x16sII", 133 * 10**15, 133 * 10**15, 10, 0x20, b"h" * 16, 0, 0)
VERSION = struct.pack("<HHI16xQQ8xQ8x", 9, HEADER + 8, 56, 133 * 10**15, 133 * 10**15, 10)


class Answering(Share):
    """A share whose server gives these answers, each a success, decrypted and with a right signature."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__(Login("nas", 445, "music", "me", SecretStr("secret")), 5, 1)
        self._answers = answers
        self.closed = False

    def _exchange(self, *_: object, **__: object) -> list[tuple[int, bytes]]:
        return [(NtStatus.STATUS_SUCCESS, answer) for answer in self._answers]

    def close(self) -> None:
        self.closed = True


def read_answer(data: bytes) -> bytes:
    return struct.pack("<HBxI8x", 17, 80, len(data)) + data


def test_what_is_asked_for_is_taken() -> None:
    (data,), before, after = Answering(OPENED, read_answer(b"12345"), VERSION, b"").read("a", [(0, 5)], Deadline(5))
    assert data == b"12345"
    assert before == after


@pytest.mark.parametrize(
    "answers",
    [
        (OPENED, read_answer(b"123456"), VERSION, b""),
        (OPENED, b"", VERSION, b""),
        (OPENED, read_answer(b"12345")[:-1], VERSION, b""),
        (OPENED, read_answer(b"12345"), VERSION[:20], b""),
        (OPENED[:30], read_answer(b"12345"), VERSION, b""),
    ],
)
def test_what_was_not_asked_for_ends_the_connection(answers: tuple[bytes, ...]) -> None:
    share = Answering(*answers)
    with pytest.raises(ShareLost) as lost:
        share.read("a", [(0, 5)], Deadline(5))
    assert lost.value.fault is OriginFault.IO
    assert share.closed


def test_a_page_that_makes_no_sense_ends_the_connection() -> None:
    share = Answering(OPENED, page(entry("a", step=1) + bytes(200)))
    with pytest.raises(OriginFailed, match="makes no sense"):
        SmbFiles(OriginId("nas"), share, "", False).open_folder("b", None, Deadline(5))
    assert share.closed


def test_a_server_without_ntlm_is_told_as_such() -> None:
    assert "kerberos tickets alone" in str(StatusRefused(0xC0000418))
