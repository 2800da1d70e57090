"""How long a listener waits when the place that serves fails in mid-stream, before the servers of the tests."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from statistics import median

from tests.support.everykind import ALL, BLOCK, BLOCKS, DATA, HALF, REMOTE, EveryKind, Listener, Place
from tests.support.servers.swift import Swift

from musicfs.config.models import RetryConfig
from musicfs.events import Event, HealthChanged
from musicfs.model import HealthStatus

_PACES = {"full speed": 0.0, "real time": 1.15e6}
"""Bytes per second, 0: as they come. The other is what uncompressed stereo of 24 bits at 192 kHz takes."""
_NORMAL_READS = 400
_DISTANCE = 0.03
_AWAY_SECS = 5.0
_MAX_OFTEN = ("killed", "stopped")
"""What befalls servers most is repeated most, so that a 99th percentile means something."""
_NO_HEDGES = RetryConfig(hedge_share=0, hedge_burst=0)


@asynccontextmanager
async def _every_kind() -> AsyncIterator[EveryKind]:
    with (
        tempfile.TemporaryDirectory(prefix="musicfs-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="musicfs-swift-") as home,
        Swift(Path(home)) as swift,
        EveryKind(Path(folder), swift) as kinds,
    ):
        os.environ["HOME"] = folder  # without the keys and settings of the current user
        os.environ.pop("SSH_AUTH_SOCK", None)
        await kinds.open()
        yield kinds
        await kinds.aclose()


async def _gaps(kinds: EveryKind, source: Place, fault: str, pace: float) -> list[float]:
    """The longest gap of each of four listeners, who go on from each of the other kinds, in ms."""
    listeners = [Listener(source, other) for other in kinds.others(source.kind)]
    heads = [await listener.play(0, HALF) for listener in listeners]
    await asyncio.to_thread(source.begin, fault)
    try:
        tails = await asyncio.gather(*(_play_on(listener, pace) for listener in listeners))
    finally:
        await asyncio.to_thread(source.end, fault)
    for listener, head, tail in zip(listeners, heads, tails, strict=True):
        if head + tail != DATA:
            raise AssertionError(f"{source.kind}, {fault}: wrong bytes")
        await listener.aclose()
    await source.works()
    return [1000 * max(listener.gaps[HALF:]) for listener in listeners]


def _repeated(rounds: int, fault: str, pace: float) -> int:
    if pace:
        return max(1, rounds * 2 // 5)
    return 5 * rounds if fault in _MAX_OFTEN else rounds


async def _play_on(listener: Listener, pace: float) -> bytes:
    time = asyncio.get_running_loop().time
    started, data = time(), b""
    for index in range(HALF, BLOCKS):
        data += await listener.block(index)
        if pace:
            await asyncio.sleep(max(0.0, started + len(data) / pace - time()))
    return data


async def _extra_load(kinds: EveryKind) -> str:
    """How many more requests hedging makes when nothing is wrong, each kind being first for a listener."""
    asked = {}
    for name, retry in (("without", _NO_HEDGES), ("with", RetryConfig())):
        before = sum(place.origin.reads for place in kinds.all)
        for place in kinds.all:
            if place.proxy is not None:
                place.proxy.latency = _DISTANCE
        listeners = [Listener(kinds[kind], *kinds.others(kind), retry=retry) for kind in REMOTE]
        await asyncio.gather(*(_read_on(listener) for listener in listeners))
        for place in kinds.all:
            if place.proxy is not None:
                place.proxy.heal()
        asked[name] = sum(place.origin.reads for place in kinds.all) - before
    extra = 100 * (asked["with"] / asked["without"] - 1)
    more = f"{asked['without']:,} without hedging, {asked['with']:,} with: {extra:.1f} % more"
    return f"Requests of {_NORMAL_READS * len(REMOTE):,} reads at {2000 * _DISTANCE:.0f} ms: {more}."


async def _read_on(listener: Listener) -> None:
    for number in range(_NORMAL_READS):
        await listener.block(number % BLOCKS)
    await listener.aclose()


async def _return(kinds: EveryKind, kind: str) -> float:
    """Seconds from the server's return until its origin is healthy, at the default settings."""
    source = kinds[kind]
    listener = Listener(source, kinds["local"])
    listener.monitor.start()
    await listener.block(0)
    await asyncio.to_thread(source.begin, "killed")
    await listener.block(0)
    await asyncio.sleep(_AWAY_SECS)
    noticed = asyncio.Event()
    listener.bus.listen(lambda event: noticed.set() if _is_return(event, kind) else None)
    await asyncio.to_thread(source.end, "killed")
    started = asyncio.get_running_loop().time()
    await noticed.wait()  # perhaps while the server was still being waited for
    await listener.aclose()
    return asyncio.get_running_loop().time() - started


def _is_return(event: Event, kind: str) -> bool:
    return isinstance(event, HealthChanged) and event.origin == kind and event.after is HealthStatus.HEALTHY


async def _measure(rounds: int) -> tuple[dict[str, object], str]:
    gaps: dict[str, list[float]] = {}
    lines = [
        f"The longest gap in ms, reading blocks of {BLOCK // 1024} KiB: at full speed"
        f" {4 * _repeated(rounds, 'killed', 0)} repetitions of {' and '.join(_MAX_OFTEN)}, {4 * rounds} of"
        f" the others, and {4 * _repeated(rounds, '', 1)} in real time, where the 99th percentile is the longest.",
        "",
    ]
    lines += ["| kind | fault | " + " | ".join(f"{pace}: median | p99 | longest" for pace in _PACES) + " |"]
    lines += ["|---" * (2 + 3 * len(_PACES)) + "|"]
    async with _every_kind() as kinds:
        for kind, fault in ALL:
            print(f"failover: {kind} {fault}", file=sys.stderr, flush=True)
            cells = []
            for name, pace in _PACES.items():
                found = [
                    gap
                    for _ in range(_repeated(rounds, fault, pace))
                    for gap in await _gaps(kinds, kinds[kind], fault, pace)
                ]
                gaps[f"{kind} {fault} {name}"] = found
                cells += [median(found), sorted(found)[ceil(0.99 * len(found)) - 1], max(found)]
            lines.append(f"| {kind} | {fault} | " + " | ".join(f"{cell:.0f}" for cell in cells) + " |")
        lines += ["", await _extra_load(kinds)]
        returns = {kind: [await _return(kinds, kind) for _ in range(max(1, rounds // 5))] for kind in REMOTE}
    noticed = ", ".join(f"{kind} {median(found):.2f} ({max(found):.2f})" for kind, found in returns.items())
    lines += ["", f"Seconds until a return is noticed, median (longest): {noticed}."]
    return {"gaps_ms": gaps, "returns_secs": returns}, "\n".join(lines)


def measure_failover(rounds: int) -> tuple[dict[str, object], str]:
    """Every single number, and the tables. Each round has four repetitions."""
    log = logging.getLogger("musicfs")
    level = log.level
    log.setLevel(logging.CRITICAL)
    home, agent = os.environ.get("HOME", ""), os.environ.get("SSH_AUTH_SOCK")
    try:
        return asyncio.run(_measure(rounds))
    finally:
        log.setLevel(level)
        os.environ["HOME"] = home
        if agent is not None:
            os.environ["SSH_AUTH_SOCK"] = agent
