"""What a reload says of the settings that can't change while mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from musicfs.config import Config
from musicfs.reconfiguring import _FIXED, differences

HOOK = {"id": "a", "url": "http://h", "events": ["CacheStopped"]}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"control": {"listen": "127.0.0.1:1"}}, "[control]"),
        ({"log": {"level": "debug"}}, "[log]"),
        ({"webhooks": [HOOK]}, "[[webhooks]]"),
        ({"mount": {"allow_other": True}, "cache_dir": "/y"}, "cache_dir, mount.allow_other"),
    ],
)
def test_a_setting_that_stays_as_it_is_is_named(changed: dict[str, object], named: str) -> None:
    before = Config(cache_dir=Path("/x"))
    after = Config.model_validate({"cache_dir": "/x"} | changed)
    assert differences(before, after) == [
        f"What can't change while mounted stays as it is: {named}; for that, mount anew."
    ]


def test_every_setting_either_changes_or_is_said_to_stay() -> None:
    """Sections that `App.apply` takes over, and those that it does not: there are no others."""
    assert {"origins", "health", "retry", *_FIXED} == set(Config.model_fields)
