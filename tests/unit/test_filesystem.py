"""Opening files of a real tree, without FUSE."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import cast

import pytest

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
