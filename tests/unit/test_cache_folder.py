"""A cache folder of which a part is damaged or can't be used: music plays, and a sentence says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicfs.errors import UserError
from tests.support.commands import make_album
from tests.support.control import local_origin, running_app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of an album at an origin, and an empty cache."""
    make_album(tmp_path / "a" / "Album")
    (tmp_path / "cache").mkdir()
    return tmp_path


async def test_damaged_files_are_replaced_by_new_ones(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{name}.sqlite" for name in ("catalog", "checksums", "blocks", "pins")]
    for name in names:
        (folder / "cache" / name).write_bytes(b"x" * 10_000)
    async with running_app(folder, local_origin("a", folder / "a", 0)) as running:
        await running.scanned()
        assert (await running.get("/status"))["files"] == 3
        assert (await running.get("/cache"))["working"]
        (pin,) = (await running.post("/pins", {"paths": [""]}))["pins"]
        assert pin["tracks"] == 3
    assert len([record for record in caplog.records if "can't be used" in record.message]) == len(names)


async def test_files_that_can_not_be_opened_are_done_without_until_they_can(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("checksums", "blocks", "pins"):
        (folder / "cache" / f"{name}.sqlite").mkdir()
    async with running_app(folder, local_origin("a", folder / "a", 0)) as running:
        await running.scanned()
        assert (await running.get("/status"))["files"] == 3
        assert not (await running.get("/cache"))["working"]
        for path in ("/pins", "/pins/remove"):
            with pytest.raises(UserError, match="The list of pins can't be read"):
                await running.post(path, {"paths": [""]})
        for name in ("blocks", "pins"):
            (folder / "cache" / f"{name}.sqlite").rmdir()
        (pin,) = (await running.post("/pins", {"paths": [""]}))["pins"]
        assert pin["tracks"] == 3
        assert (await running.get("/cache"))["working"]
    logged = [record for record in caplog.records if record.name != "musicfs.audit"]  # which has every change asked for
    assert len([record for record in logged if "unable to open database file" in record.message]) == 3


async def test_a_folder_that_can_not_be_made_is_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(UserError, match=r"can't be used: Not a directory; name another with cache_dir\."):
        async with running_app(tmp_path, local_origin("a", tmp_path, 0)):
            pass
