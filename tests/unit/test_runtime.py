"""Control sockets and the cache's lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from musicfs.errors import UserError
from musicfs.runtime import control_socket, lock_cache

HOLDER = """
import sys
from pathlib import Path
from musicfs.runtime import lock_cache
with lock_cache(Path(sys.argv[1]), Path("/mnt/music")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_cache_in_use_is_refused_with_the_name_of_its_user(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(UserError, match=rf"process {holder.pid}, mounted on /mnt/music"),
            lock_cache(tmp_path, None),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with lock_cache(tmp_path, None):
        pass


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be used"), lock_cache(tmp_path / "file" / "cache", None):
        pass


def test_each_mount_point_has_a_socket_of_its_own_whatever_way_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert control_socket(Path("music")) == control_socket(tmp_path / "x" / ".." / "music")
    assert control_socket(Path("music")) != control_socket(Path("other"))
    assert len(os.fsencode(control_socket(Path("a" * 200)))) < 108
