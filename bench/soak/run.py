"""The schedule of a soak, its measurements, and its report."""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import psutil

from bench.soak.world import World, a_world
from musicfs.errors import UserError

KINDS = ("local", "local", "sftp", "smb", "nfs", "s3")
_READERS = 5
_STEP_SECS = (1.0, 6.0)
_FAULT_SECS = (3.0, 40.0)
_SAMPLE_EVERY_SECS = 10.0
_SILENT_SECS = 90.0
_QUIET_SECS = 135.0
"""Until the library worker has gone to rest, two checks of health have let go of idle files and connections, and what
was freed is given back."""
_MAX_ROTTEN = 6
_COUNTED = ("musicfs_failovers_total", "musicfs_hedges_won_total", "musicfs_replicas_quarantined_total",
            "musicfs_health_changes_total", "musicfs_scans_total", "musicfs_fuse_requests_total",
            "musicfs_fuse_read_bytes_total", "process_cpu_seconds_total")  # fmt: skip


@dataclass
class Sample:
    """at: seconds. daemon_mb, all_mb: resident, of the daemon and with its children."""

    at: float
    daemon_mb: float
    all_mb: float
    descriptors: int
    threads: int
    tasks: int


@dataclass
class Soak:
    """What came of it. start, end: at rest, with everything well. during: while it went on."""

    kinds: list[str]
    seed: int
    minutes: float = 0.0
    start: Sample | None = None
    end: Sample | None = None
    during: list[Sample] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    did: dict[str, int] = field(default_factory=dict)
    gigabytes: float = 0.0
    slowest_secs: dict[str, float] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    avoidable: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)
    logged: dict[str, int] = field(default_factory=dict)


class Schedule:
    """Draws what happens next. What has started ends at its time."""

    def __init__(self, world: World, happened: Counter[str], dice: random.Random) -> None:
        self._world = world
        self._happened = happened
        self._dice = dice
        self._heal_at: dict[str, float] = {}
        self._in_at: dict[str, float] = {}

    def step(self) -> None:
        now = time.monotonic()
        for id in [id for id, at in self._heal_at.items() if at < now]:
            del self._heal_at[id]
            self._world.heal(id)
            _log(f"{id} is well again")
        for id in [id for id, at in self._in_at.items() if at < now]:
            del self._in_at[id]
            self._try("an origin comes back", id, partial(self._world.take_in, id))
        draw = self._dice.random()
        for chance, event in (
            (0.40, self._fault), (0.12, self._membership), (0.10, self._priority), (0.10, self._scan),
            (0.06, self._visit), (0.02, self._rot),
        ):  # fmt: skip
            if (draw := draw - chance) < 0:
                event()
                return

    def _try(self, what: str, id: str, change: Callable[[], object]) -> None:
        """A change of the mount; one that is refused is a finding, and not the end."""
        self._happened[what] += 1
        _log(f"{what}: {id}")
        try:
            change()
        except UserError as refused:
            self._happened[f"{what}: refused"] += 1
            _log(f"{what}: {refused}")

    def _fault(self) -> None:
        victim = self._dice.choice([*self._world.sites.values()])
        if victim.ill:
            return
        fault = self._dice.choice(victim.faults)
        self._happened[f"fault: {fault}"] += 1
        _log(f"{victim.id} is {fault}")
        self._world.begin(victim.id, fault)
        self._heal_at[victim.id] = time.monotonic() + self._dice.uniform(*_FAULT_SECS)

    def _membership(self) -> None:
        left = [id for id in self._world.sites if self._world.ledger.takes_part(id)]
        if len(left) < 3:
            return
        id, for_good = self._dice.choice(left), self._dice.random() < 0.5
        what = "an origin is removed" if for_good else "an origin is disabled"
        self._try(what, id, lambda: self._world.take_out(id, for_good=for_good))
        self._in_at[id] = time.monotonic() + self._dice.uniform(*_FAULT_SECS)

    def _priority(self) -> None:
        id = self._dice.choice([*self._world.sites])
        if self._world.ledger.takes_part(id):
            self._try("a priority changes", id, lambda: self._world.set_priority(id, self._dice.randrange(10)))

    def _scan(self) -> None:
        self._try("a scan is asked for", "", self._world.rescan)

    def _sound(self) -> list[str]:
        return [id for id, each in self._world.sites.items() if not each.ill and self._world.ledger.takes_part(id)]

    def _visit(self) -> None:
        sound = [id for id in self._sound() if self._world.sites[id].rots]  # where an album can go again
        if self._world.visitor is None and sound:
            id = self._dice.choice(sound)
            self._try("an album appears", id, lambda: self._world.visit(id))
        elif self._world.visitor is not None and self._world.visitor[0] in sound:
            self._try("an album goes", self._world.visitor[0], self._world.leave)

    def _rot(self) -> None:
        ledger, sound = self._world.ledger, self._sound()
        found = [
            (path, id)
            for path, holders in ledger.holders.items()
            for id in holders
            if len(holders) > 1
            and id in sound
            and path not in ledger.rotten | ledger.optional
            and self._world.sites[id].rots
        ]
        if found and len(ledger.rotten) < _MAX_ROTTEN:
            self._happened["a bit rots"] += 1
            path, id = self._dice.choice(found)
            _log(f"{path} rots at {id}")
            self._world.rot(path, id)


def _log(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@contextmanager
def _readers(world: World, seed: int) -> Iterator[Callable[[], list[str]]]:
    """Readers at work; the function tells which of them have said nothing for long."""
    heard: dict[int, float] = {}

    def listen(number: int, reader: subprocess.Popen[str]) -> None:
        assert reader.stdout is not None
        for line in reader.stdout:
            heard[number] = time.monotonic()
            world.ledger.record(json.loads(line))

    readers, threads = [], []
    for number in range(_READERS):
        command = [world.here.who.python, "-m", "bench.soak.reader", world.here.mount_point, world.truth]
        reader = subprocess.Popen(
            world.here.who.command(world.here.environ, *map(str, command), str(seed + number)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        heard[number] = time.monotonic()
        readers.append(reader)
        threads.append(threading.Thread(target=listen, args=(number, reader), daemon=True))
        threads[-1].start()

    def silent() -> list[str]:
        if ended := [number for number, reader in enumerate(readers) if reader.poll() is not None]:
            raise RuntimeError(f"readers have ended: {ended}; what they said is above")
        late = time.monotonic() - _SILENT_SECS
        return [f"reader {n} has not come back from a call" for n, at in heard.items() if at < late]

    try:
        yield silent
    finally:
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.close()
        for reader, thread in zip(readers, threads, strict=True):
            try:
                reader.wait(_SILENT_SECS)
            except subprocess.TimeoutExpired:
                reader.kill()
            thread.join(10)


def _sample(world: World, began: float) -> Sample:
    processes = world.processes()
    sizes = [_resident(process) for process in processes]
    daemon = processes[0]
    tasks = world.metrics().get("musicfs_tasks", -1)
    return Sample(
        round(time.monotonic() - began, 1), sizes[0], sum(sizes), daemon.num_fds(), daemon.num_threads(), int(tasks)
    )


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def measure_soak(minutes: float, seed: int, kinds: Sequence[str] = KINDS) -> Soak:
    """Goes on for so long, whatever is found. Needs no quiet machine: it measures no speed."""
    dice = random.Random(seed)
    soak = Soak(list(kinds), seed, minutes)
    with a_world(kinds, dice) as world:
        began = time.monotonic()
        time.sleep(_QUIET_SECS)
        soak.start = _sample(world, began)
        schedule = Schedule(world, soak.happened, dice)
        with _readers(world, seed) as silent:
            _go_on(world, schedule, soak, silent, dice)
        try:
            world.check_all_returns()
            world.check_origins()
        except Exception as problem:  # an hour's findings are worth more than how it ended
            world.ledger.breach(3, f"at the end: {problem!r}")
        time.sleep(_QUIET_SECS)
        soak.end = _sample(world, began)
        ledger = world.ledger
        soak.did, soak.errors, soak.slowest_secs = dict(ledger.done), dict(ledger.errors), ledger.slowest
        soak.gigabytes = ledger.bytes / 1e9
        soak.broken, soak.avoidable = ledger.broken, ledger.avoidable
        metrics = world.metrics()
        soak.counted = {name: metrics.get(name, 0.0) for name in _COUNTED}
        soak.logged = _logged(world)
    return soak


def _go_on(world: World, schedule: Schedule, soak: Soak, silent: Callable[[], list[str]], dice: random.Random) -> None:
    began, sampled = time.monotonic(), 0.0
    reported: set[str] = set()
    until = began + soak.minutes * 60
    while time.monotonic() < until:
        schedule.step()
        time.sleep(dice.uniform(*_STEP_SECS))
        if world.daemon.poll() is not None:
            world.ledger.breach(2, f"the daemon ended: {world.log.read_text(errors='replace')[-2000:]}")
            return
        for what in set(silent()) - reported:
            reported.add(what)
            world.ledger.breach(2, what)
        if time.monotonic() > sampled + _SAMPLE_EVERY_SECS:
            sampled = time.monotonic()
            world.check_origins()
            soak.during.append(_sample(world, began))
            _tell(soak, world)


def _tell(soak: Soak, world: World) -> None:
    last, done = soak.during[-1], world.ledger.done
    print(
        f"soak, {last.at / 60:.1f} of {soak.minutes:g} minutes: {done['read']:,} reads, {last.daemon_mb:.0f} MB,"
        f" {last.descriptors} descriptors, {last.threads} threads, {last.tasks} tasks,"
        f" {done['avoidable errors']} avoidable errors, {len(world.ledger.broken)} promises broken",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _logged(world: World) -> dict[str, int]:
    """How many lines of each level the daemon wrote; tracebacks count for themselves."""
    text = world.log.read_text(errors="replace")
    return {word: text.count(word) for word in ("WARNING", "ERROR", "Traceback")} | {"lines": text.count("\n")}


def growth(soak: Soak) -> float:
    """Megabytes per hour by which the daemon grew in the second half, by the least squares."""
    half = soak.during[len(soak.during) // 2 :]
    if len(half) < 3:
        return 0.0
    line = statistics.linear_regression([each.at / 3600 for each in half], [each.daemon_mb for each in half])
    return line.slope


def soak_as_json(soak: Soak) -> dict[str, Any]:
    return asdict(soak) | {"happened": dict(soak.happened), "growth_mb_per_hour": growth(soak)}


def soak_as_markdown(soak: Mapping[str, Any]) -> str:
    """Of what `soak_as_json` gives."""
    start, end, during = soak["start"], soak["end"], soak["during"]
    lines = ["| the daemon | at the start | most | at the end |", "|---|---|---|---|"]
    for key, name in (
        ("daemon_mb", "resident, MB"), ("all_mb", "resident with its worker, MB"), ("descriptors", "file descriptors"),
        ("threads", "threads"), ("tasks", "tasks"),
    ):  # fmt: skip
        most = max((each[key] for each in during), default=0)
        lines.append(f"| {name} | {start[key]:.0f} | {most:.0f} | {end[key]:.0f} |")
    did, happened = soak["did"], soak["happened"]
    slowest = ", ".join(f"{what} {secs:.1f} s" for what, secs in sorted(soak["slowest_secs"].items()))
    errors = ", ".join(f"{count} {name}" for name, count in sorted(soak["errors"].items())) or "none"
    events = ", ".join(f"{what} {number}" for what, number in sorted(happened.items()))
    lines += [
        "",
        f"{soak['minutes']:g} minutes over {', '.join(soak['kinds'])}, seed {soak['seed']}:"
        f" {did.get('read', 0):,} reads ({soak['gigabytes']:.1f} GB), {did.get('list', 0):,} listings of everything,"
        f" {did.get('write', 0):,} attempts to write. What happened: {events}.",
        "",
        f"Promises broken: {len(soak['broken'])}. Reads that failed: {errors}; of these, an origin could have served:"
        f" {did.get('avoidable errors', 0)}. Slowest call: {slowest}. The daemon grew by"
        f" {soak['growth_mb_per_hour']:.1f} MB per hour in the second half. It logged: "
        + ", ".join(f"{n} {word}" for word, n in soak["logged"].items()) + "; and counted: "
        + ", ".join(f"{name.removeprefix('musicfs_').removesuffix('_total')} {value:,.0f}"
                    for name, value in soak["counted"].items()) + ".",
    ]  # fmt: skip
    return "\n".join([*lines, *(f"- {each}" for each in (*soak["broken"], *soak["avoidable"]))])
