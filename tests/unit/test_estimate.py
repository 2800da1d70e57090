"""What a first scan takes, said before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from musicfs.errors import OriginFailed
from musicfs.library.estimate import estimate_scan
from musicfs.origin import Origin
from musicfs.testing.scanned_library import ScannedLibrary
from musicfs.testing.scanned_library import scanned_library as scanned
from tests.support.audio import make_audio
from tests.support.library import CountingOrigin


@pytest.fixture
def music(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for number in range(3):
        make_audio(root / f"Album/{number}.flac", seconds=10, tags={"title": f"Song {number}"})
    (root / "Album/cover.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(5000))
    (root / "Album/notes.docx").write_bytes(bytes(5000))
    (root / ".hidden").mkdir()
    (root / ".hidden/4.flac").write_bytes(bytes(5000))
    (root / "Drafts").mkdir()
    (root / "Drafts/5.flac").write_bytes(bytes(5000))
    return root


async def test_an_estimate_is_what_a_first_scan_reads(music: Path, tmp_path: Path) -> None:
    with scanned(tmp_path / "cache") as library:
        origin = CountingOrigin(opened(library, music))
        estimate = await estimate_scan(cast(Origin, origin), ["Drafts/"])
        assert not origin.bytes_read
        finished = await library.scanner.scan(cast(Origin, origin), ignore=["Drafts/"])
    assert finished.read == 4
    assert (estimate.files, estimate.read_bytes) == (4, origin.bytes_read)
    assert estimate.size == sum(path.stat().st_size for path in (music / "Album").iterdir()) - 5000
    large = [path for path in music.rglob("Album/*.flac") if path.stat().st_size > 256 << 10]
    assert len(large) == 3
    assert estimate.requests == 3 * 6 + 1, "six samples of a large file, the whole of a small one"


class Joining(CountingOrigin):
    """Reads all ranges of a file as one."""

    def plan_requests(self, ranges: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        start = min(offset for offset, _ in ranges)
        return [(start, max(offset + size for offset, size in ranges) - start)]


async def test_an_origin_that_joins_ranges_takes_fewer_requests(music: Path, tmp_path: Path) -> None:
    with scanned(tmp_path / "cache") as library:
        estimate = await estimate_scan(cast(Origin, Joining(opened(library, music))), ["Drafts/"])
    assert (estimate.files, estimate.requests, estimate.read_bytes) == (4, 4, estimate.size)


async def test_what_can_not_be_listed_can_not_be_estimated(tmp_path: Path) -> None:
    with scanned(tmp_path / "cache") as library, pytest.raises(OriginFailed):
        await estimate_scan(opened(library, tmp_path / "nowhere"))


def opened(library: ScannedLibrary, root: Path) -> Origin:
    library.configure({"a": root})
    return library.origins["a"]
