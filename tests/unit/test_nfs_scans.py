"""NFS servers with one bad folder, entry or file: it costs itself alone."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, OriginFault, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.origins.nfs import connection
from musicfs.origins.nfs.driver import NfsOrigin
from musicfs.origins.nfs.files import NfsFiles
from musicfs.problems import Problem, Reason
from musicfs.testing.observed_contract import RecordingObserver, observed
from tests.support.servers.fakenfs import (
    FOLDER,
    GETATTR,
    LINK,
    LOOKUP,
    READ,
    READDIRPLUS,
    REGULAR,
    ROOT,
    SUB,
    A,
    Answer,
    FakeNfs,
    attributes,
    entry,
    maybe,
    opaque,
    page,
    word,
)
from tests.support.servers.process import HOST

FILE = entry(b"a.flac", A, cookie=1)
FOLDERS = {b"sub": SUB, b"zz": b"last folder"}


@asynccontextmanager
async def serving(answers: Mapping[int, Answer], timeout_ms: int = 1000) -> AsyncIterator[NfsOrigin]:
    with FakeNfs(answers) as server:
        where = {"host": HOST, "export": "/music", "port": server.port, "mount_port": server.port}
        table = {"id": "nas", "origin_type": "nfs", "timeout_ms": timeout_ms, "pool_size": 2, **where}
        origin = NfsOrigin(OriginConfig.model_validate(table))
        try:
            yield origin
        finally:
            await origin.aclose()


def _names_handle(call: bytes, handle: bytes) -> bool:
    return call[4:].startswith(handle)


def _look_up(call: bytes) -> bytes:
    for name, handle in FOLDERS.items():
        if opaque(name) in call:
            return word(0) + opaque(handle) + maybe(attributes(FOLDER)) + maybe(None)
    if opaque(b"a.flac") in call:
        return word(0) + opaque(A) + maybe(attributes()) + maybe(None)
    return word(2) + maybe(None)


def with_bad(answer: Answer) -> dict[int, Answer]:
    """A tree whose root holds a file and two folders, of which `answer` lists the first."""

    def listed(call: bytes) -> bytes:
        if _names_handle(call, SUB):
            return answer(call)
        if _names_handle(call, ROOT):
            folders = (
                entry(name, handle, attributes(FOLDER), n) for n, (name, handle) in enumerate(FOLDERS.items(), 2)
            )
            return page(FILE, *folders)
        return page(entry(b"b.flac", A, cookie=1))

    def about(call: bytes) -> bytes:
        return word(0) + attributes(REGULAR if _names_handle(call, A) else FOLDER)

    return {READDIRPLUS: listed, LOOKUP: _look_up, GETATTR: about}


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    released = threading.Event()
    yield released
    released.set()


def refused(status: int) -> Answer:
    return lambda _: word(status) + maybe(None)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (refused(13), Reason.CLOSED_FOLDER),
        (refused(1), Reason.CLOSED_FOLDER),
        (refused(5), Reason.BROKEN_FOLDER),
        (refused(70), Reason.BROKEN_FOLDER),  # a stale handle, also the second time
        (refused(10006), Reason.BROKEN_FOLDER),
        (refused(63), Reason.DEEP_FOLDER),
        (lambda _: b"\0\0", Reason.BROKEN_FOLDER),  # no reply that could be understood
        (lambda _: word(0) + maybe(None) + b"verifier" + word(1) + bytes(8) + word(2**31), Reason.BROKEN_FOLDER),
    ],
)
async def test_a_folder_that_the_server_does_not_list_costs_itself_alone(answer: Answer, reason: Reason) -> None:
    async with serving(with_bad(answer)) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == {"a.flac", "zz/b.flac"}
        assert observer.reasons == {"sub": reason}
        with pytest.raises(OriginFailed, match="sub"):
            [stat async for stat in origin.scan()]


async def test_a_folder_that_hangs_costs_one_timeout(hung: threading.Event) -> None:
    def hang(_: bytes) -> bytes:
        hung.wait()
        return page()

    async with serving(with_bad(hang), 500) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == {"a.flac", "zz/b.flac"}
        assert observer.reasons == {"sub": Reason.SLOW_FOLDER}


async def test_a_folder_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_FOLDER_SECS", 1.5)
    pause = threading.Event()

    def trickle(call: bytes) -> bytes:
        pause.wait(0.2)
        cookie = int.from_bytes(call[4 + 12 : 4 + 20], "big") + 1
        return page(entry(b"%d.flac" % cookie, A, cookie=cookie), end=False)

    async with serving(with_bad(trickle), 500) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == {"a.flac", "zz/b.flac"}
        assert observer.reasons == {"sub": Reason.SLOW_FOLDER}


async def test_a_folder_with_too_many_names_is_reported_as_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_NAMES", 1000)
    many = b"".join(entry(b"n%05d" % n, A, cookie=n) for n in range(200))
    async with serving(with_bad(lambda _: page(many, end=False))) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == {"a.flac", "zz/b.flac"}
        assert observer.reasons == {"sub": Reason.BIG_FOLDER}


async def test_a_root_that_hangs_ends_the_scan(hung: threading.Event) -> None:
    def hang(_: bytes) -> bytes:
        hung.wait()
        return page()

    async with serving({READDIRPLUS: hang}, 500) as origin:
        observer = RecordingObserver()
        with pytest.raises(OriginFailed) as failed:
            await observed(origin, observer)
        assert (failed.value.fault, observer.problems) == (OriginFault.TIMEOUT, [])


async def test_entries_without_attributes_are_asked_about_and_bad_ones_cost_themselves() -> None:
    entries = [
        FILE, entry(b"b.flac", None, b"", cookie=2), entry(b"kept", None, b"", cookie=3),
        entry(b"broken", None, b"", cookie=4), entry(b"gone", None, b"", cookie=5), entry(b"a/b", A, cookie=6),
        entry(b"z" * 2000, A, cookie=7), entry(b"link", b"a link", attributes(LINK), cookie=8),
    ]  # fmt: skip
    refusals = {b"kept": 13, b"broken": 5, b"link": 2, b"gone": 2}

    def look_up(call: bytes) -> bytes:
        status = next((status for name, status in refusals.items() if opaque(name) in call), None)
        if status is not None:
            return word(status) + maybe(None)
        return word(0) + opaque(A) + maybe(attributes()) + maybe(None)

    async with serving({READDIRPLUS: lambda _: page(*entries), LOOKUP: look_up}) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == {"a.flac", "b.flac"}
        expected = {
            "kept": Reason.CLOSED_FOLDER,  # what it is remains unknown, so it may be a folder
            "broken": Reason.BROKEN_FOLDER,
            "a\ufffdb": Reason.BAD_NAME,
            "z" * 200: Reason.BAD_NAME,
            "link": Reason.LINK_BROKEN,
        }
        assert observer.reasons == expected
        assert Problem("kept", Reason.CLOSED_FOLDER, os.strerror(errno.EACCES)) in observer.problems


@pytest.mark.parametrize("status", [10003, 10008], ids=["bad cookie", "jukebox"])
async def test_a_listing_that_is_to_be_made_later_is_made_later(status: int) -> None:
    refusals = iter((status, status))

    def listed(call: bytes) -> bytes:
        if call[4 + len(SUB) + -len(SUB) % 4 :].startswith(bytes(8)):
            return page(entry(b"one.flac", A, cookie=1), end=False)
        refusal = next(refusals, None)
        return page(entry(b"two.flac", A, cookie=2)) if refusal is None else word(refusal) + maybe(None)

    async with serving(with_bad(listed), 5000) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == {"a.flac", "sub/one.flac", "sub/two.flac", "zz/b.flac"}
        assert observer.problems == []


@pytest.mark.parametrize(
    ("status", "fault"), [(5, ReplicaFault.IO), (10006, ReplicaFault.IO), (13, ReplicaFault.DENIED)]
)
async def test_a_file_that_can_not_be_read_blames_itself_while_the_root_answers(
    status: int, fault: ReplicaFault
) -> None:
    async with serving({READ: refused(status)}) as origin:
        file = Replica.of(OriginId("nas"), await origin.stat("a.flac"))
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(file, 0, 10)
        assert failed.value.fault is fault
        assert await origin.health() is HealthStatus.HEALTHY


async def test_a_disk_that_fails_at_its_root_blames_the_origin() -> None:
    broken = False

    def about(call: bytes) -> bytes:
        if broken:
            return word(5)
        return word(0) + attributes(REGULAR if _names_handle(call, A) else FOLDER)

    async with serving({READ: refused(5), GETATTR: about}) as origin:
        file = Replica.of(OriginId("nas"), await origin.stat("a.flac"))
        broken = True
        with pytest.raises(OriginFailed) as failed:
            await origin.read(file, 0, 10)
        assert failed.value.fault is OriginFault.IO


async def test_a_server_that_can_not_be_reached_is_told_with_what_to_do() -> None:
    where = {"host": "nowhere.invalid", "export": "/music", "timeout_ms": 5000}
    origin = NfsOrigin(OriginConfig.model_validate({"id": "nas", "origin_type": "nfs", **where}))
    with pytest.raises(OriginFailed, match=r"the address of nowhere\.invalid can't be found"):
        await origin.health()
    await origin.aclose()
    refused = NfsFiles(OriginId("nas"), connection.Export("nas", "/music"), False)
    failure = refused._failure(ConnectionError(errno.ECONNREFUSED, "refused"))
    assert failure.fault is OriginFault.REFUSED
    assert "only version 4, mount it" in str(failure)
