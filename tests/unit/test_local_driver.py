"""The local driver's reads that wait for nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from musicfs.config.models import OriginConfig
from musicfs.model import HealthStatus, OriginId, OriginType, Replica
from musicfs.origins.local.driver import LocalOrigin

DISK = OriginId("disk")


@pytest.mark.parametrize(
    ("data", "mtime_ns"),
    [
        pytest.param(b"other", 2_000_000_000, id="another time, the same size"),
        pytest.param(b"longer", 1_000_000_000, id="another size, the same time"),
    ],
)
async def test_a_file_that_is_rewritten_in_place_while_it_is_open_is_not_read_as_its_former_version(
    tmp_path: Path, data: bytes, mtime_ns: int
) -> None:
    file = tmp_path / "x.flac"
    file.write_bytes(b"music")
    os.utime(file, ns=(1_000_000_000, 1_000_000_000))
    replica = Replica(DISK, "x.flac", 5, 1_000_000_000)
    origin = LocalOrigin(OriginConfig(id=DISK, origin_type=OriginType.LOCAL, settings={"path": tmp_path}))
    try:
        assert await origin.health() is HealthStatus.HEALTHY
        assert await origin.read(replica, 0, 5) == b"music"
        assert bytes(origin.read_now(replica, 0, 5) or b"music") == b"music"  # None where the kernel would wait
        file.write_bytes(data)
        os.utime(file, ns=(mtime_ns, mtime_ns))
        assert origin.read_now(replica, 0, 5) is None
    finally:
        await origin.aclose()
