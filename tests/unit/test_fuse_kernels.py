"""The requests of a real kernel, as recorded (tests/support/fuse_recording.py), and of others as their headers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.session import MAX_ANSWER, init_out
from tests.support.fuse_kernel import ServedAlbum, served_album
from tests.support.fuse_recording import Exchange, played, read, record

RECORDED = sorted(Path("tests/fixtures").glob("fuse-linux-*.txt"))
# Linux 5.15, 6.1, 6.6 and 6.12 by their include/uapi/linux/fuse.h: what MusicFS reads of their requests is the same,
# but for FUSE_INIT. That of 5.15 has no flags2 and ends after the flags.
CONSTRUCTED = [(34, 16), (38, 64), (39, 64), (41, 64)]


@pytest.fixture
def album(tmp_path: Path) -> Iterator[ServedAlbum]:
    with served_album(tmp_path) as served:
        yield served


def init_of(exchanges: list[Exchange]) -> bytes:
    return next(each.request for each in exchanges if opcode_of(each) == fuse.FUSE_INIT)


def opcode_of(exchange: Exchange) -> int:
    return int(fuse.IN_HEADER.unpack_from(exchange.request)[1])


@pytest.mark.parametrize("recording", RECORDED, ids=lambda file: file.stem)
def test_what_a_kernel_was_recorded_to_ask_gets_the_same_answers(album: ServedAlbum, recording: Path) -> None:
    first, *exchanges = read(recording)
    assert len(exchanges) > 20
    album.kernel.send(first.request)
    album.kernel.session.negotiate()
    assert [(answer.errno, len(answer.payload)) for answer in album.kernel.answers()] == [(0, fuse.INIT_OUT.size)]
    again = [played(album, each) for each in exchanges]
    assert without_bytes(again) == without_bytes(exchanges)


def without_bytes(exchanges: list[Exchange]) -> list[tuple[int, int, bool]]:
    """The opcodes and what came of them. The sizes of files depend on their encoder."""
    return [(opcode_of(each), each.errno, each.size > 0) for each in exchanges]


def test_the_running_kernel_asks_what_is_answered() -> None:
    exchanges = record()
    refused = {(opcode_of(each), each.errno) for each in exchanges if each.errno > 0}
    for opcode in (fuse.FUSE_LOOKUP, fuse.FUSE_READDIRPLUS, fuse.FUSE_OPEN, fuse.FUSE_READ, fuse.FUSE_RELEASE):
        assert [each.errno for each in exchanges if opcode_of(each) == opcode]
        assert opcode not in {number for number, _ in refused}
    assert all(each.size <= MAX_ANSWER for each in exchanges)


@pytest.mark.parametrize(("minor", "size"), CONSTRUCTED)
def test_the_first_request_of_a_constructed_kernel_is_accepted(minor: int, size: int) -> None:
    recorded = init_of(list(read(RECORDED[-1])))
    body = fuse.INIT_IN.pack(7, minor, 1 << 17, fuse.INIT_IN.unpack_from(recorded, fuse.BODY)[3])
    header = fuse.IN_HEADER.pack(fuse.BODY + size, fuse.FUSE_INIT, 2, 0, 0, 0, 0, 0, 0)
    answer = fuse.INIT_OUT.unpack(init_out(header + body.ljust(size, b"\0")))
    assert answer[:2] == (7, min(minor, fuse.FUSE_KERNEL_MINOR_VERSION))
    assert answer[3] & fuse.InitFlags.FUSE_NO_OPENDIR_SUPPORT
