"""Any sequence of faults, in virtual time: a read is right or an error, comes back within its deadline, and succeeds
as long as one place can serve it."""

from __future__ import annotations

import asyncio
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from musicfs.cache.block_checksums import BLOCK_SIZE
from musicfs.config.models import RetryConfig
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.errors import NoReplicaAvailable, OriginFault, ReplicaFault
from musicfs.model import Content, Fingerprint
from tests.support.fakes import GOOD, HANG, SHORT, STUBBORN, UNREACHABLE, WRONG, FakeOrigin, Outcome, fails, slow
from tests.support.federation import Federation, settle
from tests.support.virtualtime import VirtualTimeLoop

DATA = random.Random(0).randbytes(3 * BLOCK_SIZE + 1234)
CONTENT = Content(1, Fingerprint(b"f" * 32), len(DATA))
DEADLINE_SECS = RetryConfig().deadline_ms / 1000
NAMES = ("a", "b", "c", "d")
OF_THE_ORIGIN = {
    "unreachable": UNREACHABLE,
    "hanging": HANG,
    "hanging for good": STUBBORN,
    "refusing": fails(OriginFault.DENIED),
    "late": slow(0.4),
    "far too late": slow(7.0),
}
OF_THE_FILE = {
    "short": SHORT,
    "missing": fails(ReplicaFault.MISSING),
    "changed": fails(ReplicaFault.CHANGED),
    "lying": WRONG,
}
names = st.sampled_from(NAMES)


def an_origin(name: str) -> FakeOrigin:
    """Each tells lies of its own, as bits rot: those who agree on one outvote a single one who knows better."""
    return FakeOrigin(name, data=DATA, lie=1 + NAMES.index(name))


class Reads(RuleBasedStateMachine):
    """Two places have shown every block before the first fault: that is certain, whoever lies later."""

    shown_by: tuple[str, ...] = ("a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        self.made = Federation()
        self.origins = {name: an_origin(name) for name in NAMES}
        for name in NAMES:
            self.made.add(self.origins[name])
        self.all = OpenContent(CONTENT, self.made.replicas)
        self.reader = Reader(self.made.executor, recent_blocks=1)
        self.made.monitor.start()
        self.first_has_lied = False
        for name in self.shown_by:
            opened = OpenContent(CONTENT, [self.origins[name].replica])
            for index in (1, 2, 3, 0):  # the last one stays in memory, and is not the first that the next place shows
                await self.reader.read(opened, index * BLOCK_SIZE, 1)

    def teardown(self) -> None:
        self.runner.run(self._end())
        self.runner.close()

    async def _end(self) -> None:
        await asyncio.sleep(2 * DEADLINE_SECS)
        # One that ignores its cancellation can't be ended.
        stubborn = any(origin.cancelled for origin in self.origins.values())
        reads = [task for task in asyncio.all_tasks() if task.get_name().startswith("read of")]
        assert not reads or stubborn, reads
        for origin in self.origins.values():
            origin.release()
        await self.reader.aclose()
        await self.made.executor.aclose()
        await self.made.monitor.aclose()
        await self.made.registry.aclose()
        await settle()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left running: {left}"

    @property
    def may_be_wrong(self) -> bool:
        """Whether bytes may be served that are not the first ones: where one place alone has shown these, and takes
        them back, another one that differs is believed as much (SEMANTICS, "It is one vote against one")."""
        return self.first_has_lied and len(self.shown_by) < 2

    def sound(self) -> set[str]:
        """The places that can serve every byte."""
        return {
            name
            for name, origin in self.origins.items()
            if origin.read_outcome in (GOOD, OF_THE_ORIGIN["late"])
            and self.made.registry.get(origin.id) is origin
            and not self.made.registry.is_quarantined(origin.replica)
        }

    @rule(name=names, fault=st.sampled_from(sorted(OF_THE_ORIGIN)))
    def an_origin_falls_ill(self, name: str, fault: str) -> None:
        reads = OF_THE_ORIGIN[fault]
        # A probe that can't be ended would keep the origin from ever being asked again.
        self._become(name, reads, HANG if reads is STUBBORN else reads)

    @rule(name=names, fault=st.sampled_from(sorted(OF_THE_FILE)))
    def a_file_goes_bad(self, name: str, fault: str) -> None:
        self.first_has_lied = self.first_has_lied or (name, fault) == (NAMES[0], "lying")
        self._become(name, OF_THE_FILE[fault], GOOD)

    @rule(name=names)
    def all_is_well_again(self, name: str) -> None:
        self._become(name, GOOD, GOOD)

    def _become(self, name: str, reads: Outcome, probes: Outcome) -> None:
        self.origins[name].read_outcome = reads
        self.origins[name].probe_outcome = probes
        self._let_a_failure_be_forgotten()

    @rule(offset=st.integers(0, len(DATA)), size=st.sampled_from((1, 4096, BLOCK_SIZE, len(DATA))))
    def a_read(self, offset: int, size: int) -> None:
        self.runner.run(self._read(offset, size))

    @rule(offsets=st.lists(st.integers(0, len(DATA)), min_size=2, max_size=6))
    def several_reads_at_once(self, offsets: list[int]) -> None:
        async def read_all() -> None:
            await asyncio.gather(*(self._read(offset, BLOCK_SIZE) for offset in offsets))

        self.runner.run(read_all())

    @rule(offset=st.integers(0, len(DATA) - 1), after=st.sampled_from((0.0, 0.01, 0.3, 2.0)))
    def a_reader_gives_up(self, offset: int, after: float) -> None:
        async def give_up() -> None:
            reading = asyncio.create_task(self._read(offset, BLOCK_SIZE))
            await asyncio.wait({reading}, timeout=after)
            reading.cancel()
            await asyncio.wait({reading})
            if not reading.cancelled():
                reading.result()
            await asyncio.sleep(DEADLINE_SECS)  # the fetch goes on, and who joins it hears what it hears

        self.runner.run(give_up())

    async def _read(self, offset: int, size: int) -> None:
        started = asyncio.get_running_loop().time()
        sound = self.sound()
        answer = (await asyncio.gather(self.reader.read(self.all, offset, size), return_exceptions=True))[0]
        took = asyncio.get_running_loop().time() - started
        assert took <= DEADLINE_SECS + 0.001
        if isinstance(answer, NoReplicaAvailable):
            assert not sound & self.sound(), f"{sound} could have served it: {answer}"
        else:
            assert answer == DATA[offset : offset + size] or self.may_be_wrong

    @rule(seconds=st.sampled_from((0.05, 1.0, 20.0)))
    def time_passes(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    @precondition(lambda self: len(self.made.registry.list()) > 1)
    @rule(name=names)
    def an_origin_is_removed(self, name: str) -> None:
        self.runner.run(self.made.registry.unregister(self.origins[name].id))

    @rule(name=names)
    def an_origin_is_added_again(self, name: str) -> None:
        if self.made.registry.get(self.origins[name].id) is None:

            async def add() -> None:
                self.origins[name] = an_origin(name)
                self.made.registry.register(self.origins[name], NAMES.index(name))

            self.runner.run(add())
            self._let_a_failure_be_forgotten()

    def _let_a_failure_be_forgotten(self) -> None:
        """A read that was waited for in vain fails again at once, for a tenth of a second."""
        self.runner.run(asyncio.sleep(0.2))

    @rule()
    def who_is_well_returns(self) -> None:
        """Nobody has to help: after a while, whoever can answer is healthy."""
        self.runner.run(asyncio.sleep(70))
        for name in self.sound():
            assert not self.made.registry.health().is_unhealthy(self.origins[name].id), name


class ReadsShownOnce(Reads):
    """One place alone has shown every block."""

    shown_by = ("a",)


for machine in (Reads, ReadsShownOnce):
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestReads, TestReadsShownOnce = Reads.TestCase, ReadsShownOnce.TestCase
