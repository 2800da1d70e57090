"""Drivers' libraries are optional: who does not use a kind needs none of it, and who does is told what to install."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from musicfs.cli.main import cli
from musicfs.config.kinds import open_origin
from musicfs.config.models import OriginConfig
from musicfs.errors import UserError
from musicfs.origins.local.driver import LocalOrigin
from musicfs.origins.nfs import libnfs

OPTIONAL = {"asyncssh", "botocore", "cryptography", "keyring", "musicfs_webdav", "smbprotocol", "spnego"}

SETTINGS: Mapping[str, dict[str, object]] = {
    "sftp": {"host": "nas", "path": "/music"},
    "smb": {"host": "nas", "share": "music"},
    "s3": {"bucket": "music"},
    "nfs": {"host": "nas", "export": "/music"},
}
REMEDIES = {
    "sftp": "needs the library asyncssh: `pip install 'musicfs[sftp]'` installs it.",
    "smb": "needs the library smbprotocol: `pip install 'musicfs[smb]'` installs it.",
    "s3": "needs the library botocore: `pip install 'musicfs[s3]'` installs it.",
    "nfs": "needs the library libnfs: `apt install libnfs13` installs it (libnfs14 on newer systems); or mount"
    " nas:/music, and set the path.",
}

Config = Callable[..., OriginConfig]


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONAL:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(libnfs, "SONAMES", ("libnfs.so.0",))
    libnfs.load.cache_clear()
    monkeypatch.setattr(libnfs, "load", libnfs.load.__wrapped__)


def config(kind: str, **settings: object) -> OriginConfig:
    return OriginConfig.model_validate({"id": "nas", "origin_type": kind} | (settings or SETTINGS[kind]))


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_missing_library_is_one_sentence_with_the_command_that_installs_it(
    without_libraries: None, kind: str
) -> None:
    with pytest.raises(UserError) as failed:
        open_origin(config(kind), populated=False)
    assert str(failed.value) == f"Origin 'nas' {REMEDIES[kind]}"


@pytest.mark.parametrize("kind", ["smb", "nfs"])
async def test_what_the_system_has_mounted_needs_no_library(without_libraries: None, kind: str, tmp_path: Path) -> None:
    origin = open_origin(config(kind, path=tmp_path), populated=False)
    assert isinstance(origin, LocalOrigin)
    await origin.aclose()


def test_a_configuration_is_checked_for_libraries_too(without_libraries: None, tmp_path: Path) -> None:
    file = tmp_path / "musicfs.toml"
    file.write_text('[[origins]]\nid = "nas"\norigin_type = "sftp"\nhost = "nas"\npath = "/music"\n')
    done = CliRunner().invoke(cli, ["config", "check", str(file)])
    assert REMEDIES["sftp"] in done.output
    assert done.exit_code == 2


@pytest.mark.parametrize(
    "modules", ["musicfs", "musicfs.config.kinds, musicfs.app.app", "musicfs.tags.parser_process", "the kinds"]
)
def test_naming_things_loads_no_optional_library(modules: str) -> None:
    """Not even all kinds, as `--origin` with a URL does."""
    load = "from musicfs.config.kinds import *; [load_kind(entry) for entry in kind_entry_points().values()]"
    code = load if modules == "the kinds" else f"import {modules}"
    code += "\nimport sys; print(*sys.modules, 'libnfs' if 'libnfs' in open('/proc/self/maps').read() else '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded & ({*OPTIONAL, "libnfs"} - {"musicfs_webdav"}) == set()
