"""What earlier commits kept on disk: the archives of tests/fixtures, unpacked where a test wants them."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[1] / "fixtures"
ARCHIVES = sorted(path.name for path in FIXTURES.glob("cache-*.tar.xz"))


@dataclass(frozen=True)
class EarlierCache:
    """An archive that was unpacked into `folder`; tests/fixtures/make_cache.py says what it holds.

    inodes: by paths in the tree. cached: the SHA-256 of the files that are cached whole.
    """

    folder: Path
    inodes: dict[str, int]
    cached: dict[str, str]
    said: dict[str, Any]

    @property
    def config_file(self) -> Path:
        return self.folder / "musicfs.toml"

    def take_music_away(self) -> None:
        (self.folder / "music").rename(self.folder / "music that is away")


def unpack(archive: str, folder: Path) -> EarlierCache:
    with tarfile.open(FIXTURES / archive) as tar:
        tar.extractall(folder, filter="data")
    (folder / "cache").chmod(0o700)
    for name in ("musicfs.toml", "said.json"):
        file = folder / name
        file.write_text(file.read_text().replace("@BASE@", str(folder)))
    said = json.loads((folder / "said.json").read_text())
    return EarlierCache(folder, said["inodes"], said["cached"], said)
