"""Opening files of a real tree, without FUSE."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import cast

import pytest

from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.content.open_content import OpenContent
from musicfs.content.reader import Reader
from musicfs.mount.filesystem import Filesystem
from musicfs.mount.variants import Variants
from tests.support.audio import make_album
from tests.support.federation import federation
from tests.support.library import scanned_library


class Answers:
    """In the place of Variants: whether the tree still shows what is opened, or what asking raises."""

    answer: bool | Exception = True

    async def find_out(self, ino: int, opened: OpenContent) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_file_in_whose_place_another_variant_is_shown_is_stale_and_its_handle_is_closed(tmp_path: Path) -> None:
    """After ESTALE the kernel looks the name up again, and opens what is shown now; any other errno ends the open."""
    make_album(tmp_path / "a", "Artist", "Album", 1)
    variants = Answers()
    async with federation() as made:
        with scanned_library(tmp_path / "cache") as library:
            library.configure({"a": tmp_path / "a"})
            await library.scan()
            (ino,) = library.nodes().values()
            filesystem = Filesystem(
                library.view_now(), Reader(made.executor), lambda _: [], variants=cast(Variants, variants)
            )
            handle = filesystem.open(ino)
            await filesystem.make_certain(handle)
            assert filesystem.open_files == 1
            for answer, number in ((False, errno.ESTALE), (OSError(errno.EIO, "gone"), errno.EIO)):
                variants.answer = answer
                handle = filesystem.open(ino)
                with pytest.raises(OSError) as failed:
                    await filesystem.make_certain(handle)
                assert failed.value.errno == number
                assert filesystem.open_files == 1


async def test_the_bytes_of_a_small_file_are_given_whole_unless_a_read_of_it_may_be_under_way(tmp_path: Path) -> None:
    """The kernel holds the pages that it reads, so whoever gave it the same ones would wait for that read's answer."""
    (song,) = make_album(tmp_path / "a", "Artist", "Album", 1)
    async with federation() as made:
        config = OriginConfig.model_validate({"id": "a", "origin_type": "local", "path": str(tmp_path / "a")})
        made.registry.register(open_origin(config, populated=True), 1)
        with scanned_library(tmp_path / "cache") as library:
            library.configure({"a": tmp_path / "a"})
            await library.scan()
            (ino,) = library.nodes().values()
            filesystem = Filesystem(library.view_now(), Reader(made.executor), lambda _: [])
            await filesystem.read(filesystem.open(ino), 0, 1)  # the origin is there
            one, two = filesystem.open(ino), filesystem.open(ino)
            assert filesystem.whole(two) is None
            for handle in (1, one):
                filesystem.release(handle)
            assert bytes(filesystem.whole(two) or b"") == song.read_bytes()
            filesystem.release(two)
            filesystem.release(two)
            assert bytes(filesystem.whole(filesystem.open(ino)) or b"") == song.read_bytes()
