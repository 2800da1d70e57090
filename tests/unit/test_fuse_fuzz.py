"""Requests that no kernel sends: each has one answer, soon, and nothing of the session breaks."""

from __future__ import annotations

import errno
import logging
import resource
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicfs.mount.session import protocol as fuse
from musicfs.mount.session.session import MAX_ANSWER
from tests.support.fuse_kernel import ServedAlbum, framed, served_album

UNANSWERED = (fuse.FUSE_FORGET, fuse.FUSE_BATCH_FORGET, fuse.FUSE_INTERRUPT)
EXPECTED = {
    0, errno.EINVAL, errno.ENOSYS, errno.ENOENT, errno.EBADF, errno.EISDIR, errno.ESTALE, errno.ENODATA, errno.ENOTSUP,
    errno.ERANGE, errno.EROFS, errno.ENAMETOOLONG,
}  # fmt: skip
EXTREMES = (0, 1, 2, 3, 2**31, 2**32 - 1, 2**53 - 1, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedAlbum]:
    with served_album(tmp_path_factory.mktemp("album")) as served:
        yield served


number = st.sampled_from(EXTREMES) | st.integers(0, 40) | st.integers(0, 2**64 - 1)
small = st.sampled_from([0, 1, 4096, MAX_ANSWER, MAX_ANSWER + 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
names = st.sampled_from([b"", b".", b"..", b"\0", b"Artist\0", b"user.musicfs.origin\0", b"a/b\0", b"x" * 300 + b"\0"])


def _read(fh: int, offset: int, size: int) -> bytes:
    return fuse.READ_IN.pack(fh, offset, size, 0)


bodies = st.one_of(
    st.binary(max_size=120),
    names | st.binary(max_size=40).map(lambda name: name + b"\0"),
    st.builds(_read, number, number, small),
    st.builds(lambda fh, rest: fuse.RELEASE_IN.pack(fh) + rest, number, st.binary(max_size=16)),
    st.builds(fuse.OPEN_IN.pack, small, small),
    st.builds(lambda size, name: fuse.GETXATTR_IN.pack(size, 0) + name, small, names),
)
opcodes = st.integers(0, 70) | st.sampled_from([4096, 2**31, 2**32 - 1])


@settings(max_examples=1500)
@given(opcodes, number, bodies, st.integers(0, 100))
def test_any_request_is_answered_once_and_soon(
    album: ServedAlbum, opcode: int, nodeid: int, body: bytes, cut: int
) -> None:
    body = body[: len(body) - cut] if cut < len(body) and cut % 3 == 0 else body
    start = time.thread_time()
    with pytest.MonkeyPatch.context() as patch:
        problems: list[str] = []
        patch.setattr(logging.Logger, "handle", lambda _, record: problems.append(record.getMessage()))
        answers = album.ask(framed(opcode, body, nodeid=nodeid))
    assert problems == []
    assert time.thread_time() - start < 1
    assert len(answers) == (0 if opcode in UNANSWERED else 1)
    for answer in answers:
        assert (answer.unique, answer.errno in EXPECTED, len(answer.payload) <= MAX_ANSWER) == (2, True, True)
        if answer.errno == 0 and opcode in (fuse.FUSE_OPEN, fuse.FUSE_OPENDIR):
            fh = fuse.OPEN_OUT.unpack(answer.payload)[0]
            released = fuse.FUSE_RELEASE if opcode == fuse.FUSE_OPEN else fuse.FUSE_RELEASEDIR
            assert album.answer(framed(released, _read(fh, 0, 0))).errno == 0
    assert album.filesystem.open_files == 0


@settings(max_examples=300)
@given(st.binary(max_size=39) | st.binary(min_size=40, max_size=100))
def test_bytes_that_are_no_request_break_nothing(album: ServedAlbum, data: bytes) -> None:
    assert len(album.ask(data)) <= 1
    assert album.answer(framed(fuse.FUSE_GETATTR, bytes(16))).errno == 0


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (fuse.FUSE_LOOKUP, b""),
        (fuse.FUSE_LOOKUP, b"Artist"),
        (fuse.FUSE_GETXATTR, fuse.GETXATTR_IN.pack(0, 0)),
        (fuse.FUSE_GETXATTR, fuse.GETXATTR_IN.pack(0, 0) + b"user.musicfs.origin"),
        (fuse.FUSE_READ, bytes(23)),
        (fuse.FUSE_READ, _read(1, 0, MAX_ANSWER + 1)),
        (fuse.FUSE_READ, _read(1, 2**63, 4096)),
        (fuse.FUSE_READDIR, _read(1, 2**63, 4096)),
        (fuse.FUSE_READDIRPLUS, _read(1, 0, 2**32 - 1)),
        (fuse.FUSE_RELEASE, bytes(7)),
        (fuse.FUSE_OPEN, bytes(7)),
    ],
)
def test_a_malformed_request_is_invalid(album: ServedAlbum, opcode: int, body: bytes) -> None:
    assert album.answer(framed(opcode, body)).errno == errno.EINVAL


def test_a_request_of_another_length_than_it_says_is_invalid(album: ServedAlbum) -> None:
    request = framed(fuse.FUSE_GETATTR, bytes(16))
    assert album.answer(request + b"more").errno == errno.EINVAL
    assert album.answer(request[:-1]).errno == errno.EINVAL
    assert album.answer(request).errno == 0


def test_a_handle_that_no_one_opened_is_none(album: ServedAlbum) -> None:
    assert album.answer(framed(fuse.FUSE_READ, _read(2**40, 0, 4096))).errno == errno.EBADF


def test_a_storm_of_requests_takes_no_memory(album: ServedAlbum) -> None:
    requests = [framed(opcode, _read(2**40, 0, MAX_ANSWER)) for opcode in range(64) for _ in range(20)]
    for request in requests:
        album.ask(request)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10):
        for request in requests:
            for answer in album.ask(request):
                if answer.errno == 0 and len(answer.payload) == fuse.OPEN_OUT.size:
                    fh = fuse.OPEN_OUT.unpack(answer.payload)[0]
                    album.ask(framed(fuse.FUSE_RELEASE, _read(fh, 0, 0)))
                    album.ask(framed(fuse.FUSE_RELEASEDIR, _read(fh, 0, 0)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000
