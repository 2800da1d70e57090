"""A machine that sleeps, and a process that is stopped, while music plays: in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from musicfs.errors import OriginFailed, OriginFault
from musicfs.events import FailedOver, HealthChanged
from musicfs.library.beacon import Beacon, Watchdog
from musicfs.library.scan_reads import ScanReads
from musicfs.model import HealthStatus
from musicfs.origin import DropsConnections
from musicfs.origins.folder_failures import FolderFailures
from musicfs.origins.helpers import StrictObserver
from musicfs.system.wakes import STOPPED_SECS, SUSPENDED_SECS, TICK_SECS, Wakes
from tests.support.fakes import DATA, GOOD, HANG, FakeOrigin, Outcome, fails, slow
from tests.support.federation import Federation, federation
from tests.support.virtualtime import VirtualTimeLoop, now_ms, virtual_time

AN_HOUR = 3600.0


class Machine:
    """The two clocks. suspended: seconds, as the difference of the two clocks shows them."""

    def __init__(self) -> None:
        self.suspended = 0.0
        self.wakes = Wakes(lambda: self.suspended)

    def stop_process(self, secs: float) -> None:
        """The loop's clock goes on meanwhile."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.skip(secs)

    def suspend(self, secs: float) -> None:
        self.suspended += secs


def sleeping(machine: Machine, way: str, secs: float) -> None:
    (machine.stop_process if way == "stopped" else machine.suspend)(secs)


class Server(FakeOrigin):
    """Its connection dies in a sleep, without a word: what is asked for over it is never answered."""

    def drop_connections(self) -> None:
        self.read_outcome = self.probe_outcome = slow(0.01)


def dies(origin: FakeOrigin) -> None:
    origin.read_outcome = origin.probe_outcome = HANG


def follow(machine: Machine, fed: Federation) -> None:
    machine.wakes.listen(fed.registry.drop_connections)
    machine.wakes.listen(fed.executor.interrupt)
    machine.wakes.listen(fed.monitor.interrupt)
    machine.wakes.start()


@pytest.mark.parametrize("way", ["stopped", "suspended"])
def test_a_sleep_is_noticed_within_half_a_second_and_no_short_delay_is_one(way: str) -> None:
    @virtual_time
    async def scenario() -> None:
        machine, heard = Machine(), list[float]()
        machine.wakes.listen(lambda: heard.append(now_ms()))
        machine.wakes.start()
        await asyncio.sleep(10)
        sleeping(machine, way, (STOPPED_SECS if way == "stopped" else SUSPENDED_SECS) * 0.8)
        await asyncio.sleep(10)
        assert not heard
        sleeping(machine, way, AN_HOUR)
        woke = now_ms()
        await asyncio.sleep(TICK_SECS + 0.001)
        assert len(heard) == 1
        assert heard[0] - woke <= TICK_SECS * 1000
        await asyncio.sleep(10)
        assert len(heard) == 1
        machine.wakes.stop()

    scenario()


@pytest.mark.parametrize("way", ["stopped", "suspended"])
def test_a_read_that_the_machine_slept_through_goes_on_at_its_origin_and_counts_against_no_one(way: str) -> None:
    @virtual_time
    async def scenario() -> None:
        machine = Machine()
        nas, laptop = Server("nas", read_outcome=slow(0.01)), Server("laptop", read_outcome=slow(0.01))
        async with federation(nas, laptop) as fed:
            follow(machine, fed)
            fed.monitor.start()
            for _ in range(20):
                await fed.fetch()
            for origin in (nas, laptop):
                dies(origin)
            reading = asyncio.create_task(fed.fetch())
            await asyncio.sleep(0.001)
            sleeping(machine, way, AN_HOUR)
            woke = now_ms()
            fetched = await reading
            assert fetched.data == DATA[:100]
            assert now_ms() - woke < 1000
            assert not fed.published(FailedOver)
            await asyncio.sleep(20)
            for origin in (nas, laptop):
                assert fed.monitor.state(origin.id).status is HealthStatus.HEALTHY
            lost = [event for event in fed.published(HealthChanged) if event.after is HealthStatus.UNHEALTHY]
            assert not lost
            assert fed.registry.stats[nas.id].errors.total() == 0
            machine.wakes.stop()

    scenario()


def test_a_probe_that_the_machine_slept_through_is_made_again() -> None:
    @virtual_time
    async def scenario() -> None:
        machine, nas = Machine(), Server("nas", probes=[GOOD])
        async with federation(nas) as fed:
            follow(machine, fed)
            fed.monitor.start()
            await asyncio.sleep(1)
            dies(nas)
            probe = asyncio.create_task(fed.monitor.check_now(nas.id))
            await asyncio.sleep(0.1)
            machine.stop_process(AN_HOUR)
            assert (await probe).status is HealthStatus.HEALTHY
            assert not [event for event in fed.published(HealthChanged) if event.after is not HealthStatus.HEALTHY]
            machine.wakes.stop()

    scenario()


def test_a_read_has_all_of_its_time_again_after_a_sleep() -> None:
    """The network takes some seconds to come back, and the only origin with it."""

    @virtual_time
    async def scenario() -> None:
        machine, nas = Machine(), FakeOrigin("nas", read_outcome=HANG)
        async with federation(nas) as fed:
            follow(machine, fed)
            reading = asyncio.create_task(fed.fetch())
            await asyncio.sleep(9)
            machine.stop_process(AN_HOUR)
            await asyncio.sleep(4)
            nas.read_outcome = GOOD
            assert (await reading).data == DATA[:100]
            machine.wakes.stop()

    scenario()


def interrupted(origin: FakeOrigin) -> OriginFailed:
    return OriginFailed(origin.id, OriginFault.UNREACHABLE, "the machine slept", interrupted=True)


def test_a_scan_reads_a_file_again_that_a_sleep_interrupted_and_marks_none() -> None:
    @virtual_time
    async def scenario() -> None:
        nas = FakeOrigin("nas")
        nas.reads.extend([Outcome(error=interrupted(nas)), Outcome(error=interrupted(nas))])
        reads = ScanReads(nas)
        assert await reads.read(nas.replica, 0, 10) == DATA[:10]
        assert reads.take_problem(nas.replica.path) is None

    scenario()


def test_a_scan_reads_a_file_again_whose_time_ran_out_while_the_process_was_stopped() -> None:
    @virtual_time
    async def scenario() -> None:
        machine, nas = Machine(), FakeOrigin("nas", reads=[HANG])
        reads = ScanReads(nas)
        reading = asyncio.create_task(reads.read(nas.replica, 0, 10))
        await asyncio.sleep(0.01)
        machine.stop_process(AN_HOUR)
        assert await reading == DATA[:10]
        assert reads.take_problem(nas.replica.path) is None

    scenario()


def test_no_folder_is_reported_for_a_sleep() -> None:
    @virtual_time
    async def scenario() -> None:
        nas = FakeOrigin("nas")

        async def check_root() -> None:
            await nas.health()

        failures = FolderFailures(StrictObserver(nas.id), check_root)
        with pytest.raises(OriginFailed):
            await failures.take("album", interrupted(nas))

    scenario()


def test_a_library_worker_is_not_stuck_because_its_parent_was_stopped() -> None:
    now = 0.0
    beacon = Beacon.make()
    watchdog = Watchdog(beacon, 60.0, lambda: now)
    now = 2.0
    assert not watchdog.is_stuck(has_work=True)
    now += AN_HOUR
    assert not watchdog.is_stuck(has_work=True)
    for _ in range(31):
        now += 2.0
        stuck = watchdog.is_stuck(has_work=True)
    assert stuck
    beacon.close()


def test_remote_origins_can_drop_their_connections() -> None:
    from musicfs.origins.nfs.driver import NfsOrigin
    from musicfs.origins.s3.driver import S3Origin
    from musicfs.origins.sftp.driver import SftpOrigin
    from musicfs.origins.smb.driver import SmbOrigin

    for kind in (NfsOrigin, S3Origin, SftpOrigin, SmbOrigin):
        assert issubclass(kind, DropsConnections)


def test_the_fault_of_an_origin_beside_a_sleep_still_counts() -> None:
    @virtual_time
    async def scenario() -> None:
        nas = FakeOrigin("nas", read_outcome=fails(OriginFault.UNREACHABLE))
        async with federation(nas, FakeOrigin("laptop")) as fed:
            fed.executor.interrupt()
            await fed.fetch()
            assert fed.monitor.state(nas.id).consecutive_failures == 1

    scenario()
