"""SFTP servers with one bad folder or entry, or with an odd idea of the protocol: it costs what is bad alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from musicfs.config.models import OriginConfig
from musicfs.errors import OriginFailed, ReplicaFailed, ReplicaFault
from musicfs.model import HealthStatus
from musicfs.origins.sftp import session
from musicfs.origins.sftp.driver import SftpOrigin
from musicfs.problems import Reason
from musicfs.testing.observed_contract import RecordingObserver, observed
from musicfs.testing.origin_contract import listing, replica
from tests.support.servers.oddsftp import Oddities, odd_sftp

FILES = {"AA/01.flac", "AA/below/02.flac", "ZZ/03.flac", "top.flac"}


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for path in FILES:
        file = tmp_path / "music" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    return tmp_path / "music"


@asynccontextmanager
async def serving(music: Path, odd: Oddities, timeout_ms: int = 5000) -> AsyncIterator[SftpOrigin]:
    async with odd_sftp(music, music.parent, odd) as settings:
        origin = SftpOrigin(OriginConfig.model_validate({**settings, "timeout_ms": timeout_ms}))
        try:
            yield origin
        finally:
            await origin.aclose()


@pytest.mark.parametrize("long_names", [True, False])
@pytest.mark.parametrize("stat_types", [True, False])
async def test_a_server_that_does_not_say_what_a_name_is_serves_all_the_same(
    music: Path, long_names: bool, stat_types: bool
) -> None:
    (music / "link").symlink_to("AA")
    async with serving(music, Oddities(types=False, long_names=long_names, stat_types=stat_types)) as origin:
        observer = RecordingObserver()
        found = await observed(origin, observer)
        assert set(found) == FILES
        assert observer.problems == []
        assert set(observer.folders) == {"AA", "AA/below", "ZZ"}
        assert await origin.read(await replica(origin, "ZZ/03.flac"), 1, 3) == b"234"
        assert set(await listing(origin, "AA/below")) == {"AA/below/02.flac"}
        assert set(await listing(origin, "top.flac")) == {"top.flac"}
        with pytest.raises(ReplicaFailed):
            await origin.stat("AA")
        assert await origin.health() is HealthStatus.HEALTHY


async def test_a_server_that_can_not_read_links_costs_the_links_alone(music: Path) -> None:
    (music / "link").symlink_to("AA")
    (music / "nowhere").symlink_to("none")
    async with serving(music, Oddities(readlink=False)) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == FILES
        assert observer.reasons == {"nowhere": Reason.LINK_BROKEN}
        assert set(await listing(origin)) == FILES


async def test_a_folder_that_fails_in_the_middle_keeps_what_was_listed(music: Path) -> None:
    for n in range(5):
        (music / f"ZZ/{n}.flac").write_bytes(b"x")
    async with serving(music, Oddities(breaks=[b"ZZ"])) as origin:
        observer = RecordingObserver()
        found = set(await observed(origin, observer))
        assert FILES - {"ZZ/03.flac"} <= found
        assert observer.reasons == {"ZZ": Reason.BROKEN_FOLDER}
        with pytest.raises(OriginFailed, match="'ZZ' can't be listed"):
            await listing(origin)


@pytest.mark.parametrize("hung", [[b"below"], [b"AA", b"ZZ"]])
async def test_folders_that_hang_cost_themselves_alone(music: Path, hung: list[bytes]) -> None:
    async with serving(music, Oddities(hangs=hung), 700) as origin:
        observer = RecordingObserver()
        found = set(await observed(origin, observer))
        assert found == {path for path in FILES if not {part.encode() for part in path.split("/")} & set(hung)}
        assert set(observer.reasons.values()) == {Reason.SLOW_FOLDER}
        assert {path.rpartition("/")[2].encode() for path in observer.reasons} == set(hung)


async def test_a_link_that_hangs_costs_itself_alone(music: Path) -> None:
    (music / "ZZ/automount").symlink_to("/none")
    async with serving(music, Oddities(hangs=[b"automount"]), 700) as origin:
        observer = RecordingObserver()
        assert set(await observed(origin, observer)) == FILES
        assert observer.reasons == {"ZZ/automount": Reason.SLOW_FOLDER}


async def test_a_folder_with_too_many_names_keeps_the_first_ones(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_NAMES", 50)
    for n in range(100):
        (music / f"ZZ/{n}.flac").write_bytes(b"x")
    async with serving(music, Oddities()) as origin:
        observer = RecordingObserver()
        found = await observed(origin, observer)
        assert 45 < len(found) < 60
        assert observer.reasons == {"ZZ": Reason.BIG_FOLDER}


async def test_a_folder_that_trickles_is_cut_off(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_FOLDER_SECS", 0.0)
    async with serving(music, Oddities()) as origin:
        observer = RecordingObserver()
        await observed(origin, observer)
        assert set(observer.reasons.values()) == {Reason.SLOW_FOLDER}


async def test_a_server_with_few_handles_gets_the_resting_ones_back(music: Path) -> None:
    for n in range(40):
        (music / f"ZZ/{n:02}.flac").write_bytes(b"12345")
    odd = Oddities(handles=6)
    async with serving(music, odd) as origin:
        for n in range(40):
            assert await origin.read(await replica(origin, f"ZZ/{n:02}.flac"), 0, 5) == b"12345"
        files = [await replica(origin, f"ZZ/{n:02}.flac") for n in range(40)]
        assert await asyncio.gather(*(origin.read(file, 1, 2) for file in files)) == [b"23"] * 40
        assert await origin.health() is HealthStatus.HEALTHY


async def test_a_server_with_one_handle_is_scanned_while_files_rest_open(music: Path) -> None:
    async with serving(music, Oddities(handles=1)) as origin:
        file = await replica(origin, "ZZ/03.flac")
        for _ in range(2):
            assert await origin.read(file, 0, 5) == b"12345"
            assert await origin.health() is HealthStatus.HEALTHY
            assert await origin.read(file, 0, 5) == b"12345"
            assert set(await observed(origin, RecordingObserver())) == FILES


async def test_a_file_that_can_not_be_read_blames_itself_while_the_root_answers(music: Path) -> None:
    async with serving(music, Oddities(breaks=[b"03.flac"])) as origin:
        with pytest.raises(ReplicaFailed) as failed:
            await origin.read(await replica(origin, "ZZ/03.flac"), 0, 5)
        assert failed.value.fault is ReplicaFault.IO
        assert await origin.read(await replica(origin, "top.flac"), 0, 5) == b"12345"
        assert await origin.health() is HealthStatus.HEALTHY
