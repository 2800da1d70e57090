"""What is set aside: one version of a file, and nothing of other files."""

from __future__ import annotations

from musicfs.events import EventBus
from musicfs.federation.quarantine import Quarantine
from musicfs.model import OriginId, Replica

A, B = OriginId("a"), OriginId("b")


def replica(origin: OriginId, path: str, mtime_ns: int = 1) -> Replica:
    return Replica(origin, path, 5, mtime_ns)


def test_a_newer_version_that_is_set_aside_takes_the_place_of_the_older_and_of_no_other_file() -> None:
    quarantine = Quarantine(EventBus())
    older, newer = replica(A, "x.flac", 1), replica(A, "x.flac", 2)
    others = [replica(A, "y.flac"), replica(B, "x.flac")]
    for each in (older, *others, newer):
        quarantine.add(each, 0)
    assert set(quarantine.held) == {newer, *others}


def test_every_change_is_reported_and_only_a_change() -> None:
    quarantine = Quarantine(EventBus())
    changes: list[int] = []
    quarantine.on_change = lambda: changes.append(quarantine.generation)
    quarantine.add(replica(A, "x.flac"), 0)
    quarantine.add(replica(A, "x.flac"), 7)
    quarantine.free(B)
    quarantine.free(A)
    assert changes == [1, 2]
