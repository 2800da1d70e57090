"""NFS servers that lie. libnfs works inside our process, so each attack runs in one of its own: a crash is a failure of
the test (tests/support/confined.py)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, ReplicaFailed
from musicfs.model import HealthStatus, OriginId, Replica
from musicfs.origins.nfs.driver import NfsOrigin
from musicfs.problems import Reason
from musicfs.testing.observed_contract import RecordingObserver, observed
from tests.support.servers.fakenfs import (
    ACCESS,
    BLOCK,
    CONTENT,
    FOLDER,
    FSINFO,
    GETATTR,
    LINK,
    LOOKUP,
    MOUNT,
    PIPE,
    READ,
    READDIRPLUS,
    REGULAR,
    ROOT,
    SUB,
    TIME,
    A,
    Answer,
    FakeNfs,
    attributes,
    entry,
    long,
    maybe,
    opaque,
    page,
    read_result,
    record,
    word,
)  # fmt: skip
from tests.support.servers.process import HOST

FILE = Replica(OriginId("nas"), "a.flac", len(CONTENT), TIME * 10**9)
BELOW = Replica(OriginId("nas"), "sub/b.flac", len(CONTENT), TIME * 10**9)


@asynccontextmanager
async def serving(server: FakeNfs, timeout_ms: int = 1000) -> AsyncIterator[NfsOrigin]:
    where = {"host": HOST, "export": "/music", "port": server.port, "mount_port": server.port}
    table = {"id": "nas", "origin_type": "nfs", "timeout_ms": timeout_ms, "pool_size": 2, **where}
    with server:
        origin = NfsOrigin(OriginConfig.model_validate(table))
        try:
            yield origin
        finally:
            await origin.aclose()


async def listing(origin: NfsOrigin) -> list[str]:
    return sorted([stat.path async for stat in origin.scan()])


async def outcome(call: Awaitable[object], secs: float = 20) -> object:
    """What it gives, or how it fails: as an origin or a file may, and nothing else."""
    try:
        return await asyncio.wait_for(call, secs)
    except (OriginFailed, ReplicaFailed) as failed:
        return failed


async def everything(origin: NfsOrigin) -> list[object]:
    calls = (
        origin.health(),
        listing(origin),
        origin.stat("a.flac"),
        origin.read(FILE, 0, 10),
        origin.read(BELOW, 2, 5),
    )
    return [await outcome(call) for call in calls]


async def lie(name: str, answers: Mapping[int, Answer]) -> list[object]:
    print(name, flush=True)
    async with serving(FakeNfs(answers)) as origin:
        found = await everything(origin)
        print(f"  {found!r:.300}", flush=True)
        return found


def said(value: bytes) -> Answer:
    return lambda _: value


async def an_honest_server_is_served() -> None:
    assert (await lie("none", {}))[1:2] == [["a.flac", "sub/b.flac"]]
    async with serving(FakeNfs()) as origin:
        assert await origin.health() is HealthStatus.HEALTHY
        assert await origin.read(FILE, 0, 10) == CONTENT
        assert await origin.read(BELOW, 2, 5) == CONTENT[2:7]
        assert await origin.read_ranges(FILE, [(0, 3), (5, 5)]) == [b"012", b"56789"]


async def bytes_that_were_not_asked_for_are_not_taken() -> None:
    """Whatever count, length and end say."""
    lies = {
        "count larger": read_result(CONTENT, count=2**32 - 1), "count smaller": read_result(CONTENT, count=1),
        "more than asked": read_result(b"y" * 1000), "much more than asked": read_result(b"y" * 3_000_000),
        "length beyond the record": read_result(CONTENT, length=2**31),
        "length of 4 GiB": read_result(CONTENT, length=2**32 - 1),
        "nothing, for ever": read_result(b"", end=False), "no attributes": word(0, 0, 10, 1) + opaque(CONTENT),
        "nothing at all": b"", "success alone": word(0), "an unknown status": word(77),
        "status of 4 GiB": word(2**32 - 1),
        "too short": read_result(CONTENT[:3]),
    }  # fmt: skip
    for name, told in lies.items():
        found = (await lie(name, {READ: said(told)}))[3]
        assert isinstance(found, OriginFailed | ReplicaFailed) or found == CONTENT, (name, found)
        if name.startswith(("more", "much", "length", "nothing", "success", "status", "an unknown", "too short")):
            assert isinstance(found, OriginFailed | ReplicaFailed), (name, found)


async def odd_names_cost_themselves_alone() -> None:
    odd = [b"a/b", b"..", b".", b"", b"a\0b", b"/etc/passwd", b"z" * 65536, b"\xff\xfe", b"x" * 3000]
    pages = page(*[entry(name, cookie=n) for n, name in enumerate(odd, 1)], entry(b"a.flac", cookie=99))
    found = (await lie("names", {READDIRPLUS: said(pages)}))[1]
    assert isinstance(found, list), found
    assert "a.flac" in found
    assert all(not set(name) & {"/", "\0"} and len(name) < 2000 for name in found), found


async def no_listing_without_end_is_taken() -> None:
    names = [b"n%05d" % n + b"x" * 200 for n in range(200)]
    entries = b"".join(entry(name, cookie=n) for n, name in enumerate(names, 1))
    endless = page(entries, end=False)
    same = page(entry(b"a", cookie=1), end=False)
    for name, told in {"many": endless, "one": same, "none": page(end=False)}.items():
        async with serving(FakeNfs({READDIRPLUS: said(told)})) as origin:
            found = await outcome(listing(origin), 90)
            assert isinstance(found, OriginFailed), (name, found)


async def folders_that_hold_themselves_are_listed_to_a_depth() -> None:
    looped = page(entry(b"d", ROOT, attributes(FOLDER), 1), entry(b"a.flac", A, cookie=2))

    def lookup(call: bytes) -> bytes:
        return (
            word(0)
            + opaque(ROOT if b"a.flac" not in call else A)
            + maybe(attributes(FOLDER if b"a.flac" not in call else REGULAR))
            + word(0)
        )

    async with serving(FakeNfs({READDIRPLUS: said(looped), LOOKUP: lookup}), 5000) as origin:
        observer = RecordingObserver()
        found = await asyncio.wait_for(observed(origin, observer), 60)
        assert 1 < len(found) <= 101, len(found)
        assert [problem.reason for problem in observer.problems] == [Reason.BAD_NAME, Reason.DEEP_FOLDER]


async def handles_and_listings_of_any_shape_crash_nothing() -> None:
    file = attributes()
    for size in (0, 1, 63, 64, 65, 66, 128, 1000, 65536):
        handle = b"h" * size
        await lie(f"root of {size}", {MOUNT: said(word(0) + opaque(handle) + word(1, 1))})
        await lie(f"file of {size}", {LOOKUP: said(word(0) + opaque(handle) + maybe(file) + word(0))})
        await lie(f"listed of {size}", {READDIRPLUS: said(page(entry(b"a.flac", handle)))})
    await lie("root of 4 GiB", {MOUNT: said(word(0) + word(2**32 - 1) + b"x" * 100)})
    await lie("many flavours", {MOUNT: said(word(0) + opaque(ROOT) + word(2**32 - 1) + word(1) * 100)})
    await lie("a million flavours", {MOUNT: said(word(0) + opaque(ROOT) + word(10**6) + word(1) * 10**6)})
    await lie("mount refused", {MOUNT: said(word(13))})
    await lie("mount oddly refused", {MOUNT: said(word(2**32 - 1))})
    for told in (
        word(0),
        b"",
        word(0) + maybe(None) + b"verifier",
        word(2**32 - 1),
        word(0) + maybe(None) + word(0, 0, 2, 2),
    ):
        await lie(f"a listing {told!r:.60}", {READDIRPLUS: said(told)})
    await lie("a name of 4 GiB", {READDIRPLUS: said(page(entry(b"abc", length=2**32 - 1)))})
    await lie("a name of 2 GiB", {READDIRPLUS: said(page(entry(b"abc", length=2**31 - 1)))})
    await lie("no attributes", {READDIRPLUS: said(page(entry(b"a.flac", None, b"")))})
    await lie("no handle", {READDIRPLUS: said(page(entry(b"a.flac", None)))})
    await lie(
        "new verifiers",
        {READDIRPLUS: lambda _: page(entry(b"a.flac", cookie=random.getrandbits(60)), verifier=random.randbytes(8))},
    )


async def attributes_of_any_kind_crash_nothing() -> None:
    for kind in (0, BLOCK, 4, LINK, 6, PIPE, 99, 2**32 - 1):
        await lie(f"kind {kind}", {GETATTR: said(word(0) + attributes(kind))})
        await lie(f"listed kind {kind}", {READDIRPLUS: said(page(entry(b"a.flac", A, attributes(kind))))})
        await lie(f"looked up kind {kind}", {LOOKUP: said(word(0) + opaque(A) + maybe(attributes(kind)) + word(0))})
    for size in (2**63 - 1, 2**63, 2**64 - 1):
        await lie(
            f"size {size}",
            {
                READDIRPLUS: said(page(entry(b"a.flac", A, attributes(size=size)))),
                GETATTR: said(word(0) + attributes(FOLDER, size)),
            },
        )
    await lie("time", {READDIRPLUS: said(page(entry(b"a.flac", A, attributes(time=2**32 - 1))))})
    await lie("another file", {LOOKUP: said(word(0) + opaque(SUB) + maybe(attributes(FOLDER)) + word(0))})
    for told in (b"", word(0), word(2**32 - 1), word(70), word(10001), word(99)):
        for procedure in (GETATTR, LOOKUP, FSINFO, ACCESS):
            await lie(f"{procedure}: {told!r}", {procedure: said(told)})
    for size in (0, 1, 2**32 - 1):
        await lie(
            f"reads of {size}", {FSINFO: said(word(0, 0) + word(*[size] * 7) + long(2**64 - 1) + word(0, 1, 0x1B))}
        )


Shape = Callable[[bytes, int, bytes], bytes | None]
"""As FakeNfs.wrap."""


def _in_pieces(honest: bytes) -> bytes:
    return b"".join(word(1) + honest[n : n + 1] for n in range(len(honest))) + word(0x80000000)


def _from_call(first: int, shape: Shape) -> Shape:
    calls = iter(range(10**9))

    def wrap(xid: bytes, procedure: int, honest: bytes) -> bytes | None:
        return shape(xid, procedure, honest) if next(calls) >= first else record(honest)

    return wrap


async def replies_of_any_shape_crash_nothing() -> None:
    """The layer below: ONC RPC and its records."""
    shapes: dict[str, Shape] = {
        "another number": lambda xid, _, honest: record(b"\1\2\3\4" + honest[4:]),
        "denied": lambda xid, _, honest: record(xid + word(1, 1, 1, 5)),
        "denied: version": lambda xid, _, honest: record(xid + word(1, 1, 0, 1, 2)),
        "denied: unknown": lambda xid, _, honest: record(xid + word(1, 1, 99)),
        "neither": lambda xid, _, honest: record(xid + word(1, 7, 7, 7)),
        "a call": lambda xid, _, honest: record(xid + word(0, 2, 100003, 3, 1, 0, 0, 0, 0)),
        "no such program": lambda xid, _, honest: record(xid + word(1, 0, 0, 0, 1)),
        "mismatch": lambda xid, _, honest: record(xid + word(1, 0, 0, 0, 2, 2**32 - 1, 0)),
        "garbage": lambda xid, _, honest: record(xid + word(1, 0, 0, 0, 4)),
        "unknown acceptance": lambda xid, _, honest: record(xid + word(1, 0, 0, 0, 99)),
        "verifier of 4 GiB": lambda xid, _, honest: record(xid + word(1, 0, 0, 2**32 - 1, 0)),
        "verifier of 400": lambda xid, _, honest: record(xid + word(1, 0, 1, 400) + b"v" * 400 + word(0) + honest[24:]),
        "a record of 4 GiB": lambda xid, _, honest: word(2**32 - 1) + honest,
        "a fragment of 2 GiB": lambda xid, _, honest: word(2**31 - 1) + honest,
        "an empty record": lambda xid, _, honest: word(0x80000000) + record(honest),
        "empty fragments": lambda xid, _, honest: word(0) * 10_000 + record(honest),
        "small fragments": lambda xid, _, honest: _in_pieces(honest),
        "twice": lambda xid, _, honest: record(honest) * 2,
        "a tiny record": lambda xid, _, honest: record(xid[:3]),
        "the number alone": lambda xid, _, honest: record(xid),
        "nothing": lambda xid, _, honest: b"",
        "the end": lambda xid, _, honest: None,
        "half": lambda xid, _, honest: record(honest[: len(honest) // 2]),
        "more": lambda xid, _, honest: record(honest + b"z" * 100_000),
    }  # fmt: skip
    for name, shape in shapes.items():
        for first in (0, 4):  # from the mount on, and once it is mounted
            print(name, first, flush=True)
            wrap = _from_call(first, shape)
            async with serving(FakeNfs(wrap=wrap), 400) as origin:
                found = [await outcome(call) for call in (origin.health(), listing(origin), origin.read(FILE, 0, 10))]
                print(f"  {found!r:.300}", flush=True)


async def fragments_without_end_take_no_memory() -> None:
    def wrap(xid: bytes, procedure: int, honest: bytes) -> bytes | None:
        return (word(1 << 20) + bytes(1 << 20)) * 20

    async with serving(FakeNfs(wrap=wrap), 2000) as origin:
        assert isinstance(await outcome(origin.health()), OriginFailed)


async def answers_with_random_faults_crash_nothing(seed: str, secs: str) -> None:
    """Whatever comes of them, it is the bytes of the file or a failure; the process lives."""
    chance, until = random.Random(int(seed)), time.monotonic() + float(secs)
    rounds = 0
    while time.monotonic() < until:
        rounds += 1
        round_seed = chance.getrandbits(32)
        print(round_seed, flush=True)
        here = random.Random(round_seed)
        rate = here.choice((0.1, 0.3, 0.8))

        def wrap(xid: bytes, procedure: int, honest: bytes, here: random.Random = here, rate: float = rate) -> bytes:
            return record(_damaged(here, honest) if here.random() < rate else honest)

        async with serving(FakeNfs(wrap=wrap), 150) as origin:
            for call in (
                origin.health(),
                listing(origin),
                origin.stat("a.flac"),
                origin.read(FILE, 0, 10),
                origin.read(BELOW, 2, 5),
            ):
                with suppress(TimeoutError):
                    await outcome(call, 2)
    print(rounds, "rounds", flush=True)


def _damaged(here: random.Random, honest: bytes) -> bytes:
    data = bytearray(honest)
    for _ in range(here.choice((1, 1, 2, 8))):
        at = here.randrange(4, len(data) + 1) if len(data) > 4 else 0
        what = here.randrange(5)
        if what == 0 and at < len(data):
            data[at] = here.getrandbits(8)
        elif what == 1:
            at -= at % 4
            data[at : at + 4] = word(here.choice((0, 1, 2, 64, 65, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)))
        elif what == 2:
            del data[at:]
        elif what == 3:
            data[at:at] = here.randbytes(here.choice((4, 8, 100)))
        else:
            del data[at : at + 4]
    return bytes(data)
