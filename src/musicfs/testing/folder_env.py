"""The environment of an origin over a folder of this machine, directly or through a server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.origin import Origin


class FolderEnv:
    """An OriginEnv over the folder `root`. A subclass says in `table` how the driver reaches it."""

    any_bytes: ClassVar[bool] = True
    tick_ns: ClassVar[int] = 1
    """The resolution of times in the protocol, in nanoseconds. The times of written files differ by it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: list[Origin] = []
        self._clock = 10**18

    def table(self) -> Mapping[str, object]:
        """The origin's usual settings."""
        raise NotImplementedError

    def config(self, **other: object) -> OriginConfig:
        """Returns the configuration. other: settings that replace the usual ones; None leaves one out."""
        chosen = {name: value for name, value in {**self.table(), **other}.items() if value is not None}
        return OriginConfig.model_validate(chosen)

    async def open(self, populated: bool = False, **other: object) -> Origin:
        origin = open_origin(self.config(**other), populated=populated)
        self._opened.append(origin)
        return origin

    def write(self, path: str, data: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self._clock += self.tick_ns
        os.utime(file, ns=(self._clock, self._clock))

    def date(self, path: str, mtime_ns: int) -> bool:
        os.utime(self.root / path, ns=(mtime_ns, mtime_ns))
        return True

    def write_sparse(self, path: str, size: int, at: int, data: bytes) -> None:
        with (self.root / path).open("wb") as file:
            file.truncate(size)
            file.seek(at)
            file.write(data)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    @contextmanager
    def denied(self, path: str) -> Iterator[None]:
        """Denies access by the file's mode. Modes must bind the server: it must not run as root."""
        before = (self.root / path).stat().st_mode
        (self.root / path).chmod(0)
        try:
            yield
        finally:
            (self.root / path).chmod(before)

    def empty_root(self) -> None:
        self.remove_root()
        self.root.mkdir()

    def remove_root(self) -> None:
        shutil.rmtree(self.root)

    async def aclose(self) -> None:
        for origin in self._opened:
            await origin.aclose()
