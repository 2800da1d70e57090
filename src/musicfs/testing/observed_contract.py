"""The contract of origins with `scan_observed` (origin.ObservesScans). A test class inherits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from musicfs.model import Stat
from musicfs.origin import ObservesScans, Origin
from musicfs.problems import Problem, Reason
from musicfs.testing.origin_contract import OriginEnv


class RecordingObserver:
    """An origin.ScanObserver that remembers what it hears.

    lists: whether to list a folder, from its path; by default all are listed.
    """

    marker = ""

    def __init__(self, lists: Callable[[str], bool] = lambda folder: True) -> None:
        self.folders: dict[str, int | None] = {}
        self.problems: list[Problem] = []
        self._lists = lists

    def enters(self, folder: str, mtime_ns: int | None) -> bool:
        above = folder.rpartition("/")[0]
        assert folder, "the root is not asked about"
        assert not above or above in self.folders, "asked about before its parent"
        assert folder not in self.folders, "asked about twice"
        self.folders[folder] = mtime_ns
        return self._lists(folder)

    def report(self, problem: Problem) -> None:
        self.problems.append(problem)

    @property
    def reasons(self) -> dict[str, Reason]:
        return {problem.path: problem.reason for problem in self.problems}


async def observed(origin: Origin, observer: RecordingObserver, under: str = "") -> dict[str, Stat]:
    """Returns the files of a scan, by path."""
    assert isinstance(origin, ObservesScans)
    found = [stat async for stat in origin.scan_observed(observer, under)]
    assert len({stat.path for stat in found}) == len(found), "a file was listed twice"
    return {stat.path: stat for stat in found}


class ObservedContract:
    """The tests. `env` is a fixture of the module of the subclass."""

    closed_reason: ClassVar[Reason] = Reason.CLOSED_FOLDER
    """What a folder that may not be listed looks like, as far as the server says."""

    async def test_a_closed_folder_costs_itself_alone(self, env: OriginEnv) -> None:
        for path in ("above/a.flac", "above/closed/b.flac", "above/closed/below/c.flac", "zz/d.flac", "e.flac"):
            env.write(path, b"12345")
        observer = RecordingObserver()
        with env.denied("above/closed"):
            found = await observed(await env.open(), observer)
        assert set(found) == {"above/a.flac", "zz/d.flac", "e.flac"}
        assert observer.reasons == {"above/closed": self.closed_reason}
        assert set(observer.folders) == {"above", "above/closed", "zz"}

    async def test_a_scan_that_begins_at_a_closed_folder_reports_it(self, env: OriginEnv) -> None:
        env.write("open/a.flac", b"12345")
        env.write("closed/b.flac", b"12345")
        observer = RecordingObserver()
        with env.denied("closed"):
            assert await observed(await env.open(), observer, "closed") == {}
        assert observer.reasons == {"closed": self.closed_reason}

    async def test_every_folder_is_asked_about_and_listed_only_if_the_observer_wants_it(self, env: OriginEnv) -> None:
        for path in ("a/1", "a/b/2", "a/b/c/3", "@eaDir/4", "lost+found/5", "d/6"):
            env.write(path, b"x")
        observer = RecordingObserver(lambda folder: folder not in ("a/b", "lost+found"))
        found = await observed(await env.open(), observer)
        assert set(found) == {"a/1", "@eaDir/4", "d/6"}
        assert set(observer.folders) == {"a", "a/b", "@eaDir", "lost+found", "d"}
        assert observer.problems == []

    async def test_a_scan_of_everything_and_a_plain_one_agree(self, env: OriginEnv) -> None:
        for path in ("a/1", "a/b/2", "c/3", "4"):
            env.write(path, b"x")
        origin, observer = await env.open(), RecordingObserver()
        assert await observed(origin, observer) == {stat.path: stat async for stat in origin.scan()}
        assert observer.problems == []
