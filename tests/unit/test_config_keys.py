"""The keys of an origin's table are a contract: each is accepted for each kind, and arrives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from musicfs.config.load import load_config, origin_from_argument

COMMON: Mapping[str, Any] = {
    "priority": 7,
    "enabled": False,
    "timeout_ms": 1234,
    "pool_size": 3,
    "poll_interval_secs": 90,
    "metered": True,
    "cache": False,
    "hedge": False,
    "bandwidth_limit": 5_000_000,
}
"""Each has another value by default, for one kind at least."""
OWN: list[tuple[str, Mapping[str, Any]]] = [
    ("local", {"path": "/music", "links": "none"}),
    ("nfs", {"path": "/mnt/nas", "links": "inside"}),
    ("nfs", {"host": "nas", "export": "/music", "port": 2050, "mount_port": 2051, "version": 3}),
    ("smb", {"path": "/mnt/nas", "links": "inside"}),
    ("smb", {"host": "nas", "share": "music", "port": 4450, "user": "me", "domain": "HOME", "prefix": "flac"}),
    (
        "s3",
        {
            "bucket": "music", "prefix": "flac", "region": "eu-west-1", "endpoint": "http://nas:9000", "profile": "nas",
            "path_style": True,
        },
    ),
    (
        "sftp",
        {
            "host": "nas", "path": "/srv/music", "port": 2222, "user": "me", "key_file": "/home/me/key",
            "known_hosts": "/home/me/known",
        },
    ),
]  # fmt: skip


def plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


@pytest.mark.parametrize(("kind", "own"), OWN, ids=[f"{kind}-{'-'.join(own)}" for kind, own in OWN])
def test_every_key_is_accepted_and_arrives(tmp_path: Path, kind: str, own: Mapping[str, Any]) -> None:
    file = tmp_path / "musicfs.toml"
    lines = [
        f"{key} = {json.dumps(value)}" for key, value in {"id": "nas", "origin_type": kind, **COMMON, **own}.items()
    ]
    file.write_text("\n".join(["[[origins]]", *lines]))
    loaded = load_config(file, environ={})
    (origin,) = loaded.config.origins
    assert loaded.warnings == ()
    assert (origin.id, origin.origin_type) == ("nas", kind)
    assert {key: getattr(origin, key) for key in COMMON} == COMMON
    assert {key: plain(origin.settings[key]) for key in own} == own


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("sftp://user@host:22/srv/music", {"host": "host", "port": 22, "user": "user", "path": "/srv/music"}),
        (
            "s3://bucket/prefix?endpoint=http://nas:9000&region=us-east-1",
            {"bucket": "bucket", "prefix": "prefix", "endpoint": "http://nas:9000", "region": "us-east-1"},
        ),
        ("smb://user@host/share/music", {"host": "host", "share": "share", "user": "user", "prefix": "music"}),
        ("nfs://host/export/music", {"host": "host", "export": "/export/music"}),
    ],
)
def test_an_address_of_the_command_line_says_the_same_as_a_table(url: str, settings: Mapping[str, object]) -> None:
    table = origin_from_argument(url, [])
    loaded = load_config(overrides={"origins": [table]}, environ={})
    (origin,) = loaded.config.origins
    assert origin.origin_type == url.partition(":")[0]
    assert {key: plain(origin.settings[key]) for key in settings} == settings
