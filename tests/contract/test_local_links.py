"""Which symbolic links a local origin follows, at the scan and at every read, whatever other programs do meanwhile."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from musicfs.errors import ReplicaFailed, ReplicaFault
from musicfs.model import DiskFolder, OriginId, Replica
from musicfs.origins import links
from musicfs.origins.links import Below, LinkRefused
from musicfs.origins.local.driver import LocalOrigin
from musicfs.origins.observers import StrictObserver
from musicfs.problems import Problem, Reason
from musicfs.tags.parser import FileOnDisk
from musicfs.testing.origin_contract import listing
from musicfs.testing.scanned_library import examine_on_disk
from tests.contract.test_local import LocalEnv

SECRET = b"secret"
MUSIC = b"music!"  # of the same size


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[LocalEnv]:
    """An origin, and beside it `outside`, which holds a secret and another file of music."""
    (tmp_path / "music").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/far.flac").write_bytes(SECRET)
    env = LocalEnv(tmp_path / "music")
    env.write("album/a.flac", MUSIC)
    env.write(".store/kept.flac", MUSIC)
    env.write(".store/disc/b.flac", MUSIC)
    yield env
    await env.aclose()


@pytest.fixture(params=["openat2", "old kernel", "container"])
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With openat2; without it, as before Linux 5.6; and where a container's filter forbids it."""
    number = {"old kernel": errno.ENOSYS, "container": errno.EPERM}.get(request.param)
    if number is not None:

        def refuse(*_: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(links, "openat2", refuse)
    links._has_openat2.cache_clear()
    yield request.param
    links._has_openat2.cache_clear()


def link_everything(env: LocalEnv) -> None:
    """in-*: to what lies in the origin, under a name that is not listed. out-*: out of it."""
    outside = env.root.parent / "outside"
    links: dict[str, str | Path] = {
        "in-absolute.flac": env.root / ".store/kept.flac",
        "in-relative.flac": ".store/kept.flac",
        "album/in-up.flac": "../.store/kept.flac",
        "in-round.flac": "../music/.store/kept.flac",
        "in-folder": env.root / ".store/disc",
        "out-file.flac": outside / "far.flac",
        "out-relative.flac": "../outside/far.flac",
        "album/out-folder": outside,
        "out-nowhere.flac": "/nowhere/at/all.flac",
        "out-proc.flac": "/proc/self/environ",
        "circle.flac": "circle.flac",
        "again.flac": "album/a.flac",
    }
    for name, target in links.items():
        (env.root / name).symlink_to(target)


class Outside(StrictObserver):
    """Keeps the links that are left out."""

    def __init__(self, origin: OriginId) -> None:
        super().__init__(origin)
        self.links: list[str] = []

    def report(self, problem: Problem) -> None:
        super().report(problem)
        if problem.reason is Reason.LINK_OUTSIDE:
            self.links.append(problem.path)


async def scanned(origin: LocalOrigin, under: str = "") -> tuple[set[str], set[str]]:
    """The files that are listed, and the links that are left out."""
    observer = Outside(origin.id)
    files = {stat.path async for stat in origin.scan_observed(observer, under)}
    return files, set(observer.links)


LINKED = {"album/in-up.flac", "in-absolute.flac", "in-relative.flac", "in-round.flac"}
INSIDE = LINKED | {"album/a.flac", "in-folder/b.flac"}
OUT = {"album/out-folder", "out-file.flac", "out-proc.flac", "out-relative.flac"}


async def test_inside_follows_links_that_stay_in_the_folder_and_names_those_that_lead_out(
    env: LocalEnv, calls: str
) -> None:
    link_everything(env)
    assert await scanned(await env.open(links="inside")) == (INSIDE, OUT)


async def test_none_follows_no_link_and_names_those_that_lead_to_something_else(env: LocalEnv, calls: str) -> None:
    link_everything(env)
    files, left_out = await scanned(await env.open(links="none"))
    assert files == {"album/a.flac"}
    assert left_out == LINKED | OUT | {"in-folder", "out-nowhere.flac"}


async def test_all_follows_every_link_and_leaves_out_nothing(env: LocalEnv) -> None:
    link_everything(env)
    origin = await env.open(links="all")
    files, left_out = await scanned(origin)
    assert files == INSIDE | {"album/out-folder/far.flac", "out-file.flac", "out-proc.flac", "out-relative.flac"}
    assert left_out == set()
    far = (await listing(origin))["out-file.flac"]
    assert await origin.read(Replica.of(OriginId("disk"), far), 0, 99) == SECRET


async def test_what_inside_lists_can_be_read_by_every_way(env: LocalEnv, calls: str) -> None:
    link_everything(env)
    origin = await env.open(links="inside")
    await origin.health()
    found = await listing(origin)
    assert found.keys() == INSIDE
    for stat in found.values():
        assert await origin.stat(stat.path) == stat
        assert await origin.read(Replica.of(OriginId("disk"), stat), 0, 99) == MUSIC
        assert bytes(origin.read_now(Replica.of(OriginId("disk"), stat), 0, 6) or MUSIC) == MUSIC


async def refused(origin: LocalOrigin, path: str, about: os.stat_result) -> None:
    """By every way, under a name that a scan under another policy may have listed."""
    replica = Replica(OriginId("disk"), path, about.st_size, about.st_mtime_ns)
    assert origin.read_now(replica, 0, 6) is None
    for call in (origin.read(replica, 0, 6), origin.stat(path)):
        with pytest.raises(ReplicaFailed, match=r'a symbolic link .* and links = "') as failed:
            await call
        assert failed.value.fault is ReplicaFault.MISSING


@pytest.mark.parametrize("policy", ["inside", "none"])
@pytest.mark.parametrize("path", ["out-file.flac", "out-relative.flac", "album/out-folder/far.flac"])
async def test_a_file_behind_a_link_that_leads_out_is_refused_by_every_way(
    env: LocalEnv, calls: str, policy: str, path: str
) -> None:
    link_everything(env)
    origin = await env.open(links=policy)
    await origin.health()
    await refused(origin, path, (env.root.parent / "outside/far.flac").stat())
    file = FileOnDisk(path, "sidecar", 6, (env.root.parent / "outside/far.flac").stat().st_mtime_ns)
    folder = await origin.folder_on_disk()
    assert folder is not None
    assert examine_on_disk(folder, [file]) == [None]


async def test_none_refuses_links_that_stay_in_the_folder_by_every_way(env: LocalEnv, calls: str) -> None:
    link_everything(env)
    origin = await env.open(links="none")
    await origin.health()
    about = (env.root / ".store/kept.flac").stat()
    for path in ("in-absolute.flac", "in-relative.flac", "album/in-up.flac"):
        await refused(origin, path, about)
    file = FileOnDisk("in-relative.flac", "sidecar", 6, about.st_mtime_ns)
    assert examine_on_disk(DiskFolder(str(env.root), through_links=True), [file]) != [None]
    assert examine_on_disk(DiskFolder(str(env.root), through_links=False), [file]) == [None]


@pytest.mark.parametrize("policy", ["inside", "none"])
async def test_a_folder_that_became_a_link_out_since_the_scan_is_refused(
    env: LocalEnv, calls: str, policy: str
) -> None:
    env.write("album/far.flac", MUSIC)
    os.utime(env.root.parent / "outside/far.flac", ns=(1, 1))
    os.utime(env.root / "album/far.flac", ns=(1, 1))
    origin = await env.open(links=policy)
    await origin.health()
    assert await origin.stat("album/far.flac")
    (env.root / "album").rename(env.root / "moved")
    (env.root / "album").symlink_to("../outside")
    await refused(origin, "album/far.flac", (env.root.parent / "outside/far.flac").stat())


@contextmanager
def swapping(folder: Path, link: Path) -> Iterator[None]:
    """Meanwhile, another thread goes on exchanging the two under the name of the first."""
    stop = threading.Event()
    aside = folder.with_name("aside")

    def swap() -> None:
        while not stop.is_set():
            folder.rename(aside)
            link.rename(folder)
            folder.rename(link)
            aside.rename(folder)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("policy", ["inside", "none"])
@pytest.mark.parametrize("target", ["../outside", "absolute"])
def test_a_program_that_swaps_a_folder_for_a_link_all_the_time_never_gets_a_byte_out(
    env: LocalEnv, calls: str, policy: links.Links, target: str
) -> None:
    outside = env.root.parent / "outside"
    env.write("album/far.flac", MUSIC)
    (env.root / "link").symlink_to(outside if target == "absolute" else target)
    below = Below(str(env.root), policy)
    read: set[bytes] = set()
    refusals = 0
    with swapping(env.root / "album", env.root / "link"):
        attempts = 0
        while attempts < 3000 or not (read and refusals):  # on a busy machine the program may stand still for long
            attempts += 1
            try:
                fd = below.open("album/far.flac")
            except (LinkRefused, FileNotFoundError, NotADirectoryError):
                refusals += 1
                continue
            read.add(os.read(fd, 6))
            os.close(fd)
    assert read == {MUSIC}


async def test_a_scan_of_a_link_that_leads_out_names_it_and_finds_nothing(env: LocalEnv, calls: str) -> None:
    link_everything(env)
    origin = await env.open(links="inside")
    for under in ("album/out-folder", "out-file.flac"):
        observer = Outside(origin.id)
        with pytest.raises(ReplicaFailed) as failed:
            [stat async for stat in origin.scan_observed(observer, under)]
        assert failed.value.fault is ReplicaFault.MISSING
        assert observer.links == [under]


async def test_the_folder_of_an_origin_may_be_a_link_itself(env: LocalEnv, calls: str) -> None:
    link_everything(env)
    (env.root.parent / "way").symlink_to(env.root)
    origin = await env.open(links="inside", path=env.root.parent / "way")
    assert await scanned(origin) == (INSIDE, OUT)
    stat = (await listing(origin))["in-absolute.flac"]
    assert await origin.read(Replica.of(OriginId("disk"), stat), 0, 99) == MUSIC


@pytest.mark.parametrize("policy", ["inside", "none"])
def test_a_file_system_that_is_mounted_below_the_folder_belongs_to_it(calls: str, policy: links.Links) -> None:
    fd = Below("/", policy).open("proc/version")
    try:
        assert os.read(fd, 5) == b"Linux"
    finally:
        os.close(fd)


@pytest.mark.parametrize("policy", ["inside", "none"])
def test_a_link_of_the_kernels_own_is_not_followed(env: LocalEnv, policy: links.Links) -> None:
    """/proc/self/root and the like lead to places, not to paths."""
    (env.root / "magic.flac").symlink_to(f"/proc/self/root{env.root}/album/a.flac")
    with pytest.raises(OSError, match="symbolic link"):
        Below(str(env.root), policy).open("magic.flac")


async def test_folders_behind_links_that_lead_out_are_not_watched(env: LocalEnv) -> None:
    link_everything(env)
    (env.root.parent / "outside/deep").mkdir()
    origin = await env.open(links="inside")
    watch = await origin.watch("", lambda paths: None)
    assert watch is not None
    watched = {folder for _, folder in watch._folders.items()}  # type: ignore[attr-defined]
    assert watched == {"", "album", "in-folder"}
