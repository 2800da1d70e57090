"""Opening a track that has several contents: when it is asked who is there, and when another one is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast

import pytest

from musicfs.catalog.view import TreeView
from musicfs.content.open_content import OpenContent
from musicfs.errors import OriginFailed, OriginFault
from musicfs.model import Content, Fingerprint, OriginId, OriginType, Replica
from musicfs.mount.variants import Variants
from tests.support.fakes import HANG, UNREACHABLE, FakeOrigin
from tests.support.federation import Federation, federation
from tests.support.virtualtime import now_ms, virtual_time

NODE, NEAR, FAR = 7, 1, 2


class Tree:
    """One track in two contents, `near` at the origins "a" and "b" and `far` at "c"; the first of `order` is shown."""

    has_variants = True

    def __init__(self, made: Federation) -> None:
        self.order = [NEAR, FAR]
        self._at = {NEAR: made.replicas[:2], FAR: made.replicas[2:]}

    def variants(self, ino: int) -> list[int]:
        return self.order

    def places(self, ino: int) -> list[tuple[int, str]]:
        return [(1, "track")]

    def lookup(self, parent: int, name: str) -> tuple[int, int, int, int]:
        return 1, self.order[0], 0, 0

    def replicas(self, content: int) -> list[Replica]:
        return self._at[content]

    def opened(self, content: int) -> OpenContent:
        return OpenContent(Content(content, Fingerprint(bytes(32)), 1), self._at[content])


class Scene:
    """Variants over three local origins, as fakes; `told` has what the tree was told to consider."""

    def __init__(self, made: Federation, *, cached: bool = False, tree: Tree | None = None) -> None:
        self.tree = tree or Tree(made)
        self.told: list[set[str]] = []
        self.variants = Variants(cast(TreeView, self.tree), made.registry, lambda opened: cached, self._tell)
        self._made = made

    async def _tell(self, origins: Collection[OriginId]) -> None:
        self.told.append(set(origins))
        away = self._made.registry.health().is_unhealthy
        self.tree.order.sort(key=lambda content: (all(away(r.origin) for r in self.tree.replicas(content)), content))

    async def can_open(self, content: int = NEAR) -> bool:
        return await self.variants.find_out(NODE, self.tree.opened(content))

    def is_certain(self, content: int = NEAR) -> bool:
        return self.variants.is_certain(NODE, self.tree.opened(content))


def three() -> list[FakeOrigin]:
    return [FakeOrigin(id, OriginType.LOCAL) for id in "abc"]


@virtual_time
async def test_the_variant_that_is_shown_is_opened_while_one_of_its_origins_answers() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made)
        origins[0].probe_outcome = UNREACHABLE
        assert await scene.can_open()
        assert scene.told == []


class TwoNames(Tree):
    """The content `near` is a track of two contents under one name, and of one content under another."""

    def places(self, ino: int) -> list[tuple[int, str]]:
        return [(1, name) for name in ("track", "other") if self.lookup(1, name)[1] == NEAR]

    def lookup(self, parent: int, name: str) -> tuple[int, int, int, int]:
        return 1, self.order[0] if name == "track" else NEAR, 0, 0


@virtual_time
async def test_a_file_that_one_of_its_names_still_shows_opens_by_that_name() -> None:
    """The kernel looks the name up again after a refusal, and comes back if it shows the same file."""
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made, tree=TwoNames(made))
        origins[0].probe_outcome = origins[1].probe_outcome = UNREACHABLE
        assert not await scene.can_open()
        assert scene.tree.order == [FAR, NEAR]
        assert await scene.can_open()


@virtual_time
async def test_when_none_answers_the_other_variant_is_shown_before_anything_is_refused() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made)
        origins[0].probe_outcome = origins[1].probe_outcome = UNREACHABLE
        assert not await scene.can_open()
        assert scene.told == [{"a", "b"}]
        assert await scene.can_open(FAR)


@virtual_time
async def test_what_is_known_to_be_away_is_not_asked_again() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made)
        for origin in origins[:2]:
            made.monitor.record_failure(origin.id, OriginFailed(origin.id, OriginFault.UNREACHABLE))
        assert not await scene.can_open()
        assert [origin.probed_ms for origin in origins] == [[], [], []]


@virtual_time
async def test_with_all_away_the_file_is_opened_and_its_reads_tell() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made)
        for origin in origins:
            origin.probe_outcome = UNREACHABLE
        assert not await scene.can_open()
        assert await scene.can_open(FAR)


@virtual_time
async def test_what_is_cached_whole_needs_no_origin() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made, cached=True)
        origins[0].probe_outcome = origins[1].probe_outcome = UNREACHABLE
        assert await scene.can_open()
        assert scene.told == []


@virtual_time
async def test_an_origin_that_hangs_holds_opening_up_for_seconds_only() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made)
        origins[0].probe_outcome = HANG
        assert await scene.can_open()
        assert now_ms() == 0, "the other origin answers"
        origins[1].probe_outcome = HANG
        assert await scene.can_open()
        assert now_ms() == 2500


@virtual_time
async def test_nothing_is_asked_without_need() -> None:
    origins = three()
    async with federation(*origins) as made:
        scene = Scene(made)
        assert not scene.is_certain()
        await made.probe_all()
        assert scene.is_certain()
        await asyncio.sleep(0.2)
        assert not scene.is_certain()
        made.monitor.record_success(origins[0].id, 1)
        assert scene.is_certain()


@pytest.mark.parametrize("change", ["no variants at all", "none of this track"])
def test_a_track_without_variants_is_opened_at_once(change: str) -> None:
    @virtual_time
    async def scenario() -> None:
        async with federation(*three()) as made:
            scene = Scene(made)
            if change == "no variants at all":
                scene.tree.has_variants = False
            else:
                scene.tree.order = [NEAR]
            assert scene.is_certain()

    scenario()
