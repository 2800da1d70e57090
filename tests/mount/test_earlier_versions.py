"""A mount over what earlier commits kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from tests.support.commands import Commands, commands
from tests.support.earlier import ARCHIVES, unpack


@pytest.fixture
def user() -> Iterator[Commands]:
    with commands() as user:
        yield user


@pytest.mark.parametrize("archive", ARCHIVES)
def test_an_earlier_configuration_and_cache_mount_with_one_line_for_each_former_name(
    user: Commands, archive: str
) -> None:
    earlier = unpack(archive, user.home)
    earlier.take_music_away()
    log = earlier.folder / "cache/musicfs.log"
    before = log.read_text()
    mounted = user("mount", "--config", earlier.config_file)
    assert mounted.returncode == 0, mounted.stderr
    for former, part in (
        ("library.scanner", "library"),
        ("content.pinning", "maintenance"),
        ("content.blocks", "cache"),
    ):
        assert sum(f'"{former}"' in line and f"called {part} now" in line for line in mounted.stderr.splitlines()) == 1
    for path, digest in earlier.cached.items():
        file = earlier.folder / "mount" / path
        assert file.stat().st_ino == earlier.inodes[path]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    assert user("unmount", earlier.folder / "mount").returncode == 0
    assert log.read_text().startswith(before)
    assert "Traceback" not in log.read_text()
